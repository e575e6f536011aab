"""Transformations of grids, as plain data with exact inverses.

The transformations are those of Akyürek et al. 2024 ("The Surprising Effectiveness of Test-Time
Training for Few-Shot Learning", arXiv 2411.07279). `seal_env.tasks.grids.tools` assigns them to
data-generation tools.

Color 0 is the background in most tasks: random color permutations keep it, as in that paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from seal_env.tasks.grids.grid import COLORS, Grid, Pair

_Item = TypeVar("_Item")


class Transform(ABC):
    """Invertible transformation of grids, the same for every grid of a task."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name, unique per transformation."""

    @abstractmethod
    def apply(self, grid: Grid) -> Grid:
        """The changed grid."""

    @abstractmethod
    def inverse(self, grid: Grid) -> Grid | None:
        """Grid that `apply` transforms into this one; None if there is none."""

    def apply_to_pairs(self, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Transformed inputs and outputs."""
        return tuple(Pair(self.apply(pair.input), self.apply(pair.output)) for pair in pairs)


@dataclass(frozen=True)
class Rotate(Transform):
    """Turns a grid counter-clockwise."""

    quarters: int
    """Quarter turns, 1 to 3."""

    @property
    def name(self) -> str:
        """``rotate-90``, ``rotate-180`` or ``rotate-270``."""
        return f"rotate-{90 * self.quarters}"

    def apply(self, grid: Grid) -> Grid:
        """The turned grid."""
        return _turned(grid, self.quarters)

    def inverse(self, grid: Grid) -> Grid:
        """The grid turned back."""
        return _turned(grid, 4 - self.quarters)


@dataclass(frozen=True)
class Flip(Transform):
    """Reverses the order of rows or of columns."""

    axis: int
    """0: rows (upside down); 1: columns (left and right)."""

    @property
    def name(self) -> str:
        """``flip-rows`` or ``flip-columns``."""
        return f"flip-{_AXES[self.axis]}"

    def apply(self, grid: Grid) -> Grid:
        """The mirror image."""
        return _flipped(grid, self.axis)

    def inverse(self, grid: Grid) -> Grid:
        """The mirror image's mirror image."""
        return _flipped(grid, self.axis)


@dataclass(frozen=True)
class Transpose(Transform):
    """Makes rows columns."""

    @property
    def name(self) -> str:
        """``transpose``."""
        return "transpose"

    def apply(self, grid: Grid) -> Grid:
        """The transposed grid."""
        return _transposed(grid)

    def inverse(self, grid: Grid) -> Grid:
        """The transposed grid."""
        return _transposed(grid)


@dataclass(frozen=True)
class Shift(Transform):
    """Cyclic shift of rows downward and of columns to the right."""

    rows: int
    """Shift downward, in cells."""
    columns: int
    """Shift to the right, in cells."""

    @property
    def name(self) -> str:
        """Name such as ``shift-1-2``."""
        return f"shift-{self.rows}-{self.columns}"

    def apply(self, grid: Grid) -> Grid:
        """The shifted grid."""
        return _shifted(grid, self.rows, self.columns)

    def inverse(self, grid: Grid) -> Grid:
        """The grid shifted back."""
        return _shifted(grid, -self.rows, -self.columns)


@dataclass(frozen=True)
class Recolor(Transform):
    """Permutation of the colors."""

    colors: tuple[int, ...]
    """New color of each of the ten colors."""

    @staticmethod
    def draw(random: Random) -> Recolor:
        """Uniformly random permutation of all colors but the background."""
        return Recolor((0, *random.sample(range(1, COLORS), COLORS - 1)))

    @property
    def name(self) -> str:
        """``recolour-`` and the new colours in a row."""
        return f"recolour-{''.join(map(str, self.colors))}"

    def apply(self, grid: Grid) -> Grid:
        """The recolored grid."""
        return tuple(tuple(self.colors[cell] for cell in row) for row in grid)

    def inverse(self, grid: Grid) -> Grid:
        """The grid in its old colors."""
        return tuple(tuple(self.colors.index(cell) for cell in row) for row in grid)


@dataclass(frozen=True)
class Reflect(Transform):
    """Puts a grid and its mirror image side by side."""

    axis: int
    """0: one below the other; 1: beside each other."""
    mirror_first: bool = False
    """Whether the mirror image comes first."""

    @property
    def name(self) -> str:
        """Name such as ``reflect-rows`` or ``reflect-columns-first``."""
        return f"reflect-{_AXES[self.axis]}{'-first' * self.mirror_first}"

    def apply(self, grid: Grid) -> Grid:
        """Grid and mirror image, side by side."""
        mirror = _flipped(grid, self.axis)
        one, other = (mirror, grid) if self.mirror_first else (grid, mirror)
        return _joined(one, other, self.axis)

    def inverse(self, grid: Grid) -> Grid | None:
        """The grid without its mirror image."""
        return _checked(self, _part(grid, self.axis, 2, int(self.mirror_first)), grid)


@dataclass(frozen=True)
class Scale(Transform):
    """Makes every cell a block of cells."""

    height: int
    """Rows of a block."""
    width: int
    """Columns of a block."""

    @property
    def name(self) -> str:
        """Name such as ``scale-2x2``."""
        return f"scale-{self.height}x{self.width}"

    def apply(self, grid: Grid) -> Grid:
        """The enlarged grid."""
        wide = (tuple(cell for cell in row for _ in range(self.width)) for row in grid)
        return tuple(row for row in wide for _ in range(self.height))

    def inverse(self, grid: Grid) -> Grid | None:
        """One cell of every block."""
        return _checked(self, tuple(row[:: self.width] for row in grid[:: self.height]), grid)


@dataclass(frozen=True)
class Repeat(Transform):
    """Tiles with copies of a grid."""

    down: int
    """Copies below each other."""
    across: int
    """Copies beside each other."""

    @property
    def name(self) -> str:
        """Name such as ``repeat-2x1``."""
        return f"repeat-{self.down}x{self.across}"

    def apply(self, grid: Grid) -> Grid:
        """The tiled grid."""
        return tuple(row * self.across for row in grid) * self.down

    def inverse(self, grid: Grid) -> Grid | None:
        """One of the copies."""
        rows, columns = len(grid) // self.down, len(grid[0]) // self.across
        return _checked(self, tuple(row[:columns] for row in grid[:rows]), grid)


@dataclass(frozen=True)
class Chain(Transform):
    """One transformation after the other; the identity if there is none."""

    parts: tuple[Transform, ...] = ()
    """Transformations in the order of application."""

    @property
    def name(self) -> str:
        """The parts' names, joined by ``+``; or ``identity``."""
        return "+".join(part.name for part in self.parts) or "identity"

    def apply(self, grid: Grid) -> Grid:
        """The changed grid."""
        for part in self.parts:
            grid = part.apply(grid)
        return grid

    def inverse(self, grid: Grid) -> Grid | None:
        """The parts' inverses, last one first."""
        found: Grid | None = grid
        for part in reversed(self.parts):
            found = None if found is None else part.inverse(found)
        return found


@dataclass(frozen=True)
class Reorder:
    """Permutation of a task's demonstrations."""

    order: tuple[int, ...]
    """Index of the demonstration at each position."""

    @staticmethod
    def draw(count: int, random: Random) -> Reorder:
        """Uniformly random order of `count` items."""
        return Reorder(tuple(random.sample(range(count), count)))

    def apply(self, items: Sequence[_Item]) -> tuple[_Item, ...]:
        """The items in this order."""
        return tuple(items[place] for place in self.order)

    def inverse(self, items: Sequence[_Item]) -> tuple[_Item, ...]:
        """The items in their original order."""
        return tuple(items[self.order.index(place)] for place in range(len(self.order)))


IDENTITY = Chain()
"""Identity."""


_AXES = ("rows", "columns")


def _transposed(grid: Grid) -> Grid:
    return tuple(zip(*grid, strict=True))


def _turned(grid: Grid, quarters: int) -> Grid:
    for _ in range(quarters % 4):
        grid = _transposed(grid)[::-1]
    return grid


def _flipped(grid: Grid, axis: int) -> Grid:
    return grid[::-1] if axis == 0 else tuple(row[::-1] for row in grid)


def _shifted(grid: Grid, rows: int, columns: int) -> Grid:
    down, right = rows % len(grid), columns % len(grid[0])
    moved = grid[len(grid) - down :] + grid[: len(grid) - down]
    return tuple(row[len(row) - right :] + row[: len(row) - right] for row in moved)


def _joined(one: Grid, other: Grid, axis: int) -> Grid:
    if axis == 0:
        return one + other
    return tuple(left + right for left, right in zip(one, other, strict=True))


def _part(grid: Grid, axis: int, parts: int, which: int) -> Grid:
    if axis == 1:
        return _transposed(_part(_transposed(grid), 0, parts, which)) if grid else grid
    size = len(grid) // parts
    return grid[which * size : (which + 1) * size]


def _checked(transform: Transform, found: Grid, grid: Grid) -> Grid | None:
    """The candidate, if `transform` makes the grid of it; otherwise None."""
    return found if found and found[0] and transform.apply(found) == grid else None
