"""Grids of colored cells (ARC, Chollet, arXiv 1911.01547), and their representation as text.

A grid is one line: a cell is a digit, cells are separated by a space, rows by ``" | "``:
``1 2 3 | 4 5 6``. An answer ends at a line break. A demonstration is two lines; a prompt is all
demonstrations and a grid whose output is missing::

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
"""Rows of colors, 0 to 9; at least one row, all of one length, which is at least 1."""

LARGEST = 30
"""Longest side of a grid, as in ARC."""
COLORS = 10
"""Colors 0 to 9; 0 is the background."""
INPUT, OUTPUT = "Input:", "Output:"
ANSWER_PREFIX = " "
"""Text between a prompt and the output's grid."""
_CELLS = {str(color): color for color in range(COLORS)}


class Pair(NamedTuple):
    """Input grid and its output grid."""

    input: Grid
    output: Grid


@dataclass(frozen=True)
class GridTask:
    """Transformation of grids, shown by demonstrations and asked for in tests."""

    id: str
    """Identifier, unique within the data."""
    demonstrations: tuple[Pair, ...]
    """Pairs to learn from."""
    tests: tuple[Pair, ...]
    """Held-out pairs."""
    family: str = ""
    """Kind of the task, for tables; may be empty."""


def to_grid(value: Any) -> Grid:
    """Checks a grid that was read from JSON.

    Raises:
        ValueError: It is no grid; the message is a clause ("row 2 has 3 cells, row 1 has 2").
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
    """Grid that a text represents; None for any other text.

    Only surrounding white space is ignored: `format_grid` writes the result as exactly
    ``text.strip()``.
    """
    text = text.strip()
    if len(text) > (2 * LARGEST + 2) * LARGEST:  # too long for a grid
        return None
    rows: list[tuple[int, ...]] = []
    for line in text.split(" | "):
        row = tuple(_CELLS.get(cell, -1) for cell in line.split(" "))
        if -1 in row or (rows and len(row) != len(rows[0])):
            return None
        rows.append(row)
    return tuple(rows) if fits(rows) else None


def format_demonstrations(demonstrations: Sequence[Pair]) -> str:
    """Text of demonstrations, two lines each."""
    return "".join(
        f"{INPUT} {format_grid(pair.input)}\n{OUTPUT} {format_grid(pair.output)}\n"
        for pair in demonstrations
    )


def format_prompt(demonstrations: Sequence[Pair], asked: Grid) -> str:
    """Text of demonstrations and of a grid whose output follows after `ANSWER_PREFIX`."""
    return f"{format_demonstrations(demonstrations)}{INPUT} {format_grid(asked)}\n{OUTPUT}"


def parse_demonstrations(text: str) -> tuple[Pair, ...]:
    """Demonstrations in a text, in order; other lines are ignored."""
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
