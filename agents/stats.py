"""Means with bootstrap intervals (Efron 1979), over problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval."""

    mean: float
    """The mean."""
    low: float
    """Lower end of the 95% percentile-bootstrap interval."""
    high: float
    """Upper end."""


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of values with its 95% interval, by resampling them.

    For a paired comparison give the differences, problem by problem.

    Args:
        values: One number a problem, at least one.
        seed: Fixes the resampling.
    """
    array = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            array[generator.integers(len(array), size=(RESAMPLES // 10, len(array)))].mean(axis=1)
            for _ in range(10)
        ]
    )
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Estimate(float(array.mean()), float(low), float(high))
