"""Menus: choices instead of a text, so that a policy without a language model can act.

A *menu* belongs to a task or to a self-edit language. It names the choices, writes the self-edit
of a combination of choices, and computes numerical features of the context. Its only input is the
observation's ``context``: it cannot use anything that is hidden from the policy.
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
"""Registry of menus; one with the name of a task or of a self-edit language is its default."""
GENERIC = "passage"
"""Menu of tasks and languages without a default."""
MOST_COMBINATIONS = 10_000
"""Number of combinations of the largest menu that is searched exhaustively."""

_PIECE = re.compile(r"\w+|\n")

Chosen = tuple[int, ...]
"""Index of the chosen option, for each choice of a menu."""


@dataclass(frozen=True)
class Choice:
    """One choice of a menu."""

    name: str
    """Name of the choice, e.g. ``"wordings"``."""
    options: tuple[str, ...]
    """Names of the options."""


class Menu(ABC):
    """Choices, and the self-edits of their combinations.

    A subclass sets `choices` and `features` and defines `describe` and `render`. Both must
    depend on their arguments alone, so that a run can be repeated.
    """

    choices: tuple[Choice, ...]
    """The choices."""
    features: tuple[str, ...]
    """Names of the features that `describe` returns."""

    @abstractmethod
    def describe(self, context: str) -> Sequence[float]:
        """Features of a context, with absolute values of about 1."""

    @abstractmethod
    def render(self, context: str, chosen: Chosen) -> str:
        """Self-edit of a combination; any context is legal.

        Args:
            context: An observation's ``context``.
            chosen: One index for each of `choices`.
        """

    def combinations(self) -> Iterator[Chosen]:
        """All combinations.

        Raises:
            UserError: The menu is too large to enumerate.
        """
        count = math.prod(len(choice.options) for choice in self.choices)
        if count > MOST_COMBINATIONS:
            raise UserError(
                f"menu {type(self).__name__}: has {count} combinations, too many to try them all; "
                f"define its methods matches and nearest"
            )
        return product(*(range(len(choice.options)) for choice in self.choices))

    def matches(self, context: str, text: str) -> list[Chosen]:
        """All combinations whose self-edit is a text; empty if the text is not on the menu."""
        return [c for c in self.combinations() if self.render(context, c) == text]

    def nearest(self, context: str, text: str) -> Chosen:
        """Combination whose self-edit is most similar to any text.

        Similarity is the F1 of the two bags of words, in which line breaks are words. The first
        combination wins a tie.
        """
        wanted = _bag(text)
        rendered = {c: self.render(context, c) for c in self.combinations()}
        return max(rendered, key=lambda chosen: _likeness(_bag(rendered[chosen]), wanted))

    def label(self, chosen: Chosen) -> str:
        """Combination in words, e.g. ``"questions, all facts, 2 wordings"``."""
        named = zip(self.choices, chosen, strict=True)
        return ", ".join(f"{choice.options[i]} {choice.name}".strip() for choice, i in named)


def load_menu(menu: object, task: Task, edit: EditLanguage, names: Sequence[str]) -> Menu:
    """Menu by name, or the default of a task and a self-edit language.

    Args:
        menu: A menu, or its name in `MENUS`, or "package.module:Name"; None for the default of the
            self-edit language or else of the task, by their attribute ``menu`` or their name, or
            else the generic one.
        task: The task.
        edit: The self-edit language.
        names: The names of the language and of the task.

    Raises:
        UserError: There is no such menu, or the object is no menu.
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
