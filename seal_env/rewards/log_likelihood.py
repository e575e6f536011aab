"""Reward term `log_likelihood`, a dense companion of accuracy."""

from __future__ import annotations

from seal_env.rewards.base import RewardInputs


class LogLikelihood:
    """Mean log-probability of the gold answers under the updated learner, in nats per token.

    ``log_likelihood = mean over questions of (1 / T) * sum over t of log p_new(y_t | question,
    y_<t)``, where y is the gold answer and T its number of tokens; at most 0. It ranks
    self-edits of equal accuracy: in 22 of 50 of SEAL's published groups the best of five is a tie.
    Source: this project.
    """

    needs_questions = True

    def __call__(self, measured: RewardInputs) -> float:
        """See the class."""
        return measured.after.log_likelihood
