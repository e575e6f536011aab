"""What the best of a problem's self-edits is worth on questions that it was not chosen on.

The best of several noisy results looks better than it is on the questions that chose it. Of SEAL's
published self-edits the best of five looks 14 points better than the mean and is 2.6 points better
on another adapter seed (docs/rewards.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any


def best_accuracies(records: Sequence[Mapping[str, Any]]) -> list[float]:
    """Accuracy of the best self-edit of each problem on questions that did not choose it.

    The best self-edit by accuracy on every second question is measured on the other questions, and
    the other way round; the mean of both counts, and of equally good self-edits their mean.
    Problems with one question or one self-edit have no such number and are left out.

    Args:
        records: Self-edits of any number of problems.
    """
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["problem"], record.get("step", 0)), []).append(record)
    found = [_best(group) for group in groups.values()]
    return [value for value in found if value is not None]


def _best(group: Sequence[Mapping[str, Any]]) -> float | None:
    verdicts = [record.get("verdicts") for record in group]
    answered = [list(one) for one in verdicts if isinstance(one, list | tuple)]
    if len(group) < 2 or len(answered) < len(group) or min(map(len, answered)) < 2:
        return None
    halves = [(fmean(one[::2]), fmean(one[1::2])) for one in answered]
    return fmean(_chosen([h[a] for h in halves], [h[1 - a] for h in halves]) for a in (0, 1))


def _chosen(chooses: Sequence[float], measures: Sequence[float]) -> float:
    """Mean of a measure over those that are best by another."""
    most = max(chooses)
    return fmean(m for c, m in zip(chooses, measures, strict=True) if c == most)
