"""Table and plot of a search's trials."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from seal_agents.reporting.report import BLUE, GREEN, GREY, ORANGE
from seal_agents.reporting.stats import Estimate, bootstrap_mean
from seal_agents.run_folder import RunFolder
from seal_agents.tuning.halving import Trial
from seal_agents.tuning.trials import Trials

COLUMNS = ("settings", "problems", "accuracy", "log-likelihood", "reward", "tokens")


RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Marked learning rates of the plot."""


def rows(trials: Sequence[Trial], known: Trials) -> list[tuple[str, ...]]:
    """Cells of the table: the best trial first, and the untouched learner last.

    Intervals are 95% bootstrap intervals over problems; tokens are trained tokens per problem.
    """
    table = []
    for trial in trials:
        records = known.records(trial.candidate, trial.problems)
        table.append(
            (
                trial.candidate.name,
                str(trial.problems),
                *(_cell(bootstrap_mean([r[n] for r in records])) for n in COLUMN_FIELDS),
                f"{sum(r['tokens'] for r in records) / len(records):,.0f}",
            )
        )
    best = known.records(trials[0].candidate, trials[0].problems)
    before = [bootstrap_mean([r[n + "_before"] for r in best]) for n in COLUMN_FIELDS[:2]]
    untouched = (
        "no training"
        + {True: ", chat", False: ", plain questions", None: ""}[trials[0].candidate.chat]
    )
    return [*table, (untouched, str(len(best)), *map(_cell, before), "", "0")]


NARROW = 120
"""Columns of a terminal below which intervals are printed under the means."""
COLUMN_FIELDS = ("accuracy", "log_likelihood", "reward")
"""Fields of a record, in the order of the columns."""


def print_table(table: Sequence[Sequence[str]], console: Console) -> None:
    """Prints the rows."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column(COLUMNS[0], min_width=12)
    for name in COLUMNS[1:]:
        shown.add_column(name, justify="right", no_wrap=True)
    for settings, *figures in table:
        if console.width < NARROW:
            figures = [figure.replace(" [", "\n[") for figure in figures]
        shown.add_row(settings, *figures)
    console.print(shown)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """The rows as a table in Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *table]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plot(trials: Sequence[Trial], run: RunFolder) -> None:
    """Draws how far each trial came, and the rewards of the first rung by learning rate."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    last, lowest = trials[0].problems, _lowest_shown(trials)
    for trial in reversed(trials):
        levels = sorted(trial.rewards)
        color = ORANGE if trial is trials[0] else BLUE if trial.problems == last else GREY
        shown = [max(trial.rewards[n], lowest) for n in levels]
        left.plot(levels, shown, "o-", color=color, alpha=0.8)
    left.set(xlabel="problems", ylabel="mean reward", xscale="log")
    levels = sorted({n for trial in trials for n in trial.rewards})
    left.set_xticks(levels, [str(n) for n in levels])
    left.minorticks_off()
    left.set_title(f"{len(trials)} settings; the best in orange")
    for targets, color in (("default", GREEN), ("all-linear", BLUE)):
        some = [trial for trial in trials if trial.candidate.targets == targets]
        rates = [trial.candidate.learning_rate for trial in some]
        shown = [max(trial.rewards[levels[0]], lowest) for trial in some]
        right.scatter(rates, shown, color=color, label=targets)
    right.set(xlabel="learning rate", ylabel="mean reward", xscale="log")
    right.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    right.minorticks_off()
    right.set_title(f"the first {levels[0]} problems, by targets")
    right.legend(frameon=False)
    worse = any(min(trial.rewards.values()) < lowest for trial in trials)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if worse:
            axes.axhline(lowest, color=GREY, linestyle=":", linewidth=1)
            axes.annotate(
                "or worse", (0.02, lowest), xycoords=("axes fraction", "data"), va="bottom"
            )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    run.write_bytes("trials.png", content.getvalue())


def _lowest_shown(trials: Sequence[Trial]) -> float:
    """Reward at which worse ones are drawn, too: settings that diverge would flatten the others."""
    rewards = [reward for trial in trials for reward in trial.rewards.values()]
    middle = statistics.median(rewards)
    return middle - 2 * (max(rewards) - middle)


def _cell(value: Estimate) -> str:
    return f"{value.mean:.3f} [{value.low:.2f}, {value.high:.2f}]"
