"""Addition `gate` to a stream: an update that costs too much elsewhere is taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from seal_env.checks import check_fields
from seal_env.engine.banks import LearnerState
from seal_env.engine.mixed_bank import bank_of
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.streams.base import Addition, StreamStep
from seal_env.tasks.base import Problem, first_problems
from seal_env.updates.base import UpdateContext, UpdateResult


@dataclass
class Gate(Addition):
    """Commits an update only if a held-back check does not drop by more than `epsilon`.

    The check is the accuracy on questions that the task makes for training
    (`Task.training_problem`), never on the held-out ones of the environment: about earlier problems
    of the stream, drawn anew at every step, and about problems of the task's `known_split`. A
    learner whose update is rolled back is the learner before it; the step's reward is that of no
    update, without a penalty. The cost of a step does not grow. Source: STABLE (Hoy et al. 2025,
    arXiv 2510.16089).

    Raises:
        UserError: A setting is out of bounds.
    """

    epsilon: float = 0.1
    """Largest drop of the check's accuracy, 0 to 1."""
    earlier: int = 8
    """Earlier problems of the stream that are asked about."""
    known: int = 8
    """Problems of the `known_split` that are asked about."""

    remembers = True

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.epsilon <= 1:
            raise UserError(f"epsilon {self.epsilon}: must be from 0 to 1")
        if min(self.earlier, self.known) < 0 or not self.earlier + self.known:
            raise UserError("earlier, known: at least one problem must be asked about")

    def conclude(
        self, steps: Sequence[StreamStep], results: Sequence[UpdateResult], context: UpdateContext
    ) -> list[UpdateResult]:
        """See `Stream.conclude`."""
        new = self.stream.conclude(steps, results, context)
        checks = [self._check(step, context) for step in steps]
        before = _accuracies([step.own.start for step in steps], checks, context)
        after = _accuracies([result.state for result in new], checks, context)
        return [
            result
            if first - last <= self.epsilon
            else UpdateResult(None, result.trained, _told(first, last, self.epsilon))
            for result, first, last in zip(new, before, after, strict=True)
        ]

    def _check(self, step: StreamStep, context: UpdateContext) -> list[Problem]:
        """Problems of one step's check.

        Raises:
            UserError: The task makes no questions.
        """
        task = context.task
        known = first_problems(task, task.known_split, self.known)
        random = np.random.default_rng(stable_hash("gate", step.own.seed))
        past = [update.problem for update in step.history]
        chosen = random.choice(len(past), min(self.earlier, len(past)), replace=False)
        problems = [*(past[i] for i in sorted(chosen)), *known]
        others = [p for p in problems if p.context != step.own.problem.context]
        made = (task.training_problem(task.reads(problem)) for problem in others)
        check = [problem for problem in made if problem is not None]
        if not check:
            raise UserError(
                "stream 'gate': the task makes no questions for a check "
                f"({type(task).__name__}.training_problem); leave the gate out"
            )
        return check


def _accuracies(
    states: Sequence[LearnerState | None],
    checks: Sequence[Sequence[Problem]],
    context: UpdateContext,
) -> list[float]:
    """Mean accuracy of each learner on its check."""
    problems = [problem for check in checks for problem in check]
    owners = [owner for owner, check in enumerate(checks) for _ in check]
    bank = bank_of(states, context.learner.model)
    scores = iter(context.evaluator.evaluate(problems, owners, bank))
    return [fmean(next(scores).accuracy for _ in check) for check in checks]


def _told(before: float, after: float, epsilon: float) -> str:
    return (
        f"rolled back: the check's accuracy fell from {before:.3f} to {after:.3f}, by more than "
        f"{epsilon:g}"
    )
