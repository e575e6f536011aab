"""Means with bootstrap intervals (Efron 1979): over problems, and over runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
"""Number of bootstrap resamples."""
LEVEL = 0.95
"""Coverage of the intervals."""


@dataclass(frozen=True)
class Estimate:
    """A mean, plain or interquartile, and its interval."""

    mean: float
    """The mean."""
    low: float
    """Lower end of the 95% percentile-bootstrap interval."""
    high: float
    """Upper end."""


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean with a 95% percentile-bootstrap interval.

    For a paired comparison give the differences per problem.

    Args:
        values: One number per problem, at least one.
        seed: Seed of the resampling.
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


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """The mean of the middle half of the values in the last axis.

    A quarter of them, rounded down, is left out at each end, as in Agarwal et al. (2021, arXiv
    2108.13264, section 4.3); of 5 values the 3 middle ones count.
    """
    ordered = np.sort(values, axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def bootstrap_iqm(strata: Sequence[Sequence[float]], seed: int = 0) -> Estimate:
    """Interquartile mean of runs with a 95% stratified bootstrap interval.

    Runs are resampled with replacement within their stratum, and the interquartile mean is of
    all runs together (Agarwal et al. 2021, arXiv 2108.13264, section 4.1). For a comparison of
    algorithms that were run on the same seeds give the differences per run.

    Args:
        strata: Scores of the runs per task, at least one each.
        seed: Seed of the resampling.
    """
    generator = np.random.default_rng(seed)
    drawn = []
    for scores in strata:
        array = np.asarray(scores, dtype=np.float64)
        drawn.append(array[generator.integers(len(array), size=(RESAMPLES, len(array)))])
    means = interquartile_mean(np.concatenate(drawn, axis=1))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    whole = np.concatenate([np.asarray(scores, dtype=np.float64) for scores in strata])
    return Estimate(float(interquartile_mean(whole)), float(low), float(high))
