"""Charts of the report page: where their marks are."""

import itertools
import math
import re

import pytest

from seal_agents.reporting.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    NUMBERED,
    RIGHT,
    TOP,
    WIDTH,
    Series,
    bar_chart,
    heat_map,
    line_chart,
    stacked_chart,
)


def numbers(chart, tag, *names):
    """Attributes of the elements of a kind, as numbers."""
    found = re.findall(f"<{tag} [^>]*>", chart)
    return [
        tuple(float(re.search(f' {name}="([^"]*)"', element)[1]) for name in names)
        for element in found
    ]


def test_a_line_goes_up_with_its_values_and_leaves_out_what_is_no_number():
    points = [(1, 0.0), (2, math.nan), (3, 1.0)]
    band = [(0.0, 0.5), (math.nan, math.nan), (0.5, 1.0)]
    chart = line_chart([Series("a", points, band=band)], "round", "accuracy", (0.0, 1.0))
    (left, low), (right, high) = numbers(chart, "circle", "cx", "cy")
    assert (low, high) == (HEIGHT - BOTTOM, TOP)
    assert LEFT <= left < right <= WIDTH - RIGHT
    (edge,) = re.findall(r'polygon class="band c0" points="([^"]*)"', chart)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    assert [float(p.split(",")[1]) for p in edge.split()] == [low, middle, high, middle]
    assert "nan" not in chart


def test_bars_start_at_zero_and_end_at_their_values():
    chart = bar_chart({"a": (0.25, (0.0, 0.5)), "b": (-0.5, (-0.5, -0.5))}, "accuracy")
    (a, wide), (b, wider) = numbers(chart, "rect", "x", "width")
    assert wider == pytest.approx(2 * wide, abs=0.2) and b + wider == pytest.approx(a, abs=0.2)
    start, _, end = re.search(r'd="M([\d.]+) ([\d.]+)H([\d.]+)"', chart).groups()
    assert (float(start), float(end)) == pytest.approx((a, a + 2 * wide), abs=0.2)


def test_stacked_shares_fill_a_column():
    chart = stacked_chart({1: {"x": 0.25, "y": 0.75}}, {"x": "c0", "y": "c1"}, "round", "share")
    (x, high), (y, higher) = numbers(chart, "rect", "y", "height")
    assert higher == pytest.approx(3 * high, abs=0.2)
    assert y == pytest.approx(TOP, abs=0.2) and y + higher == pytest.approx(x, abs=0.2)


def test_a_heat_map_is_darker_where_more_is_right():
    chart = heat_map([[0.25, None], [0.5, 1.0]], "x", "y")
    cells = numbers(chart, "rect", "x", "y", "fill-opacity")
    assert len(cells) == 3 and cells[0][2] < cells[1][2] < cells[2][2]
    assert cells[0][0] == cells[1][0] < cells[2][0] and cells[0][1] < cells[1][1] == cells[2][1]


@pytest.mark.parametrize("size", [1, 20, 400])
def test_numbers_of_a_heat_map_do_not_overlap(size):
    chart = heat_map([[None] * i + [1.0] for i in range(size)], "x", "y")
    places = re.findall(rf'class="label" x="{LEFT - 12}.0" y="([^"]*)"', chart)
    assert len(places) == min(size, NUMBERED)
    gaps = [float(b) - float(a) for a, b in itertools.pairwise(places)]
    assert min(gaps, default=11) >= 11  # the font's height
    assert all(width > 0 for (width,) in numbers(chart, "rect", "width"))
