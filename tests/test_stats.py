"""Bootstrap intervals."""

import numpy as np
import pytest

from seal_agents import stats
from seal_agents.stats import bootstrap_mean


def test_the_interval_is_that_of_the_normal_approximation_where_it_holds():
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = bootstrap_mean(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_95_percent_of_the_intervals_hold_the_true_mean(monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 1_000)
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        found = bootstrap_mean(generator.binomial(1, 0.3, 60))
        hits += found.low <= 0.3 <= found.high
    assert 0.90 <= hits / 400 <= 0.99


def test_pairing_sees_a_difference_that_separate_intervals_do_not():
    generator = np.random.default_rng(2)
    hard = generator.uniform(0, 1, 50)
    better = hard + 0.05 + generator.normal(0, 0.01, 50)
    gap = bootstrap_mean(better - hard)
    assert gap.low > 0.04
    assert bootstrap_mean(hard).high > bootstrap_mean(better).low


def test_the_same_values_give_the_same_interval():
    assert bootstrap_mean([0.0, 1.0, 1.0]) == bootstrap_mean([0.0, 1.0, 1.0])
    assert bootstrap_mean([0.5]) == stats.Estimate(0.5, 0.5, 0.5)
