"""What contributors and services read: it agrees with the Makefile, setup.cfg and one another."""

import re
from pathlib import Path

import pytest
import yaml
from test_packaging import lines, requirements, setup_cfg

ROOT = Path(__file__).resolve().parent.parent
MAKE = re.compile(r"(?:^|[`\s])make ([a-z][a-z-]*)")


def text(name):
    return (ROOT / name).read_text("utf-8")


def targets():
    return set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


def workflow():
    return yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["test"]


@pytest.mark.parametrize(
    "name", [".ci/run", ".github/workflows/ci.yml", "CONTRIBUTING.md", "README.md", "CHANGELOG.md"]
)
def test_every_target_that_is_named_is_in_the_makefile(name):
    named = MAKE.findall(text(name))
    assert named and set(named) <= targets()


def test_the_workflow_makes_what_ci_makes():
    steps = [step["run"] for step in workflow()["steps"] if "run" in step]
    assert [MAKE.findall(step) for step in steps] == [[t] for t in MAKE.findall(text(".ci/run"))]


def test_the_workflow_runs_on_the_versions_of_python_that_are_promised():
    promised = re.findall(r"Python :: (3\.\d+)", setup_cfg()["metadata"]["classifiers"])
    assert workflow()["strategy"]["matrix"]["python"] == promised
    assert lines("options", "python_requires") == [f">={promised[0]}"]


def test_what_a_commit_is_checked_with_is_installed_and_part_of_lint():
    (local,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    tools = {Path(hook["entry"].split()[0]).name for hook in local["hooks"]}
    assert tools == {"ruff", "codespell"} <= {r.name for r in requirements("test")}
    assert all(f"$(BIN)/{tool}" in text("Makefile") for tool in tools)


def test_read_the_docs_builds_the_pages_with_extras_that_there_are():
    config = yaml.safe_load(text(".readthedocs.yaml"))
    assert (ROOT / config["sphinx"]["configuration"]).is_file()
    (install,) = config["python"]["install"]
    assert set(install["extra_requirements"]) <= set(setup_cfg()["options.extras_require"])


def test_the_citation_names_the_project_as_setup_cfg_does():
    citation = yaml.safe_load(text("CITATION.cff"))
    metadata = setup_cfg()["metadata"]
    assert citation["title"].startswith(f"{metadata['name']}: ")
    assert citation["license"] == metadata["license_expression"]
    assert citation["authors"] == [{"name": metadata["author"]}]
    assert "version" not in citation  # it is written in one place


@pytest.mark.parametrize(
    "path", (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir(), ids=lambda p: p.name
)
def test_an_issue_template_says_what_it_is_for(path):
    _, front, body = path.read_text("utf-8").split("---\n", 2)
    assert {"name", "about", "labels"} <= set(yaml.safe_load(front)) and body.strip()


def test_format_mends_what_lint_checks_with_the_same_tool():
    def recipe(target):
        return re.search(rf"^{target}: .*\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)[1]

    mended = re.findall(r"ruff (check|format) (.*)\.", recipe("format"))
    checked = re.findall(r"ruff (check|format) (.*)\.", recipe("lint"))
    assert mended == [("check", "--fix "), ("format", "")]
    assert [name for name, _ in mended] == [name for name, _ in checked]


def test_the_checklist_of_a_new_part_names_files_that_there_are():
    section = text("CONTRIBUTING.md").split("go through this list:")[1].split("## Tests")[0]
    named = re.findall(r"`((?:seal_env|agents|docs|benchmarks)/[\w/.]*)`", section)
    assert len(named) >= 5 and all((ROOT / name).exists() for name in named)
