"""Verdicts of judges on disk: what was asked once is not asked again, nor paid for again.

An SQLite file, which several processes may use at a time, and which a process that is killed leaves
whole.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from seal_env.errors import UserError, printable

WAIT_SECONDS = 60.0
"""Time to wait for another process that writes."""
PER_QUERY = 500
"""Keys per query; SQLite bounds the number of parameters."""
_TABLE = """CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY, grade REAL, calls INTEGER NOT NULL, tokens INTEGER NOT NULL)"""


class CachedVerdict(NamedTuple):
    """A verdict, and what it took when it was asked for."""

    grade: float | None
    """The grade; None if the judge's reply had none."""
    calls: int
    """Requests to the judge."""
    tokens: int
    """Tokens that the judge read and wrote."""


class VerdictCache:
    """Verdicts by key in a file, which is made at the first one.

    Args:
        file: Path of the file; None for ``seal-env/verdicts.sqlite`` in the user's cache folder
            (``$XDG_CACHE_HOME``, or ``~/.cache``).
    """

    def __init__(self, file: str | None = None) -> None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
        self._file = folder / "seal-env" / "verdicts.sqlite" if file is None else Path(file)

    def read(self, keys: Sequence[str]) -> dict[str, CachedVerdict]:
        """Verdicts that are known, by key.

        Raises:
            UserError: The file cannot be used.
        """
        found: dict[str, CachedVerdict] = {}
        with self._open() as table:
            for start in range(0, len(keys), PER_QUERY):
                some = keys[start : start + PER_QUERY]
                places = ",".join("?" * len(some))
                query = f"SELECT key, grade, calls, tokens FROM verdicts WHERE key IN ({places})"
                for key, grade, calls, tokens in table.execute(query, list(some)):
                    if grade is None or math.isfinite(grade):
                        found[key] = CachedVerdict(grade, int(calls), int(tokens))
        return found

    def write(self, key: str, verdict: CachedVerdict) -> None:
        """Adds a verdict.

        Raises:
            UserError: The file cannot be written.
        """
        with self._open() as table:
            table.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", (key, *verdict))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        shown = printable(str(self._file), 200)
        try:
            path = self._file.expanduser()
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as table, table:
                table.execute(_TABLE)
                yield table
        except (OSError, sqlite3.Error, ValueError, TypeError, RuntimeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"cache {shown}: cannot be used ({error}); remove the file, or give another one"
            ) from error


def verdict_key(*parts: str) -> str:
    """Key of a verdict: a hash of all that it depends on."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)}:".encode() + content)
    return digest.hexdigest()
