"""Reward term `length`: a tie-breaker between self-edits that teach the same."""

from __future__ import annotations

from dataclasses import dataclass

from seal_env.checks import check_fields
from seal_env.errors import UserError
from seal_env.rewards.base import RewardInputs, TermValue


@dataclass
class Length:
    """How much was trained on, as a fraction of what one answer is worth; at least 0.

    ``length = t / (t + scale) / n``, where t is the number of tokens trained on over all epochs
    and n the number of questions (1 without questions). Unit: that of `accuracy`, where one answer
    is worth 1 / n, which this is less than. So ``accuracy - length`` decides between self-edits
    with equally many right answers, for the one that trains on less, and no length outweighs an
    answer; with a weight above 1 it can. Source: this project; what is rewarded beside answers gets
    optimized instead of them, so it has to be bounded. Part: `tokens`.

    Raises:
        UserError: The scale is not above 0.
    """

    scale: int = 10_000
    """Tokens at which half of the bound is reached."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scale <= 0:
            raise UserError(f"scale {self.scale}: must be above 0")

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        tokens = measured.trained_tokens
        value = tokens / (tokens + self.scale) / max(len(measured.after.answers), 1)
        return TermValue(value, {"tokens": tokens})
