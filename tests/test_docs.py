"""The documentation's code runs, its links lead somewhere, and it names every module there is.

A block that begins with ```` ```python runnable ```` is executed; the blocks of a page share their
names, as in a notebook. ```` ```python runnable file=NAME ```` also saves the block as a file, so
that the blocks after it can import it.
"""

import configparser
import doctest
import importlib
import itertools
import re
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from seal_agents import AGENTS
from seal_env.edits import EDITS
from seal_env.engine.lora import LoraConfig
from seal_env.engine.training import FinetuneConfig
from seal_env.episodes import EnvConfig
from seal_env.inner_loop import InnerLoopConfig
from seal_env.prompts import PROMPTS
from seal_env.rewards import REWARDS
from seal_env.tasks import TASKS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md"))]
LINKING = [
    *PAGES,
    *(
        p
        for top in ("agents", "benchmarks", "examples", "seal_env")
        for p in (ROOT / top).rglob("*.md")
    ),
    *(ROOT / ".github").rglob("*.md"),
]
CODE = [
    p for top in ("agents", "benchmarks", "seal_env", "tests") for p in (ROOT / top).rglob("*.py")
]
BLOCK = re.compile(r"^```python runnable(?: file=(\w+\.py))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(
    r"\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]: (\S+)|(?:href|src)=\"([^\"]+)\"", re.MULTILINE
)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
MENTION = re.compile(r"\bdocs/([\w-]+\.md)(?:#([\w-]+))?")
AUTOMODULE = re.compile(r"^\.\. automodule:: (\S+)$", re.MULTILINE)
PRIVATE = re.compile(
    r"seal_env\.(models|pretraining)\b|seal_agents\.(__main__|adapt|cli|parsing|renamed|run_folder"
    r"|reporting|runner|trl|tuning)\b"
)
"""Modules that the API reference leaves out: scripts, and what runs behind the command line."""
SHORTER = {"total_frames=1280": "total_frames=128"}
"""What is replaced in code before it runs, so that it trains for less time."""
ANCHORED = 3
"""Levels of headings that have an anchor (`myst_heading_anchors` in docs/conf.py)."""


def name_of(page):
    return str(page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT))


def blocks(page):
    """(file name or "", code, line of the code) of each runnable block."""
    text = page.read_text("utf-8")
    for found in BLOCK.finditer(text):
        yield found[1] or "", found[2], text.count("\n", 0, found.start(2))


@pytest.mark.slow
@pytest.mark.usefixtures("quick_tiny", "no_pictures")
@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p))], ids=name_of)
def test_the_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"__name__": "__main__"}
    for file, code, line in blocks(page):
        if file:
            (tmp_path / file).write_text(code, "utf-8")
            monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)
        for long, short in SHORTER.items():
            code = code.replace(long, short)
        # Blank lines in front, so that a traceback names the page's own line.
        exec(compile("\n" * line + code, str(page), "exec"), names)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_tiny")
