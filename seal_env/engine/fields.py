"""Type checks of the fields of a settings dataclass, without pydantic."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from seal_env.errors import UserError


def set_checked(settings: Any) -> None:
    """Checks the fields of a frozen dataclass, for its ``__post_init__``.

    Fields are integers, numbers, texts or tuples of texts. Numpy's numbers become Python's, an
    integer becomes a float where one is declared, and a list of texts becomes a tuple.

    Raises:
        UserError: A field has another type; the message names it.
    """
    for field in fields(settings):
        value = _CHECKS[str(field.type)](field.name, getattr(settings, field.name))
        object.__setattr__(settings, field.name, value)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UserError(f"{name}: must be a valid integer, not {value!r:.40}")
    return int(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UserError(f"{name}: must be a valid number, not {value!r:.40}")
    try:
        return float(value)
    except OverflowError:
        raise UserError(f"{name}: must be a finite number, not {value!r:.40}") from None


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise UserError(f"{name}: must be a valid tuple, not {value!r:.40}")
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise UserError(f"{name}[{index}]: must be a valid string, not {item!r:.40}")
    return tuple(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{name}: must be a valid string, not {value!r:.40}")
    return value


_CHECKS = {"int": _integer, "float": _number, "str": _text, "tuple[str, ...]": _texts}
"""Type check by annotation."""
