"""Common part of the benchmarks' commands, which can be stopped and repeated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro
from rich.console import Console

from seal_env.errors import UserError

Args = TypeVar("Args")


def command(
    kind: type[Args],
    name: str,
    description: str | None,
    work: Callable[[Args, Console], int],
    argv: Sequence[str] | None,
) -> int:
    """Parses the settings and runs a benchmark; a `UserError` becomes one line.

    Args:
        kind: Class of the settings.
        name: Module of the benchmark.
        description: Text of `--help` above the options.
        work: Function of the settings that returns the exit status.
        argv: Arguments; None for the command line's.

    Returns:
        The exit status.
    """
    try:
        args = tyro.cli(
            kind,
            args=argv,
            prog=f"python -m benchmarks.{name}",
            description=description,
            config=(tyro.conf.AvoidSubcommands,),
        )
        return work(args, Console())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
