"""What a self-edit is once it has been read: plain data that says how to change the learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from seal_env.engine.changes import Change
from seal_env.spaces import LONGEST_TEXT, AnyText
from seal_env.tasks.base import Problem, Task

if TYPE_CHECKING:
    from seal_env.engine.learner import Learner


@dataclass(frozen=True)
class Training:
    """Training settings that a self-edit asks for; None leaves one to the inner loop."""

    learning_rate: float | None = None
    """Highest learning rate."""
    epochs: int | None = None
    """Passes over the data."""
    outputs_only: bool = False
    """Whether generated examples are learned from their answers alone, not from their prompts."""
    layers: tuple[int, ...] | None = None
    """Layers whose adapters are trained, counted from 0; None for all."""


@dataclass(frozen=True)
class SelfEdit:
    """A parsed self-edit. A language fills in what it can express and leaves the rest."""

    sequences: tuple[str, ...] = ()
    """Texts to finetune on, in order, as the tokenizer will see them."""
    tools: tuple[str, ...] | None = None
    """Names of the task's data-generation tools (`Task.tools`) whose examples are trained on, none
    of them for the plain ones; None for no examples."""
    training: Training = Training()
    """How to train."""
    changes: tuple[Change, ...] = ()
    """Changes of named weights, in order."""
    coefficients: tuple[float, ...] = ()
    """How far to go along each vector of a fixed basis (`seal_env.engine.subspace`)."""
    basis: int = 0
    """Seed of that basis."""
    truncated: bool = False
    """Whether a cap cut something off."""
    error: str | None = None
    """Why the text is no self-edit, in one line; None if it is one."""

    def summary(self) -> str:
        """What it says beside sequences, in one line; empty if that is nothing."""
        said = [] if self.tools is None else [" + ".join(("examples", *self.tools))]
        training = self.training
        said += [] if training.learning_rate is None else [f"rate {training.learning_rate:g}"]
        said += [] if training.epochs is None else [f"{training.epochs} epochs"]
        said += ["on outputs"] if training.outputs_only else []
        said += [] if training.layers is None else [f"layers {list(training.layers)}"]
        said += [str(change) for change in self.changes]
        said += [f"{value:g}" for value in self.coefficients]
        return ", ".join(said)


class EditLanguage(ABC):
    """A way of writing self-edits: any action in, plain data out."""

    default_prompt: str | None = None
    """Name of the prompt (see `seal_env.prompts`) that a policy uses unless told otherwise; None
    for the task's."""

    @abstractmethod
    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads an action as a self-edit for a problem.

        Never raises: an action that is no self-edit comes back with `SelfEdit.error` set.
        """

    def bind(  # noqa: B027 (most languages need not know)
        self, learner: Learner, task: Task | None = None
    ) -> None:
        """Tells the language what it is used for, before anything is parsed.

        For languages that name parts of the model or tools of the task.

        Args:
            learner: The model that will be changed.
            task: Where problems come from, if that is known.

        Raises:
            UserError: The language's settings do not go with these.
        """

    def example(self, problem: Problem) -> str | None:
        """An action that is right for a problem, for tests and for readers; None if none is made.

        Args:
            problem: Its held-out questions are not looked at.
        """
        return None

    def pattern(self) -> str | None:
        """A regular expression of right self-edits, None if there is none.

        By it a policy can be held to write nothing else, see `seal_env.constrained`.
        """
        return None

    def action_space(self) -> spaces.Space[Any]:
        """The space of actions: by default any text."""
        return AnyText(LONGEST_TEXT)