@pytest.mark.parametrize("name", ["seal_env.engine", "seal_env.env", "seal_env.vector"])
def test_the_examples_of_docstrings_run(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted > 0 and done.failed == 0


def links(page):
    """What a page links to, but for what stands in its code."""
    return ["".join(found) for found in LINK.findall(FENCED.sub("", page.read_text("utf-8")))]


def anchors(page):
    """The anchors of a page's headings; the second of the same name ends in -1."""
    found = set()
    for level, heading in HEADING.findall(FENCED.sub("", page.read_text("utf-8"))):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        names = itertools.chain([slug], (f"{slug}-{i}" for i in itertools.count(1)))
        name = next(name for name in names if name not in found)
        if len(level) <= ANCHORED:
            found.add(name)
    return found


def dead_links(page, root=ROOT):
    """Links of a page to a file or a heading within the project that is not there."""
    dead = []
    for link in links(page):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        found = target.is_relative_to(root) and target.exists()
        if not found or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_links_within_the_project_lead_somewhere(page):
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# The `one` thing\n\n## Twice\n\n## Twice\n\n#### Deep\n")
    page = tmp_path / "page.md"
    alive = ["#here", "other.md", "other.md#the-one-thing", "other.md#twice-1"]
    dead = ["#nowhere", "none.md", "other.md#one", "other.md#twice-2", "other.md#deep", "../x.md"]
    texts = [f"[a text]({link})" for link in [*alive, *dead]]
    page.write_text("\n".join(["# Here", *texts, "```", "[code](none.md)", "```"]))
    assert dead_links(page, tmp_path) == dead
    page.write_text('# Here\n\n[a]: other.md#no\n\n<img src="no.png">\n\n[b](no.md "title")\n')
    assert dead_links(page, tmp_path) == ["other.md#no", "no.png", "no.md"]


def test_pages_that_code_mentions_are_there():
    dead = []
    for path in CODE:
        for name, anchor in MENTION.findall(path.read_text("utf-8")):
            if not (DOCS / name).is_file() or (anchor and anchor not in anchors(DOCS / name)):
                dead.append(f"{path.relative_to(ROOT)}: {name}#{anchor}")
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_is_left_to_be_filled_in(page):
    assert re.findall(r"@@.*|\bTODO\b.*|\bTBD\b.*|\bXXX\b.*", page.read_text("utf-8")) == []


def test_every_page_is_listed():
    index = (DOCS / "index.md").read_text("utf-8")
    listed = set(links(DOCS / "index.md"))
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


@pytest.mark.parametrize(
    ("part", "registry"), [("task", TASKS), ("self-edit language", EDITS), ("agent", AGENTS)]
)
def test_a_part_goes_into_the_folder_that_has_those_there_are(part, registry):
    page = (DOCS / "architecture.md").read_text("utf-8")
    row = re.search(rf"^\| \[{part}\].*?\| `(\w+)/([\w/]*)` \| `.*?` \|$", page, re.MULTILINE)
    package = {"agents": "seal_agents"}.get(row[1], row[1])
    folder = f"{package}.{row[2].replace('/', '.')}"
    assert [path for path in registry.values() if not path.startswith(folder)] == []
    assert f"into `{row[1]}/{row[2]}`" in (DOCS / "agents.md").read_text("utf-8") or part != "agent"


def modules():
    """Files of the two packages, relative to the root, and the names that they are imported by."""
    for top, package in (("seal_env", "seal_env"), ("agents", "seal_agents")):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT / top).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            yield path.relative_to(ROOT), name


def assert_same(listed, wanted, where):
    """Fails with what is missing, extra or listed twice, and where."""
    listed, wanted = Counter(listed), Counter(wanted)
    missing, extra = sorted((wanted - listed).elements()), sorted((listed - wanted).elements())
    assert not missing, f"add to the {where}: {', '.join(missing)}"
    assert not extra, f"remove from the {where} (no such module, or twice): {', '.join(extra)}"


def test_a_list_that_differs_is_told_by_what_differs():
    assert_same("ab", "ba", "list")
    for listed, said in [("a", "add to the list: b"), ("aab", "remove from the list .*: a")]:
        with pytest.raises(AssertionError, match=rf"{said}\b"):
            assert_same(listed, "ab", "list")


def test_every_public_module_is_in_the_api_reference_once():
    pages = [page.read_text("utf-8") for page in (DOCS / "api").glob("*.rst")]
    listed = [name for page in pages for name in AUTOMODULE.findall(page)]
    public = [name for _, name in modules() if not PRIVATE.match(name)]
    assert_same(listed, public, "automodule lines of docs/api/*.rst")


def tree(text):
    """The files of an indented tree, each as a path."""
    folders = []
    for line in text.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name.rstrip("/")]
        if name.endswith(".py"):
            yield Path(*folders)


def test_every_module_is_in_the_tree_of_files_once():
    page = (DOCS / "architecture.md").read_text("utf-8")
    drawn = re.search(r"^```text\n(seal_env/.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert drawn is not None
    files = [path for path, _ in modules() if path.name != "__init__.py"]
    assert_same(map(str, tree(drawn[1])), map(str, files), "tree of files in docs/architecture.md")


def test_the_layers_are_those_of_the_contract():
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / "setup.cfg")
    page = (DOCS / "architecture.md").read_text("utf-8")
    rows = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`\w+`.*?) \|", page, re.M)]
    for name in ("environment", "agents"):
        lines = contracts[f"importlinter:contract:{name}"]["layers"].strip().splitlines()
        layers = [re.findall(r"\w+", line) for line in lines]
        start = rows.index(layers[0])
        assert rows[start : start + len(layers)] == layers
