"""Interface of reward terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seal_env.score import Score


@dataclass(frozen=True)
class RewardInputs:
    """Measurements of one self-edit."""

    before: Score
    """Score of the learner before the update (in a stream: after the previous step)."""
    after: Score
    """Score of the learner after the update; `before` if there was none."""
    earlier: Sequence[tuple[Score, Score]] = ()
    """Scores of each earlier problem of the episode, before and after this update."""


class RewardTerm(Protocol):
    """Function from measurements to a number."""

    def __call__(self, measured: RewardInputs) -> float:
        """Value of the term, finite."""
        ...
