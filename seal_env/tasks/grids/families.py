"""Families of operations on grids of one row; a problem applies one to every grid.

There are two kinds. A family of *positions* moves cells and keeps their colors (shift, mirror,
swap, ...): a demonstration in other colors is a demonstration of the same operation. A family of
*colors* replaces colors and keeps positions (add, subtract, swap, ...): a demonstration with its
cells in another order is a demonstration of the same operation. Augmentation that helps with one
kind contradicts the other, so a policy has to recognize the kind.

No family is in two splits: the embedded model `tiny-grids` was pretrained on the `known` ones, and
has not seen those of the other splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from seal_env.tasks.grids.grid import COLORS

CELLS = 6
"""Number of cells of a grid."""
LAST_COLOUR = COLORS - 1
"""Largest color of a cell, from 1; the background, 0, does not occur."""

REMARKS_ON = {"positions": "Cells move", "colors": "Colors change"}
"""Sentence that the embedded model writes before a directive, by kind of family."""

Cells = tuple[int, ...]
"""The colors of a row of cells."""


@dataclass(frozen=True)
class GridFamily:
    """Operation that moves cells or replaces colors."""

    name: str
    """Name of the family and the parameter of the operation."""
    order: Cells
    """Index of the input's cell for each cell of the output."""
    colors: Cells
    """New color of each of the ten colors; 0 stays 0."""

    @property
    def kind(self) -> str:
        """Kind of the family: "positions" or "colors"."""
        return "colors" if self.order == tuple(range(CELLS)) else "positions"

    def apply(self, cells: Cells) -> Cells:
        """Output for an input."""
        return tuple(self.colors[cells[place]] for place in self.order)


def draw_cells(random: Random, count: int = CELLS) -> Cells:
    """Cells of random colors."""
    return tuple(random.randint(1, LAST_COLOUR) for _ in range(count))


def _moved(name: str, *order: int) -> GridFamily:
    return GridFamily(name, order, tuple(range(COLORS)))


def _colored(name: str, *colors: int) -> GridFamily:
    return GridFamily(name, tuple(range(CELLS)), (0, *colors))


def _shift(by: int) -> GridFamily:
    """Cyclic shift to the right."""
    return _moved(f"shift-{by}", *((place - by) % CELLS for place in range(CELLS)))


def _mirror(by: int) -> GridFamily:
    """Mirror image, shifted."""
    return _moved(f"mirror-{by}", *((by - 1 - place) % CELLS for place in range(CELLS)))


def _add(number: int) -> GridFamily:
    """A number added to the color, with 1 after 9."""
    new = ((old - 1 + number) % LAST_COLOUR + 1 for old in range(1, COLORS))
    return _colored(f"add-{number}", *new)


def _subtract(number: int) -> GridFamily:
    """A number minus the color, plus 9 if it is less than 1."""
    new = ((number - old - 1) % LAST_COLOUR + 1 for old in range(1, COLORS))
    return _colored(f"subtract-from-{number}", *new)


def _swap(*pairs: tuple[int, int]) -> Cells:
    """Colors 1 to 9, those of each pair exchanged."""
    partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    return tuple(partner.get(color, color) for color in range(1, COLORS))


def draw_family(random: Random, kind: str) -> GridFamily:
    """Operation for pretraining, in no other split: pairs of cells or colors are exchanged.

    It may be one of the known operations.
    """
    held_out = {(f.order, f.colors) for split in HELD_OUT for f in FAMILIES[split]}
    while True:
        order, colors = list(range(CELLS)), list(range(COLORS))
        moved, places = (order, range(CELLS)) if kind == "positions" else (colors, range(1, COLORS))
        for _ in range(random.randint(1, len(places))):
            one, other = random.sample(places, 2)
            moved[one], moved[other] = moved[other], moved[one]
        found = tuple(order), tuple(colors)
        if found not in held_out and sorted(moved) != moved:
            return GridFamily("drawn", *found)


HELD_OUT = ("train", "validation", "test")
"""Splits whose families are not in the pretraining data."""
FAMILIES: dict[str, tuple[GridFamily, ...]] = {
    "known": (
        _shift(1),
        _shift(2),
        _shift(5),
        _mirror(0),
        _mirror(2),
        _mirror(5),
        _moved("swap-pairs", 1, 0, 3, 2, 5, 4),
        _moved("halves-shift-1", 2, 0, 1, 5, 3, 4),
        _moved("halves-mirror", 2, 1, 0, 5, 4, 3),
        _moved("swap-ends", 5, 1, 2, 3, 4, 0),
        _moved("swap-1-3", 2, 1, 0, 3, 4, 5),
        _moved("odd-cells-shift-1", 4, 1, 0, 3, 2, 5),
        _moved("swap-first-blocks", 2, 3, 0, 1, 4, 5),
        _moved("interleave", 0, 3, 1, 4, 2, 5),
        _add(1),
        _add(2),
        _add(4),
        _add(8),
        _subtract(5),
        _subtract(7),
        _subtract(10),
        _colored("cycle-threes-1", 2, 3, 1, 5, 6, 4, 8, 9, 7),
        _colored("swap-colors-1-2", *_swap((1, 2))),
        _colored("swap-colors-4-8", *_swap((4, 8))),
        _colored("swap-neighbours", *_swap((1, 2), (3, 4), (5, 6), (7, 8))),
        _colored("swap-halves", *_swap((1, 6), (2, 7), (3, 8), (4, 9))),
    ),
    "train": (
        _shift(3),
        _add(3),
        _moved("swap-inner-pairs", 0, 2, 1, 4, 3, 5),
        _subtract(3),
        _moved("even-cells-shift-1", 0, 5, 2, 1, 4, 3),
        _add(7),
        _moved("swap-4-6", 0, 1, 2, 5, 4, 3),
        _subtract(8),
        _mirror(4),
        _colored("swap-far", *_swap((1, 9), (2, 6), (3, 7), (4, 8))),
    ),
    "validation": (
        _mirror(1),
        _add(6),
        _moved("swap-3-5", 0, 1, 4, 3, 2, 5),
        _subtract(6),
    ),
    "test": (
        _shift(4),
        _add(5),
        _moved("swap-middle", 0, 1, 3, 2, 4, 5),
        _subtract(9),
        _moved("halves-shift-2", 1, 2, 0, 4, 5, 3),
        _subtract(4),
        _moved("odd-cells-shift-2", 2, 1, 4, 3, 0, 5),
        _colored("cycle-threes-2", 3, 1, 2, 6, 4, 5, 9, 7, 8),
        _moved("swap-2-5", 0, 4, 2, 3, 1, 5),
        _colored("swap-other-neighbours", *_swap((2, 3), (4, 5), (6, 7), (8, 9))),
    ),
}
"""Families of each split; the kinds alternate where they are held out."""
