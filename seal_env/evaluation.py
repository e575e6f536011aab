"""Asking: the questions of many problems, each under its own adapter, answered and graded.

A question with choices is answered by the likeliest of them. Any other is answered in words, and
the gold answer's likelihood is read off on the way: prompts and gold answers go through the model
once, and the answer is written from the keys and values that the prompts left behind. What all
questions of a problem begin with (demonstrations, an instruction) is read once an adapter.

A question that the model has no room for is not asked: it counts as answered by nothing, and as
likely as if every token of the answer had been guessed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from threading import Event
from typing import Any, NamedTuple

from seal_env.engine.banks import Bank
from seal_env.engine.generation import score_and_generate
from seal_env.engine.learner import Learner
from seal_env.engine.rendering import DoesNotFit
from seal_env.engine.sampling import Sampling
from seal_env.engine.threads import run_parts, split_evenly
from seal_env.score import Score
from seal_env.tasks.base import Problem, Task

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it, and how much there is."""


READ = 1024
"""Problems that are kept in tokens."""


class QuestionTokens(NamedTuple):
    """A question in tokens."""

    prompt: list[int]
    """What the learner reads; empty if it cannot be asked."""
    gold: list[int]
    """The right answer, not empty."""
    longest: int
    """Most tokens that the learner may answer."""
    choices: dict[str, list[int]]
    """What can be answered; empty for anything."""
    cut: int
    """Tokens that the prompt lost."""
    owner: int = 0
    """The adapter that answers."""
    shared: int = 0
    """Leading tokens of the prompt that all questions of its problem have in common."""

    @property
    def room(self) -> int:
        """Tokens that an answer may take."""
        return max(self.longest, len(self.gold), *map(len, self.choices.values()))


class ProblemTokens(NamedTuple):
    """A problem in tokens."""

    asked: tuple[QuestionTokens, ...]
    """Its questions."""
    cut: int
    """Tokens that the prompt lost which lost most; 0 if all are whole."""
    error: str | None
    """Why one of the questions cannot be asked, in one line; None if all can."""


