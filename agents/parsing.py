"""Command-line flags to settings, by tyro; every error becomes one line."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TypeVar

import tyro

from seal_agents.renamed import RENAMED
from seal_env.errors import UserError

Chosen = TypeVar("Chosen")

_CONFIG = (tyro.conf.AvoidSubcommands,)
_UNWRAPPED = "4096"
"""Terminal width (columns) for tyro's messages, so that none of their lines is wrapped."""


def parse(
    command: str, kind: type[Chosen], argv: Sequence[str], default: Chosen | None = None
) -> Chosen:
    """Parses the flags of a command.

    Args:
        command: Name of the command.
        kind: Dataclass of its settings.
        argv: Arguments after the command's name.
        default: Default settings; None for those of `kind`.

    Raises:
        UserError: A flag is unknown, or a value has the wrong type.
        SystemExit: ``--help`` was given; the help is printed.
    """
    start: Any = tyro.MISSING_NONPROP if default is None else default
    complaint = io.StringIO()
    see = f"seal-env {command} --help lists the options"
    try:
        with redirect_stderr(complaint), _columns(argv):
            chosen, unknown = tyro.cli(
                kind,
                default=start,
                prog=f"seal-env {command}",
                args=argv,
                config=_CONFIG,
                return_unknown_args=True,
            )
    except SystemExit as ended:
        if not ended.code:
            raise
        raise UserError(f"{_plain(complaint.getvalue())}; {see}") from None
    if unknown:
        raise UserError(f"{_unknown(unknown, _flags(kind, start))}; {see}")
    return chosen


def early(argv: Sequence[str], flag: str, default: str) -> str:
    """Value of a flag on which the defaults of other flags depend, read before all flags are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{flag}", nargs="?", default=default)
    value: Any = parser.parse_known_args(list(argv))[0].__dict__[flag]
    return value or default


def _flags(kind: type[Any], default: Any) -> list[str]:
    """The flags of a command, as its help lists them."""
    shown = io.StringIO()
    with suppress(SystemExit), redirect_stdout(shown):
        tyro.cli(kind, default=default, args=["--help"], config=_CONFIG)
    return sorted(set(re.findall(r"(?<![\w-])--[\w.-]*\w", shown.getvalue())))


def _unknown(given: Sequence[str], known: Sequence[str]) -> str:
    """Error message for arguments that no flag takes."""
    flag = next((one for one in given if one.startswith("-")), None)
    if flag is None:
        return f"unexpected argument {given[0]!r}"
    name = flag.partition("=")[0]
    return f"unknown option {name}" + did_you_mean(nearest(name, known))


def did_you_mean(close: Sequence[str]) -> str:
    """Suggestion at the end of an error message; empty without candidates."""
    return f": did you mean {' or '.join(close)}?" if close else ""


def nearest(flag: str, known: Sequence[str]) -> list[str]:
    """Known flags most similar to an unknown one, at most three.

    A flag inside a group is often given without it: ``--rank`` for ``--inner.lora.rank``. A flag
    of an earlier version has a successor in the same group.
    """
    flag = flag.replace("_", "-")
    ends: dict[str, list[str]] = {}
    for name in known:
        ends.setdefault(name.lstrip("-").rpartition(".")[2], []).append(name)
    wanted = flag.lstrip("-").rpartition(".")[2]
    group = flag.removesuffix(wanted)
    since = [new.replace("_", "-") for new in RENAMED.get(wanted.replace("-", "_"), ())]
    successor = [group + new for new in since if group + new in known][:1]
    elsewhere = [name for new in since for name in ends.get(new, ())]
    near = difflib.get_close_matches(flag, known, n=1, cutoff=0.7)
    part = difflib.get_close_matches(wanted, ends, n=1, cutoff=0.7)
    like = near or [name for end in part for name in ends[end]]
    return (successor or ends.get(wanted) or elsewhere or like)[:3]


@contextmanager
def _columns(argv: Sequence[str]) -> Iterator[None]:
    """Keeps tyro from wrapping error messages; help keeps the terminal's width."""
    if {"-h", "--help"} & set(argv):
        yield
        return
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _UNWRAPPED
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _plain(box: str) -> str:
    """Text of tyro's error message without title, frame and advice.

    The parts of the frame are divided by rules; where the output is not UTF-8, the title is a
    part of its own.
    """
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│ ")
        if line.startswith(("╭", "╰")):
            continue
        if text and not text.strip("─-"):
            parts.append([])
        elif text:
            parts[-1].append(text)
    said = parts[0 if box.startswith("╭") or len(parts) == 1 else 1]
    text = " ".join(said).rstrip(".")
    for pattern, plain in _PLAINER:
        text = re.sub(pattern, plain, text)
    return text or "the options cannot be read"


_PLAINER = (
    (r"Error parsing (\S+): invalid literal for int\(\) .*: ", r"\1 must be an integer, not "),
    (r"Error parsing (\S+): could not convert string to float: ", r"\1 must be a number, not "),
    (
        r"Error parsing (\S+): no type matching (\S+) could be instantiated from \[(.*?)\].*",
        r"\1 must be \2, not \3",
    ),
    (r"Error parsing ", ""),
    # Where a dataclass that tyro makes refuses its fields, by its place among the settings.
    (r"^config\.(?:env\.)?([\w.]+): ", r"--\1: "),
    (r"Missing value for argument '(\S+)'\. Expected \d+ values", r"\1 needs a value"),
    (
        r"invalid choice (.*) for argument '(\S+)'\. Expected one of \((.*?),?\)",
        r"\2 must be one of \3, not \1",
    ),
)
"""Patterns of tyro's and Python's wording to this project's."""
