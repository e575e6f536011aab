"""What a reward term sees, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Score:
    """How a learner does on one problem's held-out questions."""

    answers: tuple[str, ...]
    """What it answered."""
    verdicts: tuple[bool, ...]
    """Whether each answer is right."""
    log_likelihoods: tuple[float, ...]
    """For each question, the mean log-probability per token of the gold answer."""

    @property
    def accuracy(self) -> float:
        """Share of questions answered right, 0 to 1."""
        return sum(self.verdicts) / len(self.verdicts)

    @property
    def log_likelihood(self) -> float:
        """Mean over the questions of `log_likelihoods`."""
        return sum(self.log_likelihoods) / len(self.log_likelihoods)


@dataclass(frozen=True)
class Measured:
    """What was measured of one self-edit."""

    before: Score
    """The learner as it was (in a stream: after the step before) on the problem's questions."""
    after: Score
    """The learner after the update, or `before` if there was none."""
    earlier: Sequence[tuple[Score, Score]] = ()
    """For each earlier problem of the episode, its score before this update and after it."""


class RewardTerm(Protocol):
    """A function from what was measured to a number."""

    def __call__(self, measured: Measured) -> float:
        """The term's value; finite."""
        ...
