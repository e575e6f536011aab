"""Runs that are killed at any moment and go on: real processes, real SIGKILL."""

import itertools
import shutil

import pytest
from agent_fixtures import TRAIN, finish, kill_when, lines, summary

from seal_agents import cli, train
from seal_agents.report import summarise
from seal_agents.run import RunFolder

LINES = 2 * 6 + 5 * 3


@pytest.fixture(scope="module")
def arguments(models) -> list[str]:
    return ["train", *TRAIN, "--model", models["llama"], "--out", "run"]


@pytest.fixture(scope="module")
def undisturbed(arguments, tmp_path_factory):
    """The folder in which the run was left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, _, errors = finish(arguments, folder)
    assert (code, errors) == (0, "")
    return folder / "run"


def assert_same(run, undisturbed):
    mine, theirs = summary(run), summary(undisturbed)
    assert mine["rows"] == theirs["rows"] and mine["differences"] == theirs["differences"]
    written = lines(run)
    keys = [(r["phase"], r["policy"], r["round"], r["index"]) for r in written]
    assert len(set(keys)) == len(keys) == LINES
    assert written == lines(undisturbed)
    for name in ("adapter/adapter_model.safetensors", "comparison.png", "learning_curve.png"):
        assert (run / name).is_file()
    adapter = "adapter/adapter_model.safetensors"
    assert (run / adapter).read_bytes() == (undisturbed / adapter).read_bytes()


def count(run) -> int:
    place = run / "episodes.jsonl"
    return place.read_bytes().count(b"\n") if place.is_file() else 0


MOMENTS = {
    "at once": lambda run: run.is_dir(),
    "after some lines": lambda run: count(run) >= 2,
    "while it learns": lambda run: count(run) >= 6,
    "at a checkpoint": lambda run: any(run.glob("checkpoints/*")),
    "in the second round": lambda run: count(run) >= 8,
    "after the checkpoint": lambda run: (run / "checkpoints" / "round-2").is_dir(),
    "on held-out problems": lambda run: count(run) >= 17,
    "near the end": lambda run: count(run) >= LINES or (run / "adapter").is_dir(),
    "at the plots": lambda run: any(run.glob("*.png")),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(arguments, undisturbed, tmp_path, moment):
    run = tmp_path / "run"
    running = kill_when(arguments, tmp_path, lambda: MOMENTS[moment](run))
    assert running or moment in ("near the end", "at the plots")
    code, _, errors = finish([*arguments, "--resume"], tmp_path)
    assert (code, errors) == (0, "")
    assert_same(run, undisturbed)


def test_a_run_that_is_killed_again_and_again_ends(arguments, undisturbed, tmp_path):
    run = tmp_path / "run"
    for goal in itertools.count(3, 5):
        if not kill_when([*arguments, "--resume"], tmp_path, lambda g=goal: count(run) >= g):
            break
    finish([*arguments, "--resume"], tmp_path)
    assert_same(run, undisturbed)


@pytest.fixture
def copied(undisturbed, tmp_path, monkeypatch):
    """The finished run, to be damaged and resumed."""
    shutil.copytree(undisturbed, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def without(run, *names):
    for name in names:
        place = run / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()


ENDING = ("summary.json", "adapter", "comparison.png", "learning_curve.png")


def test_a_half_written_line(copied, arguments, undisturbed):
    without(copied, *ENDING)
    place = copied / "episodes.jsonl"
    place.write_bytes(place.read_bytes()[:-25])
    cli.main([*arguments, "--resume"])
    assert_same(copied, undisturbed)


@pytest.mark.parametrize("missing", [("round-2",), ("round-1", "round-2")])
def test_lines_of_a_round_that_has_no_checkpoint_are_used(copied, arguments, undisturbed, missing):
    """The rounds' self-edits are known; only what was learned from them is not."""
    without(copied, *ENDING, *(f"checkpoints/{name}" for name in missing))
    place = copied / "episodes.jsonl"
    place.write_bytes(b"".join(place.read_bytes().splitlines(keepends=True)[:12]))
    cli.main([*arguments, "--resume"])
    assert_same(copied, undisturbed)


def test_a_checkpoint_with_no_line_after_it(copied, arguments, undisturbed):
    without(copied, *ENDING, "checkpoints/round-2")
    (copied / "checkpoints" / ".round-2.new").mkdir()
    place = copied / "episodes.jsonl"
    place.write_bytes(b"".join(place.read_bytes().splitlines(keepends=True)[:6]))
    cli.main([*arguments, "--resume"])
    assert_same(copied, undisturbed)


def test_stopped_between_the_lines_and_the_pictures(copied, arguments, undisturbed):
    without(copied, *ENDING)
    cli.main([*arguments, "--resume"])
    assert_same(copied, undisturbed)


def test_the_summary_is_written_last(copied, arguments, monkeypatch):
    """Where it is, a run counts as finished, and nothing would draw the pictures."""
    without(copied, *ENDING)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "plot_comparison", stop)
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--resume"])
    assert ended.value.code == 130
    assert not (copied / "summary.json").exists()


def test_a_finished_run_prints_its_table(copied, arguments, capsys):
    before = (copied / "summary.json").stat().st_mtime_ns
    cli.main([*arguments, "--resume"])
    shown = capsys.readouterr().out
    assert "finished already" in shown and "trained" in shown and "less none" in shown
    assert (copied / "summary.json").stat().st_mtime_ns == before


def test_two_processes_do_not_write_one_run(arguments, tmp_path):
    run = tmp_path / "run"
    other = tmp_path / "other"
    other.mkdir()
    met = []

    def due():
        if not run.is_dir() or not (run / "config.json").exists():
            return False
        again = [*arguments[:-1], str(run), "--resume"]
        met.append(finish(again, other))
        return True

    kill_when(arguments, tmp_path, due)
    code, _, errors = met[0]
    assert code == 2 and "another process is writing this run" in errors


def test_the_rows_are_those_of_the_lines(undisturbed):
    known = RunFolder.existing(undisturbed)
    rows = {}
    for name in summary(undisturbed)["rows"]:
        some = known.records("evaluate", name, 0)
        rows[name] = [some[i] for i in range(3)]
    assert summarise(rows, 0, 0.0)["rows"] == summary(undisturbed)["rows"]
