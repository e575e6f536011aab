"""The data-generation tools of grid tasks: which transformations each of them makes.

The first four are SEAL's (arXiv 2506.10943, section 3.2 and its few-shot code), which groups the
transformations of Akyürek et al. 2024 (arXiv 2411.07279) so:

=========  ============================================================================
tool       transformations
=========  ============================================================================
basic      three rotations, two flips, transposition, four reflections (a grid beside its
           mirror image), a random cyclic translation by up to 3 rows and columns
size       every cell as 2x2, 2x1 and 1x2 cells
chain      a rotation, flip or transposition, then every cell as 2x2 cells
repeat     the grid twice below itself, twice beside itself, both
colors     four random permutations of the colors 1 to 9
positions  the mirror image (left and right), four random cyclic shifts to the side
=========  ============================================================================

In SEAL, color permutations come along with every tool (`GridTasks.permuted_copies`); `colors`
has them on their own. `positions` is what `basic` can do to a grid of one row without making it
another size.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from seal_env.errors import UserError
from seal_env.tasks.grids.grid import Pair
from seal_env.tasks.grids.transforms import (
    IDENTITY,
    Chain,
    Flip,
    Recolor,
    Reflect,
    Repeat,
    Rotate,
    Scale,
    Shift,
    Transform,
    Transpose,
)

FARTHEST = 3
"""Most rows or columns that `basic` translates by (as Akyürek et al. do)."""
DRAWS = 4
"""Random transformations that `colors` and `positions` draw."""

_TURNED: tuple[Transform, ...] = (
    Rotate(1),
    Rotate(2),
    Rotate(3),
    Flip(0),
    Flip(1),
    Transpose(),
)
_FIXED: dict[str, tuple[Transform, ...]] = {
    "basic": (*_TURNED, *(Reflect(axis, first) for axis in (0, 1) for first in (False, True))),
    "size": (Scale(2, 2), Scale(2, 1), Scale(1, 2)),
    "chain": tuple(Chain((part, Scale(2, 2))) for part in _TURNED),
    "repeat": (Repeat(2, 1), Repeat(1, 2), Repeat(2, 2)),
    "colors": (),
    "positions": (Flip(1),),
}
TOOLS = tuple(_FIXED)
"""Names of all tools."""
VIEWS: dict[str, Transform] = {part.name: part for part in (IDENTITY, *_TURNED)}
"""Transformations that a test grid can be asked under, by name: each keeps the number of cells and
can be undone whatever the answer."""


def transforms(tool: str, pairs: Sequence[Pair], random: Random) -> tuple[Transform, ...]:
    """Transformations of a tool for a set of pairs: the fixed ones first, then random ones.

    Args:
        tool: A name from `TOOLS`.
        pairs: Pairs to transform; a translation is shorter than the smallest grid.
        random: Generator of colors and translations.

    Raises:
        UserError: There is no such tool.
    """
    if tool not in _FIXED:
        raise UserError(f"unknown data-generation tool {tool!r}: known: {', '.join(TOOLS)}")
    return (*_FIXED[tool], *_drawn(tool, pairs, random))


def _drawn(tool: str, pairs: Sequence[Pair], random: Random) -> list[Transform]:
    if tool == "colors":
        return [Recolor.draw(random) for _ in range(DRAWS)]
    rows = min(len(grid) for pair in pairs for grid in pair)
    columns = min(len(grid[0]) for pair in pairs for grid in pair)
    shifts: list[Transform] = []
    if tool == "basic":
        down, right = range(min(rows, FARTHEST + 1)), range(min(columns, FARTHEST + 1))
        shifts = [Shift(r, c) for r in down for c in right if r or c]
        return random.sample(shifts, min(1, len(shifts)))
    if tool == "positions":
        shifts = [Shift(0, step) for step in range(1, columns)]
    return random.sample(shifts, min(DRAWS, len(shifts)))
