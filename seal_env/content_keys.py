"""Keys under which a measurement is kept: two things share one only if nothing tells them apart.

What was measured of the untouched model need not be measured again for the same question. The same
means the same content: an `id`, a name or a `repr` can stand for two different things.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

from seal_env.tasks.base import Problem, Question


class Same:
    """A key that equals only itself and others of the very same object.

    Args:
        thing: The object, which is held on to: its address would be given to another one.
    """

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other._thing is self._thing

    def __hash__(self) -> int:
        return id(self._thing)


def frozen(value: Any) -> Hashable:
    """A key for a value: plain data and dataclasses by content and type, all else by identity."""
    kind = type(value)
    if value is None or kind in (str, bytes, Question):
        return value
    if kind in (bool, int, float):
        return kind, repr(value)  # 1, 1.0 and True are equal; NaN does not equal itself
    if kind in (tuple, list):
        return kind, *map(frozen, value)
    if kind in (set, frozenset):
        return kind, frozenset(map(frozen, value))
    if isinstance(value, Mapping):
        return kind, frozenset((frozen(k), frozen(v)) for k, v in value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return kind, *(frozen(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, PurePath):
        return kind, str(value)
    return Same(value)


def problem_key(problem: Problem) -> Hashable:
    """A key for all that a problem's scores can depend on; the edits that came with it cannot."""
    content = (frozen(value) for name, value in vars(problem).items() if name != "edits")
    return type(problem), *content
