"""Folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from seal_env.errors import UserError, reason


def write_folder(out: Path, save: Callable[[Path], None]) -> None:
    """Writes a folder under a temporary name and renames it; an earlier one is replaced.

    Killed at any moment, it leaves the earlier folder or the new one, whole, and perhaps a hidden
    one beside it.

    Args:
        out: The folder.
        save: Writes into an empty folder.

    Raises:
        UserError: It cannot be written.
    """
    beside, earlier = (out.with_name(f".{out.name}.{end}") for end in ("new", "old"))
    try:
        for left in (beside, earlier):
            shutil.rmtree(left, ignore_errors=True)
        beside.mkdir(parents=True)
        save(beside)
        if out.exists():
            os.replace(out, earlier)
        os.replace(beside, out)
    except OSError as error:
        raise UserError(
            f"--out {out}: cannot be written ({reason(error)}); give another folder"
        ) from error
    finally:
        for left in (beside, earlier):
            shutil.rmtree(left, ignore_errors=True)
