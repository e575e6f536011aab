"""Algorithms that nobody here wrote, against choosing at random."""

import pytest
from rich.console import Console

from benchmarks import stock
from seal_env.episodes import EnvConfig
from seal_env.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture
def args(models, tmp_path):
    env = EnvConfig(model=models["llama"], device="cpu")
    sizes = {"seeds": 1, "steps": 4, "envs": 2, "test_problems": 3}
    return stock.Args(("A2C", "DQN"), env=env, out=tmp_path, **sizes)


def test_what_is_finished_is_not_done_anew(args, monkeypatch):
    found = stock.run(args, Console(quiet=True))
    assert list(found) == [stock.RANDOM, "A2C", "DQN"]
    assert found[stock.RANDOM]["less random"] is None
    table = (args.out / "table.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        "| random choice", "| A2C", "| DQN"
    ]  # fmt: skip
    (args.out / "A2C-0.json").unlink()
    again = []
    one = stock._one
    monkeypatch.setattr(stock, "_one", lambda *a: (again.append(a[1].kind), one(*a))[1])
    assert stock.run(args, Console(quiet=True)) == found
    assert again == [stock.A2C]


def test_differences_are_paired_by_problem():
    runs = {stock.RANDOM: [[0.0, 0.5], [0.2, 0.7]], "PPO": [[0.3, 0.8], [0.5, 1.0]]}
    found = stock.figures(runs, {stock.RANDOM: [0.0, 0.0], "PPO": [0.5, 0.25]})
    assert found["PPO"]["invalid"] == 0.375
    assert found["PPO"]["seeds"] == [0.55, 0.75]
    assert found["PPO"]["less random"] == pytest.approx([0.3, 0.3, 0.3])


@pytest.mark.parametrize(
    ("wrong", "message"), [({"algorithms": ("SAC",)}, "SAC: unknown"), ({"steps": 0}, "--steps")]
)
def test_wrong_settings_are_told(wrong, message):
    with pytest.raises(UserError, match=message):
        stock.Args(**wrong).check()


def test_the_command_tells_in_one_line(capsys):
    assert stock.main(["--algorithms", "SAC"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
