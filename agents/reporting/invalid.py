"""Self-edits that cannot be carried out: their share, their commonest error, and when to stop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seal_agents.run_folder import RunFolder
from seal_env.errors import UserError

ENOUGH = 8
"""Self-edits of which not one was valid that end a run: fewer may be chance."""
LONGEST_ERROR = 160
"""Characters of an error that are shown."""


def counted(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How many self-edits were written and how many of them invalid, with the commonest error."""
    written = [r for r in records if r.get("text") is not None]
    errors = [str(r["error"]) for r in written if r.get("error")]
    return {"written": len(written), "errors": len(errors), "commonest_error": commonest(errors)}


def share(row: Mapping[str, Any]) -> float | None:
    """The share of invalid self-edits in a policy's row; None if it wrote nothing."""
    # Rows of older runs do not say how many of the samples were self-edits.
    written = row["written"] if "written" in row else row["samples"]
    return row["errors"] / written if written else None


def percent(part: float | None) -> str:
    """A share as a table shows it: 0% and 100% mean none and all; empty for None."""
    if part is None:
        return ""
    return f"{part:.0%}" if part in (0.0, 1.0) else f"{min(max(part, 0.01), 0.99):.0%}"


def commonest(errors: Sequence[str]) -> str:
    """The first of the most frequent kind of error; kinds differ in more than numbers and names."""
    if not errors:
        return ""
    kinds = [re.sub(r"'[^']*'|\"[^\"]*\"|[-+]?\d+(\.\d+)?", "_", error) for error in errors]
    most = Counter(kinds).most_common(1)[0][0]
    error = " ".join(errors[kinds.index(most)].split())
    return error if len(error) <= LONGEST_ERROR else f"{error[: LONGEST_ERROR - 1]}…"


def note(name: str, row: Mapping[str, Any]) -> str | None:
    """A line on a policy or a round, if at least half of what it wrote was invalid."""
    if not row.get("commonest_error") or (share(row) or 0.0) < 0.5:
        return None
    return (
        f"{name}: {row['errors']} of {row['written']} self-edits were invalid; the most frequent "
        f"error: {row['commonest_error']}"
    )


def check_not_all(run: RunFolder, policy: str, edit: str, round_: int, rounds: int) -> None:
    """Ends a training run that comes to nothing: every self-edit so far was invalid.

    One that a curriculum cut short does not count, since it may be right once it is longer.

    Args:
        run: The run.
        policy: Who trains.
        edit: The self-edit language.
        round_: The round whose self-edits were just tried out.
        rounds: Rounds of the run. At the end of the last one even few self-edits are enough.

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
