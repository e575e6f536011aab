"""What the commands of benchmarks that can be stopped and given again have in common."""

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
    """Reads the settings and does the work; what goes wrong becomes one line.

    Args:
        kind: The class of the settings.
        name: The benchmark's module.
        description: What `--help` says above the options.
        work: Does it and tells of it; returns the exit status.
        argv: What was given; the command line's if None.

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
