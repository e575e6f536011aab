"""What is installed, under which names, and what the files of the project may say."""

import ast
import configparser
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import seal_env
from seal_agents.__main__ import EXTRA

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {"build", "dist", "runs"}


@cache
def project_files() -> tuple[Path, ...]:
    """The files that are the project's: git's view where there is one, else all but leftovers."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        if listed.returncode == 0:
            names = listed.stdout.decode().split("\0")
            return tuple(ROOT / name for name in names if name and (ROOT / name).is_file())
    return tuple(_walk(ROOT))


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            hidden = path.name.startswith((".", "__")) and path.name != ".ci"
            if not hidden and path.name not in SKIPPED and not path.name.endswith(".egg-info"):
                yield from _walk(path)
        elif path.is_file():
            yield path


@cache
def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def lines(section: str, option: str) -> list[str]:
    return setup_cfg().get(section, option).split()


@cache
def imported_modules(path: Path) -> set[str]:
    """The top-level names that a Python file imports, at whatever depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def python_files(*folders: str) -> list[Path]:
    inside = [ROOT / folder for folder in folders] or [ROOT]
    return [
        path
        for path in project_files()
        if path.suffix == ".py" and any(path.is_relative_to(folder) for folder in inside)
    ]


@pytest.mark.slow
def test_nothing_imports_agents_by_its_folders_name():
    assert len(python_files()) > 5
    assert [str(path) for path in python_files() if "agents" in imported_modules(path)] == []


def test_the_environment_imports_nothing_of_the_agents():
    assert python_files("seal_env")
    wrong = [path for path in python_files("seal_env") if "seal_agents" in imported_modules(path)]
    assert [str(path) for path in wrong] == []


@pytest.mark.parametrize(
    ("package", "folder"), [("seal_env", "seal_env"), ("seal_agents", "agents")]
)
@pytest.mark.parametrize("place", ["checkout", "elsewhere"])
def test_installed_packages_are_the_checkouts(package, folder, place, tmp_path):
    code = f"import importlib.util as u; print(u.find_spec({package!r}).origin)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT if place == "checkout" else tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).resolve() == ROOT / folder / "__init__.py"


def test_the_command_is_installed():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="seal-env")
    assert command.value == "seal_agents.__main__:main"


def test_the_version_is_written_once():
    assert setup_cfg()["metadata"]["version"] == "attr: seal_env.__version__"
    assert importlib.metadata.version("seal-env") == seal_env.__version__
    again = [p for p in project_files() if p.suffix in {".py", ".cff", ".cfg", ".toml"}]
    said = [p for p in again if re.search(r"^_*version_*\b.*\d\.\d", p.read_text("utf-8"), re.M)]
    assert said == [ROOT / "seal_env" / "__init__.py"]


def without_agents(code, folder):
    """Runs Python in a process that cannot import what the extra `agents` brings."""
    block = f"import sys; sys.modules |= dict.fromkeys({sorted(EXTRA)}, None)"
    command = [sys.executable, "-c", f"{block}\n{code}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_environment_does_without_the_extra(tmp_path):
    code = (
        "import gymnasium as gym, seal_env, seal_agents\n"
        "env = gym.make('SelfEdit-v0'); env.reset(seed=0)\n"
        "print(env.step('Nothing.')[4]['accuracy'])\n"
        "seal_agents.AGENTS.load('ppo')"
    )
    done = without_agents(code, tmp_path)
    assert 0 <= float(done.stdout) <= 1
    assert done.stderr.splitlines()[-1].startswith("seal_env.errors.UserError: agent 'ppo' needs ")
    assert done.stderr.endswith("pip install 'seal-env[agents]'\n")


@pytest.mark.slow
def test_the_command_without_the_extra_is_one_line(tmp_path):
    done = without_agents("from seal_agents.__main__ import main; main()", tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "pip install 'seal-env[agents]'" in done.stderr


def test_the_extra_agents_is_what_the_command_looks_for():
    names = {r.name for r in requirements("agents")}
    assert names == set(EXTRA.values())


def test_every_folder_with_code_is_listed_as_a_package():
    folders = {path.parent.relative_to(ROOT) for path in python_files("seal_env", "agents")}
    names = {".".join(folder.parts) for folder in folders}
    renamed = {re.sub(r"^agents\b", "seal_agents", name) for name in names}
    assert renamed == set(lines("options", "packages"))
    assert [folder for folder in folders if not (ROOT / folder / "__init__.py").is_file()] == []


@pytest.fixture(scope="module")
def wheel_contents(tmp_path_factory) -> set[str]:
    """The names in a wheel that is built from a copy, so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("source")
    for path in project_files():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    code = "from setuptools import build_meta; build_meta.build_wheel('built')"
    built = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = (copy / "built").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(wheel_contents):
    top = {name.partition("/")[0] for name in wheel_contents}
    assert {name for name in top if not name.endswith(".dist-info")} == {"seal_env", "seal_agents"}
    assert {"seal_env/py.typed", "seal_agents/py.typed"} <= wheel_contents


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "folder"), [("seal_env", "seal_env"), ("seal_agents", "agents")]
)
def test_the_wheel_holds_every_file_of_its_folders(package, folder, wheel_contents):
    inside = [path for path in project_files() if path.is_relative_to(ROOT / folder)]
    wanted = {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in inside}
    assert wanted - wheel_contents == set()


def requirements(*extras: str) -> list[Requirement]:
    """What some extras ask for."""
    texts = "".join(setup_cfg()["options.extras_require"][extra] for extra in extras)
    return [Requirement(line) for line in texts.splitlines() if line.strip()]


def test_constraints_pin_every_dependency_within_its_range():
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert canonicalize_name(name) not in pinned
            pinned[canonicalize_name(name)] = version
    extras = setup_cfg()["options.extras_require"]
    needed = requirements(*extras)
    needed += [Requirement(line) for line in setup_cfg()["options"]["install_requires"].split()]
    own = [r for r in needed if r.name == "seal-env"]
    assert {extra for r in own for extra in r.extras} <= set(extras)
    others = [r for r in needed if r.name != "seal-env"]
    assert [str(r) for r in others if canonicalize_name(r.name) not in pinned] == []
    outside = [str(r) for r in others if pinned[canonicalize_name(r.name)] not in r.specifier]
    assert outside == []


# Split, so that this file does not hold what it looks for.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"(?<![\w.~-])/(home|root|Users|work|opt)" + r"/\w",
            r"\b[A-Z]:\\" + r"Users\b",
            r"\bfile:" + r"//",
            r"\bhttps?://(\w+\.)*(pypi|pythonhosted|download\.pytorch)" + r"\b",
            r"--(extra-)?index-" + r"url[= ]+\w*:",
        ]
    )
)


def test_no_file_names_a_machines_path_or_a_registrys_address():
    """What is committed works for everybody: a relative path, or a placeholder in capitals."""
    found = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # weights and pictures
        hit = FORBIDDEN.search(text)
        if hit:
            found.append(f"{path.relative_to(ROOT)}: {hit.group()}")
    assert found == []
