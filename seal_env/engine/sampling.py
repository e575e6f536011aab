"""Settings of generation, and protocols of constrained decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """Settings of the continuation of a prompt."""

    max_new_tokens: int
    """Length of the longest continuation, in tokens."""
    temperature: float = 0.0
    """Temperature of sampling; 0 for the most likely token (greedy decoding)."""
    stop_at_newline: bool = False
    """Whether a line break ends the continuation, if at least one token precedes it."""


class Guide(Protocol):
    """State of a constraint on one text while it is generated."""

    def allowed(self) -> np.ndarray:
        """Whether each token may come next, bool, shape (vocabulary,); at least one may."""
        ...

    def take(self, token: int) -> None:
        """Advances by a token that `allowed` permits."""
        ...


class Constraint(Protocol):
    """Set of texts that may be generated, e.g. `seal_env.constrained.PatternConstraint`."""

    def start(self) -> Guide:
        """Guide of one new text."""
        ...
