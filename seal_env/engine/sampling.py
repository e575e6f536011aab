"""How a text is continued, and what may be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """How a text is continued."""

    max_new_tokens: int
    """Longest continuation, in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token; otherwise tokens are drawn at this temperature."""
    stop_at_newline: bool = False
    """Whether a line break ends the continuation (once something was written)."""


class Guide(Protocol):
    """Follows one text while it is written."""

    def allowed(self) -> np.ndarray:
        """Which tokens may come next, shape (vocabulary,), bool; at least one."""
        ...

    def take(self, token: int) -> None:
        """Goes on by a token that `allowed` allows."""
        ...


class Constraint(Protocol):
    """What may be written, such as `seal_env.constrained.PatternConstraint`."""

    def start(self) -> Guide:
        """A guide for a text of its own."""
        ...
