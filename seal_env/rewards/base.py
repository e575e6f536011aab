"""What a reward term sees, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seal_env.score import Score


@dataclass(frozen=True)
class RewardInputs:
    """What was measured of one self-edit."""

    before: Score
    """The learner as it was (in a stream: after the step before) on the problem's questions."""
    after: Score
    """The learner after the update, or `before` if there was none."""
    earlier: Sequence[tuple[Score, Score]] = ()
    """For each earlier problem of the episode, its score before this update and after it."""


class RewardTerm(Protocol):
    """A function from what was measured to a number."""

    def __call__(self, measured: RewardInputs) -> float:
        """The term's value; finite."""
        ...
