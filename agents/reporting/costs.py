"""Cost of the judges that a reward asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def judge_cost(infos: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Requests to judges and their tokens, of all terms that count them; empty without any.

    A verdict that came from a cache counts as when it was asked for.

    Args:
        infos: Infos or records of self-edits.
    """
    counted = [
        part
        for info in infos
        for part in (info.get("parts") or {}).values()
        if isinstance(part, Mapping) and {"calls", "tokens"} <= part.keys()
    ]
    if not counted:
        return {}
    return {
        f"judge_{name}": sum(int(part[name]) for part in counted) for name in ("calls", "tokens")
    }
