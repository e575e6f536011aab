"""A spec that workers load at once: this file imports nothing of weight."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from seal_env.errors import UserError


@dataclass(frozen=True)
class Echo:
    """Workers that return what they are sent, each batch after it has told its process.

    At the batch with a given item a worker waits until a file is there.
    """

    folder: Path
    waits: frozenset[int] = field(default=frozenset())

    @property
    def digest(self):
        return repr(self)

    def build(self, threads, tick):
        def run(batch):
            for item in batch:
                gate = self.folder / f"gate-{item}"
                if item in self.waits:
                    (self.folder / f"at-{item}-{os.getpid()}").touch()
                    while not gate.exists():
                        time.sleep(0.01)
                if item == 99:
                    raise UserError("item 99 is refused")
            tick()
            return batch

        return run
