"""The figures of `benchmarks.agents`, and its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.arms import BASE, REFERENCE
from seal_agents.reporting.invalid import percent, share
from seal_agents.reporting.stats import bootstrap_iqm
from seal_agents.run_folder import RunFolder
from seal_env.errors import UserError

COLLAPSED = 0.9
"""A run has collapsed if it ends below this share of its best accuracy on the way."""

Run = dict[str, Any]
"""Result of one run: final ``accuracy``, ``log_likelihood`` and more."""


def read_runs(folders: Sequence[Path]) -> dict[int, Run]:
    """Results of an arm's finished runs, by seed."""
    found = {}
    for seed, folder in enumerate(folders):
        summary = RunFolder(folder).read_json("summary.json")
        if summary is None:
            continue
        row = summary["rows"].get("trained") or next(iter(summary["rows"].values()))
        found[seed] = {
            "accuracy": row["accuracy"],
            "log_likelihood": row["log_likelihood"],
            "problems": row["problems"],
            "invalid": share(row),
            "each": row["evaluations"] / row["samples"],
            "evaluations": summary.get("evaluations", 0),
            "checks": summary.get("checks", []),
            "seconds": summary["seconds"],
        }
    return found


def figures(
    runs: Mapping[str, Mapping[int, Run]], learns: Mapping[str, bool], budget: int
) -> dict[str, Any]:
    """Everything that the table and the plot show, as plain data.

    Args:
        runs: Arm to its runs by seed; as many as there are so far.
        learns: Whether an arm is trained.
        budget: Inner-loop evaluations that were allowed.
    """
    arms: dict[str, Any] = {}
    for name, mine in runs.items():
        if not mine:
            continue
        known = list(mine.values())
        plain = name.rpartition("+")[0]
        others = dict.fromkeys(o for o in (BASE, REFERENCE, plain) if o in runs and o != name)
        arms[name] = {
            "learns": learns[name],
            "seeds": sorted(mine),
            "accuracy": _iqm([run["accuracy"] for run in known]),
            "log_likelihood": _iqm([run["log_likelihood"] for run in known]),
            "runs": [run["accuracy"] for run in known],
            "problems": known[0]["problems"],
            "invalid": _mean_known([run["invalid"] for run in known]),
            "evaluations": max(run["evaluations"] for run in known),
            "evaluations_per_self_edit": float(np.mean([run["each"] for run in known])),
            "seconds": float(np.mean([run["seconds"] for run in known])),
            "less": {other: _gap(mine, runs[other]) for other in others},
        }
        if learns[name]:
            ratios = [_kept(run["checks"]) for run in known]
            arms[name] |= {
                "curve": _curve([run["checks"] for run in known]),
                "final_over_best": ratios,
                "collapsed": sum(ratio < COLLAPSED for ratio in ratios),
            }
    if not arms:
        raise UserError("no run is finished yet")
    return {"budget": budget, "arms": arms}


def _iqm(values: Sequence[float]) -> dict[str, Any]:
    """All problems are of one task, so there is one stratum: the runs."""
    estimate = bootstrap_iqm([values])
    return {"iqm": estimate.mean, "ci": [estimate.low, estimate.high]}


def _gap(mine: Mapping[int, Run], others: Mapping[int, Run]) -> dict[str, Any] | None:
    """By how much an arm is better than another, on the seeds that both have."""
    gaps = [mine[s]["accuracy"] - others[s]["accuracy"] for s in mine if s in others]
    return _iqm(gaps) | {"above": sum(g > 0 for g in gaps), "of": len(gaps)} if gaps else None


def _mean_known(shares: Sequence[float | None]) -> float | None:
    """The mean share of invalid self-edits over the seeds; None if nothing was written."""
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known else None


def _kept(checks: Sequence[Mapping[str, float]]) -> float:
    """A run's last accuracy as a share of its best one on the way."""
    best = max(check["accuracy"] for check in checks)
    return checks[-1]["accuracy"] / best if best else 1.0


def _curve(runs: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Accuracy against evaluations, check by check."""
    return [
        {"evaluations": float(np.mean([check["evaluations"] for check in checks]))}
        | _iqm([check["accuracy"] for check in checks])
        for checks in zip(*runs, strict=True)
    ]


HEADINGS = (
    "arm",
    "accuracy",
    "invalid",
    "less base",
    "less rest-em",
    "less plain",
    "final/best",
    "spent",
)


def _cells(name: str, arm: Mapping[str, Any], budget: int, gap: str) -> list[str]:
    """Row of an arm in a table.

    Args:
        name: The arm.
        arm: Its figures.
        budget: Evaluations allowed in training.
        gap: Text between a number and its interval.
    """
    row = [name, _shown(arm["accuracy"], gap, "{:.3f}", "{:.2f}"), percent(arm["invalid"])]
    for other in (BASE, REFERENCE, name.rpartition("+")[0]):
        less = arm["less"].get(other)
        cell = ""
        if less is not None:
            cell = _shown(less, gap, "{:+.3f}", "{:+.2f}") + f"{gap}{less['above']}/{less['of']}"
        row.append(cell)
    kept = ""
    if arm["learns"]:
        kept = f"{min(arm['final_over_best']):.2f}"
        kept += f"{gap}{arm['collapsed']} collapsed" if arm["collapsed"] else ""
    spent = f"{arm['evaluations']:,}" + (" (over)" if arm["evaluations"] > budget else "")
    if arm["evaluations_per_self_edit"] > 1:
        spent += f"{gap}+ {arm['evaluations_per_self_edit']:g} each"
    return [*row, kept, spent]


def _shown(estimate: Mapping[str, Any], gap: str, form: str, ends: str) -> str:
    low, high = (ends.format(end) for end in estimate["ci"])
    return f"{form.format(estimate['iqm'])}{gap}[{low}, {high}]"


def _rows(found: Mapping[str, Any], gap: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, without the columns that are empty."""
    rows = [_cells(name, arm, found["budget"], gap) for name, arm in found["arms"].items()]
    filled: Callable[[int], bool] = lambda i: i < 2 or any(row[i] for row in rows)  # noqa: E731
    wanted = [i for i in range(len(HEADINGS)) if filled(i)]
    return [HEADINGS[i] for i in wanted], [[row[i] for i in wanted] for row in rows]


def caption(found: Mapping[str, Any]) -> str:
    """Legend of the table."""
    arms = found["arms"].values()
    seeds = sorted({len(arm["seeds"]) for arm in arms})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    problems = max(arm["problems"] for arm in arms)
    return (
        f"Accuracy of one sampled self-edit on {problems} held-out problems, {count} seeds, at "
        f"most {found['budget']:,} inner-loop evaluations. Interquartile mean over the seeds, 95% "
        f"bootstrap interval; differences are paired by seed, with the seeds in which they are "
        f"above 0. invalid: the share of self-edits that could not be carried out. final/best: the "
        f"lowest share of its best accuracy at which a run ended."
    )


def markdown(found: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    headings, rows = _rows(found, " ")
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, "", caption(found), ""])


def print_table(found: Mapping[str, Any], console: Console) -> None:
    """Prints the table."""
    headings, rows = _rows(found, "\n")
    table = Table(box=SIMPLE_HEAD, padding=0, caption=caption(found), caption_justify="left")
    for heading in headings:
        left = heading == "arm"
        width = 18 if left else None
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(heading, justify=justify, overflow="fold", max_width=width)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
