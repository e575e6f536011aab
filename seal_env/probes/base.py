"""What a probe is: a measurement of updated learners that a reward term asks for.

A term names the probes that it needs (`seal_env.rewards.base.RewardTerm`), and the inner loop
takes them of all its learners side by side, each once, however many terms ask for it. What no
term of the reward needs is not computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from re import Pattern
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from seal_env.tasks.base import Problem, Task

if TYPE_CHECKING:
    from seal_env.engine.banks import LearnerState
    from seal_env.engine.learner import Learner
    from seal_env.evaluation import Evaluator
    from seal_env.score import Score

T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """One self-edit's problem, and the learner before and after it."""

    problem: Problem
    """What the self-edit is about."""
    before: LearnerState | None = None
    """The learner before it (in a stream: after the step before); None for the untouched base."""
    after: LearnerState | None = None
    """The learner after it; `before` itself if nothing was changed."""
    text: str = ""
    """The self-edit as a text; of one that is none, its summary."""


@dataclass(frozen=True)
class ProbeContext:
    """What probes measure with."""

    learner: Learner
    """The base model, frozen."""
    task: Task
    """Where problems come from."""
    evaluator: Evaluator
    """Puts questions."""
    baselines: Callable[[Sequence[Problem]], list[Score]]
    """How the untouched learner does on problems."""
    measured: dict[Hashable, Any]
    """What probes measured of the untouched learner and need not measure again."""


class Probed(NamedTuple, Generic[T]):
    """Measurement of one subject."""

    before: T
    """Of doing nothing: as if `Subject.after` were `Subject.before`."""
    after: T
    """Of the update."""


class Probe(ABC, Generic[T]):
    """Measurement of learners, hashable by its settings: terms with equal probes share one.

    The result of a subject does not depend on the other subjects, on their number or on their
    order. Global random state is neither read nor changed.
    """

    def prepare(self, context: ProbeContext) -> None:
        """Checks that the probe can be taken, before any self-edit is carried out.

        Raises:
            UserError: It cannot.
        """

    def masks(self, problem: Problem) -> Sequence[Pattern[str]]:
        """Patterns whose group ``masked`` is not learned from texts that are trained on.

        For what a learner is to infer and not to memorize. It changes the learner, and so what all
        other terms of the reward measure. By default there are none.
        """
        return ()

    @abstractmethod
    def measure(self, subjects: Sequence[Subject], context: ProbeContext) -> list[Probed[T]]:
        """Measures learners side by side; one result per subject."""
