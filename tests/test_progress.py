"""Progress of long work where there is no terminal."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from seal_agents.runner import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock whose seconds the test counts."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def told(clock, steps) -> list[str]:
    """Lines printed for steps (seconds, name, done, total)."""
    shown = io.StringIO()
    bars = progress.Bars(Console(file=shown, width=200))
    with bars.counting(1):
        bars.advance("training")
        for seconds, name, done, total in steps:
            clock[0] += seconds
            bars.stage(name, done, total)
    return shown.getvalue().splitlines()[1:]


def test_a_long_stage_prints_a_line_per_minute_with_the_time_left(clock):
    steps = [(0, "training", 0, 100), *((20, "training", n, 100) for n in range(10, 60, 10))]
    assert told(clock, steps) == ["  training: 30 of 100, 2:20 left"]


def test_what_was_known_at_the_beginning_of_a_stage_does_not_make_it_look_quick(clock):
    assert told(clock, [(0, "asking", 90, 100), (60, "asking", 95, 100)]) == [
        "  asking: 95 of 100, 1:00 left"
    ]


def test_a_stage_that_starts_over_restarts_its_clock(clock):
    steps = [(0, "a", 0, 4), (30, "a", 4, 4), (10, "a", 0, 4), (30, "a", 1, 4)]
    assert told(clock, steps) == ["  a: 1 of 4, 1:30 left"]
