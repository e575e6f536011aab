"""Checks of settings by the declared types of their dataclasses, with errors in one line.

Settings come from Python, from a JSON file (`EnvSpec.from_json`), from Hydra or from Ray; the
latter three give plain dictionaries and lists where Python gives dataclasses and tuples.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from seal_env.errors import UserError

T = TypeVar("T")
_SHOWN = 40
"""Bound on the characters of a wrong value in a message."""


def check_fields(settings: Any) -> None:
    """Checks all fields of a dataclass, for its ``__post_init__``; also where it is frozen.

    Numpy's numbers become Python's, lists become tuples, and mappings become the dataclasses that
    the fields declare.

    Raises:
        UserError: A field has another type; the message names it.
    """
    kind: Any = type(settings)
    for name, hint in _hints(kind).items():
        value = checked(hint, getattr(settings, name), name)
        object.__setattr__(settings, name, value)


def checked(hint: Any, value: Any, name: str) -> Any:
    """Value converted to a type.

    Args:
        hint: The type; may be a union.
        value: The value.
        name: Name of the value in errors.

    Raises:
        UserError: The value has another type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    nested = _dataclass_of(hint)
    if nested is not None and isinstance(value, Mapping):
        return build(nested, value, name)
    if _wants_tuple(hint) and isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = tuple(value)
    try:
        found = _adapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Input should be ")
        if first["loc"] and isinstance(first["loc"][0], int):
            name = f"{name}[{first['loc'][0]}]"
        shown = repr(first["input"])
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        raise UserError(f"{name}: must be {said}, not {shown}") from None
    return value if isinstance(value, Mapping) else found


def build(kind: type[T], settings: Mapping[str, Any], name: str) -> T:
    """Dataclass from a mapping of its fields.

    Args:
        kind: The dataclass.
        settings: Values by field; other fields have their defaults.
        name: Name of the dataclass in errors.

    Raises:
        UserError: There is no such field, or a value cannot be used.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise UserError(f"{name} has no setting {unknown[0]!r}; it has: {', '.join(known)}")
    try:
        return kind(**settings)
    except UserError as error:
        raise UserError(f"{name}.{error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {error}") from error


def build_options(kind: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a constructor, with mappings converted to declared dataclasses.

    Raises:
        UserError: A mapping cannot be converted.
    """
    if not all(isinstance(name, str) for name in options):
        raise UserError("its options must have names that are texts")
    hints = _parameters(kind)
    return {
        name: checked(hints[name], value, name) if _dataclass_of(hints.get(name)) else value
        for name, value in options.items()
    }


def construct(kind: Callable[..., T], options: Mapping[str, Any], name: str) -> T:
    """Calls a constructor with keyword arguments that a user gave.

    Args:
        kind: The class, or a function that makes one.
        options: The arguments; see `build_options`.
        name: What a complaint calls it, such as ``task 'squad'``.

    Raises:
        UserError: It does not take these options; says which, and which it takes.
    """
    if inspect.isabstract(kind):
        missing = sorted(getattr(kind, "__abstractmethods__", ()))
        advice = "define it" if len(missing) == 1 else "define them"
        raise UserError(f"{name}: has no method {' and no method '.join(missing)}; {advice}")
    _check_names(kind, options, name)
    try:
        return kind(**build_options(kind, options))
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except TypeError as error:
        if not options:
            raise  # the constructor's own mistake, which its traceback shows
        raise UserError(f"{name} does not take these options: {error}") from error


def _check_names(kind: Callable[..., Any], options: Mapping[str, Any], name: str) -> None:
    """Checks that a constructor takes the options, and that it needs no others.

    Raises:
        UserError: It does not, or it does; says which.
    """
    try:
        known = inspect.signature(kind).parameters
    except (TypeError, ValueError):  # some classes written in C have no signature
        return
    named = [n for n, p in known.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known.values())
    unknown = next((option for option in options if option not in named), None)
    if unknown is not None and not takes_any:
        if not named:
            raise UserError(f"{name} does not take these options: it has no setting {unknown!r}")
        close = difflib.get_close_matches(str(unknown), named, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UserError(f"{name} has no setting {unknown!r}: {hint}it has {', '.join(named)}")
    for option in named:
        if known[option].default is inspect.Parameter.empty and option not in options:
            raise UserError(f"{name}: needs the option {option}; give it a value")


@lru_cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


@lru_cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _parameters(kind: Callable[..., Any]) -> dict[str, Any]:
    """Types of a constructor's parameters; empty if unknown."""
    try:
        called = kind.__init__ if inspect.isclass(kind) else kind
        return get_type_hints(called)
    except Exception:  # annotations can be anything
        return {}


def _dataclass_of(hint: Any) -> Any:
    """Dataclass that a type is or, in a union, may be; None if there is none."""
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and is_dataclass(kind):
            return kind
    return None


def _wants_tuple(hint: Any) -> bool:
    return any(get_origin(kind) is tuple for kind in (hint, *get_args(hint)))
