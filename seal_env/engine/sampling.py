"""Settings of generation, what it returns, and protocols of constrained decoding."""

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


@dataclass(frozen=True)
class Completion:
    """Continuation of a prompt: its text and the tokens that were sampled.

    The tokens may differ from the tokenizer's own for the text: many tokenizers have several
    spellings of one text, and a model samples any of them.
    """

    text: str
    """Text of the tokens, without the end token."""
    tokens: tuple[int, ...]
    """Token ids, the end token included if one was sampled."""
    log_probs: tuple[float, ...]
    """Log-probability of each token, in nats, under the distribution that it was drawn from: at the
    sampling temperature, over the tokens that the constraint allowed. 0 at temperature 0."""
    ended: bool
    """Whether the last token ended the text; False if a limit of length did."""


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
