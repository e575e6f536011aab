"""Plot of `benchmarks.scaling`: throughput of simulated clusters."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def plot(found: Mapping[str, Any]) -> bytes:
    """Plot of throughput and of the driver's share against the number of workers.

    Args:
        found: Result of `scaling.run`, with the rows of its part `model`.

    Returns:
        The PNG.
    """
    rows = found["model"]
    counts = [row["workers"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    one = rows[0]["fixed"]
    left.plot(counts, [one * count for count in counts], ":", color="0.5", label="linear")
    left.plot(counts, [row["grown"] for row in rows], "o-", label="8 self-edits per worker")
    left.plot(counts, [row["fixed"] for row in rows], "s-", label="256 self-edits per pass")
    speed = found.get("speed")
    if speed is not None:
        settings = found["settings"]
        rate = settings["edits"] / min(speed["workers"])
        left.plot([settings["workers"]], [rate], "k*", markersize=11, label="measured")
    left.set_xscale("log", base=2)
    left.set_yscale("log", base=2)
    left.set_ylabel("self-edits per second")
    left.legend(frameon=False, fontsize=8)
    right.plot(counts, [row["driver"] for row in rows], "o-")
    right.set_xscale("log", base=2)
    right.set_ylim(0, 1)
    right.set_ylabel("share of a pass that the driver works\n(8 self-edits per worker)")
    for axes in (left, right):
        axes.set_xlabel("workers")
        axes.set_xticks(counts, [f"{count:g}" for count in counts])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    left.yaxis.set_major_formatter("{x:g}")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    return content.getvalue()
