"""Jobs for the tests of `benchmarks.pool`, which its processes import by name."""

import os
from pathlib import Path

from seal_env.errors import UserError


def work(job: tuple[str, str]) -> None:
    kind, place = job
    if kind == "user error":
        raise UserError("nothing\nthere")
    if kind == "die":
        os._exit(3)
    if kind == "wait":
        Path(place, f"{os.getpid()}.pid").touch()
        Path(place, "fifo").read_text()  # nobody ever writes there
    Path(place).write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
