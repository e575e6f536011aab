"""Plot of `benchmarks.continual`: accuracy matrices as heat maps."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

COLUMNS = 3
"""Most panels side by side."""


def plot(matrices: Mapping[str, np.ndarray], count: int) -> bytes:
    """Plot with a panel per stream: accuracy on the j-th problem after t self-edits.

    Args:
        matrices: Matrices by stream, shape (T, T), NaN where nothing was asked.
        count: T.

    Returns:
        The PNG.
    """
    columns = min(COLUMNS, len(matrices))
    rows = -(-len(matrices) // columns)
    figure, panels = plt.subplots(
        rows,
        columns,
        figsize=(3.2 * columns + 0.8, 3.0 * rows + 0.4),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    colors = plt.get_cmap("viridis").copy()
    colors.set_bad("#eeeeee")
    extent = (0.5, count + 0.5, count + 0.5, 0.5)
    for axes, (way, matrix) in zip(panels.flat, matrices.items(), strict=False):
        image = axes.imshow(
            matrix, vmin=0, vmax=1, cmap=colors, extent=extent, interpolation="nearest"
        )
        axes.set_title(way, fontsize=10)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.tick_params(labelsize=8)
    for axes in panels.flat[len(matrices) :]:
        axes.set_visible(False)
    figure.supxlabel("problem", fontsize=10)
    figure.supylabel("after so many self-edits", fontsize=10)
    figure.colorbar(image, ax=panels, label="accuracy", shrink=0.8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    return content.getvalue()
