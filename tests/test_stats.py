"""Bootstrap intervals."""

import numpy as np
import pytest

from seal_agents.reporting import stats
from seal_agents.reporting.stats import bootstrap_iqm, bootstrap_mean, interquartile_mean


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


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert interquartile_mean(np.array([9.0, 1.0, 2.0, 3.0, -50.0])) == 2.0
    assert interquartile_mean(np.array([1.0, 2.0, 3.0])) == 2.0  # too few to leave any out
    rows = np.array([[0.0, 1, 1, 100], [5.0, 6, 7, 8]])
    assert interquartile_mean(rows).tolist() == [1.0, 6.5]


def test_an_iqm_of_one_stratum_has_the_interval_of_its_resamples():
    values = np.random.default_rng(3).normal(0.5, 0.1, 40)
    found = bootstrap_iqm([values])
    assert found.mean == pytest.approx(interquartile_mean(values))
    # The middle half of normal values: its mean varies 1.09 times as much as the mean.
    half = 1.96 * 1.09 * values.std() / np.sqrt(40)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.25)
    assert found.low < found.mean < found.high


def test_an_outlier_moves_the_iqm_less_than_the_mean():
    assert bootstrap_iqm([[0.5, 0.5, 0.5, 0.5, 0.0]]).mean == 0.5


def test_strata_are_resampled_apart():
    """Runs of an easy and of a hard task: neither may stand in for the other."""
    apart = bootstrap_iqm([[0.0] * 4, [1.0] * 4])
    assert (apart.mean, apart.low, apart.high) == (0.5, 0.5, 0.5)
    together = bootstrap_iqm([[0.0] * 4 + [1.0] * 4])
    assert together.low == 0.0 and together.high == 1.0


def test_the_same_runs_give_the_same_interval():
    assert bootstrap_iqm([[0.1, 0.2, 0.7]]) == bootstrap_iqm([[0.1, 0.2, 0.7]])
