"""The HTML report: what it shows, and that nothing in it comes alive."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from seal_agents import cli
from seal_agents.reporting.page import Reported, accuracy_matrix, render
from seal_agents.reporting.report import summarize
from seal_agents.run_folder import RunFolder
from seal_agents.runner.html import write_page
from seal_agents.runner.known_problems import known_problems
from seal_env.config import make_task
from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Question

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>]]>\u2028\ud800&amp;"


class Reader(HTMLParser):
    """Tags of a page, and the texts of its scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.text, self.inside = [], [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data
        self.text += data


def record(index, accuracy, policy="base", phase="evaluate", round_=0, **more):
    return {
        "phase": phase, "policy": policy, "round": round_, "index": index, "sample": 0,
        "text": f"text {index}", "title": "Ada", "accuracy": accuracy, "reward": accuracy,
        "style": "few", "log_likelihood": -1.0, "problem": f"p{index}", "error": "", "steps": 3,
        "tokens": 7, "answers": ["a"], "verdicts": [True], "answers_before": ["b"],
        "verdicts_before": [False], "terms": {"accuracy": accuracy, "f1": 0.25},
    } | more  # fmt: skip


def a_run(path, values=(0.25, 0.75), **more):
    config = {"command": "train", "env": {"task": "own.module:Task"}, "out": "secret/place"}
    run = RunFolder.open(path, config, resume=False, overwrite=False)
    known = [record(i, value, **more) for i, value in enumerate(values)]
    changed = {"policy": "grpo", "phase": "train"} | more
    run.append([record(i, v, round_=1 + i, **changed) for i, v in enumerate(values)])
    run.append(known)
    run.write_json("summary.json", summarize({known[0]["policy"]: known}, 0, 1.5))
    return run


def data_of(page):
    return json.loads(Reader(page).scripts[0])["runs"]


def test_the_page_has_every_self_edit_and_its_problem(tmp_path):
    run = a_run(tmp_path)
    questions = (Question("Whose?", "Ada"), Question("Ada has a cat.\nWho?", "Ada"))
    asked = Problem("p1", "Ada", "Ada has a cat.", questions)
    page = render([Reported("mine", run, {"p1": asked, "unused": asked})])
    (shown,) = data_of(page)
    assert [e["reward"] for e in shown["episodes"]] == [0.25, 0.75, 0.25, 0.75]
    assert shown["untouched"] == [{"answers": ["b"], "verdicts": [False]}]
    assert {e["before"] for e in shown["episodes"]} == {0}
    assert shown["problems"] == {
        "p1": {
            "context": "Ada has a cat.",
            "questions": [{"text": text, "answer": "Ada"} for text in ("Whose?", "Who?")],
        }
    }
    text = Reader(page).text
    for title in ("Comparison", "Learning curve", "Terms of the reward", "Kinds of self-edits"):
        assert title in text
    assert "0.500\n[0.25, 0.75]" in text and "28" in text  # 4 self-edits of 7 tokens
    assert {"f1", "0.250"} <= set(re.findall(r"<t[hd]>([^<]*)<", page))
    assert "secret/place" not in page


def test_hostile_text_stays_text(tmp_path):
    names = dict.fromkeys(("text", "title", "error", "style", "problem", "policy"), HOSTILE)
    run = a_run(tmp_path, answers=[HOSTILE], terms={HOSTILE: 1.0, "b": 1.0}, **names)
    asked = Problem(HOSTILE, HOSTILE, HOSTILE, (Question(HOSTILE, HOSTILE),))
    page = render([Reported(HOSTILE, run, {HOSTILE: asked}, [HOSTILE])])
    page = page.encode("utf-8", "replace").decode()
    seen = Reader(page)
    assert len(seen.scripts) == 2 and "img" not in {tag for tag, _ in seen.tags}
    assert not any(name.startswith("on") for _, own in seen.tags for name in own)
    (shown,) = data_of(page)
    assert shown["episodes"][0]["text"] == HOSTILE and HOSTILE in shown["problems"]


def test_nothing_is_loaded_and_only_its_own_script_runs(tmp_path):
    page = render([Reported("mine", a_run(tmp_path))])
    seen = Reader(page)
    assert not any({"src", "href"} & own.keys() for _, own in seen.tags)
    assert "url(" not in page and "@import" not in page
    policy = next(own["content"] for _, own in seen.tags if "Security" in str(own))
    digest = base64.b64encode(hashlib.sha256(seen.scripts[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert sink not in seen.scripts[1]


def test_what_is_no_number_is_null(tmp_path):
    """JSON has no NaN: one would keep the whole page from opening."""
    run = a_run(tmp_path, (float("nan"), 1.0))
    page = render([Reported("mine", run)])
    assert [e["accuracy"] for e in data_of(page)[0]["episodes"]] == [None, 1.0, None, 1.0]
    assert not re.search(r'="[^"]*\bnan\b', page)


def test_two_runs_are_paired_by_problem(tmp_path):
    runs = [a_run(tmp_path / "a", (0.0, 0.5)), a_run(tmp_path / "b", (0.25, 0.75, 1.0))]
    page = render([Reported(one.path.name, one) for one in runs])
    assert [run["name"] for run in data_of(page)] == ["a", "b"]
    text = Reader(page).text
    assert "accuracy, b − a" in text and "+0.250\n[+0.25, +0.25]" in text


def test_streams_have_a_matrix():
    steps = [
        record(0, 0.5, step=0, stream={"earlier": [], "accuracy": []}),
        record(1, 1.0, step=1, stream={"earlier": [0], "accuracy": [0.25]}),
        record(2, 0.0, step=0, stream={"earlier": [], "accuracy": []}),
    ]
    assert accuracy_matrix(steps) == [[0.25, None], [0.25, 1.0]]
    assert accuracy_matrix([record(0, 0.5)]) == []


def test_problems_are_made_again_from_the_settings(tmp_path):
    config = {
        "command": "evaluate", "problems": 2,
        "env": {"task": "biographies", "split": "test", "data": None, "task_options": {}},
    }  # fmt: skip
    run = RunFolder.open(tmp_path, config, resume=False, overwrite=False)
    problems, notes = known_problems(run)
    task = make_task("biographies")
    assert list(problems.values()) == [task.problem("test", i) for i in range(2)] and not notes


def test_a_run_folder_runs_no_code_of_its_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    config = {"command": "evaluate", "problems": 2, "env": {"task": "evil:Task", "split": "test"}}
    run = RunFolder.open(tmp_path / "run", config, resume=False, overwrite=False)
    problems, (note,) = known_problems(run)
    assert not problems and "evil:Task" in note


def test_the_command_writes_the_page(tmp_path, capsys):
    a_run(tmp_path / "a"), a_run(tmp_path / "b")
    cli.main(["report", str(tmp_path / "a"), "--html"])
    cli.main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--html"])
    assert "report.html" in capsys.readouterr().out
    assert len(data_of((tmp_path / "a" / "report.html").read_text("utf-8"))) == 1
    assert len(data_of((tmp_path / "a" / "side-by-side.html").read_text("utf-8"))) == 2


def test_runs_that_cannot_be_shown_are_one_line(tmp_path):
    console = Console()
    RunFolder.open(tmp_path / "empty", {"command": "train"}, resume=False, overwrite=False)
    with pytest.raises(UserError, match="no self-edits yet"):
        write_page([tmp_path / "empty"], console)
    a_run(tmp_path / "a")
    with pytest.raises(UserError, match="same run twice"):
        write_page([tmp_path / "a", tmp_path / "a"], console)
