"""The cost model of workers, and its plot."""

import pytest

from benchmarks import agents, scaling
from benchmarks.scaling import SIZES, Args, model
from benchmarks.scaling_plot import plot
from seal_agents.tuning.config import TuneConfig
from seal_env.config import EnvConfig
from seal_env.errors import UserError

COSTS = {
    "per_edit": 0.1,
    "per_batch": 0.0,
    "driver_per_edit": 1e-3,
    "driver_per_batch": 0.0,
    "serial_per_edit": 1e-3,
}


def test_throughput_is_that_of_the_workers_until_it_is_that_of_the_driver():
    rows = model(COSTS)
    assert [row["workers"] for row in rows] == list(SIZES)
    for row in rows:
        bound = min(row["workers"] / 0.1, 1 / 2e-3)
        assert 0.4 * bound < row["grown"] < 1.001 * bound
    assert rows[0]["grown"] > 0.9 * 10 and rows[-1]["grown"] > 0.9 * 500
    assert rows[0]["driver"] < 0.05 and rows[-1]["driver"] > 0.9


@pytest.mark.slow
def test_the_plot_is_a_picture_with_or_without_a_measurement():
    found = {"model": model(COSTS), "settings": {"edits": 256, "workers": 2}}
    bare = plot(found)
    marked = plot(found | {"speed": {"workers": [10.0]}})
    assert bare[:4] == marked[:4] == b"\x89PNG" and bare != marked


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kills": 0}, "--kills 0: must be at least 1"),
        ({"parts": ("sped",)}, "--parts sped: known parts are speed"),
        ({"env": EnvConfig()}, "--workers of at least 1"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        Args(**settings).check()


def test_commands_that_do_without_workers_say_so():
    with pytest.raises(UserError, match="--workers 2: tune carries"):
        TuneConfig(env=EnvConfig(workers=2))
    with pytest.raises(UserError, match=r"--workers with --jobs 2: .* give --jobs 1"):
        agents.Args(env=EnvConfig(workers=2), jobs=2).check()


@pytest.mark.parametrize(("stopped", "status"), [(1, 0), (0, 1)])
def test_a_hang_that_stopped_no_worker_is_no_success(stopped, status, monkeypatch, capsys):
    found = {"hang": {"stopped": stopped, "equal": True}}
    monkeypatch.setattr(scaling, "run", lambda *_: found)
    assert scaling.main([]) == status
    assert ("hang stopped no worker" in capsys.readouterr().err) == bool(status)
