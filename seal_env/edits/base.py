"""What a self-edit is once it has been read: plain data that says how to change the learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from seal_env.spaces import LONGEST_TEXT, AnyText
from seal_env.tasks.base import Problem

if TYPE_CHECKING:
    from seal_env.learner import Learner


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
class Change:
    """A change of one matrix of the learner: ``W[rows, columns]`` plus or times an amount."""

    name: str
    """The module whose weight is meant, as the model calls it."""
    row: int | None
    """Which output; None for all."""
    column: int | None
    """Which input; None for all."""
    operation: str
    """"add" or "scale"."""
    amount: float
    """What is added, or the factor."""


@dataclass(frozen=True)
class SelfEdit:
    """A parsed self-edit. A language fills in what it can express and leaves the rest."""

    sequences: tuple[str, ...] = ()
    """Texts to finetune on, in order, as the tokenizer will see them."""
    tools: tuple[str, ...] = ()
    """Names of the task's data-generation tools (`Task.tools`) whose examples are trained on."""
    training: Training = Training()
    """How to train."""
    changes: tuple[Change, ...] = ()
    """Changes of named weights, in order."""
    coefficients: tuple[float, ...] = ()
    """How far to go along each vector of a fixed basis (`seal_env.basis`)."""
    truncated: bool = False
    """Whether a cap cut something off."""
    error: str | None = None
    """Why the text is no self-edit, in one line; None if it is one."""


class EditLanguage(ABC):
    """A way of writing self-edits: any action in, plain data out."""

    @abstractmethod
    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads an action as a self-edit for a problem.

        Never raises: an action that is no self-edit comes back with `SelfEdit.error` set.
        """

    def bind(self, learner: Learner) -> None:
        """Tells the language which model will be changed, before anything is parsed.

        For languages that name parts of the model; the others do not care.
        """

    def action_space(self) -> spaces.Space[Any]:
        """The space of actions: by default any text."""
        return AnyText(LONGEST_TEXT)
