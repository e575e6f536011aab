"""The plot of `benchmarks.agents`: accuracy against inner-loop evaluations."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

from seal_agents.reporting.samples import PALETTE

MARKERS = "osD^vPX*"
STYLES = ("-", "--", ":", "-.")
GREYS = ("#333333", "#777777", "#aaaaaa", "#555555")


def plot(found: Mapping[str, Any]) -> bytes:
    """Draws a curve with its band for each arm that learns, and a line for each that does not.

    An agent has a color and a marker, its variants have the same in other dashes.

    Args:
        found: Result of `agents_table.figures`.

    Returns:
        The PNG.
    """
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    agents: list[str] = []
    variants: list[str] = []
    flat = 0
    for name, arm in found["arms"].items():
        if not arm["learns"]:
            _line(axes, name, arm, flat, found["budget"])
            flat += 1
            continue
        agent, _, variant = name.partition("+")
        for known, one in ((agents, agent), (variants, variant)):
            if one not in known:
                known.append(one)
        _curve(axes, name, arm, agents.index(agent), variants.index(variant))
    axes.set(
        xlabel="inner-loop evaluations spent on training",
        ylabel="accuracy on held-out problems",
        xlim=(0, found["budget"] * 1.02),
        ylim=(0, None),
    )
    axes.set_title("One sampled self-edit: interquartile mean over seeds, 95% intervals")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, handlelength=3.2)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    return content.getvalue()


def _curve(axes: Axes, name: str, arm: Mapping[str, Any], agent: int, variant: int) -> None:
    spent = [point["evaluations"] for point in arm["curve"]]
    color = PALETTE[agent % len(PALETTE)]
    axes.plot(
        spent,
        [point["iqm"] for point in arm["curve"]],
        color=color,
        marker=MARKERS[agent % len(MARKERS)],
        markersize=5,
        markerfacecolor="white" if variant % 2 else color,
        linestyle=STYLES[variant % len(STYLES)],
        label=name,
    )
    low, high = ([point["ci"][end] for point in arm["curve"]] for end in (0, 1))
    axes.fill_between(spent, low, high, color=color, alpha=0.12, lw=0)


def _line(axes: Axes, name: str, arm: Mapping[str, Any], index: int, budget: int) -> None:
    each = arm["evaluations_per_self_edit"]
    label = f"{name} ({each:g} evaluations each)" if each > 1 else name
    axes.axhline(
        arm["accuracy"]["iqm"],
        color=GREYS[index % len(GREYS)],
        linestyle=STYLES[(index + 1) % len(STYLES)],
        linewidth=1.2,
        label=label,
    )
