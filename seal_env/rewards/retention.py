"""Reward term `retention`: change of accuracy on the earlier problems of a stream."""

from __future__ import annotations

from seal_env.rewards.base import RewardInputs


class Retention:
    """Sum of the changes in accuracy of the earlier problems of an episode.

    ``retention = sum over earlier problems of (accuracy after this update - accuracy before it)``.
    Unit: that of `accuracy`. 0 at the first step. Where only a sample of the earlier problems is
    asked (`EnvConfig.probe`), the sum over the sample is scaled up to all of them. With
    `accuracy + retention` the rewards of an episode add up to the sum of all its problems'
    accuracies at the end: each problem's gain telescopes with its later losses. Source: backward
    transfer (Lopez-Paz and Ranzato 2017, arXiv
    1706.08840), step by step.
    """

    needs_questions = True

    def __call__(self, measured: RewardInputs) -> float:
        """See the class."""
        asked, total = len(measured.earlier), measured.earlier_problems
        changes = (after.accuracy - before.accuracy for before, after in measured.earlier)
        return sum(changes, 0.0) * (1 if not asked or total is None else total / asked)
