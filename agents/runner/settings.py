"""Options of tasks and self-edit languages on the command line: ``KEY=VALUE`` pairs.

The options depend on the class, which may be a user's own, so they cannot be flags. A dot leads
into an option that is a dataclass itself, as in ``judge.model=NAME``.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from seal_env.checks import checked
from seal_env.errors import UserError


def read_pairs(flag: str, pairs: Sequence[str], kind: Any) -> dict[str, Any]:
    """Parses ``KEY=VALUE`` texts to keyword arguments of a class.

    Args:
        flag: The flag of these texts, for messages.
        pairs: The texts. Values are read as JSON where possible, unless the option is a text.
        kind: The class, or a function that constructs one; its annotations give the types.

    Raises:
        UserError: A text is no pair, or a value has the wrong type.
    """
    nested: dict[str, Any] = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        if not equals or not all(path.split(".")):
            raise UserError(f"{flag} {pair}: write KEY=VALUE")
        *outer, last = path.split(".")
        place = nested
        for name in outer:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise UserError(f"{flag} {pair}: {name} has a value of its own already")
        place[last] = value
    try:
        return _arguments(kind, nested)
    except (TypeError, ValueError) as error:
        raise UserError(f"{flag} {' '.join(pairs)}: {error}") from error


def read_part_pairs(
    flag: str, pairs: Sequence[str], load: Callable[[str], Any]
) -> dict[str, dict[str, Any]]:
    """Parses ``PART.KEY=VALUE`` texts to keyword arguments of reward terms or the like, by part.

    Args:
        flag: The flag of these texts, for messages.
        pairs: The texts; see `read_pairs`.
        load: Function that returns a part's class by name.

    Raises:
        UserError: A text is no such pair, its part is unknown, or a value has the wrong type.
    """
    own: dict[str, list[str]] = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        part, _, key = path.rpartition(".")
        if not (equals and part and key):
            raise UserError(f"{flag} {pair}: write PART.KEY=VALUE")
        own.setdefault(part, []).append(f"{key}={value}")
    return {part: read_pairs(flag, given, load(part)) for part, given in own.items()}


def _arguments(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    is_plain_class = isinstance(kind, type) and not is_dataclass(kind)
    hints = get_type_hints(kind.__init__ if is_plain_class else kind)
    read = {name: _value(hints.get(name, Any), value) for name, value in given.items()}
    return {name: checked(hints.get(name, Any), value, name) for name, value in read.items()}


def _value(hint: Any, given: Any) -> Any:
    """Converts a text, or the parts of a dataclass, to the type of a hint."""
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if isinstance(given, dict):
        whole = next((choice for choice in choices if is_dataclass(choice)), None)
        return given if whole is None else whole(**_arguments(whole, given))  # type: ignore[operator]
    if any(choice is str or get_origin(choice) is Literal for choice in choices):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given
