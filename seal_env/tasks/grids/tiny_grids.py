"""The embedded world of the task `few-shot`: endless problems about grids of one row.

A problem is one operation (`seal_env.tasks.grids.families`), shown by four demonstrations and
asked for on eight grids. The model `tiny-grids` (`seal_env.pretraining.tiny_grids`) knows other
operations than those it is asked for, so it fails until it is finetuned on examples that are made
of the demonstrations; which of the two tools makes examples that help depends on the operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.grids.families import CELLS, FAMILIES, Cells, GridFamily, draw_cells
from seal_env.tasks.grids.grid import Grid, GridTask, Pair
from seal_env.tasks.grids.task import GridTasks
from seal_env.tasks.grids.transforms import Recolor, Transform

DEMONSTRATIONS = 4
"""Demonstrations of a problem."""
TESTS = 8
"""Grids that are asked for."""
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03)
"""Learning rates that the embedded model writes into its directives, at first all equally often."""
EPOCHS = (1, 2, 4, 8)
"""Numbers of epochs, likewise."""
DRAWS = 4
"""Random transformations of each example that a tool is drawn from."""


@dataclass(frozen=True)
class Rearrange(Transform):
    """Puts the cells of every row in another order."""

    order: Cells
    """For each cell of the new row, the cell of the old one; a permutation."""

    @staticmethod
    def draw(random: Random) -> Rearrange:
        """A uniformly random order."""
        return Rearrange(tuple(random.sample(range(CELLS), CELLS)))

    @property
    def name(self) -> str:
        """``rearrange-`` and the old places in a row."""
        return f"rearrange-{''.join(map(str, self.order))}"

    def apply(self, grid: Grid) -> Grid:
        """The grid in the new order."""
        return tuple(tuple(row[place] for place in self.order) for row in grid)

    def inverse(self, grid: Grid) -> Grid:
        """The grid in the old order."""
        return tuple(tuple(row[self.order.index(i)] for i in range(len(row))) for row in grid)


class TinyGrids(GridTasks):
    """One-row grids under operations that the embedded model has not seen.

    **Tools.** ``colors`` makes examples in other colors, ``positions`` examples with the cells
    in another order. **Splits.** No operation is in two of ``train``, ``validation`` and
    ``test``, which take turns with theirs; ``known`` are those that the embedded model was
    pretrained on. Every color that is asked about comes up in the demonstrations.

    Args:
        seed: Which grids there are.
    """

    tools = ("colors", "positions")
    menu = "tiny-grids"
    """Name of the menu (`seal_env.menus.base`) that has the embedded model's directives."""
    answer_tokens = CELLS + 1  # a line break or an end token
    permuted_copies = False
    max_examples = 32

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def size(self, split: str) -> int | None:
        """None: every split is endless."""
        _families(split)
        return None

    def family(self, split: str, index: int) -> GridFamily:
        """The operation of a problem."""
        if index < 0:
            raise UserError(f"problem {index} of {split}: indices start at 0")
        families = _families(split)
        return families[index % len(families)]

    def solved(self, split: str, index: int) -> GridTask:
        """The grid task at a position of a split."""
        return _draw(self.family(split, index), f"{self.seed}/{split}/{index}")

    def transforms(self, tool: str, pairs: Sequence[Pair], random: Random) -> Sequence[Transform]:
        """Random permutations: of colors, or of cells."""
        draw = {"colors": Recolor.draw, "positions": Rearrange.draw}[tool]
        return [draw(random) for _ in range(DRAWS)]


def _families(split: str) -> tuple[GridFamily, ...]:
    if split not in FAMILIES:
        raise UserError(f"unknown split {split!r}: known: {', '.join(FAMILIES)}")
    return FAMILIES[split]


@lru_cache(maxsize=4096)
def _draw(family: GridFamily, place: str) -> GridTask:
    random = Random(stable_hash("tiny-grids", place))
    while True:
        shown = [draw_cells(random) for _ in range(DEMONSTRATIONS)]
        asked = [draw_cells(random) for _ in range(TESTS)]
        seen = {color for cells in shown for color in cells}
        if all(seen.issuperset(cells) for cells in asked):
            pairs = [Pair((cells,), (family.apply(cells),)) for cells in (*shown, *asked)]
            demonstrations, tests = pairs[:DEMONSTRATIONS], pairs[DEMONSTRATIONS:]
            return GridTask(f"tiny-grids/{place}", tuple(demonstrations), tuple(tests), family.name)
