"""A server of `seal-env serve` in a process of its own, for the benchmarks that need one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(*options: str) -> Iterator[tuple[str, int]]:
    """Starts a server on a free port of this machine and ends it at the end of the block.

    Args:
        options: Further options of `seal-env serve`.

    Yields:
        Its address and its process id.
    """
    command = [sys.executable, "-m", "seal_agents", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split(" on ")[-1].partition(";")[0], server.pid
        finally:
            server.terminate()
