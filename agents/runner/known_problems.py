"""Problems of a run, made again from its settings: a run folder has their ids alone.

Only tasks of the package's own: a run folder may be anybody's, and a task of a module of its own
would run that module's code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import trained_with
from seal_agents.runner.rounds import round_problems
from seal_env.config import make_task
from seal_env.errors import UserError
from seal_env.tasks import TASKS
from seal_env.tasks.base import Problem, Task, problem_at


def known_problems(
    run: RunFolder, trusted: str | None = None
) -> tuple[dict[str, Problem], tuple[str, ...]]:
    """Problems of a run by id, and notes on what is missing.

    Args:
        run: The run.
        trusted: Task of a module of its own that may be imported; None for no such task.
    """
    try:
        task = task_of(run, trusted)
        problems = {problem.id: problem for problem in _problems(run, task)}
    except (UserError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        return {}, (f"Contexts and questions are not shown: {reason}",)
    return problems, ()


def task_of(run: RunFolder, trusted: str | None = None) -> Task:
    """A run's task.

    Args:
        run: The run.
        trusted: As in `known_problems`.

    Raises:
        UserError: It is of a module of its own, or cannot be made.
    """
    env = run.read_json("config.json").get("env") or {}
    name = str(env.get("task"))
    if name not in TASKS and name != trusted:
        raise UserError(f"task {name} is not the package's own")
    return make_task(name, env.get("data"), env.get("task_options"))


def _problems(run: RunFolder, task: Task) -> Iterator[Problem]:
    config: dict[str, Any] = run.read_json("config.json")
    split, count = config["env"]["split"], config["problems"]
    if config["command"] == "train":
        if done := run.rounds_done():
            taught = trained_with(run)
            for round_ in range(1, done + 1):
                yield from round_problems(task, taught, round_)
        split, count = "test", config["test_problems"]
    size = task.size(split)
    for index in range(count if size is None else min(count, size)):
        yield problem_at(task, split, index)
