"""The documentation's code runs, its links lead somewhere, and its tables name what there is.

A block that begins with ```` ```python runnable ```` is executed; the blocks of a page share their
names, as in a notebook. ```` ```python runnable file=NAME ```` also saves the block as a file, so
that the blocks after it can import it.
"""

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from seal_agents import AGENTS
from seal_env.adapters import LoraConfig
from seal_env.edits import EDITS
from seal_env.episodes import EnvConfig
from seal_env.finetune import FinetuneConfig
from seal_env.inner_loop import InnerLoopConfig
from seal_env.prompts import PROMPTS
from seal_env.rewards import REWARDS
from seal_env.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md")), ROOT / "examples" / "README.md"]
BLOCK = re.compile(r"^```python runnable(?: file=(\w+\.py))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(page):
    return str(page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT))


def blocks(page):
    """(file name or "", code, line of the code) of each runnable block."""
    text = page.read_text("utf-8")
    for found in BLOCK.finditer(text):
        yield found[1] or "", found[2], text.count("\n", 0, found.start(2))


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p))], ids=name_of)
def test_the_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__name__": "__main__"}
    for file, code, line in blocks(page):
        if file:
            (tmp_path / file).write_text(code, "utf-8")
            monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)
        # Blank lines in front, so that a traceback names the page's own line.
        exec(compile("\n" * line + code, str(page), "exec"), names)


def anchors(page):
    """The anchors that a page's headings get."""
    headings = HEADING.findall(FENCED.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_project_lead_somewhere(page):
    broken = []
    for link in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        found = target.is_relative_to(ROOT) and target.exists()
        if not found or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_listed():
    index = (DOCS / "index.md").read_text("utf-8")
    listed = set(LINK.findall(index))
    tree = re.search(r"```\{toctree\}(.*?)```", index, re.DOTALL)
    assert tree is not None
    for page in DOCS.glob("*.md"):
        if page.name != "index.md":
            assert page.name in listed
            assert page.stem in tree[1].split()


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("tasks.md", [*TASKS, *PROMPTS]),
        ("self-edits.md", EDITS),
        ("rewards.md", REWARDS),
        ("agents.md", AGENTS),
        ("environment.md", [f.name for f in fields(EnvConfig)]),
        ("inner-loop.md", [f"lora.{f.name}" for f in fields(LoraConfig)]),
        ("inner-loop.md", [f"finetune.{f.name}" for f in fields(FinetuneConfig)]),
        ("inner-loop.md", [f.name for f in fields(InnerLoopConfig)][2:]),
    ],
)
def test_every_name_is_documented(page, names):
    text = (DOCS / page).read_text("utf-8")
    assert [name for name in names if not re.search(rf"`{re.escape(name)}[`:]", text)] == []
