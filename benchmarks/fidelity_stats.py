"""Statistics of `benchmarks.reward_fidelity`: reliability, ties, best of several, agreement.

Dimensions:
    E: self-edits of a problem. S: adapter seeds. Q: questions of a problem.

A measurement of a problem is an array of shape (E, S), or (E, S, Q) with the value per question.
All comparisons are between the self-edits of one problem, as those of a policy's group are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from seal_agents.algorithms.self_rewarding import spearman

Groups = Sequence[np.ndarray]
"""One array per problem."""
RESAMPLES = 2000
"""Bootstrap resamples of problems."""
SPLITS = 16
"""Random halves of a problem's questions."""
SAME = 1e-12
"""Difference of values that is due to rounding."""


class Interval(NamedTuple):
    """Estimate and its 95% interval over problems."""

    value: float
    """Estimate."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


def icc(groups: Groups, common_seeds: bool = False) -> float:
    """Intraclass correlation of one inner loop: the share of the variance that is the self-edit's.

    The correlation of a single result within problems, ICC(1,1) of Shrout & Fleiss (1979): 1 if all
    seeds give one result per self-edit, 0 if the seed decides. With common seeds ICC(3,1): the
    self-edits of a problem are compared under one seed, so what a seed does to all of them alike is
    no error (common random numbers).

    Args:
        groups: Shape (E, S) each.
        common_seeds: Whether the self-edits compared share their seed.
    """
    return _icc(np.array([_squares(x, common_seeds) for x in groups]).sum(axis=0), groups)


def icc_interval(groups: Groups, common_seeds: bool = False) -> Interval:
    """`icc` with a percentile-bootstrap interval over problems."""
    squares = np.array([_squares(x, common_seeds) for x in groups])
    random = np.random.default_rng(0)
    drawn = random.integers(len(groups), size=(RESAMPLES, len(groups)))
    values = [_icc(squares[one].sum(axis=0), groups) for one in drawn]
    known = [value for value in values if math.isfinite(value)] or [math.nan]
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(icc(groups, common_seeds), float(low), float(high))


def _squares(x: np.ndarray, common_seeds: bool) -> tuple[float, float, float, float]:
    """Sums of squares between and within self-edits, and their degrees of freedom."""
    items, times = x.shape
    x = x - x.mean()
    freedom = items * (times - 1)
    if common_seeds:
        x = x - x.mean(axis=0)
        freedom = (items - 1) * (times - 1)
    means = x.mean(axis=1, keepdims=True)
    between, within = times * float((means**2).sum()), float(((x - means) ** 2).sum())
    return between, within, items - 1, freedom


def _icc(sums: np.ndarray, groups: Groups) -> float:
    between, within = sums[0] / sums[2], sums[1] / sums[3]
    total = between + (groups[0].shape[1] - 1) * within
    return float((between - within) / total) if total > SAME else math.nan


def spearman_brown(reliability: float, runs: int) -> float:
    """Reliability of the mean of several inner loops (Spearman 1910, Brown 1910)."""
    return runs * reliability / (1 + (runs - 1) * reliability)


def seed_halves(groups: Groups) -> tuple[float, float]:
    """Spearman-Brown against the data: a correlation, and the one that it predicts.

    The correlation within problems of the mean over half of the seeds with the mean over the other
    half, averaged over the ways to halve them; predicted from `icc` with common seeds.
    """
    times = groups[0].shape[1]
    size = times // 2
    found = []
    for chosen in combinations(range(times), size):
        others = [s for s in range(times) if s not in chosen]
        pairs = [(x[:, list(chosen)].mean(axis=1), x[:, others].mean(axis=1)) for x in groups]
        a, b = (
            np.concatenate([one - one.mean() for one in side]) for side in zip(*pairs, strict=True)
        )
        spread = math.sqrt(float((a**2).sum() * (b**2).sum()))
        if spread > SAME:
            found.append(float((a * b).sum()) / spread)
    one = max(icc(groups, common_seeds=True), 0.0)
    predicted = math.sqrt(spearman_brown(one, size) * spearman_brown(one, times - size))
    return (float(np.mean(found)) if found else math.nan), predicted


def ties(groups: Groups) -> float:
    """Share of the (problem, seed) whose best self-edit is not the only best one."""
    return float(
        np.mean([(_best(x[:, s]) > 0).sum() > 1 for x in groups for s in range(x.shape[1])])
    )


def _best(values: np.ndarray) -> np.ndarray:
    """Weights of the best of some values, equal among equals; shape (E,)."""
    best = values >= values.max() - SAME
    return best / best.sum()


class BestOf(NamedTuple):
    """Gain in accuracy of the best self-edit over its problem's mean, by where it is measured."""

    same: float
    """The seeds and questions that it was chosen on."""
    other_seeds: float
    """The same questions under seeds that it was not chosen on."""
    other_questions: float
    """Chosen on half of the questions, measured on the other half, under the same seeds."""
    other_both: float
    """The other half of the questions under other seeds."""


