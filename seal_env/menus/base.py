"""Menus: a few choices instead of a text, so that a policy without language can act.

A *menu* belongs to a task or to a self-edit language. It names the choices, writes the self-edit
that they stand for, and turns what there is to read into a few numbers. All that it is given is
the observation's ``context``: it cannot use what a policy may not see.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from seal_env.edits.base import EditLanguage
from seal_env.errors import UserError
from seal_env.registry import Registry
from seal_env.tasks.base import Task

MENUS = Registry(
    "menu",
    {
        "biographies": "seal_env.menus.biographies:BiographyMenu",
        "directives": "seal_env.menus.directives:DirectiveMenu",
        "tiny-grids": "seal_env.menus.tiny_grids:TinyGridsMenu",
        "passage": "seal_env.menus.passages:PassageMenu",
    },
)
"""A menu under the name of a task or of a self-edit language is the one that goes with it."""
GENERIC = "passage"
"""The menu of whatever has none of its own."""
MOST_COMBINATIONS = 10_000
"""Largest menu that is searched by trying everything on it."""

_PIECE = re.compile(r"\w+|\n")

Chosen = tuple[int, ...]
"""The position of the chosen option, for each choice of a menu."""


@dataclass(frozen=True)
class Choice:
    """One thing to choose."""

    name: str
    """What is chosen, e.g. ``"wordings"``."""
    options: tuple[str, ...]
    """What it can be, as a reader would call it."""


class Menu(ABC):
    """Choices, and the self-edits that they stand for.

    A subclass sets `choices` and `features` and defines `describe` and `render`. Both must
    depend on their arguments alone, so that a run can be repeated.
    """

    choices: tuple[Choice, ...]
    """What is chosen."""
    features: tuple[str, ...]
    """Names of the numbers that `describe` returns."""

    @abstractmethod
    def describe(self, context: str) -> Sequence[float]:
        """What a policy is told of a context: one number, of size about 1, for each feature."""

    @abstractmethod
    def render(self, context: str, chosen: Chosen) -> str:
        """The self-edit that some choices stand for; any context is legal.

        Args:
            context: An observation's ``context``.
            chosen: One position for each of `choices`.
        """

    def combinations(self) -> Iterator[Chosen]:
        """Everything that can be chosen.

        Raises:
            UserError: That is too much to go through.
        """
        count = math.prod(len(choice.options) for choice in self.choices)
        if count > MOST_COMBINATIONS:
            raise UserError(
                f"menu {type(self).__name__}: has {count} combinations, too many to try them all; "
                f"define its methods matches and nearest"
            )
        return product(*(range(len(choice.options)) for choice in self.choices))

    def matches(self, context: str, text: str) -> list[Chosen]:
        """Every combination that is rendered as this text; none if the text is not on the menu."""
        return [c for c in self.combinations() if self.render(context, c) == text]

    def nearest(self, context: str, text: str) -> Chosen:
        """The combination whose self-edit is most like a text that someone else wrote.

        Likeness is the F1 of the two bags of words, line breaks counted as words. Ties go to the
        first combination.
        """
        wanted = _bag(text)
        rendered = {c: self.render(context, c) for c in self.combinations()}
        return max(rendered, key=lambda chosen: _likeness(_bag(rendered[chosen]), wanted))

    def label(self, chosen: Chosen) -> str:
        """Choices as a reader would call them, e.g. ``"questions, all facts, 2 wordings"``."""
        named = zip(self.choices, chosen, strict=True)
        return ", ".join(f"{choice.options[i]} {choice.name}".strip() for choice, i in named)


def load_menu(menu: object, task: Task, edit: EditLanguage, names: Sequence[str]) -> Menu:
    """The menu that is meant.

    Args:
        menu: A menu, or its name in `MENUS`, or "package.module:Name"; None for the one that goes
            with the self-edit language or else the task, by their attribute ``menu`` or their
            name, or else the generic one.
        task: The task.
        edit: The self-edit language.
        names: The names of the language and of the task.

    Raises:
        UserError: There is no such menu, or it is none.
    """
    if menu is None:
        named = [name for name in names if name in MENUS]
        menu = next(filter(None, (edit.menu, task.menu, *named)), GENERIC)
    if isinstance(menu, str):
        name, kind = menu, MENUS.load(menu)
        if not (isinstance(kind, type) and issubclass(kind, Menu)):
            raise UserError(f"menu {name!r}: is no subclass of seal_env.wrappers.Menu")
        menu = kind()
    if not isinstance(menu, Menu):
        raise UserError(f"menu {menu!r}: is no seal_env.wrappers.Menu; give one, or its name")
    if not menu.choices or not all(choice.options for choice in menu.choices):
        raise UserError(
            f"menu {type(menu).__name__}: leaves nothing to choose; give it choices that have "
            f"options"
        )
    return menu


def _bag(text: str) -> Counter[str]:
    return Counter(_PIECE.findall(text))


def _likeness(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0
