"""Reward term `retention`: what the earlier problems of a stream lost."""

from __future__ import annotations

from seal_env.rewards.base import RewardInputs


class Retention:
    """Sum over the earlier problems of an episode of how much their accuracy changed.

    With `accuracy + retention` the rewards of an episode add up to the sum of all its problems'
    accuracies at the end: each problem's own gain telescopes with what it lost later. 0 at
    the first step.
    """

    def __call__(self, measured: RewardInputs) -> float:
        """See the class."""
        return sum((after.accuracy - before.accuracy for before, after in measured.earlier), 0.0)
