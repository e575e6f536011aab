"""Menu `directives`: tools, learning rate, epochs, and the trained part of an example.

A combination is a recipe: a directive of SEAL's form (`seal_env.edits.directives`). All recipes of
a menu are the grid that an oracle searches.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from seal_env.edits.directive_model import STRATEGIES
from seal_env.edits.directives import Directives, write_directive
from seal_env.errors import UserError
from seal_env.menus.base import Choice, Chosen, Menu
from seal_env.tasks.base import Problem
from seal_env.updates.finetuning import Finetuning

MOST_DEMONSTRATIONS = 64
"""Number of demonstrations of a context that features are computed from."""
LONGEST_LINE = 4096
"""Length of the longest line of a demonstration that is parsed, in characters."""
_DEMONSTRATION = re.compile(r"^Input:(.*)\nOutput:(.*)$", re.MULTILINE)

Pair = tuple[list[str], list[str]]
"""Cells of a demonstration's input and output, row by row."""


@dataclass(frozen=True)
class RecipeGrid:
    """Recipes of a menu; the first combination has the first option of each."""

    tools: tuple[str, ...] = ("basic", "size", "chain", "repeat")
    """Data-generation tools, each of which is used or not."""
    learning_rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    """Learning rates to choose from."""
    epochs: tuple[int, ...] = (1, 2, 4)
    """Numbers of epochs to choose from."""
    strategies: tuple[str, ...] = STRATEGIES
    """Strategies: the parts of an example that are trained on."""


class DirectiveMenu(Menu):
    """One choice per tool, and one each of learning rate, epochs and strategy.

    Args:
        grid: The options.

    Raises:
        UserError: A recipe of the grid is no valid directive.
    """

    features = (
        "demonstrations",
        "same length",
        "same cells",
        "same bag",
        "same counts",
        "one mapping",
        "mirrored",
        "shifted",
        "sorted",
        "new colors",
    )

    def __init__(self, grid: RecipeGrid = RecipeGrid()) -> None:
        self.grid = grid
        self.choices = (
            *(Choice(tool, ("no", "yes")) for tool in grid.tools),
            Choice("learning rate", tuple(f"{rate:g}" for rate in grid.learning_rates)),
            Choice("epochs", tuple(map(str, grid.epochs))),
            Choice("strategy", tuple(s.removeprefix("train_using_") for s in grid.strategies)),
        )
        if not all(choice.options for choice in self.choices):
            raise UserError(f"DirectiveMenu: {grid}: leaves something without a choice")
        self._language = Directives(grid.tools)
        for chosen in self._edges():
            if error := self._language.parse(self.render("", chosen), _NOTHING).error:
                raise UserError(f"DirectiveMenu: {error}")

    def describe(self, context: str) -> Sequence[float]:
        """Features of the operation that the demonstrations show, each from 0 to 1.

        The number of demonstrations (of 8); the fraction whose output is as long as the input; the
        mean fraction of unchanged cells; the fractions that keep the multiset of colors, exactly
        and up to renaming; the fraction of cells that one mapping of colors explains; the mean
        fraction of cells that are correct after mirroring, and after the best common cyclic shift;
        the fractions whose output is sorted, and has colors that the input lacks.
        """
        pairs = demonstrations(context)
        if not pairs:
            return [0.0] * len(self.features)
        equal = [pair for pair in pairs if len(pair[0]) == len(pair[1])]
        numbers = [
            min(len(pairs) / 8, 1.0),
            len(equal) / len(pairs),
            _mean([_agreement(a, b) for a, b in equal]),
            _mean([float(Counter(a) == Counter(b)) for a, b in pairs]),
            _mean([float(_counts(a) == _counts(b)) for a, b in pairs]),
            _mapped(equal),
            _mean([_agreement(a[::-1], b) for a, b in equal]),
            _shifted(equal),
            _mean([float(b in (sorted(b), sorted(b, reverse=True))) for _, b in pairs]),
            _mean([float(not set(b) <= set(a)) for a, b in pairs]),
        ]
        return numbers

    def render(self, context: str, chosen: Chosen) -> str:
        """Directive of the chosen recipe, independent of the context."""
        grid, switches = self.grid, chosen[: len(self.grid.tools)]
        rate, epochs, strategy = chosen[len(grid.tools) :]
        on = [tool for tool, switch in zip(grid.tools, switches, strict=True) if switch]
        return write_directive(
            grid.tools,
            on,
            grid.learning_rates[rate],
            grid.epochs[epochs],
            grid.strategies[strategy],
        )

    def matches(self, context: str, text: str) -> list[Chosen]:
        """Combination that is rendered as a text, if there is one."""
        chosen = self.nearest(context, text)
        return [chosen] if self.render(context, chosen) == text else []

    def nearest(self, context: str, text: str) -> Chosen:
        """Recipe that is most similar to any directive, choice by choice.

        Numbers are compared by their ratio. A text that is no directive gives the first recipe.
        """
        grid, update = self.grid, self._language.parse(text, _NOTHING).update
        asked = update if isinstance(update, Finetuning) else Finetuning()
        training, rates, epochs = asked.training, grid.learning_rates, grid.epochs
        strategy = STRATEGIES[0 if training.outputs_only else 1]
        return (
            *(int(tool in (asked.tools or ())) for tool in grid.tools),
            _closest(rates, training.learning_rate),
            _closest(epochs, training.epochs),
            grid.strategies.index(strategy) if update and strategy in grid.strategies else 0,
        )

    def label(self, chosen: Chosen) -> str:
        """Recipe in words, e.g. "basic, repeat, rate 0.001, 2 epochs, ..."."""
        named = [choice.options[i] for choice, i in zip(self.choices, chosen, strict=True)]
        tools = [tool for tool, i in zip(self.grid.tools, chosen, strict=False) if i]
        rate, epochs, strategy = named[len(self.grid.tools) :]
        parts = [*(tools or ["no tools"]), f"rate {rate}", f"{epochs} epochs", strategy]
        return ", ".join(part.replace("_", " ") for part in parts)

    def _edges(self) -> list[Chosen]:
        """Combinations in which every option of every choice occurs."""
        longest = max(len(choice.options) for choice in self.choices)
        return [
            tuple(min(i, len(choice.options) - 1) for choice in self.choices)
            for i in range(longest)
        ]


