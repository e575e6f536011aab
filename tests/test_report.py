"""Tables and pictures."""

import io

import pytest
from rich.console import Console

from seal_agents.report import plot_comparison, plot_learning, print_summary, report, summarise
from seal_agents.run import RunFolder
from seal_env.errors import UserError


def record(index, accuracy, policy="a", phase="evaluate", round_=0, problem=None, error=""):
    return {
        "phase": phase, "policy": policy, "round": round_, "index": index, "sample": 0,
        "text": f"[bold]{policy} writes {index}", "title": "Ada [x]", "accuracy": accuracy,
        "log_likelihood": -1.0 - accuracy, "problem": problem or f"p{index}", "error": error,
    }  # fmt: skip


def some_run(path, rounds=3):
    run = RunFolder.open(path, {"command": "train"}, resume=False, overwrite=False)
    for round_ in range(1, rounds + 1):
        run.append([
            record(i, 0.2 * round_ + (i % 3) / 20, "rest-em", "train", round_, f"{round_}-{i // 4}")
            for i in range(12)
        ])  # fmt: skip
    rows = {"none": 0.05, "passage": 0.3, "base": 0.35, "trained": 0.7}
    known = {
        name: [record(i, value + 0.1 * (i % 2), name) for i in range(6)]
        for name, value in rows.items()
    }
    for records in known.values():
        run.append(records)
    return run, summarise(known, 0, 12.3)


def test_samples_of_a_problem_count_as_one():
    """Else many samples of few problems would make the intervals too narrow."""
    values = [0.0] * 50 + [1.0] * 50
    some = [record(i, v, problem=f"p{i // 50}") for i, v in enumerate(values)]
    row = summarise({"a": some}, 0, 1.0)["rows"]["a"]
    assert row["problems"] == 2 and row["samples"] == 100
    assert row["accuracy"] == 0.5 and row["ci"] == [0.0, 1.0]


def test_differences_are_paired():
    base = [record(i, v, "b") for i, v in enumerate((0.1, 0.5, 0.9))]
    better = [record(i, v + 0.1, "c") for i, v in enumerate((0.1, 0.5, 0.9))]
    gap = summarise({"b": base, "c": better}, 0, 1.0)["differences"]["c - b"]
    assert gap["mean"] == pytest.approx(0.1) and gap["ci"] == pytest.approx([0.1, 0.1])


def test_errors_are_counted():
    some = [record(0, 0.1, error="no text"), record(1, 0.2)]
    assert summarise({"a": some}, 0, 1.0)["rows"]["a"]["errors"] == 1


@pytest.mark.parametrize("names", [("x",), ("x", "base"), ("edits:[bold]a", "edits:b")])
def test_the_table_fits_a_terminal(names):
    known = {n: [record(i, 0.5 + i / 10, n) for i in range(3)] for n in names}
    out = io.StringIO()
    print_summary(summarise(known, 0, 1.0), Console(file=out, width=80))
    shown = out.getvalue()
    for name in names:
        assert name in shown
    assert "0.600" in shown and "…" not in shown


def test_the_usual_table_fits_a_terminal(tmp_path):
    _, summary = some_run(tmp_path)
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=80))
    shown = out.getvalue()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    assert "+0.350" in shown and "less passage" in shown


def test_the_pictures_are_drawn(tmp_path):
    run, summary = some_run(tmp_path)
    for picture in (
        plot_learning(run, summary),
        plot_learning(run, None),
        plot_comparison(run, summary),
    ):
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*.new"))


def test_without_rounds_there_is_no_learning_curve(tmp_path):
    run, summary = some_run(tmp_path, rounds=0)
    assert plot_learning(run, summary) is None


def test_a_report_shows_the_table_and_self_edits(tmp_path):
    run, summary = some_run(tmp_path)
    run.write_json("summary.json", summary)
    out = io.StringIO()
    report(tmp_path, Console(file=out, width=100), 1)
    shown = out.getvalue()
    assert "[bold]rest-em writes 0" in shown and "round 2: Ada [x]" in shown
    assert "writes 1" not in shown and "less none" in shown
    assert (tmp_path / "comparison.png").is_file() and (tmp_path / "learning_curve.png").is_file()


def test_a_run_that_is_not_finished_can_be_reported(tmp_path):
    some_run(tmp_path)
    out = io.StringIO()
    report(tmp_path, Console(file=out), 0)
    assert "not finished" in out.getvalue()


def test_what_cannot_be_reported_is_said(tmp_path):
    with pytest.raises(UserError, match="no run here"):
        report(tmp_path, Console(file=io.StringIO()), 1)
    RunFolder.open(tmp_path / "r", {"command": "train"}, resume=False, overwrite=False)
    with pytest.raises(UserError, match="holds no self-edits yet"):
        report(tmp_path / "r", Console(file=io.StringIO()), 1)
    with pytest.raises(UserError, match="--samples -1"):
        report(tmp_path / "r", Console(file=io.StringIO()), -1)
