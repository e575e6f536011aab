"""Grids of colored cells (ARC, Chollet, arXiv 1911.01547) and how they are written as text.

A grid is one line: a cell is a digit, cells are separated by a space, rows by ``" | "``:
``1 2 3 | 4 5 6``. So an answer ends at a line break. A demonstration is two lines, a prompt is all
demonstrations and then a grid whose output is asked for:

    Input: 1 2 3
    Output: 3 2 1
    Input: 4 5 6
    Output:
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from seal_env.errors import printable

Grid = tuple[tuple[int, ...], ...]
"""Rows of colors, 0 to 9; at least one row, all of the same length of at least one."""

LARGEST = 30
"""Longest side of a grid, as in ARC."""
COLORS = 10
"""Colors 0 to 9; 0 is the background."""
INPUT, OUTPUT = "Input:", "Output:"
ANSWER_PREFIX = " "
"""What stands between a prompt and the output's grid."""
_CELLS = {str(color): color for color in range(COLORS)}


class Pair(NamedTuple):
    """An input and its output."""

    input: Grid
    output: Grid


@dataclass(frozen=True)
class GridTask:
    """Something that is done to grids: shown by demonstrations, asked for in tests."""

    id: str
    """Unique among the tasks beside it."""
    demonstrations: tuple[Pair, ...]
    """What may be learned from."""
    tests: tuple[Pair, ...]
    """Held out."""
    family: str = ""
    """What kind of task it is, for tables; may be empty."""


def to_grid(value: Any) -> Grid:
    """Checks a grid that was read from JSON.

    Raises:
        ValueError: Why it is none, as the end of a sentence ("row 2 has 3 cells, row 1 has 2").
    """
    if not isinstance(value, list) or not value:
        raise ValueError("is not a list of rows")
    for number, row in enumerate(value, 1):
        if not isinstance(row, list) or not row:
            raise ValueError(f"row {number} is not a list of cells")
        if len(row) != len(value[0]):
            raise ValueError(f"row {number} has {len(row)} cells, row 1 has {len(value[0])}")
        for cell in row:
            if type(cell) is not int or not 0 <= cell < COLORS:
                shown = printable(reprlib.repr(cell), 20)
                raise ValueError(
                    f"row {number} holds {shown!r}, not a color from 0 to {COLORS - 1}"
                )
    if not fits(value):
        raise ValueError(f"has {len(value)} rows of {len(value[0])} cells, at most {LARGEST} go")
    return tuple(tuple(row) for row in value)


def fits(grid: Sequence[Sequence[int]]) -> bool:
    """Whether no side of a grid is longer than `LARGEST`."""
    return len(grid) <= LARGEST and len(grid[0]) <= LARGEST


def format_grid(grid: Grid) -> str:
    """A grid as one line."""
    return " | ".join(" ".join(map(str, row)) for row in grid)


def parse_grid(text: str) -> Grid | None:
    """The grid that a text is, None if it is none. Any text is legal.

    Only white space around the grid is forgiven: what comes back is written by `format_grid` as
    exactly ``text.strip()``.
    """
    text = text.strip()
    if len(text) > (2 * LARGEST + 2) * LARGEST:  # cannot fit
        return None
    rows: list[tuple[int, ...]] = []
    for line in text.split(" | "):
        row = tuple(_CELLS.get(cell, -1) for cell in line.split(" "))
        if -1 in row or (rows and len(row) != len(rows[0])):
            return None
        rows.append(row)
    return tuple(rows) if fits(rows) else None


def format_demonstrations(demonstrations: Sequence[Pair]) -> str:
    """Demonstrations one after the other, two lines each."""
    return "".join(
        f"{INPUT} {format_grid(pair.input)}\n{OUTPUT} {format_grid(pair.output)}\n"
        for pair in demonstrations
    )


def format_prompt(demonstrations: Sequence[Pair], asked: Grid) -> str:
    """Demonstrations, and a grid whose output is to follow after `ANSWER_PREFIX`."""
    return f"{format_demonstrations(demonstrations)}{INPUT} {format_grid(asked)}\n{OUTPUT}"


def parse_demonstrations(text: str) -> tuple[Pair, ...]:
    """The demonstrations in a text, in order; lines that are none are passed over."""
    found = []
    asked: Grid | None = None
    for line in text.split("\n"):
        if line.startswith(INPUT):
            asked = parse_grid(line.removeprefix(INPUT))
        elif line.startswith(OUTPUT) and asked is not None:
            given = parse_grid(line.removeprefix(OUTPUT))
            if given is not None:
                found.append(Pair(asked, given))
            asked = None
        else:
            asked = None
    return tuple(found)
