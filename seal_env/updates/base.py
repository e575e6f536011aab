"""What every kind of update has in common: a description as plain data, and the rule it follows.

An update turns the state of a learner (`LearnerState`) into another; the base is never written to.
The rule is given K learners at once, and what comes of one must not depend on the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from re import Pattern
from typing import Any, ClassVar, Generic, TypeVar

from seal_env.engine.banks import LearnerState
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank, Target
from seal_env.engine.training import Dataset, TrainStats
from seal_env.evaluation import Evaluator, Progress
from seal_env.tasks.base import Problem, Task

State = TypeVar("State", bound=LearnerState)


@dataclass(frozen=True)
class UpdateContext:
    """The learner that is updated, and the inner loop's settings."""

    learner: Learner
    """The base model, frozen."""
    task: Task
    """Makes training examples out of a problem."""
    evaluator: Evaluator
    """Writes prompts and answers as the learner reads them when it is asked."""
    targets: tuple[Target, ...]
    """The modules that LoRA adapts."""
    lora: LoraConfig
    """Rank and scale of adapters."""
    finetune: FinetuneConfig
    """The optimizer's settings, where a self-edit asks for no others."""
    max_tokens: int
    """Most tokens of one self-edit."""
    tokens_per_pass: int
    """Tokens that go through the model at once in training."""
    masks: Callable[[Problem], Sequence[Pattern[str]]] = lambda _: ()
    """Patterns whose group ``masked`` has no loss in a text that is trained on, by problem."""

    def new_bank(self, count: int) -> AdapterBank:
        """Room for so many adapters."""
        return AdapterBank(self.targets, self.lora, count, self.learner.device)


@dataclass(frozen=True)
class PreparedUpdate(Generic[State]):
    """An update of one learner, ready to be carried out."""

    update: Update[State]
    """What to do."""
    problem: Problem
    """The problem that the self-edit was written for."""
    seed: int
    """The only source of randomness."""
    start: State | None
    """What the learner has by now (a stream), which the update changes; None for the base."""
    data: Dataset | None = None
    """Training data in tokens; None if there is no training."""
    truncated: bool = False
    """Whether a cap cut something off."""
    error: str | None = None
    """Why it cannot be carried out, in one line; None if it can."""
    below: LearnerState | None = None
    """What the learner has beneath the result and the update leaves as it is; None for nothing."""


@dataclass(frozen=True)
class UpdateResult:
    """What came of an update of one learner."""

    state: LearnerState | None
    """What the learner has beyond the base now; None if the update failed (it diverged) or was
    rolled back."""
    trained: TrainStats | None = None
    """What training took; None if there was none."""
    rolled_back: str = ""
    """Why the stream left the learner as it was before the update, in one line; empty if not."""


class Update(ABC, Generic[State]):
    """One change of a learner. Subclasses are frozen dataclasses of plain data."""

    state: ClassVar[type[LearnerState]]
    """The kind of state that the update makes, and that it can go on from in a stream."""

    def texts(self) -> tuple[str, ...]:
        """Texts that the learner is trained on (`info["sequences"]`), prompts included."""
        return ()

    def summary(self) -> str:
        """What it does beside that, in one line (`info["parsed"]`); empty if that is nothing."""
        return ""

    def refusal(self, start: LearnerState | None) -> str | None:
        """Why the update cannot go on from a state, in one line; None if it can."""
        if start is None or isinstance(start, self.state):
            return None
        return (
            f"{type(self).__name__} cannot go on from {type(start).__name__}, which an earlier "
            f"self-edit of the stream left: go on with updates of one kind"
        )

    def prepare(
        self, problem: Problem, seed: int, start: State | None, context: UpdateContext
    ) -> PreparedUpdate[State]:
        """Makes the update ready for a learner: checks, and training data in tokens."""
        return PreparedUpdate(self, problem, seed, start)

    def numbers(self, start: State | None, context: UpdateContext) -> int:
        """Float32 numbers that the updated learner takes in memory.

        Counted only where they are more than an adapter takes in training.
        """
        return 0

    @classmethod
    @abstractmethod
    def apply_batch(
        cls,
        batch: Sequence[PreparedUpdate[State]],
        context: UpdateContext,
        progress: Progress | None = None,
    ) -> list[UpdateResult]:
        """Carries out updates of this class on K learners, one update each.

        Args:
            batch: Those without an error.
            context: The learner and the settings.
            progress: Told about training.
        """


class DirectUpdate(Update[State]):
    """An update without training: each learner's new state follows from its own data alone."""

    @abstractmethod
    def apply(self, prepared: PreparedUpdate[State], context: UpdateContext) -> State:
        """Carries the update out on one learner, and leaves `prepared.start` as it is."""

    @classmethod
    def apply_batch(
        cls,
        batch: Sequence[PreparedUpdate[State]],
        context: UpdateContext,
        progress: Progress | None = None,
    ) -> list[UpdateResult]:
        """See `Update.apply_batch`."""
        updates: list[Any] = [prepared.update for prepared in batch]
        pairs = zip(updates, batch, strict=True)
        return [UpdateResult(update.apply(prepared, context)) for update, prepared in pairs]