_NOTHING = Problem("", "", "", ())


def demonstrations(context: str) -> list[Pair]:
    """Demonstrations in a context; any text is legal."""
    found = islice(_DEMONSTRATION.finditer(context), MOST_DEMONSTRATIONS)
    pairs = [
        (_cells(given), _cells(wanted)) for given, wanted in (match.groups() for match in found)
    ]
    return [pair for pair in pairs if all(pair)]


def _cells(line: str) -> list[str]:
    return [cell for cell in line[:LONGEST_LINE].split() if cell != "|"]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _agreement(one: Sequence[str], other: Sequence[str]) -> float:
    """Fraction of positions at which two rows of equal length agree."""
    return _mean([float(a == b) for a, b in zip(one, other, strict=True)])


def _counts(cells: Sequence[str]) -> list[int]:
    """Sorted counts of the colors."""
    return sorted(Counter(cells).values())


def _mapped(pairs: Sequence[Pair]) -> float:
    """Fraction of cells that change to the most frequent new color of their color."""
    seen: dict[str, Counter[str]] = {}
    for given, wanted in pairs:
        for a, b in zip(given, wanted, strict=True):
            seen.setdefault(a, Counter())[b] += 1
    total = sum(turned.total() for turned in seen.values())
    most = sum(max(turned.values()) for turned in seen.values())
    return most / total if total else 0.0


def _shifted(pairs: Sequence[Pair]) -> float:
    """Largest agreement after a cyclic shift by at least one cell."""
    longest = min((len(given) for given, _ in pairs), default=0)
    best = 0.0
    for by in range(1, min(longest, MOST_SHIFT + 1)):
        for step in (by, -by):
            moved = [_agreement(given[-step:] + given[:-step], wanted) for given, wanted in pairs]
            best = max(best, _mean(moved))
    return best


MOST_SHIFT = 8
"""Largest cyclic shift that is tried, in cells."""


def _closest(options: Sequence[float], value: float | None) -> int:
    """Index of the option with the smallest ratio to a value; the first without a value."""
    if value is None:
        return 0
    return min(range(len(options)), key=lambda i: abs(math.log(options[i] / value)))
