"""Table of a run's evaluations between the rounds of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

COLUMNS = {
    "accuracy": "accuracy",
    "kl_to_start": "KL to start",
    "old_knowledge": "old knowledge",
    "distinct_3": "distinct 3-grams",
    "styles": "styles",
    "largest_style": "largest style",
}
"""Numbers of a check, and their headings."""


def print_checks(checks: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Prints a row per evaluation during training; nothing if there was none before the last."""
    if len(checks) < 2:
        return
    names = [name for name in COLUMNS if any(name in check for check in checks)]
    table = Table(
        title="held out, after each round: accuracy; the policy's model; its self-edits",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    for heading in ("round", *(COLUMNS[name] for name in names)):
        table.add_column(heading, justify="right")
    for check in checks:
        cells = (f"{check[name]:.3f}" if name in check else "" for name in names)
        table.add_row(str(check["round"]), *cells)
    console.print(table)
