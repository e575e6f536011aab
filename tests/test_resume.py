"""Runs that are killed at any moment and go on: real processes, real SIGKILL."""

import itertools
import json
import shutil
import sys
from dataclasses import replace

import pytest
from agent_fixtures import TRAIN, env, finish, kill_when, lines, quiet, snapshot, summary

from seal_agents import AGENTS, Agent, cli
from seal_agents.reporting.report import summarize
from seal_agents.run_folder import RunFolder
from seal_agents.runner import rounds, train
from seal_agents.runner.build import agent_class
from seal_agents.runner.configs import TrainConfig
from seal_env.episodes import EnvConfig
from seal_env.testing import identity

pytestmark = pytest.mark.slow

LINES = 2 * 6 + 4 * 3


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


@pytest.mark.parametrize("field", ["accuracy", "reward", "error"])
def test_a_damaged_line_of_an_evaluation_is_one_line(copied, arguments, capsys, field):
    without(copied, *ENDING)
    place = copied / "episodes.jsonl"
    *rest, last = lines(copied)
    damaged = {name: value for name, value in last.items() if name != field}
    place.write_text("".join(json.dumps(line) + "\n" for line in [*rest, damaged]))
    with pytest.raises(SystemExit) as ended:
        sys.exit(cli.main([*arguments, "--resume"]))
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert f"is damaged (no '{field}'); remove it and resume" in errors
    assert errors.count("\n") == 1


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
    assert "finished already" in shown and "trained" in shown and "− none" in shown
    assert (copied / "summary.json").stat().st_mtime_ns == before


def test_two_processes_do_not_write_one_run(arguments, tmp_path):
    mine = RunFolder.open(tmp_path / "run", {"command": "train"}, resume=False, overwrite=False)
    code, _, errors = finish([*arguments, "--resume"], tmp_path)
    assert code == 2 and "another process is writing this run" in errors
    assert errors.count("\n") == 1
    assert not (mine.path / "episodes.jsonl").exists()


def test_the_rows_are_those_of_the_lines(undisturbed):
    known = RunFolder.existing(undisturbed)
    rows = {}
    for name in summary(undisturbed)["rows"]:
        some = known.records("evaluate", name, 0)
        rows[name] = [some[i] for i in range(3)]
    assert summarize(rows, 0, 0.0)["rows"] == summary(undisturbed)["rows"]


# ---- every agent -----------------------------------------------------------------------------

CHOOSING = {"best-of-n"}
"""Learn nothing, but say something of each round."""
LEARNING = {n for n in AGENTS if agent_class(n).learn is not Agent.learn} - CHOOSING


def identity_run(name, out):
    """A run on an identity environment: quick, and there is something to learn."""
    kind = agent_class(name)
    options = kind.Options()
    if hasattr(options, "max_new_tokens"):
        options = replace(options, max_new_tokens=8)
    if hasattr(options, "tokens"):
        options = replace(options, tokens=16)
    if name in CHOOSING:
        options = replace(options, candidates=2)
    few = 2 if name in CHOOSING else 4
    # An identity environment has no questions to choose by.
    environment = env("tiny", task="biographies") if name in CHOOSING else EnvConfig(**identity())
    config = TrainConfig(
        env=environment, agent=name, options=options, rounds=2, problems=few,
        samples=few, test_problems=few, references=(), checks=1, out=out,
    )  # fmt: skip
    return train.train(config, True, False, quiet())


def stop(*_):
    raise KeyboardInterrupt


def shaken(name, out, monkeypatch):
    """The same run, stopped after the first round, and when the second was learned from."""
    for module, what, at in (
        (rounds, "round_problems", lambda task, config, round_: round_ == 2),
        (rounds, "write_scalars", lambda run, round_, numbers: round_ == 2),
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            done = getattr(module, what)
            patch.setattr(
                module,
                what,
                lambda *a, at=at, done=done: stop() if at(*a) else done(*a),
            )
            identity_run(name, out)
        assert len(list((out / "checkpoints").glob("round-[1-9]"))) == 1
    return identity_run(name, out)


# Of those left out, two need a file or data, and "" is no right word, so that run would end.
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", sorted(set(AGENTS) - {"always", "edits", "passage"}))
def test_every_agent_learns_the_same_whether_it_was_stopped_or_not(name, tmp_path, monkeypatch):
    whole = identity_run(name, tmp_path / "whole")
    resumed = shaken(name, tmp_path / "shaken", monkeypatch)
    learned, again = (snapshot(tmp_path / run / "checkpoints") for run in ("whole", "shaken"))
    assert sorted(learned) == sorted(again)
    assert [file for file in learned if learned[file] != again[file]] == []
    if name in LEARNING:
        assert any(file.endswith(".safetensors") for file in learned)
        for file in learned:
            if file.startswith("round-1/") and file.endswith(".safetensors"):
                assert learned[file] != learned[file.replace("round-1", "round-2")]
    assert lines(tmp_path / "shaken") == lines(tmp_path / "whole")
    assert resumed["rows"] == whole["rows"] and resumed["checks"] == whole["checks"]
