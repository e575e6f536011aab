"""Imports go down, make no circle, and keep the engine by itself: contracts in setup.cfg."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE_NEEDS = {"numpy", "peft", "safetensors", "tokenizers", "torch", "transformers"}
"""All that the engine may import beside Python's own library."""
CHECK = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports("setup.cfg", no_cache=True, no_logo=True))
"""


def contracts(folder):
    """import-linter's exit status and report on the packages in a folder."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHECK], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def imported_by(folder):
    """Top-level packages that the modules of a folder import anywhere, by module."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found.setdefault(path.name, set()).update(name.split(".")[0] for name in names)
    return found


@pytest.fixture
def copied(tmp_path):
    """A copy of the packages, under the names that they are imported by."""
    for source, name in (("seal_env",) * 2, ("agents", "seal_agents"), ("benchmarks",) * 2):
        for path in (ROOT / source).rglob("*.py"):
            target = tmp_path / name / path.relative_to(ROOT / source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    return tmp_path


def test_the_contracts_hold(copied):
    status, report = contracts(copied)
    assert status == 0, report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("seal_env/engine/lora.py", "from seal_env.tasks.base import Task", "environment's layers"),
        ("seal_env/engine/lora.py", "from seal_env.checks import build", "environment's layers"),
        ("seal_env/tasks/base.py", "import seal_env.inner_loop", "environment's layers"),
        ("seal_env/episodes.py", "import seal_agents.base", "agents the environment"),
        ("seal_agents/policies/options.py", "import seal_agents.runner.build", "agents' layers"),
        ("benchmarks/workload.py", "import benchmarks.throughput", "no circle"),
        ("seal_env/engine/learner.py", "import seal_env.engine.generation", "no circle"),
        ("seal_env/a_new_folder/__init__.py", "", "environment's layers"),
    ],
)
def test_an_import_that_goes_up_or_round_is_found(copied, module, line, broken):
    target = copied / module
    target.parent.mkdir(exist_ok=True)
    before = target.read_text("utf-8") if target.exists() else ""
    target.write_text(f"{before}\n\ndef planted():\n    {line or 'pass'}\n", "utf-8")
    status, report = contracts(copied)
    assert status == 1
    assert any(broken in line and "BROKEN" in line for line in report.splitlines()), report


def test_the_engine_needs_six_packages():
    ours = {"seal_env", "__future__"}
    for module, names in imported_by(ROOT / "seal_env" / "engine").items():
        others = names - set(sys.stdlib_module_names) - ours - ENGINE_NEEDS
        assert not others, f"{module} imports {others}"


def test_an_engine_that_needs_more_is_found(tmp_path):
    (tmp_path / "one.py").write_text("def f():\n    import gymnasium.spaces\n", "utf-8")
    assert imported_by(tmp_path) == {"one.py": {"gymnasium"}}


HIDDEN = """
import sys
sys.modules |= dict.fromkeys({hidden})  # as if they were not installed
from seal_env.engine import *
learner = load_learner("tiny")
lora = LoraConfig(4, 8.0)
bank = AdapterBank(find_targets(learner.model, lora), lora, 2, learner.device)
bank.initialize([0, 0])
data = [Dataset([Example(tuple(learner.encode(text)))], FinetuneConfig(epochs=2), 0) for text in
        ("Ann lives in Oslo .", "Ann lives in Rome .")]
finetune(learner, bank, data)
print(len(generate(learner, [[5, 6]] * 2, Sampling(4), [0, 1], bank)))
"""


@pytest.mark.slow
def test_the_engine_trains_without_the_environments_packages():
    hidden = {"gymnasium", "pydantic", "tyro", "stable_baselines3", "matplotlib"}
    hidden |= {"snowballstemmer", "llguidance", "trl"}
    script = HIDDEN.format(hidden=hidden)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "2\n", done.stderr
