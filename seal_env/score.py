"""Score of a learner on one problem: its answers and the likelihoods of the gold ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """Results of a learner on one problem's held-out questions."""

    answers: tuple[str, ...]
    """Answers of the learner."""
    verdicts: tuple[bool, ...]
    """Whether each answer is correct."""
    log_likelihoods: tuple[float, ...]
    """Mean log-probability of each question's gold answer, in nats per token."""

    @property
    def accuracy(self) -> float:
        """Fraction of correct answers, 0 to 1."""
        return sum(self.verdicts) / len(self.verdicts)

    @property
    def log_likelihood(self) -> float:
        """Mean of `log_likelihoods`, in nats per token."""
        return sum(self.log_likelihoods) / len(self.log_likelihoods)
