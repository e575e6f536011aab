"""The benchmark of recipes: its rows, its comparisons, and going on where it stopped."""

import dataclasses
import json

import pytest

from benchmarks import few_shot
from seal_env.edits.directives import write_directive
from seal_env.errors import UserError
from seal_env.presets import MODEL_PRESETS
from seal_env.tasks.grids.tiny_grids import TinyGrids

pytestmark = pytest.mark.slow

SMALL = ["--seeds", "2", "--rounds", "1", "--problems", "2", "--samples", "2"]
SMALL += ["--test-problems", "2", "--agents", "ppo-choices"]
TOOLS = TinyGrids.tools


def of(tools, epochs=1):
    return write_directive(TOOLS, tools, 0.003, epochs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run; the menu is cut to four recipes."""
    out = tmp_path_factory.mktemp("few-shot") / "out"
    usual = MODEL_PRESETS["tiny-grids"]
    quick = dataclasses.replace(usual, inner=dataclasses.replace(usual.inner, max_tokens=300))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODEL_PRESETS, "tiny-grids", quick)
        written = [of([]), of(TOOLS), of(TOOLS[:1], 2), of([])]
        patch.setattr(few_shot, "recipes", lambda env: (written, 2))
        assert few_shot.main([*SMALL, "--out", str(out)]) == 0
        first = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
        assert few_shot.main([*SMALL, "--out", str(out)]) == 0
    assert {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()} == first
    return out


def test_all_rows_are_there(folder):
    found = json.loads((folder / "table.json").read_text())
    assert list(found["rows"]) == [
        few_shot.NONE,
        few_shot.FIXED,
        "best single recipe",
        "ppo-choices, untrained",
        "ppo-choices, trained",
        few_shot.ORACLE,
    ]
    assert found["recipes"] == 4 and found["evaluations"] == {"ppo-choices": 4}
    means = {name: row["accuracy"][0] for name, row in found["rows"].items()}
    assert means[few_shot.ORACLE] >= means["best single recipe"] >= means[few_shot.FIXED]
    assert len(found["rows"]["ppo-choices, trained"]["seeds"]) == 2
    (said,) = few_shot.sentences(found)
    assert said.startswith("ppo-choices, trained: less untrained ")
    assert (folder / "table.md").read_text().count("\n| ") == len(found["rows"])
    assert (folder / "tools.png").read_bytes().startswith(b"\x89PNG")


def test_the_fixed_recipe_is_the_middle_one_and_says_its_tools(folder):
    found = json.loads((folder / "table.json").read_text())
    families = [TinyGrids().solved("test", i).family for i in range(2)]
    tools = found["rows"][few_shot.FIXED]["tools"]
    assert tools == {family: {"colors": 1} for family in families}
    assert set(found["rows"][few_shot.NONE]["tools"][families[0]]) == {"none"}


def test_comparisons_are_paired_and_the_way_is_a_share():
    def row(*accuracy, seeds=()):
        import numpy as np

        return {"accuracy": np.array(accuracy), "seeds": list(seeds)}

    rows = {
        "a, untrained": row(0.0, 0.5, seeds=(0.2, 0.3)),
        "a, trained": row(0.5, 1.0, seeds=(0.7, 0.8)),
        few_shot.FIXED: row(0.5, 1.0),
        few_shot.ORACLE: row(1.0, 1.0),
    }
    found = few_shot._compared(rows, "a")
    assert found["less untrained"] == [0.5, 0.5, 0.5]
    assert found["less fixed recipe"] == [0.0, 0.0, 0.0]
    assert found["share of the way to the oracle"] == pytest.approx(2 / 3)
    assert found["seeds above untrained"] == 2
    rows[few_shot.ORACLE] = row(0.0, 0.5)
    assert few_shot._compared(rows, "a")["share of the way to the oracle"] is None


def test_every_recipe_is_there_once_and_one_of_them_is_middling():
    written, middle = few_shot.recipes(few_shot.Args().env)
    assert len(written) == len(set(written)) == 4 * 4 * 4 * 2
    assert written[middle] == write_directive(TOOLS, TOOLS, 0.003, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--fixed", "4000"], "the menu has 128 recipes"),
        (["--edit", "training-data", "--task", "biographies"], "about directives"),
        (["--agents", "nosuch"], "unknown agent"),
    ],
)
def test_bad_settings_are_one_line(given, said, tmp_path, capsys):
    assert few_shot.main([*given, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_errors_are_user_errors():
    with pytest.raises(UserError):
        few_shot.Args(rounds=0).check()
