"""The script of the HTML report, run by V8: filtered, sorted, searched, opened.

The document is a stand-in (`dom.js`) that is built from the page itself, so that this runs
wherever Python does. How the page looks, and that a browser's own document does the same, is
checked by `python -m benchmarks.page_browser`, which needs a Chromium.
"""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from py_mini_racer import MiniRacer
from test_page import HOSTILE, a_run, record

from seal_agents.reporting.page import Reported, render
from seal_agents.run_folder import RunFolder
from seal_env.tasks.base import Problem, Question

EMPTY = {"input", "meta"}
"""Tags without content."""


class Tree(HTMLParser):
    """A page as nested lists: tag, attributes, text, children."""

    def __init__(self, page):
        super().__init__()
        self.root = ["", {}, "", []]
        self.path = [self.root]
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        made = [tag, dict(attributes), "", []]
        self.path[-1][3].append(made)
        if tag not in EMPTY:
            self.path.append(made)

    def handle_endtag(self, tag):
        assert self.path.pop()[0] == tag

    def handle_data(self, data):
        self.path[-1][2] += data


class Browser:
    """A page that is open."""

    def __init__(self, page):
        self.engine = MiniRacer()
        self.engine.eval((Path(__file__).parent / "dom.js").read_text("utf-8"))
        tree = Tree(page).root
        self.engine.eval(f"grown({json.dumps(tree)}); 0")
        scripts = page.partition("<script>")[2].partition("</script>")[0]
        self.engine.eval(f"{{{scripts}\n0;}}")

    def call(self, code):
        return json.loads(self.engine.eval(f"JSON.stringify({code} ?? null)"))

    def choose(self, name, value):
        self.call(f"choose({json.dumps(name)}, {json.dumps(value)})")

    def options(self, name):
        return self.call(f"ids.get({json.dumps(name)}).children.map((one) => one.value)")

    def search(self, text):
        self.call(f"type({json.dumps(text)})")

    def click(self, *path):
        """Clicks the summary of what is at a place below the list."""
        self.call(f"found(ids.get('list'), {json.dumps([*path, 0])}).click()")

    def text(self, *path):
        return self.call(f"found(ids.get('list'), {json.dumps(path)}).textContent")

    def texts(self, *path):
        """Texts of the elements at a place below the list."""
        return self.call(
            f"found(ids.get('list'), {json.dumps(path)}).children.map((one) => one.textContent)"
        )

    @property
    def rows(self):
        """Titles of the problems that are shown."""
        return self.call("ids.get('list').children.map((one) => one.children[0].words)")

    @property
    def count(self):
        return self.call("ids.get('count').textContent")


def run_of(path, records):
    run = RunFolder.open(path, {"command": "train"}, resume=False, overwrite=False)
    run.append(records)
    return run


def edit(problem, reward, **more):
    return record(0, reward) | {"problem": problem, "title": problem.upper()} | more


@pytest.fixture
def page(tmp_path):
    told = [
        edit("a", 0.25, index=0, policy="grpo", phase="train", round=1, text="first words"),
        edit("a", 1.0, index=1, policy="grpo", phase="train", round=1, style="many"),
        edit("b", 0.5, index=2, policy="grpo", phase="train", round=1, error="cannot be read"),
        edit("b", 0.75, index=0, policy="grpo", phase="train", round=2, accuracy_before=0.75),
        edit("c", 0.625, index=0, policy="base", accuracy_before=0.0625),
        edit("c", 0.0, index=0, policy="none", text=None),
    ]
    asked = Problem("a", "A", "Ada has a cat.", (Question("Whose?", "Ada"),))
    return Browser(render([Reported("mine", run_of(tmp_path, told), {"a": asked})]))


def test_everything_is_shown_at_first(page):
    assert page.rows == ["A", "B", "C"] and page.count == "3 problems, 5 self-edits"
    assert page.text(0, 0) == "A2 self-edits, rewards 0.25 to 1.00"
    assert page.call("ids.get('more').hidden")


