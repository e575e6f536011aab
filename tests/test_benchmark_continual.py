"""`benchmarks.continual`: GEM's figures by hand, and a stream that was killed."""

import json
from statistics import mean

import numpy as np
import pytest
from agent_fixtures import quiet
from helpers import INNER

from benchmarks import continual
from benchmarks.continual import Args
from benchmarks.continual_records import Records
from seal_env.config import EnvConfig
from seal_env.errors import UserError


def test_figures_are_those_of_gem(tmp_path):
    """Against the definitions, on a matrix written by hand."""
    matrix = np.array([[0.8, 0, 0], [0.6, 0.9, 0], [0.4, 0.5, 1.0]])
    records = Records(tmp_path / "a.jsonl", {})
    head = {"untouched": [[0.1, 0.2, 0.3]], "likely": [-3.0], "old": 0.9}
    records.add(head | {"order": [["a", "b", "c"]]})
    for t in range(3):
        told = {"own": [matrix[t, t]], "accuracy_before": [[0.1, 0.25, 0.5][t]], "error": [""]}
        told |= {"log_likelihood": [-1.0 - t], "log_likelihood_before": [-2.0], "rolled_back": [""]}
        told |= {"earlier": [list(range(t))], "accuracy": [matrix[t, :t].tolist()]}
        records.add(told, {"cpu": 1.0, "bytes": 8, "rss": 100})
    records.add({"old": [0.7], "likely": [-2.5]})
    row, found = continual.figures(records, 3)
    assert np.allclose(found[np.tril_indices(3)], matrix[np.tril_indices(3)])
    wanted = {"untouched": 0.2, "right_after": 0.9, "final": 1.9 / 3, "old_before": 0.9}
    wanted |= {"old_after": 0.7, "bwt": (0.4 - 0.8 + 0.5 - 0.9) / 2, "fwt": (0.05 + 0.2) / 2}
    assert {name: row[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)
    assert row["log_likelihood"] == pytest.approx([-3.0, -2.0, -2.5])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": (0,)}, "--steps, --seeds and --known start at 1"),
        ({"ways": ("merge", "mege")}, "did you mean 'merge'"),
        ({"ways": ("merge + gate",), "options": {"gate": {"epsilon": 2}}}, "epsilon 2.0"),
        ({"ways": ("merge",), "options": {"erg": {}}}, "no way of --ways has erg"),
    ],
)
def test_settings_that_cannot_be_are_one_line_before_anything_is_done(changes, said, tmp_path):
    env = EnvConfig(stream_options=changes.pop("options", {}))
    with pytest.raises(UserError, match=said):
        continual.run(Args(env=env, out=tmp_path / "out", **changes), quiet())
    assert not (tmp_path / "out").exists()


def test_orders_are_permutations_of_the_same_problems():
    first, *others = continual.orders("abcdefgh", 4)
    assert first == list("abcdefgh") and all(sorted(order) == first for order in others)
    assert len({*map(tuple, (first, *others))}) == 4


@pytest.mark.slow
def test_a_stream_that_was_killed_goes_on_to_the_bit(models, tmp_path, monkeypatch):
    env = EnvConfig(task="helpers:Parity", model=models["llama"], inner=INNER, probe=1)

    def args(name):
        return Args(
            steps=(3,), seeds=2, ways=("route",), known=1, policy="passage", env=env,
            out=tmp_path / name, json=tmp_path / f"{name}.json",
        )  # fmt: skip

    asked, norms = continual._asked, []

    def of_learner(episodes, problems, state):
        norms.append(state.norm())
        return asked(episodes, problems, state)

    monkeypatch.setattr(continual, "_asked", of_learner)
    continual.run(args("whole"), quiet())
    found = json.loads((tmp_path / "whole.json").read_text())["3"]["route"]
    assert set(found) >= {"untouched", "right_after", "final", "old_before", "old_after"}
    assert len(found["ci_final"]) == 2
    (tmp_path / "cut").mkdir()
    whole = (tmp_path / "whole" / "3-route.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    # Old knowledge, and all problems at the end, are asked of the last learners.
    assert norms == 2 * json.loads(lines[-3])["norm"]
    untouched, after = json.loads(lines[1])["likely"], json.loads(lines[-2])["likely"]
    assert found["log_likelihood"][::2] == pytest.approx([mean(untouched), mean(after)], abs=1e-4)
    cut = tmp_path / "cut" / "3-route.jsonl"
    cut.write_text("".join(lines[:4]) + lines[4][:9])  # in the middle of writing step 3
    continual.run(args("cut"), quiet())
    again = [json.loads(line) for line in cut.read_text().splitlines()]
    for one, other in zip(map(json.loads, lines), again, strict=True):
        assert one | {"timed": None} == other | {"timed": None}
    assert (tmp_path / "cut" / "matrix-3.png").read_bytes().startswith(b"\x89PNG")
    cut.write_text("".join(lines[:3]).replace('"own": [', '"own": [9.0, '))
    with pytest.raises(UserError, match="comes out differently"):
        continual.run(args("cut"), quiet())
