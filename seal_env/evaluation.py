"""Evaluation: questions of many problems, each under its own adapter, answered and graded.

A question with choices is answered by the most likely one. Any other is answered by greedy
generation, and its gold answer is scored in the same pass: prompts and gold answers go through the
model once, and generation continues from the cached keys and values of the prompts. The common
beginning of a problem's questions (demonstrations, an instruction) is read once per adapter.

A question that is longer than the model's longest input is not asked. Its answer counts as empty,
and its gold answer as likely as uniformly guessed tokens.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import takewhile
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from seal_env.engine.banks import Bank
from seal_env.engine.generation import score_and_generate
from seal_env.engine.learner import Learner
from seal_env.engine.rendering import DoesNotFit
from seal_env.engine.sampling import Sampling
from seal_env.engine.scoring import passes
from seal_env.engine.threads import run_parts, split_evenly
from seal_env.errors import UserError, printable
from seal_env.score import Score
from seal_env.tasks.base import Problem, Task

Progress = Callable[[str, int, int], None]
"""Callback with the name of a stage, the work done, and the total."""


READ = 1024
"""Number of tokenized problems in the cache."""


class QuestionTokens(NamedTuple):
    """Tokenized question."""

    prompt: list[int]
    """Token ids of the prompt; empty if the question cannot be asked."""
    gold: list[int]
    """Token ids of the gold answer, not empty."""
    longest: int
    """Length of the longest answer, in tokens."""
    choices: dict[str, list[int]]
    """Token ids of the choices; empty for free-form answers."""
    cut: int
    """Number of tokens cut from the prompt."""
    owner: int = 0
    """Index of the adapter."""
    shared: int = 0
    """Number of leading tokens that all prompts of the problem have in common."""

    @property
    def room(self) -> int:
        """Number of tokens that an answer may take."""
        return max(self.longest, len(self.gold), *map(len, self.choices.values()))


class ProblemTokens(NamedTuple):
    """Tokenized problem."""

    asked: tuple[QuestionTokens, ...]
    """Its questions."""
    cut: int
    """Largest number of tokens cut from a prompt; 0 if none was cut."""
    error: str | None
    """Reason why a question cannot be asked, in one line; None if all can."""


class Evaluator:
    """Evaluator of a learner on a task's problems.

    Args:
        learner: The base model, frozen.
        task: Task that words the questions and grades the answers.
        chat: Whether questions are chat turns; None for yes if the tokenizer has a chat template.
        tokens: Bound on the tokens of one pass.
    """

    def __init__(self, learner: Learner, task: Task, chat: bool | None, tokens: int) -> None:
        self.learner, self.task, self.chat, self.tokens = learner, task, chat, tokens
        self.renderer = learner.renderer
        self._keep()

    def _keep(self) -> None:
        self.tokenize = lru_cache(maxsize=READ)(self._tokenize)
        """Tokenized problem (`ProblemTokens`), cached since many self-edits share one."""

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
        """Scores of a learner on problems.

        Args:
            problems: The problems.
            owners: Index of the adapter of each.
            bank: The adapters; None for the untouched model.
            progress: Callback for the stage "asking".
        """
        found = iter(self.ask(problems, owners, bank, progress))
        scores = []
        for problem in problems:
            own = [next(found) for _ in problem.questions]
            answers = tuple(answer for _, answer in own)
            verdicts = _verdicts(self.task, problem, answers)
            scores.append(Score(answers, verdicts, tuple(value for value, _ in own)))
        return scores

    def ask(
        self,
        problems: Sequence[Problem],
        owners: Sequence[int],
        bank: Bank | None,
        progress: Progress | None = None,
    ) -> list[tuple[float, str]]:
        """Mean log-likelihood of the gold answer (nats per token) and answer to each question.

        Of all problems, one after the other; answers are not graded. Arguments as of `evaluate`.
        """
        asked = [
            one
            for problem, owner in zip(problems, owners, strict=True)
            for one in self.problem_tokens(problem, owner)
        ]
        if bank is not None:
            asked = [a._replace(owner=bank.route(a.owner, a.prompt)) for a in asked]
        done: list[int] = []

        def job(part: range) -> Callable[[Event], tuple[list[float], list[str]]]:
            return lambda stop: self._ask_some(asked[part.start : part.stop], bank, tell, stop)

        def tell(new: int) -> None:
            done.append(new)
            if progress is not None:
                progress("asking", sum(done), len(asked))

        sizes = [_size(a) for a in asked]
        found = run_parts([job(p) for p in split_evenly(sizes, self.learner.workers(len(asked)))])
        return [pair for values, texts in found for pair in zip(values, texts, strict=True)]

    def problem_tokens(self, problem: Problem, owner: int) -> list[QuestionTokens]:
        """Tokenized questions of a problem."""
        return [asked._replace(owner=owner) for asked in self.tokenize(problem).asked]

    def prompt_tokens(self, text: str, room: int | None = None) -> list[int]:
        """Token ids of a prompt, as a chat turn or plain.

        Args:
            text: Result of `Task.question_prompt`.
            room: Bound on the tokens; None for the model's longest input.

        Raises:
            DoesNotFit: The parts that may not be cut are longer.
        """
        parts = self.task.prompt_parts(text)
        return self.renderer.prompt(parts, sys.maxsize if room is None else room, self.chat).ids

    def answer_tokens(self, text: str) -> list[int]:
        """Token ids of an answer to train on, with its end token."""
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
        """Scores of some questions, in passes within the bound on tokens."""
        likelihoods: list[float] = []
        texts: list[str] = []
        for part in passes([_size(a) for a in asked], self.tokens):
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
        """Mean log-likelihoods of the gold answers (nats per token), and the learner's answers."""
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
        # Other problems may allow longer answers.
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
            # NaN never compares as greater: a learner with NaN scores chooses the first.
            best = max(own, key=lambda choice: (own[choice] == own[choice], own[choice]))
            right = next(own[choice] for choice, ids in a.choices.items() if ids == a.gold)
            answers.append((right, best))
        return answers


def _verdicts(task: Task, problem: Problem, answers: tuple[str, ...]) -> tuple[bool, ...]:
    """Verdicts of a task on the answers to a problem.

    Raises:
        UserError: They are not one bool for each question.
    """
    given: Any = task.grade(problem, answers) if answers else ()
    verdicts = tuple(given) if isinstance(given, Iterable) else ()
    if len(verdicts) != len(answers) or not all(isinstance(v, bool | np.bool_) for v in verdicts):
        raise UserError(
            f"task {type(task).__name__}: grade must return one bool for each of the "
            f"{len(answers)} questions; it returned {printable(repr(given))}"
        )
    return tuple(map(bool, verdicts))


def _size(asked: QuestionTokens) -> int:
    return (len(asked.prompt) + asked.room) * max(len(asked.choices), 1)
