"""Menu `tiny-grids`: the directives that the embedded model of grids can write."""

from __future__ import annotations

from seal_env.menus.directives import DirectiveMenu, RecipeGrid
from seal_env.tasks.grids.tiny_grids import EPOCHS, LEARNING_RATES, TinyGrids


class TinyGridsMenu(DirectiveMenu):
    """All recipes of the model's pretraining data, and no others."""

    def __init__(self) -> None:
        super().__init__(RecipeGrid(TinyGrids.tools, LEARNING_RATES, EPOCHS))
