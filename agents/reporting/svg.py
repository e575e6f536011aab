"""Charts of the report page as inline SVG.

Colors are the classes ``c0`` to ``c7`` and ``rest`` of the page's style sheet, which has a set for
light and one for dark screens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 420, 260
"""Size of a chart, in the units of its ``viewBox``."""
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 36
"""Margins around the plotted area."""
NUMBERED = 20
"""Most rows of a heat map that have their numbers beside them."""
Range = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    name: str
    """Name in the legend."""
    points: Sequence[tuple[float, float]]
    """Coordinates; points that are not finite are left out."""
    color: str = "c0"
    """Class of the color."""
    band: Sequence[Range] = ()
    """Interval of each point; empty for none."""
    dashed: bool = False
    """Whether the line is dashed."""


def line_chart(series: Sequence[Series], x: str, y: str, span: Range | None = None) -> Markup:
    """A line chart with a legend.

    Args:
        series: The lines.
        x: Label of the horizontal axis, whose ticks are integers.
        y: Label of the vertical axis.
        span: Range of the vertical axis; None for that of the values.
    """
    xs = _finite(point[0] for one in series for point in one.points)
    ys = _finite(point[1] for one in series for point in one.points)
    ys += _finite(value for one in series for ends in one.band for value in ends)
    across = _Scale(_range(xs), (LEFT, WIDTH - RIGHT), integer=True)
    up = _Scale(span or _range(ys), (HEIGHT - BOTTOM, TOP))
    parts = [_axes(across, up, x, y)]
    for one in series:
        shown = [
            (across(a), up(b), *(map(up, one.band[i]) if one.band else ()))
            for i, (a, b) in enumerate(one.points)
            if math.isfinite(a) and math.isfinite(b)
        ]
        if one.band and shown:
            edge = [(p[0], p[2]) for p in shown] + [(p[0], p[3]) for p in reversed(shown)]
            parts.append(
                Markup('<polygon class="band {}" points="{}"/>').format(one.color, _points(edge))
            )
        dash = Markup(' stroke-dasharray="6 4"') if one.dashed else ""
        path = _points([(p[0], p[1]) for p in shown])
        parts.append(
            Markup('<polyline class="line {}" points="{}"{}/>').format(one.color, path, dash)
        )
        for a, b, *_ in shown:
            dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.5"/>')
            parts.append(dot.format(one.color, a, b))
    return _figure(parts, y) + legend({one.name: one.color for one in series})


def bar_chart(bars: Mapping[str, tuple[float, Range]], x: str) -> Markup:
    """Horizontal bars with intervals.

    Args:
        bars: Name to value and interval.
        x: Label of the axis.
    """
    ends = _finite(v for value, ends in bars.values() for v in (value, *ends))
    left, row = 130, 30
    height = TOP + row * len(bars) + BOTTOM
    across = _Scale(_range([0.0, 1.0, *ends]), (left, WIDTH - 44))
    parts = [_ticks(across, TOP, height - BOTTOM), _label(x, (left + WIDTH - 44) / 2, height - 6)]
    for i, (name, (value, (low, high))) in enumerate(bars.items()):
        if not all(map(math.isfinite, (value, low, high))):
            continue
        middle = TOP + row * (i + 0.5)
        color = "c1" if name.startswith("trained") else "c0"
        a, b = sorted((across(0.0), across(value)))
        parts.append(
            Markup(
                '<text class="name" x="{}" y="{:.1f}">{}</text>'
                '<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="18"/>'
                '<path class="whisker" d="M{:.1f} {:.1f}H{:.1f}"/>'
                '<text class="value" x="{:.1f}" y="{:.1f}">{:.2f}</text>'
            ).format(
                left - 6, middle + 4, _short(name, 20), color, a, middle - 9, b - a,
                across(low), middle, across(high), across(high) + 5, middle + 4, value,
            )
        )  # fmt: skip
    return _figure(parts, x, height)


def stacked_chart(
    columns: Mapping[int, Mapping[str, float]], colors: Mapping[str, str], x: str, y: str
) -> Markup:
    """Stacked columns of shares, with a legend.

    Args:
        columns: Place on the horizontal axis to the share of each kind.
        colors: Class of the color of each kind, in the order in which they are stacked.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
    """
    places = sorted(columns)
    across = _Scale((places[0] - 0.5, places[-1] + 0.5), (LEFT, WIDTH - RIGHT), integer=True)
    up = _Scale((0.0, 1.0), (HEIGHT - BOTTOM, TOP))
    parts = [_axes(across, up, x, y)]
    for place in places:
        bottom = 0.0
        for kind, color in colors.items():
            share = columns[place].get(kind, 0.0)
            a, b = across(place - 0.4), across(place + 0.4)
            title = f"{place}: {kind} {share:.0%}"
            parts.append(
                Markup(
                    '<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                    "<title>{}</title></rect>"
                ).format(
                    color, a, up(bottom + share), b - a, up(bottom) - up(bottom + share), title
                )
            )
            bottom += share
    return _figure(parts, y) + legend(colors)


def heat_map(matrix: Sequence[Sequence[float | None]], x: str, y: str) -> Markup:
    """A square matrix of accuracies; None where nothing was asked."""
    size = len(matrix)
    side = min(44.0, (WIDTH - LEFT - RIGHT) / size)
    between = math.ceil(size / NUMBERED)
    height = TOP + side * size + BOTTOM
    parts = []
    for i, row in enumerate(matrix):
        if i % between == 0:
            parts.append(_label(str(i + 1), LEFT - 12, TOP + side * (i + 0.5) + 4))
            parts.append(_label(str(i + 1), LEFT + side * (i + 0.5), height - BOTTOM + 13))
        for j, value in enumerate(row):
            if value is None or not math.isfinite(value):
                continue
            a, b = LEFT + side * j, TOP + side * i
            said = f"{value:.2f}"
            parts.append(
                Markup(
                    '<rect class="c0" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" '
                    'fill-opacity="{:.2f}"><title>{}</title></rect>'
                ).format(a, b, 0.95 * side, 0.95 * side, 0.08 + 0.72 * min(max(value, 0), 1), said)
            )
            if side >= 26:
                parts.append(_label(said, a + side / 2, b + side / 2 + 4))
    parts.append(_label(x, LEFT + side * size / 2, height - 6))
    parts.append(_upright(y, TOP + side * size / 2))
    return _figure(parts, y, height)


def legend(colors: Mapping[str, str]) -> Markup:
    """Names with the color of each."""
    entry = Markup('<li><i class="swatch {}"></i>{}</li>')
    names = [entry.format(color, _short(name, 90)) for name, color in colors.items()]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(names))


class _Scale:
    """A linear map from values to coordinates, and its ticks."""

    def __init__(self, span: Range, onto: Range, integer: bool = False) -> None:
        low, high = span
        self._low, self._onto = low, onto
        self._factor = (onto[1] - onto[0]) / (high - low)
        locator = MaxNLocator(6, integer=integer, min_n_ticks=1)
        self.ticks = [t for t in locator.tick_values(low, high) if low - 1e-9 <= t <= high + 1e-9]

    def __call__(self, value: float) -> float:
        return self._onto[0] + (value - self._low) * self._factor


def _finite(values: Iterable[float]) -> list[float]:
    return [float(v) for v in values if math.isfinite(v)]


def _range(values: Sequence[float]) -> Range:
    """Range of values with some room; never empty."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.5
    return (low if low == 0.0 else low - room, high + room)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _points(points: Sequence[tuple[float, ...]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _label(text: str, x: float, y: float) -> Markup:
    return Markup('<text class="label" x="{:.1f}" y="{:.1f}">{}</text>').format(x, y, text)


def _upright(text: str, y: float) -> Markup:
    turned = Markup('<text class="label" transform="translate(11 {:.1f}) rotate(-90)">{}</text>')
    return turned.format(y, text)


def _ticks(across: _Scale, top: float, bottom: float) -> Markup:
    """Vertical lines with numbers below."""
    line = Markup('<path class="grid" d="M{:.1f} {}V{}"/>')
    return Markup("").join(
        line.format(across(t), top, bottom) + _label(f"{t:g}", across(t), bottom + 13)
        for t in across.ticks
    )


def _axes(across: _Scale, up: _Scale, x: str, y: str) -> Markup:
    line = Markup(
        '<path class="grid" d="M{} {:.1f}H{}"/><text class="name" x="{}" y="{:.1f}">{:g}</text>'
    )
    right = WIDTH - RIGHT
    rows = [line.format(LEFT, up(t), right, LEFT - 5, up(t) + 4, round(t, 9)) for t in up.ticks]
    columns = [_label(f"{t:g}", across(t), HEIGHT - BOTTOM + 13) for t in across.ticks]
    names = [_label(x, (LEFT + right) / 2, HEIGHT - 6), _upright(y, (TOP + HEIGHT - BOTTOM) / 2)]
    return Markup("").join([*rows, *columns, *names])


def _figure(parts: Sequence[Markup], name: str, height: float = HEIGHT) -> Markup:
    whole = Markup('<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>')
    return whole.format(WIDTH, height, name, Markup("").join(parts))
