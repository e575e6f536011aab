"""Plot of `benchmarks.few_shot`: the tools that are chosen per family of tasks."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import PercentFormatter

from seal_agents.reporting.samples import PALETTE, REST


def plot(found: Mapping[str, Any]) -> bytes:
    """Plot with a panel per choosing row of the table, and a bar of fractions per family.

    Args:
        found: Result of `few_shot.figures`.

    Returns:
        The PNG.
    """
    rows = {
        name: row["tools"]
        for name, row in found["rows"].items()
        if "trained" in name or name == "oracle recipe"
    }
    families = sorted({family for tools in rows.values() for family in tools}, reverse=True)
    kinds = sorted({kind for tools in rows.values() for some in tools.values() for kind in some})
    colors = dict(zip(kinds, [*PALETTE, *[REST] * len(kinds)], strict=False))
    size = (2.6 * len(rows) + 1.5, 0.32 * len(families) + 1.8)
    figure, panels = plt.subplots(
        1, len(rows), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axes, (name, tools) in zip(panels[0], rows.items(), strict=True):
        left = [0.0] * len(families)
        for kind in kinds:
            shares = [
                tools.get(family, {}).get(kind, 0) / max(1, sum(tools.get(family, {}).values()))
                for family in families
            ]
            axes.barh(families, shares, left=left, color=colors[kind], label=kind, height=0.8)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axes.set_title(name, fontsize=10)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.tick_params(labelsize=8)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(kinds), frameon=False)
    figure.suptitle("Tools chosen, by family of held-out tasks", fontsize=11)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    return content.getvalue()
