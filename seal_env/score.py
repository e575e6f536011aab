"""Score of a learner on one problem: its answers and the likelihoods of the gold ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        """Fraction of correct answers, 0 to 1; NaN without questions."""
        return _mean(self.verdicts)

    @property
    def log_likelihood(self) -> float:
        """Mean of `log_likelihoods`, in nats per token; NaN without questions."""
        return _mean(self.log_likelihoods)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
