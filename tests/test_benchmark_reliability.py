"""How much of a result is the self-edit."""

import numpy as np
import pytest
from rich.console import Console

from benchmarks import reliability
from seal_agents.cli import main
from seal_env.errors import UserError

GROUPS = np.repeat(np.arange(50), 4)


def test_the_share_of_the_self_edit_is_found():
    random = np.random.default_rng(0)
    edits, problems = random.normal(size=200), 10 * random.normal(size=50)[GROUPS]
    noise = random.normal(size=(5, 200))
    for size, expected in ((0.0, 1.0), (1.0, 0.5), (2.0, 0.2)):
        found = reliability.reliability(problems + edits + size * noise, GROUPS)
        assert found == pytest.approx(expected, abs=0.1)
    assert abs(reliability.reliability(problems + noise, GROUPS)) < 0.1


@pytest.mark.slow
def test_the_self_edits_of_a_run_are_carried_out_anew(models, tmp_path):
    run = str(tmp_path / "run")
    sizes = "--rounds 1 --problems 2 --samples 2 --test-problems 1 --options.max-new-tokens 8"
    main(["train", *sizes.split(), "--model", models["llama"], "--references", "--out", run])
    args = reliability.Args(tmp_path / "run", seeds=2)
    found = reliability.measure(args, Console(quiet=True))
    assert set(found) == {"accuracy", "log_likelihood"}
    assert found["log_likelihood"] <= 1


@pytest.mark.parametrize("wrong", [{"seeds": 1}, {"edits": 1}, {"run": "nowhere"}])
def test_what_cannot_be_measured_is_told(wrong, tmp_path):
    given = {"run": tmp_path / wrong.pop("run", "."), **wrong}
    with pytest.raises(UserError):
        reliability.measure(reliability.Args(**given), Console(quiet=True))
