"""``seal-env report --html``: a page of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from seal_agents.reporting.page import Reported, render
from seal_agents.run_folder import RunFolder
from seal_agents.runner.known_problems import known_problems
from seal_env.errors import UserError

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
