"""What a self-edit is once it has been read: plain data that says how to change the learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from seal_env.tasks.base import Problem


@dataclass(frozen=True)
class SelfEdit:
    """A parsed self-edit. A language fills in what it can express and leaves the rest."""

    sequences: tuple[str, ...] = ()
    """Texts to finetune on, in order, as the tokenizer will see them."""
    truncated: bool = False
    """Whether a cap cut something off."""
    error: str | None = None
    """Why the text is no self-edit, in one line; None if it is one."""


class EditLanguage(ABC):
    """A way of writing self-edits: any text in, plain data out."""

    @abstractmethod
    def parse(self, text: str, problem: Problem) -> SelfEdit:
        """Reads a text as a self-edit for a problem.

        Never raises: a text that is no self-edit comes back with `SelfEdit.error` set.
        """
