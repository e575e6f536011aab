"""Asking: the questions of many problems, each under its own adapter, answered and graded.

A question with choices is answered by the likeliest of them. Any other is answered in words, and
the gold answer's likelihood is read off on the way: prompts and gold answers go through the model
once, and the answer is written from the keys and values that the prompts left behind. What all
questions of a problem begin with (demonstrations, an instruction) is read once an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from threading import Event
from typing import NamedTuple

from seal_env.adapters import Bank
from seal_env.decoding import Sampling
from seal_env.learner import Learner
from seal_env.prompts import render_question
from seal_env.rewards.base import Score
from seal_env.tasks.base import Problem, Question, Task
from seal_env.workers import run_parts, split_evenly

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it, and how much there is."""


class Asked(NamedTuple):
    """A question in tokens."""

    prompt: list[int]
    """What the learner reads."""
    gold: list[int]
    """The right answer, not empty."""
    room: int
    """Tokens that an answer may take."""
    owner: int
    """The adapter that answers."""
    choices: tuple[str, ...] = ()
    """What can be answered; empty for anything."""
    shared: int = 0
    """Leading tokens of the prompt that all questions of its problem have in common."""


class Asker:
    """Puts questions to a learner.

    Args:
        learner: The base model, frozen.
        task: Words the questions and grades the answers.
        chat: Whether questions are put as chat turns; None: if the tokenizer has a chat template.
        tokens: Tokens that are read at once.
    """

    def __init__(self, learner: Learner, task: Task, chat: bool | None, tokens: int) -> None:
        self.learner, self.task, self.chat, self.tokens = learner, task, chat, tokens

    def ask(
        self,
        problems: Sequence[Problem],
        owners: Sequence[int],
        bank: Bank | None,
        progress: Progress | None = None,
    ) -> list[Score]:
        """How a learner does on problems.

        Args:
            problems: What to ask.
            owners: The adapter that answers each.
            bank: The adapters; None for the untouched model.
            progress: Told about "asking".
        """
        asked = [
            one
            for problem, owner in zip(problems, owners, strict=True)
            for one in self.problem_tokens(problem, owner)
        ]
        done: list[int] = []

        def job(part: range) -> Callable[[Event], tuple[list[float], list[str]]]:
            return lambda stop: self._ask_some(asked[part.start : part.stop], bank, tell, stop)

        def tell(new: int) -> None:
            done.append(new)
            if progress is not None:
                progress("asking", sum(done), len(asked))

        sizes = [_size(a) for a in asked]
        found = run_parts([job(p) for p in split_evenly(sizes, self.learner.workers(len(asked)))])
        likelihoods = [value for part, _ in found for value in part]
        texts = [text for _, part in found for text in part]
        scores, position = [], 0
        for problem in problems:
            stop = position + len(problem.questions)
            answers = tuple(texts[position:stop])
            verdicts = tuple(self.task.grade(problem, answers))
            scores.append(Score(answers, verdicts, tuple(likelihoods[position:stop])))
            position = stop
        return scores

    def problem_tokens(self, problem: Problem, owner: int) -> list[Asked]:
        """A problem's questions as the learner reads them."""
        asked = [self.question_tokens(question, owner) for question in problem.questions]
        if len(asked) < 2:
            return asked
        prompts = [a.prompt for a in asked]
        lowest, highest = min(prompts), max(prompts)  # all others agree where these two do
        same = (a == b for a, b in zip(lowest, highest, strict=False))
        shared = sum(1 for _ in takewhile(bool, same))
        return [a._replace(shared=shared) for a in asked]

    def question_tokens(self, question: Question, owner: int) -> Asked:
        """A question as the learner reads it."""
        learner, task = self.learner, self.task
        gold = self._answer_tokens(question.answer)
        room = max(len(gold), task.answer_tokens)
        prompt = self.prompt_tokens(task.question_prompt(question))
        prompt = prompt[-max(learner.max_length - room, 1) :]
        return Asked(prompt, gold, room, owner, question.choices)

    def prompt_tokens(self, text: str) -> list[int]:
        """A prompt as the learner reads it, a chat turn or not."""
        rendered = render_question(text, self.learner.tokenizer, self.chat)
        return self.learner.encode_prompt(rendered, self.chat)

    def _answer_tokens(self, answer: str) -> list[int]:
        return self.learner.encode_answer(self.task.answer_prefix + answer) or self.learner.end_ids

    def _ask_some(
        self, asked: Sequence[Asked], bank: Bank | None, tell: Callable[[int], None], stop: Event
    ) -> tuple[list[float], list[str]]:
        """Some of the questions, as many at once as may be read at once."""
        likelihoods: list[float] = []
        texts: list[str] = []
        for part in _within([_size(a) for a in asked], self.tokens):
            if stop.is_set():
                break
            some = asked[part.start : part.stop]
            new_likelihoods, new_texts = self._answers(some, bank)
            likelihoods += new_likelihoods
            texts += new_texts
            tell(len(some))
        return likelihoods, texts

    def _answers(self, asked: Sequence[Asked], bank: Bank | None) -> tuple[list[float], list[str]]:
        """Mean log-likelihoods of the gold answers, and the learner's own answers."""
        found: dict[int, tuple[float, str]] = {}
        for choosing, answer in ((False, self._in_words), (True, self._by_choice)):
            places = [i for i, a in enumerate(asked) if bool(a.choices) == choosing]
            if places:
                new = answer([asked[i] for i in places], bank)
                found.update(zip(places, new, strict=True))
        return [found[i][0] for i in range(len(asked))], [found[i][1] for i in range(len(asked))]

    def _in_words(self, asked: Sequence[Asked], bank: Bank | None) -> list[tuple[float, str]]:
        sampling = Sampling(self.task.answer_tokens, stop_at_newline=True)
        prompts, owners = [a.prompt for a in asked], [a.owner for a in asked]
        golds = [a.gold for a in asked]
        shared = [a.shared for a in asked]
        likelihoods, ids = self.learner.score_and_generate(
            prompts, golds, sampling, owners, bank, shared
        )
        texts = [self.learner.decode(answer).strip().split("\n")[0].strip() for answer in ids]
        return list(zip(likelihoods, texts, strict=True))

    def _by_choice(self, asked: Sequence[Asked], bank: Bank | None) -> list[tuple[float, str]]:
        options = [[self._answer_tokens(choice) for choice in a.choices] for a in asked]
        pairs = [(a, ids) for a, some in zip(asked, options, strict=True) for ids in some]
        prompts, owners = [a.prompt for a, _ in pairs], [a.owner for a, _ in pairs]
        completions, whole = [ids for _, ids in pairs], [len(prompt) for prompt in prompts]
        found, _ = self.learner.score_and_generate(
            prompts, completions, Sampling(0), owners, bank, whole
        )
        means = iter(found)
        answers = []
        for a, some in zip(asked, options, strict=True):
            own = [next(means) for _ in some]
            # NaN compares with nothing: a learner whose numbers are none chooses the first.
            best = max(range(len(some)), key=lambda i: (own[i] == own[i], own[i]))
            answers.append((own[some.index(a.gold)], a.choices[best]))
        return answers


def _size(asked: Asked) -> int:
    return (len(asked.prompt) + asked.room) * max(len(asked.choices), 1)


def _within(sizes: Sequence[int], budget: int) -> Iterable[range]:
    """Splits items into runs whose sizes add up to at most the budget, or that are single."""
    start, used = 0, 0
    for index, size in enumerate(sizes):
        if index > start and used + size > budget:
            yield range(start, index)
            start, used = index, 0
        used += size
    if start < len(sizes):
        yield range(start, len(sizes))
