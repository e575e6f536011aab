"""A learner's score on one problem: its answers, and how likely the right ones were."""

from __future__ import annotations

from dataclasses import dataclass


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
