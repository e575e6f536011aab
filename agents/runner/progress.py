"""Progress bars: what is done, how much there is, how long it will take."""

from __future__ import annotations

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


class Bars:
    """One bar for the whole run and one for what is being done now.

    Args:
        console: Where to draw; if it is no terminal, each step gets a line.
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

    @contextmanager
    def counting(self, total: int) -> Iterator[None]:
        """Draws while this lasts.

        Args:
            total: Steps of the whole run.
        """
        self._total = total
        self._progress.reset(self._whole, total=total)
        with self._progress:
            yield

    def advance(self, description: str) -> None:
        """Says which step of the run begins; those before it are done."""
        if self._progress.disable:
            self._console.print(f"[{self._begun + 1}/{self._total}] {description}", markup=False)
        self._progress.update(self._whole, completed=self._begun, description=description)
        self._begun += 1
        for stage, _ in self._stages.values():
            self._progress.remove_task(stage)
        self._stages.clear()

    def stage(self, name: str, done: int, total: int) -> None:
        """Tells how a stage is getting on; one that starts over is timed anew."""
        task, before = self._stages.get(name, (None, 0))
        if task is None:
            task = self._progress.add_task(f"  {name}", total=total)
        elif done < before:
            self._progress.reset(task, total=total)
        self._progress.update(task, completed=done, total=total)
        self._stages[name] = (task, done)
