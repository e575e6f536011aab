"""Menu `directives`: which tools, how strong and how long a training, on what part of an example.

What is chosen is a recipe: a directive of SEAL's form (`seal_env.edits.directives`). All
recipes of a menu together are the grid that an oracle searches.
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
"""So many demonstrations of a context are looked at."""
LONGEST_LINE = 4096
"""Longest line of a demonstration that is looked at, in characters."""
_DEMONSTRATION = re.compile(r"^Input:(.*)\nOutput:(.*)$", re.MULTILINE)

Pair = tuple[list[str], list[str]]
"""The cells of a demonstration's input and output, row after row."""


@dataclass(frozen=True)
class RecipeGrid:
    """The recipes on a menu; the first of each is what the first combination has."""

    tools: tuple[str, ...] = ("basic", "size", "chain", "repeat")
    """Data-generation tools, each of which is chosen or not."""
    learning_rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    """Learning rates to choose from."""
    epochs: tuple[int, ...] = (1, 2, 4)
    """Numbers of epochs to choose from."""
    strategies: tuple[str, ...] = STRATEGIES
    """What of an example is learned."""


class DirectiveMenu(Menu):
    """A choice for each tool, and one each of learning rate, epochs and strategy.

    Args:
        grid: What there is to choose from.

    Raises:
        UserError: Some recipe of the grid is no valid directive.
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
        """What kind of operation the demonstrations show, each number from 0 to 1.

        How many demonstrations there are (of 8), then shares of them: whose output is as long as
        the input; the mean share of cells that stay as they are; that keep the bag of colors, or
        keep it up to renaming; the share of cells that one mapping of colors explains; the mean
        share of cells that are right after mirroring, and after the best cyclic shift that all
        have in common; whose output is sorted; with colors that the input does not have.
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
        """The chosen recipe as a directive, whatever the context."""
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
        """The combination that is rendered as this text, if there is one."""
        chosen = self.nearest(context, text)
        return [chosen] if self.render(context, chosen) == text else []

    def nearest(self, context: str, text: str) -> Chosen:
        """The recipe that is most like a directive someone else wrote, choice by choice.

        Numbers are compared by their ratio. A text that is no directive is like the first recipe.
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
        """A recipe as a reader would call it, e.g. "basic, repeat, rate 0.001, 2 epochs, ..."."""
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
    """The demonstrations of a context, as far as it has any; any text is legal."""
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
    """The share of positions at which two equally long rows are the same."""
    return _mean([float(a == b) for a, b in zip(one, other, strict=True)])


def _counts(cells: Sequence[str]) -> list[int]:
    """How often the colors occur, whichever they are."""
    return sorted(Counter(cells).values())


def _mapped(pairs: Sequence[Pair]) -> float:
    """The share of cells that turn into what their color most often turns into."""
    seen: dict[str, Counter[str]] = {}
    for given, wanted in pairs:
        for a, b in zip(given, wanted, strict=True):
            seen.setdefault(a, Counter())[b] += 1
    total = sum(turned.total() for turned in seen.values())
    most = sum(max(turned.values()) for turned in seen.values())
    return most / total if total else 0.0


def _shifted(pairs: Sequence[Pair]) -> float:
    """Agreement after the cyclic shift, other than by nothing, that explains most."""
    longest = min((len(given) for given, _ in pairs), default=0)
    best = 0.0
    for by in range(1, min(longest, MOST_SHIFT + 1)):
        for step in (by, -by):
            moved = [_agreement(given[-step:] + given[:-step], wanted) for given, wanted in pairs]
            best = max(best, _mean(moved))
    return best


MOST_SHIFT = 8
"""Cyclic shifts by more cells than this are not tried."""


def _closest(options: Sequence[float], value: float | None) -> int:
    """The option with the smallest ratio to a value; the first one if there is no value."""
    if value is None:
        return 0
    return min(range(len(options)), key=lambda i: abs(math.log(options[i] / value)))
