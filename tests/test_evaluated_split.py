"""Which problems `seal-env evaluate` compares policies on, and what it says of them."""

import io
import json
from pathlib import Path

import pytest
from agent_fixtures import QUICK, lines
from matplotlib.axes import Axes
from rich.console import Console

from seal_agents.cli import main
from seal_agents.reporting.report import plot_comparison, print_summary, summarize
from seal_agents.reporting.samples import split_of, write_samples
from seal_agents.run_folder import RunFolder
from seal_env.config import make_task

ROW = {
    "phase": "evaluate", "policy": "none", "round": 0, "index": 0, "text": "x", "title": "T",
    "accuracy": 0.5, "reward": 0.5, "log_likelihood": -1.0, "problem": "p", "error": "",
}  # fmt: skip


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    questions = [{"question": "Who?", "answer": "Ada"}]
    passages = [{"title": "T", "context": f"Ada {i}.", "questions": questions} for i in range(5)]
    (tmp_path / "data.json").write_text(json.dumps(passages))
    return ["--task", "squad", "--data", "data.json", *QUICK[2:]]


def evaluate(models, data, *more):
    main(["evaluate", *data, "--model", models["llama"], "--policies", "none", *more])


@pytest.mark.parametrize(("given", "split"), [((), "all"), (("--split", "train"), "train")])
def test_a_split_that_is_given_is_evaluated(models, data, capsys, given, split):
    evaluate(models, data, "--out", "run", *given)
    task = make_task("squad", "data.json")
    wanted = [task.problem(split, i).id for i in range(task.size(split))]
    assert [line["problem"] for line in lines(Path("run"))] == wanted
    shown = capsys.readouterr().out
    assert f"{len(wanted)} problems of split {split};" in shown and "held" not in shown


@pytest.mark.slow
def test_problems_that_a_policy_was_trained_on_are_noted(models, data, capsys):
    sizes = "--rounds 1 --problems 9 --samples 1 --test-problems 1 --references none --out taught"
    main(["train", "--agent", "passage", *data, "--model", models["llama"], *sizes.split()])
    assert "1 held-out problem;" in capsys.readouterr().out
    for split, noted in (("auto", True), ("train", True), ("test", False)):
        evaluate(models, data, "taught", "--split", split, "--out", f"on-{split}")
        shown = " ".join(capsys.readouterr().out.split())
        assert ("that taught may have been trained on" in shown) == noted
        assert ("held-out" in shown) != noted


@pytest.mark.parametrize(
    ("config", "count", "title"),
    [
        ({"command": "train"}, 2, "2 held-out problems"),
        ({"command": "train"}, 1, "1 held-out problem"),
        ({"command": "evaluate", "env": {"split": "test"}}, 2, "2 held-out problems"),
        ({"command": "evaluate", "env": {"split": "all"}}, 2, "2 problems of split all"),
        ({"command": "evaluate", "env": {"split": "all"}}, 1, "1 problem of split all"),
    ],
)
def test_titles_say_which_problems_were_compared_on(tmp_path, monkeypatch, config, count, title):
    run = RunFolder.open(tmp_path / "run", config, resume=False, overwrite=False)
    rows = [ROW | {"index": i, "problem": f"p{i}"} for i in range(count)]
    run.append(rows)
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, text: titles.append(text))
    plot_comparison(run, summarize({"none": rows}, 0, 1.0))
    out = io.StringIO()
    print_summary(summarize({"none": rows}, 0, 1.0), Console(file=out), split_of(run))
    assert titles == [f"{title}, one self-edit each"]
    assert out.getvalue().startswith(f"{title}; 95% intervals")
    heading = "none, split all" if "all" in title else "none, held out"
    assert f"## {heading}" in write_samples(run).read_text()