class Evaluator:
    """Puts questions to a learner.

    Args:
        learner: The base model, frozen.
        task: Words the questions and grades the answers.
        chat: Whether questions are put as chat turns; None: if the tokenizer has a chat template.
        tokens: Tokens that are read at once.
    """

    def __init__(self, learner: Learner, task: Task, chat: bool | None, tokens: int) -> None:
        self.learner, self.task, self.chat, self.tokens = learner, task, chat, tokens
        self.renderer = learner.renderer
        self._keep()

    def _keep(self) -> None:
        self.tokenize = lru_cache(maxsize=READ)(self._tokenize)
        """A problem in tokens (`ProblemTokens`); kept, since many self-edits share one."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "tokenize"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._keep()  # what is kept refers to its owner, and cannot be pickled

    def evaluate(
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

    def problem_tokens(self, problem: Problem, owner: int) -> list[QuestionTokens]:
        """A problem's questions as the learner reads them."""
        return [asked._replace(owner=owner) for asked in self.tokenize(problem).asked]

    def prompt_tokens(self, text: str, room: int | None = None) -> list[int]:
        """A prompt as the learner reads it, a chat turn or not.

        Args:
            text: What `Task.question_prompt` returned.
            room: Most tokens; None for as many as it has.

        Raises:
            DoesNotFit: There are more, and they may not be cut.
        """
        parts = self.task.prompt_parts(text)
        return self.renderer.prompt(parts, sys.maxsize if room is None else room, self.chat).ids

    def answer_tokens(self, text: str) -> list[int]:
        """An answer as it is learned: the text and its end."""
        return self.renderer.answer(text) + self.renderer.ends(self.chat)

    def _tokenize(self, problem: Problem) -> ProblemTokens:
        longest_answer = self.task.longest_answer(problem)
        longest = self.task.answer_tokens
        if longest_answer is not None:
            longest = len(self._gold(longest_answer)) + 1  # a line break or an end token
        errors = []
        found = []
        for number, question in enumerate(problem.questions, 1):
            gold = self._gold(question.answer)
            choices = {choice: self._gold(choice) for choice in question.choices}
            asked = QuestionTokens([], gold, longest, choices, 0)
            room = self.learner.max_length - asked.room
            parts = self.task.prompt_parts(self.task.question_prompt(question))
            try:
                prompt, cut = self.renderer.prompt(parts, room, self.chat)
                asked = asked._replace(prompt=prompt, cut=cut)
            except DoesNotFit as error:
                errors.append(
                    f"problem {problem.id}: question {number} cannot be asked: {error} beside "
                    f"an answer of {asked.room}: take a model with longer inputs, or leave it out"
                )
            found.append(asked)
        prompts = [asked.prompt for asked in found if asked.prompt]
        shared = 0
        if len(prompts) > 1:
            lowest, highest = min(prompts), max(prompts)  # all others agree where these two do
            same = (a == b for a, b in zip(lowest, highest, strict=False))
            shared = sum(1 for _ in takewhile(bool, same))
        return ProblemTokens(
            tuple(asked._replace(shared=shared) for asked in found),
            max((asked.cut for asked in found), default=0),
            errors[0] if errors else None,
        )

    def _gold(self, answer: str) -> list[int]:
        return self.renderer.scored(self.task.answer_prefix + answer, chat=self.chat)

    def _ask_some(
        self,
        asked: Sequence[QuestionTokens],
        bank: Bank | None,
        tell: Callable[[int], None],
        stop: Event,
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

    def _answers(
        self, asked: Sequence[QuestionTokens], bank: Bank | None
    ) -> tuple[list[float], list[str]]:
        """Mean log-likelihoods of the gold answers, and the learner's own answers."""
        found: dict[int, tuple[float, str]] = {}
        for ask in (self._not_at_all, self._in_words, self._by_choice):
            places = [i for i, a in enumerate(asked) if self._way(a) == ask]
            if places:
                new = ask([asked[i] for i in places], bank)
                found.update(zip(places, new, strict=True))
        return [found[i][0] for i in range(len(asked))], [found[i][1] for i in range(len(asked))]

    def _way(self, asked: QuestionTokens) -> Callable[..., list[tuple[float, str]]]:
        if not asked.prompt:
            return self._not_at_all
        return self._by_choice if asked.choices else self._in_words

    def _not_at_all(
        self, asked: Sequence[QuestionTokens], bank: Bank | None
    ) -> list[tuple[float, str]]:
        return [(-math.log(self.renderer.rows), "")] * len(asked)

    def _in_words(
        self, asked: Sequence[QuestionTokens], bank: Bank | None
    ) -> list[tuple[float, str]]:
        sampling = Sampling(max(a.longest for a in asked), stop_at_newline=True)
        prompts, owners = [a.prompt for a in asked], [a.owner for a in asked]
        golds = [a.gold for a in asked]
        shared = [a.shared for a in asked]
        likelihoods, ids = score_and_generate(
            self.learner, prompts, golds, sampling, owners, bank, shared
        )
        # Another problem's answers may be longer.
        answers = [self.renderer.decode(i[: a.longest]) for i, a in zip(ids, asked, strict=True)]
        texts = [answer.strip().split("\n")[0].strip() for answer in answers]
        return list(zip(likelihoods, texts, strict=True))

    def _by_choice(
        self, asked: Sequence[QuestionTokens], bank: Bank | None
    ) -> list[tuple[float, str]]:
        pairs = [(a, ids) for a in asked for ids in a.choices.values()]
        prompts, owners = [a.prompt for a, _ in pairs], [a.owner for a, _ in pairs]
        completions, whole = [ids for _, ids in pairs], [len(prompt) for prompt in prompts]
        found, _ = score_and_generate(
            self.learner, prompts, completions, Sampling(0), owners, bank, whole
        )
        means = iter(found)
        answers = []
        for a in asked:
            own = {choice: next(means) for choice in a.choices}
            # NaN compares with nothing: a learner whose numbers are none chooses the first.
            best = max(own, key=lambda choice: (own[choice] == own[choice], own[choice]))
            right = next(own[choice] for choice, ids in a.choices.items() if ids == a.gold)
            answers.append((right, best))
        return answers


def _size(asked: QuestionTokens) -> int:
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
