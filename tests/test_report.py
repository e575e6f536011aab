"""Tables and pictures."""

import io
from random import Random
from statistics import fmean

import pytest
from rich.console import Console

from seal_agents.reporting.costs import judge_cost
from seal_agents.reporting.halves import best_accuracies
from seal_agents.reporting.report import (
    plot_comparison,
    plot_learning,
    print_summary,
    report,
    summarize,
)
from seal_agents.reporting.samples import Sample, choose, describe, plot_styles, write_samples
from seal_agents.run_folder import RunFolder
from seal_env.errors import UserError


def record(index, accuracy, policy="a", phase="evaluate", round_=0, problem=None, error=""):
    return {
        "phase": phase, "policy": policy, "round": round_, "index": index, "sample": 0,
        "text": f"[bold]{policy} writes {index}", "title": "Ada [x]", "accuracy": accuracy,
        "reward": accuracy - 1, "style": "few" if index % 2 else "vague",
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
    return run, summarize(known, 0, 12.3)


def test_samples_of_a_problem_count_as_one():
    """Else many samples of few problems would make the intervals too narrow."""
    values = [0.0] * 50 + [1.0] * 50
    some = [record(i, v, problem=f"p{i // 50}") for i, v in enumerate(values)]
    row = summarize({"a": some}, 0, 1.0)["rows"]["a"]
    assert row["problems"] == 2 and row["samples"] == 100
    assert row["accuracy"] == 0.5 and row["ci"] == [0.0, 1.0]


def test_differences_are_paired():
    base = [record(i, v, "b") for i, v in enumerate((0.1, 0.5, 0.9))]
    better = [record(i, v + 0.1, "c") for i, v in enumerate((0.1, 0.5, 0.9))]
    gap = summarize({"b": base, "c": better}, 0, 1.0)["differences"]["c - b"]
    assert gap["mean"] == pytest.approx(0.1) and gap["ci"] == pytest.approx([0.1, 0.1])


def test_errors_are_counted():
    some = [record(0, 0.1, error="no text"), record(1, 0.2)]
    assert summarize({"a": some}, 0, 1.0)["rows"]["a"]["errors"] == 1


@pytest.mark.parametrize("names", [("x",), ("x", "base"), ("edits:[bold]a", "edits:b")])
def test_the_table_fits_a_terminal(names):
    known = {n: [record(i, 0.5 + i / 10, n) for i in range(3)] for n in names}
    out = io.StringIO()
    print_summary(summarize(known, 0, 1.0), Console(file=out, width=80))
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
    assert "+0.350" in shown and "− passage" in shown


def test_the_tables_have_the_terms_of_the_reward():
    """Those without a column of their own, and only where all lines of a policy have them."""
    some = [record(i, 0.5) | {"terms": {"accuracy": 0.5, "f1": i / 2, "kl": 3.0}} for i in (0, 1)]
    old = [record(i, 0.5, "old") for i in (0, 1)]
    summary = summarize({"a": some, "old": old}, 0, 1.0)
    assert summary["rows"]["a"]["terms"] == {"accuracy": 0.5, "f1": 0.25, "kl": 3.0}
    assert summary["rows"]["old"]["terms"] == {}
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=80))
    shown = out.getvalue()
    assert "0.250" in shown and "3.000" in shown and "kl" in shown
    print_summary(summarize({"old": old}, 0, 1.0), Console(file=(out := io.StringIO()), width=80))
    assert "terms" not in out.getvalue()


def test_the_best_of_a_problem_is_measured_on_questions_that_did_not_choose_it():
    lucky = {
        "verdicts": [True, False, True, False]
    }  # all right on one half, all wrong on the other
    fair = {"verdicts": [True, True, False, False]}
    group = [record(i, 0.5, problem="p") | v for i, v in enumerate((lucky, fair))]
    # By questions 1 and 3 the first is best, on 2 and 4 it has 0; by those the second, 0.5.
    assert best_accuracies(group) == [0.25]
    random = Random(0)
    noise = [
        record(i, 0.5, problem=f"p{i // 8}")
        | {"verdicts": [random.random() < 0.5 for _ in range(6)]}
        for i in range(8 * 400)
    ]
    assert fmean(best_accuracies(noise)) == pytest.approx(0.5, abs=0.03)
    alone = [record(0, 0.5) | fair, record(1, 0.5), record(2, 0.5) | {"verdicts": [True]}]
    assert best_accuracies(alone) == []


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_report_shows_the_table_and_self_edits(tmp_path):
    run, summary = some_run(tmp_path)
    run.write_json("summary.json", summary)
    out = io.StringIO()
    report(tmp_path, Console(file=out, width=100), 1)
    shown = out.getvalue()
    # Accuracies go 0, 1, 2, 0, 1, 2, ...: the median of twelve is the second of the middle ones.
    assert "[bold]rest-em writes 4" in shown and "round 2: median, Ada [x]" in shown
    assert "rest-em writes 0" not in shown
    assert "log-likelihood -1.45" in shown
    # The table is last.
    assert shown.index("− none") > max(shown.rindex("wrote "), shown.rindex("writes"))
    assert (tmp_path / "comparison.png").is_file() and (tmp_path / "learning_curve.png").is_file()


