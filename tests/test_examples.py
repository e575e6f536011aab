"""The programs in examples/ run, are short, and are the ones that the documentation shows."""

import math
import runpy
from pathlib import Path

import pytest
from agent_fixtures import summary

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MOST_LINES = 59

pytestmark = pytest.mark.usefixtures("quick_tiny", "no_pictures")


@pytest.fixture
def main(request, tmp_path, monkeypatch):
    """The function `main` of the example that a test is named after, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    name = request.node.name.removeprefix("test_")
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]


@pytest.mark.slow
def test_plain_loop(main):
    rewards = main(rounds=3)
    assert len(rewards) == 3 and rewards == sorted(rewards)  # the best so far is a candidate, too


@pytest.mark.slow
def test_sb3_ppo(main):
    accuracies = main(rounds=1)
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)


@pytest.mark.slow
def test_trl_grpo(main):
    means = main(steps=1)
    assert len(means) == 1 and math.isfinite(means[0])


@pytest.mark.slow
def test_own_documents(main):
    found = main()
    assert len(found) == 4 and len(set(found.values())) == 4  # each self-edit changed something
    assert all(value < 0 for value in found.values())


@pytest.mark.slow
def test_own_agent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")  # as Python does for a program
    runpy.run_path(str(ROOT / "examples" / "own_agent.py"), run_name="__main__")
    assert set(summary(tmp_path / "runs" / "bandit")["rows"]) >= {"none", "passage", "trained"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_run_by_a_test_and_listed(path):
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES
    assert f"test_{path.stem}" in globals()
    assert f"[{path.name}]({path.name})" in (ROOT / "examples" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/your-own-agent.md"])
def test_the_agent_that_a_page_shows_is_the_example(page):
    whole = (ROOT / "examples" / "own_agent.py").read_text("utf-8")
    agent = whole.partition("\n\n\nif __name__")[0]
    assert f"\n{agent}\n```\n" in (ROOT / page).read_text("utf-8")
