"""Finetuning of K adapters side by side, each exactly as if it were alone.

One optimizer step of all adapters is one pass over one row that holds the next batch of each.
Losses are means per adapter, gradients are clipped per adapter, learning rates follow each
adapter's own schedule, and an adapter that has taken all its steps leaves the row.

Dimensions:
    - K: adapters of the bank.
    - A: adapters that have a batch in the current step.
    - M: labels, the tokens at which a loss is computed.
    - P: weights of one adapter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from seal_env.engine.anchors import Anchor, Anchors
from seal_env.engine.banks import Bank, LearnerState
from seal_env.engine.config import FinetuneConfig
from seal_env.engine.layered_bank import LayeredBank
from seal_env.engine.learner import Learner
from seal_env.engine.mixed_bank import bank_of
from seal_env.engine.packing import Layout, bucket
from seal_env.engine.passes import FullPass
from seal_env.engine.threads import run_parts
from seal_env.engine.trainable import TrainableBank

STEP = 80
"""Fixed cost of an optimizer step on a CPU, in tokens (docs/performance.md)."""


@dataclass(frozen=True)
class Example:
    """One training sequence."""

    ids: tuple[int, ...]
    """Token ids, at least two."""
    unscored: int = 0
    """Number of leading tokens (a prompt) without a loss."""
    masked: frozenset[int] = frozenset()
    """Positions of further tokens without a loss."""

    @property
    def labels(self) -> np.ndarray:
        """Positions of the tokens with a loss; the first token of a text has none."""
        positions = np.arange(max(1, self.unscored), len(self.ids))
        return positions[~np.isin(positions, list(self.masked))] if self.masked else positions


@dataclass(frozen=True)
class Dataset:
    """Training data and settings of one adapter."""

    examples: Sequence[Example]
    """Training sequences; an empty list leaves the adapter unchanged."""
    config: FinetuneConfig
    """Settings of the optimizer."""
    seed: int
    """Seed of the order of the sequences."""
    layers: tuple[int, ...] | None = None
    """Indices of the layers whose matrices are trained, from 0; None for all."""
    anchor: Anchor | None = None
    """What the learner is kept close to; None for the cross-entropy alone."""

    @property
    def tokens(self) -> int:
        """Training tokens over all epochs."""
        return self.config.epochs * sum(len(example.ids) for example in self.examples)

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.config.steps(len(self.examples))


@dataclass(frozen=True)
class TrainStats:
    """Statistics of the finetuning of one adapter."""

    steps: int
    """Optimizer steps."""
    tokens: int
    """Training tokens over all epochs."""
    loss: float
    """Mean loss of the last step in nats per token, an anchor's penalty included (NaN without
    steps)."""
    failed: bool
    """Whether the loss or the weights stopped being finite."""


def data_order(seed: int, count: int, config: FinetuneConfig) -> list[np.ndarray]:
    """Indices of the sequences of each optimizer step: one permutation per epoch, by the seed."""
    generator = np.random.default_rng(seed)
    batches: list[np.ndarray] = []
    for _ in range(config.epochs):
        order = generator.permutation(count)
        batches += [order[i : i + config.batch_size] for i in range(0, count, config.batch_size)]
    return batches


def finetune(
    learner: Learner,
    bank: TrainableBank,
    datasets: Sequence[Dataset],
    progress: Callable[[int, int], None] | None = None,
    tokens_per_pass: int | None = None,
    below: Sequence[LearnerState | None] | None = None,
) -> list[TrainStats]:
    """Trains every adapter of a bank on its own data, in place.

    Args:
        learner: The frozen base.
        bank: K adapters, whose weights are changed in place.
        datasets: One data set per adapter.
        progress: Callback with (steps done, steps in total) of the adapter with most steps.
        tokens_per_pass: Bound on the tokens of one pass; None for no bound. A longer sequence is a
            pass by itself.
        below: What each adapter is trained on top of, frozen (`seal_env.engine.layered_bank`); None
            for the base.

    Returns:
        Statistics of each adapter.
    """
    # Sorted by steps: a thread takes as many steps as its longest adapter.
    order = np.argsort([-data.steps for data in datasets], kind="stable")
    ordered = [datasets[k] for k in order]
    lower = None if below is None else bank_of([below[k] for k in order], learner.model)
    attached = bank if lower is None else LayeredBank(bank, lower)
    anchored = [data.anchor for data in ordered]
    anchors = Anchors(learner, anchored) if any(anchored) else None

    def job(members: range) -> Callable[[Event], list[TrainStats]]:
        chosen = ordered[members.start : members.stop]
        tell = progress if members.start == 0 else None
        return lambda stop: _train(
            learner, bank, attached, anchors, members, chosen, tokens_per_pass, tell, stop
        )

    parts = split(ordered, learner.workers(bank.count))
    bank.reorder(order)
    try:
        bank.require_grads()
        results = run_parts([job(part) for part in parts])
    finally:
        bank.drop_grads()
        bank.reorder(np.argsort(order))
    records = [record for part in results for record in part]
    return [records[index] for index in np.argsort(order)]


def split(datasets: Sequence[Dataset], parts: int) -> list[range]:
    """Ranges of neighboring data sets of about equal cost, one range per thread.

    The cost of a thread is its training tokens plus `STEP` times the steps of its longest adapter.

    Args:
        datasets: Data sets by descending number of steps.
        parts: Number of threads, a bound on the ranges.
    """
    low, high = 0.0, float(sum(data.tokens for data in datasets) + STEP * datasets[0].steps)
    best = [range(len(datasets))]
    while parts > 1 and high - low > 0.01 * high:
        limit = (low + high) / 2
        ranges = _runs(datasets, limit)
        if len(ranges) <= parts:
            best, high = ranges, limit
        else:
            low = limit
    return best


def _runs(datasets: Sequence[Dataset], limit: float) -> list[range]:
    """Ranges whose cost is within a limit, or that hold one data set."""
    start, tokens = 0, 0
    ranges = []
    for index, data in enumerate(datasets):
        if index > start and tokens + data.tokens + STEP * datasets[start].steps > limit:
            ranges.append(range(start, index))
            start, tokens = index, 0
        tokens += data.tokens
    return [*ranges, range(start, len(datasets))]


def _train(
    learner: Learner,
    bank: TrainableBank,
    attached: Bank,
    anchors: Anchors | None,
    members: range,
    datasets: Sequence[Dataset],
    tokens_per_pass: int | None,
    progress: Callable[[int, int], None] | None,
    stop: Event,
) -> list[TrainStats]:
    """Trains neighboring adapters of a bank, which is part of the attached one; see `finetune`."""
    orders = [data_order(data.seed, len(data.examples), data.config) for data in datasets]
    totals = np.array([len(order) for order in orders])
    tokens = np.zeros(len(members), dtype=np.int64)
    last = np.full(len(members), math.nan)
    optimizer = _AdamW(bank, members, datasets, totals)
    longest = int(totals.max(initial=0))
    for step in range(longest):
        if stop.is_set():
            break
        active = np.flatnonzero(totals > step)
        batches = [[datasets[k].examples[int(i)] for i in orders[k][step]] for k in active.tolist()]
        owners = active + members.start
        last[active] = _accumulate(learner, attached, anchors, owners, batches, tokens_per_pass)
        optimizer.step(step)
        tokens[active] += [sum(len(e.ids) for e in batch) for batch in batches]
        if progress is not None:
            progress(step + 1, longest)
    weights = bank.weights[members.start : members.stop]
    # The largest weight of each: isfinite would copy all weights.
    largest = torch.linalg.vector_norm(weights, ord=math.inf, dim=1)
    finite = torch.isfinite(largest).cpu().numpy()
    failed = ~finite | ((totals > 0) & ~np.isfinite(last))
    return [
        TrainStats(int(n), int(t), float(loss), bool(bad))
        for n, t, loss, bad in zip(totals, tokens, last, failed, strict=True)
    ]


def _accumulate(
    learner: Learner,
    bank: Bank,
    anchors: Anchors | None,
    active: np.ndarray,
    batches: Sequence[Sequence[Example]],
    tokens_per_pass: int | None,
) -> np.ndarray:
    """Adds the gradients of the adapters' mean losses to the bank; returns the losses, (A,)."""
    pieces = [
        _Piece(int(owner), examples, sum(len(e.ids) for e in examples))
        for owner, batch in zip(active, batches, strict=True)
        for examples in _cut(batch, tokens_per_pass)
    ]
    labels = np.zeros(bank.count, dtype=np.int64)
    np.add.at(labels, [p.owner for p in pieces], [p.labels for p in pieces])
    sums = np.zeros(bank.count)
    for part in _passes(pieces, tokens_per_pass):
        owners, losses = _one_pass(learner, bank, anchors, part, labels)
        np.add.at(sums, owners, losses)
    return sums[active]