@pytest.mark.slow
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


def edits(path, rewards, style=lambda i: None, text=lambda i: f"text {i}", rounds=1):
    run = RunFolder.open(path, {"command": "train"}, resume=False, overwrite=False)
    for round_ in range(1, rounds + 1):
        run.append([
            record(i, 0.5, "ppo", "train", round_, error="")
            | {"reward": reward, "text": text(i), "style": style(i)}
            for i, reward in enumerate(rewards)
        ])  # fmt: skip
    return run


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (0, []),
        (1, [("median", 3)]),
        (2, [("best", 1), ("worst", 2)]),
        (3, [("best", 1), ("median", 3), ("worst", 2)]),
        (9, [("best", 1), ("rank 2 of 5", 4), ("median", 3), ("rank 4 of 5", 0), ("worst", 2)]),
    ],
)
def test_samples_go_from_the_best_to_the_worst(tmp_path, count, wanted):
    run = edits(tmp_path, [0.1, 0.9, -1.0, 0.3, 0.5])
    found = [(sample.place, sample.record["index"]) for sample in choose(run, count)]
    assert found == wanted


def test_one_self_edit_is_neither_best_nor_worst(tmp_path):
    assert [s.place for s in choose(edits(tmp_path, [0.1]), 3)] == ["median"]


def test_samples_md_shows_three_a_round_whatever_was_written(tmp_path):
    texts = ["x" * 5000, "``` \n# not a heading\n`````", "\ud800"]
    run = edits(tmp_path, [3.0, 2.0, 1.0], text=lambda i: texts[i], rounds=2)
    assert write_samples(run) == tmp_path / "samples.md"
    shown = (tmp_path / "samples.md").read_text()
    assert shown.count("## ppo, round") == 2
    assert shown.count("**best, ") == shown.count("**median, ") == shown.count("**worst, ") == 2
    assert r"Ada \[x\], reward 3.00, accuracy 0.50" in shown
    fenced = "``````text\n``` \n# not a heading\n`````\n``````"
    assert shown.count(fenced) == shown.count("```text\n?\n```\n") == 2
    assert shown.count(f"```text\n{'x' * 600} [...]\n```\n") == 2


def test_without_self_edits_there_are_no_samples(tmp_path):
    run = edits(tmp_path, [1.0], text=lambda i: None)
    assert write_samples(run) is None and not (tmp_path / "samples.md").exists()


def test_the_styles_are_drawn_where_the_task_has_any(tmp_path):
    run = edits(tmp_path / "a", [0.0] * 24, style=lambda i: f"style {i % 12}", rounds=3)
    assert plot_styles(run).read_bytes().startswith(b"\x89PNG")
    assert plot_styles(edits(tmp_path / "b", [0.0] * 4)) is None


def test_styles_stack_up_to_one(tmp_path, monkeypatch):
    """Also where there are more of them than colors: the rare ones share a bar."""
    from matplotlib.axes import Axes

    drawn = {}
    monkeypatch.setattr(
        Axes, "bar", lambda self, x, y, w, b, **kw: drawn.setdefault(kw["label"], (x, y))
    )
    styles = [f"style {i}" for i in range(12) for _ in range(12 - i)]
    run = edits(tmp_path, [0.0] * len(styles), style=lambda i: styles[i], rounds=2)
    plot_styles(run)
    assert list(drawn) == [f"style {i}" for i in range(8)] + ["all others"]
    assert all(list(x) == [1, 2] for x, _ in drawn.values())
    assert drawn["style 0"][1] == pytest.approx([12 / 78] * 2)
    assert drawn["all others"][1] == pytest.approx([10 / 78] * 2)


