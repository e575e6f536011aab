"""Tables and plots of a run, made from what its folder holds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seal_agents.reporting.checks_table import print_checks
from seal_agents.reporting.costs import judge_cost
from seal_agents.reporting.halves import best_accuracies
from seal_agents.reporting.invalid import counted, note, percent, share
from seal_agents.reporting.samples import plot_styles, show_samples, split_of, write_samples
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.run_folder import Record, RunFolder
from seal_env.errors import UserError

TRUNCATED = {
    "truncated_context": "the policy's prompt",
    "truncated_prompt": "a question's prompt",
}
"""Fields of a record that say how many tokens were cut out of a prompt, and of which."""
SAME = 1e-6
"""Difference of rewards, or of reward and accuracy, that is due to rounding."""
BLUE, ORANGE, GREEN, GREY = "#3b6fb6", "#d9822b", "#00755a", "#8a8a8a"


def summarize(records: Mapping[str, Sequence[Record]], seed: int, seconds: float) -> dict[str, Any]:
    """The table of an evaluation: a row for each policy, and their paired differences.

    Args:
        records: Policy name to its records, the same problems in the same order for all.
        seed: The run's seed.
        seconds: How long it took.
    """
    rows, differences = {}, {}
    accuracies = {name: by_problem(some, "accuracy") for name, some in records.items()}
    for name, some in records.items():
        accuracy = bootstrap_mean(accuracies[name])
        rows[name] = {
            "accuracy": accuracy.mean,
            "ci": [accuracy.low, accuracy.high],
            "log_likelihood": sum(r["log_likelihood"] for r in some) / len(some),
            "reward": sum(r["reward"] for r in some) / len(some),
            "problems": len(accuracies[name]),
            "samples": len(some),
            **counted(some),
            "evaluations": sum(r.get("evaluations", 1) for r in some),
            **{name: sum(bool(r.get(name)) for r in some) for name in TRUNCATED},
            **judge_cost(some),
            **_by_step(some),
            "terms": mean_terms(some),
        }
    for name, values in accuracies.items():
        for other, others in accuracies.items():
            if name == other:
                continue
            gap = bootstrap_mean([a - b for a, b in zip(values, others, strict=True)])
            differences[f"{name} - {other}"] = {"mean": gap.mean, "ci": [gap.low, gap.high]}
    return {"rows": rows, "differences": differences, "seed": seed, "seconds": round(seconds, 1)}


def mean_terms(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of the reward's terms over records, or infos, that have them all."""
    terms = [record.get("terms") or {} for record in records]
    names = [name for name in (terms[0] if terms else {}) if all(name in own for own in terms)]
    return {name: fmean(own[name] for own in terms) for name in names}


def _by_step(records: Sequence[Record]) -> dict[str, Any]:
    """For episodes of several steps: accuracy at each step, and mean retention per later step."""
    steps: dict[int, list[Record]] = {}
    for record in records:
        if "step" in record:
            steps.setdefault(record["step"], []).append(record)
    if not steps:
        return {}
    numbers: dict[str, Any] = {
        "accuracy_by_step": [fmean(r["accuracy"] for r in steps[step]) for step in sorted(steps)]
    }
    later = [r["terms"] for step, some in steps.items() if step > 0 for r in some]
    if later and all("retention" in terms for terms in later):
        numbers["retention"] = fmean(terms["retention"] for terms in later)
    return numbers


