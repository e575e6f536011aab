"""Reward term `accuracy`, SEAL's reward (arXiv 2506.10943, section 3.1)."""

from __future__ import annotations

from seal_env.rewards.base import RewardInputs


class Accuracy:
    """Fraction of the held-out questions that the updated learner answers correctly, 0 to 1.

    ``accuracy = right answers / questions``, graded by the task. Source: SEAL (arXiv 2506.10943,
    section 3.1).
    """

    needs_questions = True

    def __call__(self, measured: RewardInputs) -> float:
        """See the class."""
        return measured.after.accuracy
