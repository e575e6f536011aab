"""Samples of the self-edits of each round, and plots of their styles."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, PercentFormatter
from rich.console import Console
from rich.text import Text

from seal_agents.run_folder import Record, RunFolder

SHOWN = 3
"""Self-edits shown per round: the best, the median and the worst."""
LONGEST = 600
"""Maximum length of a shown self-edit, in characters."""
PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#000000",
)
"""Color-blind safe palette (Okabe and Ito 2008)."""
REST = "#BBBBBB"


class Sample(NamedTuple):
    """A self-edit and its rank in its round."""

    heading: str
    """Policy, and round, "held out" or a split."""
    place: str
    """Rank by reward: "best", "median", "rank 3 of 9", ..., or "3 of 9" where all rewards are
    equal."""
    record: Record


def split_of(run: RunFolder) -> str:
    """Split of the problems that a run's policies were compared on."""
    config = run.read_json("config.json")
    return str(config["env"]["split"]) if config["command"] == "evaluate" else "test"


def choose(run: RunFolder, count: int) -> Iterator[Sample]:
    """Self-edits of each round, evenly spread from the best reward to the worst.

    Args:
        run: The run.
        count: Self-edits per round; 1 is the median, 2 are the best and the worst.
    """
    groups: dict[tuple[str, str, int], list[Record]] = {}
    for record in run.every_record():
        if record["text"]:
            key = (record["phase"], record["policy"], record["round"])
            groups.setdefault(key, []).append(record)
    split = split_of(run)
    compared = "held out" if split == "test" else f"split {split}"
    for (phase, policy, round_), group in groups.items():
        heading = f"{policy}, {f'round {round_}' if phase == 'train' else compared}"
        group.sort(key=lambda r: (-r["reward"], r["index"]))
        tied = len(group) > 1 and group[0]["reward"] == group[-1]["reward"]
        if tied:
            these = "of this round " if phase == "train" else ""
            heading += f" (all self-edits {these}have the same reward)"
        for rank in _spread(len(group), count):
            place = f"{rank + 1} of {len(group)}" if tied else _place(rank, len(group))
            yield Sample(heading, place, group[rank])


def _spread(size: int, count: int) -> list[int]:
    """Evenly spread ranks from 0; all of them if there are at most `count`."""
    if count < 2:
        return [(size - 1) // 2] * count
    return sorted({round(i * (size - 1) / (count - 1)) for i in range(count)})


def _place(rank: int, size: int) -> str:
    if rank == 0 and size > 1:
        return "best"
    if rank == size - 1 and size > 1:
        return "worst"
    return "median" if rank in ((size - 1) // 2, size // 2) else f"rank {rank + 1} of {size}"


def describe(sample: Sample) -> str:
    """One line on a self-edit: rank, title, reward, accuracy, style and error."""
    record = sample.record
    parts = [
        sample.place,
        record["title"],
        f"reward {record['reward']:.2f}",
        f"accuracy {record['accuracy']:.2f}",
        f"log-likelihood {_before_and_after(record)}",
    ]
    if record.get("style"):
        parts.append(f"style {record['style']}")
    if record["error"]:
        parts.append(f"not carried out: {record['error']}")
    return ", ".join(parts)


def _before_and_after(record: Record) -> str:
    """Log-likelihood of the answers before and after the update; records may lack the former."""
    after = f"{record['log_likelihood']:.2f}"
    before = record.get("log_likelihood_before")
    return after if before is None else f"{before:.2f} before, {after} after"


def clip(text: str) -> str:
    """A text, truncated to `LONGEST` characters."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} [...]"


def show_samples(run: RunFolder, console: Console, count: int) -> None:
    """Prints samples of the self-edits of each round."""
    for sample in choose(run, count):
        console.print(Text(f"{sample.heading}: {describe(sample)}", style="bold"))
        console.print(Text(clip(sample.record["text"])))


def write_samples(run: RunFolder) -> Path | None:
    """Writes the best, the median and the worst self-edit of each round to ``samples.md``."""
    lines: list[str] = []
    before = ""
    for sample in choose(run, SHOWN):
        if sample.heading != before:
            lines += [f"## {_plain(sample.heading)}", ""]
            before = sample.heading
        text = clip(sample.record["text"])
        # A fence longer than any in the text: what a policy wrote must not end it.
        fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
        lines += [f"**{_plain(describe(sample))}**", "", f"{fence}text", text, fence, ""]
    if not lines:
        return None
    head = ["# Self-edits: the best, the median and the worst by reward", ""]
    content = "\n".join(head + lines)
    run.write_bytes("samples.md", content.encode("utf-8", "replace"))
    return run.path / "samples.md"


def _plain(text: str) -> str:
    """A line with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_<>\[\]#|])", r"\\\1", " ".join(text.split()))


def plot_styles(run: RunFolder) -> Path | None:
    """Plots the share of each style of self-edit per round of training.

    Returns:
        Path of the plot; None if the task has no styles, or there are no rounds.
    """
    rounds = styles_by_round(run.every_record())
    if not rounds:
        return None
    numbers = sorted(rounds)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    bottom = [0.0] * len(numbers)
    for name, color, kinds in _kinds(rounds.values()):
        shares = [sum(rounds[n][kind] for kind in kinds) / rounds[n].total() for n in numbers]
        axes.bar(
            numbers, shares, 0.8, bottom, color=color, label=name, edgecolor="white", linewidth=0.6
        )
        bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
    axes.set(xlabel="round", ylabel="share of the self-edits written", ylim=(0, 1))
    axes.set_title("Kinds of self-edits, by round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    handles, labels = axes.get_legend_handles_labels()  # in the order in which they are stacked
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    run.write_bytes("styles.png", content.getvalue())
    return run.path / "styles.png"


def styles_by_round(records: Iterable[Record]) -> dict[int, Counter[str]]:
    """Number of self-edits of each style per round of training; empty without styles."""
    rounds: dict[int, Counter[str]] = {}
    for record in records:
        if record["phase"] == "train" and record.get("style"):
            rounds.setdefault(record["round"], Counter())[record["style"]] += 1
    return rounds


def _kinds(rounds: Iterable[Counter[str]]) -> list[tuple[str, str, list[str]]]:
    """Name, color and styles of each bar; rare styles share one bar if there are too many."""
    total: Counter[str] = Counter()
    for counts in rounds:
        total += counts
    names = [name for name, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))]
    own = names if len(names) <= len(PALETTE) else names[: len(PALETTE)]
    found = [(name, color, [name]) for name, color in zip(own, PALETTE, strict=False)]
    rest = names[len(own) :]
    return [*found, ("all others", REST, rest)] if rest else found