class _Piece(NamedTuple):
    """Sequences of one adapter in one pass."""

    owner: int
    examples: Sequence[Example]
    tokens: int

    @property
    def labels(self) -> int:
        return sum(len(e.labels) for e in self.examples)


def _cut(batch: Sequence[Example], limit: int | None) -> list[Sequence[Example]]:
    """Pieces of one adapter's batch within a limit of tokens, which depend on the batch alone."""
    if limit is None:
        return [batch]
    pieces: list[list[Example]] = [[]]
    used = 0
    for example in batch:
        if pieces[-1] and used + len(example.ids) > limit:
            pieces.append([])
            used = 0
        pieces[-1].append(example)
        used += len(example.ids)
    return list(pieces)


def _passes(pieces: Sequence[_Piece], limit: int | None) -> list[list[_Piece]]:
    """Passes of about equal size, with pieces of similar length together."""
    if limit is None:
        return [list(pieces)]
    total = sum(piece.tokens for piece in pieces)
    share = total / -(-total // limit)
    passes: list[list[_Piece]] = [[]]
    used = 0
    # A stable sort: pieces of one adapter keep the order in which gradients are summed.
    for piece in sorted(pieces, key=lambda p: bucket(p.tokens)):
        if passes[-1] and (used + piece.tokens / 2 > share or used + piece.tokens > limit):
            passes.append([])
            used = 0
        passes[-1].append(piece)
        used += piece.tokens
    return passes


def _one_pass(
    learner: Learner,
    bank: Bank,
    anchors: Anchors | None,
    pieces: Sequence[_Piece],
    labels_of: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One forward and backward pass; returns adapter and share of the loss per label, (M,)."""
    examples = [example for piece in pieces for example in piece.examples]
    owners = np.repeat([p.owner for p in pieces], [len(p.examples) for p in pieces])
    # The last token is a label only: nothing follows it.
    texts = [e.ids[:-1] for e in examples]
    layout = Layout(texts, owners.tolist(), learner.device)
    rows: list[np.ndarray] = []
    labels: list[int] = []
    counts: list[int] = []
    for start, example in zip(layout.starts, examples, strict=True):
        positions = example.labels
        rows.append(start + positions - 1)
        labels += [example.ids[position] for position in positions]
        counts.append(len(positions))
    owner_of_label, chosen = np.repeat(owners, counts), np.concatenate(rows)
    if anchors is not None:
        before = anchors.hidden(texts, owners.tolist(), [e.labels - 1 for e in examples])
    with torch.enable_grad():
        hidden = learner.hidden(layout.row, FullPass(layout), bank)
        if anchors is None:
            losses = learner.losses(hidden, chosen, labels)
        else:
            losses = anchors.losses(hidden, chosen, labels, before, owner_of_label)
        weights = torch.from_numpy(1.0 / labels_of[owner_of_label]).to(losses)
        (losses * weights).sum().backward()
    return owner_of_label, (losses.detach() * weights).cpu().numpy()


class _Group(NamedTuple):
    """Schedule that several adapters share."""

    steps: int
    """Optimizer steps of each."""
    config: FinetuneConfig


class _AdamW:
    """Torch's fused AdamW with one parameter per adapter and one parameter group per `_Group`."""

    def __init__(
        self, bank: TrainableBank, members: range, datasets: Sequence[Dataset], totals: np.ndarray
    ) -> None:
        assert bank.grads is not None
        rows = slice(members.start, members.stop)
        self.grads, self.steps = bank.grads[rows], totals
        clips = torch.tensor([data.config.max_grad_norm for data in datasets], dtype=torch.float32)
        self.clips = clips.to(self.grads.device)
        self.masks = {
            k: bank.mask(data.layers) for k, data in enumerate(datasets) if data.layers is not None
        }
        parameters = [nn.Parameter(row) for row in bank.weights[rows]]
        members_of: dict[_Group, list[nn.Parameter]] = {}
        for parameter, data, total in zip(parameters, datasets, totals.tolist(), strict=True):
            if total:
                members_of.setdefault(_Group(total, data.config), []).append(parameter)
        self.groups = list(members_of)
        groups = [
            {"params": params, "weight_decay": group.config.weight_decay}
            for group, params in members_of.items()
        ]
        self.inner = torch.optim.AdamW(groups, lr=0.0, fused=True) if groups else None
        # All moments in two tensors, shape (K, P): thousands of small ones would fragment memory.
        first, second = torch.zeros_like(self.grads), torch.zeros_like(self.grads)
        for k, parameter in enumerate(parameters):
            parameter.grad = self.grads[k]
            if self.inner is not None:
                steps = torch.zeros((), device=first.device)
                moments = {"step": steps, "exp_avg": first[k], "exp_avg_sq": second[k]}
                self.inner.state[parameter] = moments

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Takes one step of the unfinished adapters, and clears the gradients."""
        assert self.inner is not None
        for settings, group in zip(self.inner.param_groups, self.groups, strict=True):
            settings["lr"] = group.config.learning_rate * (1 - step / group.steps)
        for k, mask in self.masks.items():
            self.grads[k].mul_(mask)
        going = int((self.steps > step).sum())  # those with most steps come first
        grads = self.grads[:going]
        norms = torch.linalg.vector_norm(grads, dim=1)
        grads.mul_((self.clips[:going] / (norms + 1e-6)).clamp(max=1.0)[:, None])
        self.inner.step()
        grads.zero_()
        stay = [group.steps > step + 1 for group in self.groups]
        if not all(stay):
            settings_of = self.inner.param_groups
            self.inner.param_groups = [s for s, on in zip(settings_of, stay, strict=True) if on]
            self.groups = [group for group, on in zip(self.groups, stay, strict=True) if on]
