"""``seal-env report --html``: a page of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from seal_agents.reporting.page import Reported, render
from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import trained_with
from seal_agents.runner.rounds import round_problems
from seal_env.config import make_task
from seal_env.errors import UserError
from seal_env.tasks import TASKS
from seal_env.tasks.base import Problem, problem_at

ONE, SEVERAL = "report.html", "side-by-side.html"
"""Files that are written to the first run's folder."""


def write_page(paths: Sequence[Path], console: Console) -> Path:
    """Writes the page of runs to the folder of the first.

    Raises:
        UserError: There is no run, or it has no self-edits yet.
    """
    names = _names(paths)
    reported = []
    for path, name in zip(paths, names, strict=True):
        run = RunFolder.existing(path)
        if not run.every_record():
            raise UserError(f"{path}: holds no self-edits yet; let the run go on with --resume")
        problems, notes = known_problems(run)
        reported.append(Reported(name, run, problems, notes))
    file = ONE if len(reported) == 1 else SEVERAL
    reported[0].run.write_bytes(file, render(reported).encode("utf-8", "replace"))
    console.print(f"wrote {paths[0] / file}", markup=False, highlight=False, soft_wrap=True)
    return paths[0] / file


def _names(paths: Sequence[Path]) -> list[str]:
    """Names of the folders; whole paths where those are the same."""
    names = [path.resolve().name for path in paths]
    if len(set(names)) == len(names):
        return names
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("report: the same run twice; name different ones")
    return [str(path) for path in paths]


def known_problems(run: RunFolder) -> tuple[dict[str, Problem], tuple[str, ...]]:
    """Problems of a run by id, made again from its settings, and notes on what is missing.

    Only tasks of the package's own: a run folder may be anybody's, and a task of a module of its
    own would run that module's code.
    """
    config = run.read_json("config.json")
    name = str((config.get("env") or {}).get("task"))
    if name not in TASKS:
        return {}, (f"Contexts and questions are not shown: task {name} is not the package's own.",)
    try:
        return {problem.id: problem for problem in _problems(run, config)}, ()
    except (UserError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        return {}, (f"Contexts and questions are not shown: {reason}",)


def _problems(run: RunFolder, config: dict[str, Any]) -> Iterator[Problem]:
    env = config["env"]
    task = make_task(env["task"], env.get("data"), env.get("task_options"))
    split, count = env["split"], config["problems"]
    if config["command"] == "train":
        if done := run.rounds_done():
            taught = trained_with(run)
            for round_ in range(1, done + 1):
                yield from round_problems(task, taught, round_)
        split, count = "test", config["test_problems"]
    size = task.size(split)
    for index in range(count if size is None else min(count, size)):
        yield problem_at(task, split, index)