def test_evaluations_are_told(tmp_path):
    _, summary = some_run(tmp_path)
    summary["evaluations"] = 1234
    summary["rows"]["trained"]["evaluations"] = 24
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=80))
    assert "training took 1,234 inner loops" in out.getvalue()
    assert "trained took 4 inner loops for each self-edit" in out.getvalue()
    assert "base took" not in out.getvalue()


def test_the_table_shows_the_share_of_invalid_self_edits():
    said = "line 3: 'Ada' is no number"
    known = {
        "none": [record(i, 0.1) | {"text": None} for i in range(4)],
        "base": [record(i, 0.1, error=said.replace("3", str(i)) if i else "") for i in range(4)],
        "mine": [record(i, 0.1, error="" if i else "empty") for i in range(4)],
    }
    summary = summarize(known, 0, 1.0)
    rows = summary["rows"]
    assert [rows[n]["written"] for n in known] == [0, 4, 4]
    assert rows["base"]["commonest_error"] == "line 1: 'Ada' is no number"
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=80))
    shown = {line.split()[0]: line.split() for line in out.getvalue().splitlines() if line.strip()}
    assert "75%" in shown["base"] and "25%" in shown["mine"]
    assert not any("%" in cell for cell in shown["none"])
    notes = [line for line in out.getvalue().splitlines() if "note: " in line]
    assert len(notes) == 1 and "base: 3 of 4 self-edits were invalid" in notes[0]


def test_a_table_of_an_older_run_is_shown(tmp_path):
    _, summary = some_run(tmp_path)
    for row in summary["rows"].values():
        del row["written"], row["commonest_error"]
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=80))
    assert out.getvalue().count("0%") == len(summary["rows"])


def test_the_reward_is_shown_where_it_is_not_the_accuracy(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    labels = []
    real = Axes.set
    monkeypatch.setattr(
        Axes, "set", lambda s, **kw: labels.append(kw.get("ylabel")) or real(s, **kw)
    )
    for name, less in (("same", 0.0), ("other", 0.5)):
        run = RunFolder.open(tmp_path / name, {"command": "train"}, resume=False, overwrite=False)
        rows = [
            record(i, 0.6 + i / 10, "p", "train", 1) | {"reward": 0.6 + i / 10 - less}
            for i in range(4)
        ]
        run.append(rows)
        summary = summarize({"p": rows}, 0, 1.0)
        assert summary["rows"]["p"]["reward"] == pytest.approx(0.75 - less)
        out = io.StringIO()
        print_summary(summary, Console(file=out, width=80))
        assert ("reward" in out.getvalue(), "0.250" in out.getvalue()) == (less > 0, less > 0)
        labels.clear()
        plot_learning(run, summary)
        assert ("reward" in labels) == (less > 0)
        del summary["rows"]["p"]["reward"]  # as in older runs
        print_summary(summary, Console(file=io.StringIO(), width=80))


@pytest.mark.slow
def test_the_legend_says_what_the_band_is(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    shown = []
    monkeypatch.setattr(Figure, "legend", lambda self, handles, labels, **kw: shown.extend(labels))
    plot_learning(some_run(tmp_path)[0], None)
    assert "its 95% interval" in shown and len(set(shown)) == len(shown)


def test_self_edits_of_equal_reward_are_neither_best_nor_worst(tmp_path):
    run = edits(tmp_path, [0.5] * 4)
    run.append([record(i, 0.5, "none") | {"reward": 0.0} for i in range(2)])
    found = [(sample.heading, sample.place) for sample in choose(run, 2)]
    told = "ppo, round 1 (all self-edits of this round have the same reward)"
    assert found[:2] == [(told, "1 of 4"), (told, "4 of 4")]
    assert found[2][0] == "none, held out (all self-edits have the same reward)"


def test_samples_show_the_log_likelihood_before_and_after():
    sample = Sample("h", "best", record(0, 0.5) | {"log_likelihood_before": -4.0})
    assert "log-likelihood -4.00 before, -1.50 after" in describe(sample)
    sample.record.pop("log_likelihood_before")
    assert "log-likelihood -1.50" in describe(sample)


def test_the_cost_of_a_judge_is_told():
    part = {"rubric": {"grade": 2.0, "calls": 2, "tokens": 1000}, "length": {"tokens": 7}}
    assert judge_cost([{"parts": part}, {"parts": part}, {}]) == {
        "judge_calls": 4,
        "judge_tokens": 2000,
    }
    assert judge_cost([{"parts": {"length": {"tokens": 7}}}, {}]) == {}
