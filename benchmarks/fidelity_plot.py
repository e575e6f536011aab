"""The plot of `benchmarks.reward_fidelity`: reliability of each reward."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.fidelity_stats import spearman_brown


def plot(found: Mapping[str, Any], published: Mapping[str, Any]) -> bytes:
    """Draws the ICC of one and of two inner loops per reward, with intervals.

    Args:
        found: Figures of a model.
        published: Figures of published results, by name.

    Returns:
        The PNG.
    """
    rows = list(found["rewards"].items())
    rows += [
        (f"{r}: {name}", one) for name, o in published.items() for r, one in o["rewards"].items()
    ]
    rows = [(name, one) for name, one in rows if math.isfinite(one["icc_over_seeds"])]
    rows.sort(key=lambda row: row[1]["icc_over_seeds"])
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.45 * len(rows)), layout="constrained")
    for runs, color, shift in ((1, "#3b6fb6", -0.16), (2, "#d9822b", 0.16)):
        for place, (_, one) in enumerate(rows):
            value, (low, high) = one["icc_over_seeds"], one["icc_interval"]
            value, low, high = (spearman_brown(x, runs) for x in (value, low, high))
            label = f"{runs} inner loop{'s' * (runs > 1)} per self-edit" if place == 0 else None
            axes.plot([low, high], [place + shift] * 2, color=color, lw=2)
            axes.plot(value, place + shift, "o", color=color, label=label)
    axes.axvline(0.5, color="#8a8a8a", ls=":")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(
        xlabel="share of the variance that is the self-edit's (ICC, 95% interval)", xlim=(None, 1)
    )
    axes.set_title(f"Reliability over adapter seeds, {found['problems']} problems")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    return content.getvalue()
