"""Interpretation of answer keys, decided once for all the keys of a data set.

A key ``C`` is the third choice, unless a choice is called ``C`` and keys are choices' texts; a key
``1`` is the first, the second, or the choice ``1``. A single key is ambiguous, a whole column
nearly never: a reading is valid only if it fits every key. If two readings are valid and disagree,
the data are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Literal, get_args

from seal_env.errors import printable

Keys = Literal["auto", "labels", "positions", "numbers", "texts"]
"""Readings of keys: labels of the choices (letters, if the data have no labels), positions from 0,
numbers from 1, texts of the choices, or whichever of these fits all keys."""
KEYS: tuple[str, ...] = get_args(Keys)


@dataclass(frozen=True)
class Keyed:
    """Choices and the key of the correct one."""

    place: str
    """Location in the data."""
    texts: tuple[str, ...]
    """The choices."""
    key: Any
    """Key in the data."""
    labels: tuple[str, ...] = ()
    """Labels of the choices in the data; empty for letters."""
    readings: tuple[Keys, ...] = ()
    """Readings that the format allows, the most likely first; the first that fits all keys is used.
    Empty if the format does not decide."""


def gold_choices(column: Sequence[Keyed], keys: Keys = "auto") -> list[int]:
    """Index of the correct choice of each item of a data set.

    Args:
        column: All items.
        keys: Reading of the keys.

    Raises:
        ValueError: Names the first item whose key has no reading, or more than one.
    """
    if keys != "auto":
        return [_required(item, keys) for item in column]
    golds: dict[int, int] = {}
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, item in enumerate(column):
        # JSON and the format distinguish these, so each kind is a separate column.
        alike.setdefault((item.readings, bool(item.labels), type(item.key)), []).append(place)
    for places in alike.values():
        golds.update(zip(places, _golds([column[place] for place in places]), strict=True))
    return [golds[place] for place in range(len(column))]


def _golds(column: Sequence[Keyed]) -> list[int]:
    """Index of the correct choice of each item with keys of one kind."""
    first = column[0]
    ordered = first.readings or _possible(first)
    fitting: dict[Keys, list[int]] = {}
    for reading in ordered:
        found = [_READERS[reading](item) for item in column]
        golds = [gold for gold in found if gold is not None]
        if len(golds) == len(column):
            fitting[reading] = golds
    if not fitting:
        best = max(ordered, key=lambda r: sum(_READERS[r](item) is not None for item in column))
        return [_required(item, best, ordered) for item in column]
    if first.readings:  # the format decides
        return next(iter(fitting.values()))
    (reading, golds), *others = fitting.items()
    for other, other_golds in others:
        for item, gold, rival in zip(column, golds, other_golds, strict=True):
            if item.texts[gold] != item.texts[rival]:
                raise ValueError(
                    f"{item.place}: the key {_shown(item.key)} is choice {gold + 1} among the "
                    f"{reading} and choice {rival + 1} among the {other}, and all keys can be read "
                    f"either way: say how with the option keys={reading} or keys={other}"
                )
    return golds


def _possible(item: Keyed) -> tuple[Keys, ...]:
    if isinstance(item.key, str):
        return ("labels", "positions", "texts")
    return ("labels", "positions") if item.labels else ("positions",)


def _required(item: Keyed, reading: Keys, allowed: Sequence[Keys] = ()) -> int:
    """Index of a choice; an error if there is none."""
    gold = _READERS[reading](item)
    if gold is not None:
        return gold
    if item.key is None or item.key == "":
        raise ValueError(f"{item.place}: has no answer key; some benchmarks keep theirs back")
    known = " or ".join(_KINDS[each](item) for each in allowed or (reading,))
    raise ValueError(
        f"{item.place}: the answer key {_shown(item.key)} is not {known}; all keys must be of one "
        f"kind, which the option keys can name ({', '.join(KEYS[1:])})"
    )


def _shown(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int | float | str):
        return repr(printable(str(key), 40))
    return "missing" if key is None else f"a {type(key).__name__}"


def _label(item: Keyed) -> int | None:
    """Index by label, ignoring case where that is unambiguous; "(B)" and "B." are B."""
    if not isinstance(item.key, str | int) or isinstance(item.key, bool):
        return None
    labels = item.labels or tuple(ascii_uppercase[: len(item.texts)])
    key = str(item.key).strip()
    for name in (key, key.strip("().:")):
        for fold in (str, str.casefold):
            same = [i for i, label in enumerate(labels) if fold(label) == fold(name)]
            if len(same) == 1:
                return same[0]
    return None


def _number(key: Any) -> int | None:
    """Integer, which may be a text or a float in the data."""
    if isinstance(key, str):
        text = key.strip()
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else None
    if isinstance(key, bool) or not isinstance(key, int | float):
        return None
    return int(key) if key == key and abs(key) < 1000 and key == int(key) else None


def _position(item: Keyed, least: int = 0) -> int | None:
    number = _number(item.key)
    within = number is not None and 0 <= number - least < len(item.texts)
    return number - least if number is not None and within else None


def _text(item: Keyed) -> int | None:
    """Index by text; the first of equal choices."""
    if not isinstance(item.key, str) or item.key.strip() not in item.texts:
        return None
    return item.texts.index(item.key.strip())


_READERS: dict[Keys, Callable[[Keyed], int | None]] = {
    "labels": _label,
    "positions": _position,
    "numbers": lambda item: _position(item, 1),
    "texts": _text,
}
_KINDS: dict[Keys, Callable[[Keyed], str]] = {
    "labels": lambda item: (
        f"one of the labels {', '.join(printable(label, 12) for label in item.labels)}"
        if item.labels
        else f"a letter from A to {ascii_uppercase[len(item.texts) - 1]}"
    ),
    "positions": lambda item: f"a position from 0 to {len(item.texts) - 1}",
    "numbers": lambda item: f"a number from 1 to {len(item.texts)}",
    "texts": lambda item: "a choice's text",
}
