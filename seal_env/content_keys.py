"""Cache keys by content, for measurements of the untouched model.

A measurement is reused only for equal content: two different objects may share an `id`, a name or a
`repr`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

from seal_env.tasks.base import Problem, Question


class Same:
    """Key that is equal only for one and the same object.

    Args:
        thing: The object, which is referenced so that its address is not reused.
    """

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other._thing is self._thing

    def __hash__(self) -> int:
        return id(self._thing)


def frozen(value: Any) -> Hashable:
    """Key of a value: plain data and dataclasses by content and type, others by identity."""
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
    """Key of everything in a problem that its scores depend on, which excludes its edits."""
    content = (frozen(value) for name, value in vars(problem).items() if name != "edits")
    return type(problem), *content
