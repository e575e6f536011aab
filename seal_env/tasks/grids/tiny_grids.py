"""The embedded world of the task `few-shot`: endless problems about grids of one row.

A problem is one operation (`seal_env.tasks.grids.families`), shown by four demonstrations and
evaluated on eight grids. The model `tiny-grids` (`seal_env.pretraining.tiny_grids`) was pretrained
on other operations, so it fails until it is finetuned on examples made from the demonstrations. It
depends on the operation which of the two tools makes examples that help.
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
"""Number of demonstrations per problem."""
TESTS = 8
"""Number of held-out grids per problem."""
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03)
"""Learning rates in the embedded model's directives, equally frequent before training."""
EPOCHS = (1, 2, 4, 8)
"""Numbers of epochs in its directives, equally frequent before training."""
DRAWS = 4
"""Random transformations per example and tool."""


@dataclass(frozen=True)
class Rearrange(Transform):
    """Permutation of the cells of every row."""

    order: Cells
    """Index of the old cell for each cell of the new row."""

    @staticmethod
    def draw(random: Random) -> Rearrange:
        """Uniformly random order."""
        return Rearrange(tuple(random.sample(range(CELLS), CELLS)))

    @property
    def name(self) -> str:
        """``rearrange-`` and the old indices."""
        return f"rearrange-{''.join(map(str, self.order))}"

    def apply(self, grid: Grid) -> Grid:
        """Grid in the new order."""
        return tuple(tuple(row[place] for place in self.order) for row in grid)

    def inverse(self, grid: Grid) -> Grid:
        """Grid in the old order."""
        return tuple(tuple(row[self.order.index(i)] for i in range(len(row))) for row in grid)


class TinyGrids(GridTasks):
    """One-row grids under operations that the embedded model has not seen.

    **Tools.** ``colors`` makes examples in other colors, ``positions`` examples with the cells
    in another order. **Splits.** No operation is in two of ``train``, ``validation`` and
    ``test``, each of which cycles through its own; ``known`` are those that the embedded model was
    pretrained on. Every color of a held-out grid occurs in the demonstrations.

    Args:
        seed: Seed of the grids.
    """

    tools = ("colors", "positions")
    menu = "tiny-grids"
    """Name of the menu (`seal_env.menus.base`) of the embedded model's directives."""
    answer_tokens = CELLS + 1  # a line break or an end token
    permuted_copies = False
    max_examples = 32
    known_split = "known"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def size(self, split: str) -> int | None:
        """None: every split is endless."""
        _families(split)
        return None

    def family(self, split: str, index: int) -> GridFamily:
        """Operation of a problem."""
        if index < 0:
            raise UserError(f"problem {index} of {split}: indices start at 0")
        families = _families(split)
        return families[index % len(families)]

    def solved(self, split: str, index: int) -> GridTask:
        """Grid task at an index of a split."""
        return _draw(self.family(split, index), f"{self.seed}/{split}/{index}")

    def transforms(self, tool: str, pairs: Sequence[Pair], random: Random) -> Sequence[Transform]:
        """Random permutations of colors or of cells."""
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