Value = Callable[[int, list[int] | None], np.ndarray]
"""Reward of a problem's self-edits as measured on some of its questions (None: all), (E, S)."""


def best_of(values: Value, accuracies: Groups, runs: int) -> BestOf:
    """Gain in accuracy by choosing the best of a problem's self-edits by a reward.

    Of equals each is chosen as often as the others.

    Args:
        values: The reward.
        accuracies: Whether questions were answered right, shape (E, S, Q) each.
        runs: Inner loops whose mean chooses; the other seeds measure.
    """
    random = np.random.default_rng(0)
    sums: list[list[float]] = [[], [], [], []]
    for number, right in enumerate(accuracies):
        count = right.shape[2]
        for chosen, others in _seed_choices(right.shape[1], runs):
            weights = _best(values(number, None)[:, chosen].mean(axis=1))
            sums[0].append(_gain(weights, right[:, chosen]))
            sums[1].append(_gain(weights, right[:, others]))
        for _ in range(SPLITS if count > 1 else 0):
            order = random.permutation(count).tolist()
            half, rest = order[: count // 2], order[count // 2 :]
            if random.random() < 0.5:
                half, rest = rest, half
            value = values(number, half)
            for chosen, others in _seed_choices(right.shape[1], runs):
                weights = _best(value[:, chosen].mean(axis=1))
                sums[2].append(_gain(weights, right[:, chosen][:, :, rest]))
                sums[3].append(_gain(weights, right[:, others][:, :, rest]))
    return BestOf(*(float(np.mean(some)) if some else math.nan for some in sums))


def _seed_choices(times: int, runs: int) -> Iterator[tuple[list[int], list[int]]]:
    for chosen in combinations(range(times), runs):
        yield list(chosen), [s for s in range(times) if s not in chosen]


def _gain(weights: np.ndarray, right: np.ndarray) -> float:
    means = right.mean(axis=(1, 2))
    return float((weights * means).sum() - means.mean())


class Agreement(NamedTuple):
    """Rank correlation of a reward with the labelled accuracy, within problems."""

    spearman: float
    """Mean of Spearman's correlation over problems and choices of seeds."""
    corrected: float
    """The same, had accuracy been measured without noise of the seeds: divided by the square root
    of the reliability of the accuracy that it is compared with (Spearman 1904)."""
    problems: int
    """Problems in which both differ between self-edits."""


def agreement(groups: Groups, accuracies: Groups, runs: int) -> Agreement:
    """Agreement of the mean of some runs with the mean accuracy over the other seeds.

    Args:
        groups: The reward, shape (E, S) each.
        accuracies: Accuracy, shape (E, S) each.
        runs: Inner loops whose mean is the reward.
    """
    means = []
    for x, truth in zip(groups, accuracies, strict=True):
        found = [
            spearman(x[:, chosen].mean(axis=1).tolist(), truth[:, others].mean(axis=1).tolist())
            for chosen, others in _seed_choices(x.shape[1], runs)
        ]
        known = [value for value in found if value is not None]
        if known:
            means.append(float(np.mean(known)))
    rest = accuracies[0].shape[1] - runs
    reliability = spearman_brown(icc(accuracies, common_seeds=True), rest)
    value = float(np.mean(means)) if means else math.nan
    corrected = value / math.sqrt(reliability) if reliability > 0 else math.nan
    return Agreement(value, corrected, len(means))


def fewer_questions(groups: Groups, count: int) -> float:
    """`icc` of a mean over fewer questions, averaged over random choices of them.

    Args:
        groups: Shape (E, S, Q) each; problems with fewer questions are left out.
        count: Questions.
    """
    random = np.random.default_rng(0)
    enough = [x for x in groups if x.shape[2] >= count]
    if not enough:
        return math.nan
    chosen = [
        [x[:, :, random.permutation(x.shape[2])[:count]].mean(axis=2) for x in enough]
        for _ in range(SPLITS)
    ]
    return float(np.nanmean([icc(some) for some in chosen]))
