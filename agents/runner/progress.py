"""Progress bars with elapsed and remaining time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 60.0
"""Seconds between the lines of a stage where there is no terminal."""


class Bars:
    """One bar for the run and one per stage of its current step.

    Args:
        console: Console to draw on; if it is no terminal, each step prints one line, and a long
            stage one per minute.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._console = console
        self._begun = self._total = 0
        self._whole = self._progress.add_task("run", total=0)
        self._stages: dict[str, tuple[TaskID, int]] = {}
        self._told = time.monotonic()
        self._since = (self._told, 0)  # when the clock of the current stage started, and where

    @contextmanager
    def counting(self, total: int) -> Iterator[None]:
        """Draws the bars within this context.

        Args:
            total: Number of steps of the run.
        """
        self._total = total
        self._progress.reset(self._whole, total=total)
        with self._progress:
            yield

    def advance(self, description: str) -> None:
        """Starts the next step of the run."""
        if self._progress.disable:
            self._console.print(f"[{self._begun + 1}/{self._total}] {description}", markup=False)
            self._told = time.monotonic()
        self._progress.update(self._whole, completed=self._begun, description=description)
        self._begun += 1
        for stage, _ in self._stages.values():
            self._progress.remove_task(stage)
        self._stages.clear()

    def stage(self, name: str, done: int, total: int) -> None:
        """Progress callback of a stage; a stage that starts over restarts its clock."""
        task, before = self._stages.get(name, (None, 0))
        if task is None:
            task = self._progress.add_task(f"  {name}", total=total)
        elif done < before:
            self._progress.reset(task, total=total)
        if self._progress.disable:
            self._tell(name, done, total, fresh=name not in self._stages or done < before)
        self._progress.update(task, completed=done, total=total)
        self._stages[name] = (task, done)

    def _tell(self, name: str, done: int, total: int, fresh: bool) -> None:
        """Prints where a stage is, if the last line is long ago."""
        now = time.monotonic()
        if fresh:
            self._since = now, done
        began, first = self._since
        if now - self._told < EVERY:
            return
        self._told = now
        left = ""
        if done > first:
            minutes, seconds = divmod(round((now - began) / (done - first) * (total - done)), 60)
            left = f", {minutes}:{seconds:02d} left"
        self._console.print(f"  {name}: {done} of {total}{left}", markup=False, highlight=False)
