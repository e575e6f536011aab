"""Reward term `log_likelihood`: a dense companion of accuracy."""

from __future__ import annotations

from seal_env.rewards.base import RewardInputs


class LogLikelihood:
    """Mean log-probability per token of the gold answers under the updated learner, at most 0.

    Where accuracy ties (in 22 of 50 of SEAL's published groups the best of five is a tie),
    this still tells the better self-edit.
    """

    def __call__(self, measured: RewardInputs) -> float:
        """See the class."""
        return measured.after.log_likelihood