def print_summary(summary: Mapping[str, Any], console: Console, split: str = "test") -> None:
    """Prints a summary as a table: each policy, and its paired differences to the plain ones.

    Args:
        summary: The summary, as of `summarize`.
        console: Console to print on.
        split: Split of the problems; that of a run is `split_of`.
    """
    rows = summary["rows"]
    references = [n for n in ("none", "passage", "base") if n in rows] or list(rows)[:1]
    most = max(row["problems"] for row in rows.values())
    table = Table(
        title=f"{problems_of_split(most, split)}; 95% intervals, differences paired by problem",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("policy")
    rewards = ["reward"] if any(differs(row) for row in rows.values()) else []
    minus = "−" if console.encoding.lower().startswith("utf") else "-"
    gaps = [f"{minus} {other}" for other in references]
    for name in ("accuracy", *rewards, "log-lik.", "invalid", *gaps):
        table.add_column(Text(name), justify="right", no_wrap=name == "accuracy")
    for name, row in rows.items():
        low, high = row["ci"]
        cells = [
            f"{row['accuracy']:.3f}\n[{low:.2f}, {high:.2f}]",
            *(f"{row['reward']:.3f}" for _ in rewards),
            f"{row['log_likelihood']:.3f}",
            percent(share(row)),
        ]
        for other in references:
            gap = summary["differences"].get(f"{name} - {other}")
            cells.append(_gap(gap) if gap else "")
        table.add_row(Text(name), *(Text(cell) for cell in cells))
    console.print(table)
    _print_terms(rows, console)
    print_checks(summary.get("checks", []), console)
    if summary.get("evaluations"):
        spared = f"; screening saved {summary['saved']:,}" if summary.get("saved") else ""
        console.print(f"training took {summary['evaluations']:,} inner loops{spared}", markup=False)
    for name, row in rows.items():
        if "accuracy_by_step" in row:
            steps = ", ".join(f"{accuracy:.3f}" for accuracy in row["accuracy_by_step"])
            lost = f"; retention {row['retention']:+.3f} per step" if "retention" in row else ""
            console.print(f"{name}: accuracy by step {steps}{lost}", markup=False, highlight=False)
        each = row.get("evaluations", 0) / row["samples"]
        if each > 1:
            console.print(f"{name} took {each:g} inner loops for each self-edit", markup=False)
        if "judge_calls" in row:
            calls, tokens = row["judge_calls"], row["judge_tokens"]
            console.print(f"{name}: {calls:,} requests to a judge, {tokens:,} tokens", markup=False)
        if said := note(name, row):
            console.print(f"note: {said}", markup=False, highlight=False)
        for field, whose in TRUNCATED.items():
            if row.get(field):
                console.print(
                    f"{name}: {field} in {row[field]} of {row['samples']} self-edits: {whose} was "
                    f"too long for the model and lost its middle",
                    markup=False,
                )


def _print_terms(rows: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Prints the means of the reward's terms that the first table has no column for."""
    means = {name: row.get("terms") or {} for name, row in rows.items()}
    known = dict.fromkeys(term for own in means.values() for term in own)
    names = [term for term in known if term not in ("accuracy", "log_likelihood")]
    if not names:
        return
    table = Table(
        title="other terms of the reward, unweighted",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("policy")
    for term in names:
        table.add_column(Text(term), justify="right")
    for name, own in means.items():
        cells = (f"{own[term]:.3f}" if term in own else "" for term in names)
        table.add_row(Text(name), *cells)
    console.print(table)


def differs(row: Mapping[str, Any]) -> bool:
    """Whether the reward is not the accuracy alone; rows of older runs have no reward."""
    # Negated, so that it holds where there is no accuracy (NaN).
    return not abs(row.get("reward", row["accuracy"]) - row["accuracy"]) <= SAME


def problems_of_split(count: int, split: str) -> str:
    """Number of problems and where they are from, for a title."""
    noun = "problem" if count == 1 else "problems"
    return f"{count} held-out {noun}" if split == "test" else f"{count} {noun} of split {split}"


def _gap(gap: Mapping[str, Any]) -> str:
    low, high = gap["ci"]
    return f"{gap['mean']:+.3f}\n[{low:+.2f}, {high:+.2f}]"


def plot_learning(run: RunFolder, summary: Mapping[str, Any] | None) -> Path | None:
    """Draws what a sampled self-edit was worth in each round; None if there were no rounds."""
    rounds: dict[int, list[Record]] = {}
    for record in run.every_record():
        if record["phase"] == "train":
            rounds.setdefault(record["round"], []).append(record)
    if not rounds:
        return None
    rewarded = any(differs(record) for some in rounds.values() for record in some)
    count = 2 if rewarded else 1
    figure, panels = plt.subplots(
        count, sharex=True, squeeze=False, figsize=(7, 1.2 + 3.4 * count), layout="constrained"
    )
    axes = panels[0, 0]
    _plot_rounds(axes, rounds, "accuracy")
    _plot_best(axes, rounds)
    checks = (summary or {}).get("checks", [])
    if len(checks) > 1:
        axes.plot(
            [check["round"] + 0.5 for check in checks],
            [check["accuracy"] for check in checks],
            "s-",
            color=GREEN,
            label="held out, between rounds",
        )
    for name, style in (("passage", "--"), ("none", ":")):
        row = (summary or {}).get("rows", {}).get(name)
        if row:
            axes.axhline(row["accuracy"], color=GREY, ls=style, label=f"{name} (held out)")
    axes.set(ylabel="accuracy after the update", ylim=(0, 1.02))
    if rewarded:
        _plot_rounds(panels[1, 0], rounds, "reward")
        panels[1, 0].set(ylabel="reward")
        panels[1, 0].grid(alpha=0.3)
    panels[-1, 0].set(xlabel="round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title("What the policy's self-edits teach the learner on training problems")
    axes.grid(alpha=0.3)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    return _save(run, figure, "learning_curve.png")


def _plot_rounds(axes: Axes, rounds: Mapping[int, Sequence[Record]], name: str) -> None:
    """Plots a number's mean by round, with intervals."""
    numbers = sorted(rounds)
    means = [bootstrap_mean(by_problem(rounds[n], name)) for n in numbers]
    low, high = [m.low for m in means], [m.high for m in means]
    axes.plot(numbers, [m.mean for m in means], "o-", color=BLUE, label="a sampled self-edit")
    axes.fill_between(numbers, low, high, color=BLUE, alpha=0.2, lw=0, label="its 95% interval")


def _plot_best(axes: Axes, rounds: Mapping[int, Sequence[Record]]) -> None:
    """Plots the accuracy of the best of a problem's samples on questions that did not choose it."""
    bests = {number: best_accuracies(some) for number, some in sorted(rounds.items())}
    numbers = [number for number, values in bests.items() if values]
    if numbers:
        axes.plot(
            numbers,
            [fmean(bests[number]) for number in numbers],
            "^--",
            color=ORANGE,
            label="best of a problem's samples by half of its questions, on the other half",
        )


def plot_comparison(run: RunFolder, summary: Mapping[str, Any]) -> Path:
    """Draws the accuracy of each policy on the same problems, with intervals."""
    names = list(summary["rows"])
    rows = [summary["rows"][name] for name in names]
    figure, axes = plt.subplots(figsize=(7, 1.1 + 0.5 * len(names)), layout="constrained")
    places = range(len(names) - 1, -1, -1)
    values = [row["accuracy"] for row in rows]
    errors = [
        [value - row["ci"][0] for value, row in zip(values, rows, strict=True)],
        [row["ci"][1] - value for value, row in zip(values, rows, strict=True)],
    ]
    colors = [ORANGE if name.startswith("trained") else BLUE for name in names]
    axes.barh(list(places), values, xerr=errors, color=colors, height=0.6, capsize=3, ecolor="#333")
    for place, value, row in zip(places, values, rows, strict=True):
        axes.text(row["ci"][1] + 0.015, place, f"{value:.2f}", va="center", fontsize=9)
    shown = [name if len(name) <= 32 else f"…{name[-31:]}" for name in names]
    axes.set_yticks(list(places), shown)
    axes.set(xlabel="accuracy (95% interval)")
    axes.set_xlim(0, max(1.0, max(row["ci"][1] for row in rows) * 1.15))
    count, samples = rows[0]["problems"], rows[0].get("samples", rows[0]["problems"])
    each = "one self-edit" if samples == count else f"{samples / count:g} self-edits"
    axes.set_title(f"{problems_of_split(count, split_of(run))}, {each} each")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return _save(run, figure, "comparison.png")


def report(path: Path, console: Console, samples: int) -> None:
    """Prints a run's table and some of its self-edits, and draws its plots again.

    Raises:
        UserError: There is no run, or it has no self-edits yet.
    """
    if samples < 0:
        raise UserError(f"--samples {samples}: must be 0 or more")
    run = RunFolder.existing(path)
    summary = run.read_results("summary.json")
    if not run.every_record():
        raise UserError(f"{path}: holds no self-edits yet; let the run go on with --resume")
    drawn = [plot_learning(run, summary), plot_styles(run), write_samples(run)]
    if summary is not None:
        drawn.append(plot_comparison(run, summary))
    show_samples(run, console, samples)
    for picture in drawn:
        if picture is not None:
            console.print(f"wrote {picture}", markup=False)
    # The table is last, where it is seen without scrolling.
    if summary is not None:
        print_summary(summary, console, split_of(run))
    else:
        console.print("The run is not finished: no summary yet.")


def by_problem(records: Sequence[Record], name: str) -> list[float]:
    """One number a problem, in the order in which the problems came: its samples' mean."""
    groups: dict[str, list[float]] = {}
    for record in records:
        groups.setdefault(record["problem"], []).append(record[name])
    return [fmean(group) for group in groups.values()]


def _save(run: RunFolder, figure: Figure, name: str) -> Path:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    run.write_bytes(name, content.getvalue())
    return run.path / name
