"""Invalid self-edits: their share, their most frequent error, and when a run is stopped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seal_agents.run_folder import RunFolder
from seal_env.errors import UserError

ENOUGH = 8
"""Minimum number of self-edits, all invalid, that ends a run: fewer may be chance."""
LONGEST_ERROR = 160
"""Maximum length of a shown error, in characters."""


def counted(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of self-edits and of invalid ones, and the most frequent error."""
    written = [r for r in records if r.get("text") is not None]
    errors = [str(r["error"]) for r in written if r.get("error")]
    return {"written": len(written), "errors": len(errors), "commonest_error": commonest(errors)}


def share(row: Mapping[str, Any]) -> float | None:
    """Share of invalid self-edits in a policy's row; None if it has no self-edits."""
    # Rows of older runs do not say how many of the samples were self-edits.
    written = row["written"] if "written" in row else row["samples"]
    return row["errors"] / written if written else None


def percent(part: float | None) -> str:
    """A share in percent, rounded so that 0% means none and 100% means all; empty for None."""
    if part is None:
        return ""
    return f"{part:.0%}" if part in (0.0, 1.0) else f"{min(max(part, 0.01), 0.99):.0%}"


def commonest(errors: Sequence[str]) -> str:
    """First error of the most frequent kind; within a kind, numbers and quoted names differ."""
    if not errors:
        return ""
    kinds = [re.sub(r"'[^']*'|\"[^\"]*\"|[-+]?\d+(\.\d+)?", "_", error) for error in errors]
    most = Counter(kinds).most_common(1)[0][0]
    error = " ".join(errors[kinds.index(most)].split())
    return error if len(error) <= LONGEST_ERROR else f"{error[: LONGEST_ERROR - 1]}…"


def note(name: str, row: Mapping[str, Any]) -> str | None:
    """Note on a policy or a round of whose self-edits at least half are invalid; None otherwise."""
    if not row.get("commonest_error") or (share(row) or 0.0) < 0.5:
        return None
    return (
        f"{name}: {row['errors']} of {row['written']} self-edits were invalid; the most frequent "
        f"error: {row['commonest_error']}"
    )


def check_not_all(run: RunFolder, policy: str, edit: str, round_: int, rounds: int) -> None:
    """Stops a training run in which every self-edit so far was invalid.

    Self-edits that a curriculum truncated do not count, since they may become valid when longer.

    Args:
        run: Run folder.
        policy: Name of the trained agent.
        edit: Name of the self-edit language.
        round_: Number of the round that was just rolled out.
        rounds: Number of rounds; after the last one even fewer than `ENOUGH` self-edits count.

    Raises:
        UserError: Not one of at least `ENOUGH` self-edits could be carried out.
    """
    groups = (run.records("train", policy, r).values() for r in range(1, round_ + 1))
    found = counted(r for group in groups for r in group if not (r["error"] and "written" in r))
    few = found["written"] < ENOUGH and round_ < rounds
    if few or not found["written"] or found["errors"] < found["written"]:
        return
    raise UserError(
        f"round {round_}: all {found['written']} self-edits so far were invalid, so there is "
        f"nothing to learn from; the most frequent error: {found['commonest_error']}; choose an "
        f"agent, a model or a prompt (--options.prompt) that can write --edit {edit}"
    )