@pytest.mark.parametrize(
    ("name", "value", "rows", "edits"),
    [
        ("policy", "grpo", "AB", 4),
        ("policy", "none", "C", 0),
        ("round", "round 1", "AB", 3),
        ("round", "comparison", "C", 1),
        ("style", "many", "A", 1),
        ("kind", "invalid", "B", 1),
        ("kind", "valid", "ABC", 4),
    ],
)
def test_filters(page, name, value, rows, edits):
    assert value in page.options(name)
    page.choose(name, value)
    found = "1 problems" if len(rows) == 1 else f"{len(rows)} problems"
    assert page.rows == list(rows) and page.count == f"{found}, {edits} self-edits"
    page.choose(name, "")
    assert page.rows == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("order", "ABC"),
        ("best", "ABC"),
        ("worst", "CAB"),
        ("spread", "ACB"),
        ("gain", "ACB"),
        ("title", "ABC"),
    ],
)
def test_sortings(page, key, rows):
    assert key in page.options("sort")
    page.choose("sort", key)
    assert page.rows == list(rows)


def test_filters_and_sortings_go_together(page):
    page.choose("round", "round 1")
    page.choose("sort", "worst")
    assert page.rows == ["A", "B"]
    page.choose("kind", "valid")
    assert page.rows == ["A"]


@pytest.mark.parametrize(
    ("words", "rows", "edits"),
    [("B", "B", 2), ("HAS A CAT", "A", 2), ("first w", "A", 1), ("nowhere", "", 0)],
)
def test_a_search_finds_titles_contexts_and_self_edits(page, words, rows, edits):
    page.search(words)
    assert page.rows == list(rows)
    assert page.count == f"{len(rows)} problems, {edits} self-edits"
    page.search("")
    assert len(page.rows) == 3


def test_a_problem_opens_and_its_self_edits_do(page):
    page.click(0)
    name, context, sides = page.texts(0, 1)
    assert (name, context) == ("a", "Ada has a cat.")
    assert sides.startswith("grpo, round 1reward 1.00, accuracy 0.00 → 1.00".replace("0.00", "–"))
    page.click(0, 1, 2, 0, 0)
    facts, text, answers = page.texts(0, 1, 2, 0, 0, 1)
    assert facts == "accuracy 1.000 · f1 0.250 · style many · 7 tokens" and text == "text 0"
    assert answers == "questionright answerbeforeafterWhose?Ada✗ b✓ a"
    page.click(0), page.click(0)
    assert len(page.texts(0)) == 2  # what was opened twice is there once


def test_the_click_that_leaves_the_search_still_opens_what_is_clicked(page):
    page.search("A")
    page.click(0)
    page.call("ids.get('search').dispatch('change')")
    assert len(page.texts(0)) == 2


def test_more_rows_come_when_asked(tmp_path):
    told = [edit(f"p{i:03}", 0.5, index=i) for i in range(120)]
    page = Browser(render([Reported("mine", run_of(tmp_path, told))]))
    for count in (50, 100, 120):
        assert len(page.rows) == count
        assert page.call("ids.get('more').hidden") is (count == 120)
        page.call("ids.get('more').click()")


def test_two_runs_are_side_by_side(tmp_path):
    runs = [a_run(tmp_path / "x", (0.0, 0.5)), a_run(tmp_path / "y", (0.25, 0.75))]
    page = Browser(render([Reported(one.path.name, one) for one in runs]))
    page.click(0)
    left, right = page.texts(0, 1, 1)
    assert left.startswith("x") and "reward 0.00" in left
    assert right.startswith("y") and "reward 0.25" in right


def test_hostile_text_is_shown_as_text(tmp_path):
    names = dict.fromkeys(("text", "title", "error", "style", "problem", "policy"), HOSTILE)
    told = edit("p", 0.5) | names | {"answers": [HOSTILE], "terms": {HOSTILE: 1.0}}
    page = Browser(render([Reported("mine", run_of(tmp_path, [told]))]))
    page.click(0)
    page.click(0, 1, 0, 0, 0)
    assert page.rows == [HOSTILE] and page.text(0, 1).count(HOSTILE) >= 4
