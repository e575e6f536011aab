"""Records of `benchmarks.continual`: a line per step, at which a repeated command comes out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from seal_env.errors import UserError, reason

Line = dict[str, Any]


class Records:
    """A file of JSON lines: settings, then steps, then the end.

    Lines that a stopped command left are compared with what the repeated one computes: a stream
    goes on from the state that its first steps make again.

    Args:
        path: The file; a partial last line is cut off.
        settings: What the records depend on.

    Raises:
        UserError: The file has other settings, or cannot be read.
    """

    def __init__(self, path: Path, settings: Line) -> None:
        self.path = path
        self.lines: list[Line] = []
        """Lines of this session's stream, as they are computed; without times."""
        self.timed: list[Line] = []
        """Times and sizes of the steps."""
        self._known = self._read()
        self.complete = bool(self._known) and self._known[-1] == {"done": True}
        """Whether the stream is finished; then `lines` has all of it."""
        if self._known and self._known[0] != settings:
            raise UserError(f"{path}: holds other settings; give another --out, or remove it")
        if not self._known:
            self._append(settings)
        self._known = self._known[1:]
        if self.complete:
            for line in self._known[:-1]:
                self._take(line)

    def add(self, line: Line, timed: Line | None = None) -> None:
        """Adds a line, or compares it with the known one.

        Raises:
            UserError: A known line has other results.
        """
        whole = line if timed is None else line | {"timed": timed}
        whole = json.loads(json.dumps(whole))
        place = len(self.lines)
        if place < len(self._known):
            known = self._known[place]
            if known | {"timed": None} != whole | {"timed": None}:
                raise UserError(
                    f"{self.path}: line {place + 2} comes out differently now (other versions or "
                    f"another machine?); give another --out, or remove it"
                )
            whole = known
        else:
            self._append(whole)
        self._take(whole)

    def finish(self) -> None:
        """Marks the stream as finished."""
        self._append({"done": True})

    def _take(self, line: Line) -> None:
        line = dict(line)
        timed = line.pop("timed", None)
        if timed is not None:
            self.timed.append(timed)
        self.lines.append(line)

    def _read(self) -> list[Line]:
        if not self.path.exists():
            return []
        try:
            content = self.path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            lines = [json.loads(line) for line in whole.splitlines()]
            if len(whole) < len(content):
                self.path.write_bytes(whole)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: cannot be read ({reason(error)})") from error
        return lines

    def _append(self, line: Line) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({reason(error)})") from error


def slug(way: str) -> str:
    """File name for a stream."""
    return re.sub(r"\W+", "-", way).strip("-")
