"""Finetuning of K adapters side by side, each exactly as if it were alone.

One optimiser step of all adapters is one pass over one row that holds the next batch of each.
Losses are means per adapter, gradients are clipped per adapter, learning rates follow each
adapter's own schedule, and an adapter that has had all its steps leaves the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seal_env.adapters import AdapterBank
from seal_env.errors import UserError
from seal_env.learner import Learner
from seal_env.packing import FullPass, Layout

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of AdamW (Loshchilov & Hutter 2019) with linear decay to zero."""

    learning_rate: float = 1e-3
    """Highest learning rate (SEAL: 1e-3)."""
    epochs: int = 10
    """Passes over the data (SEAL: 10)."""
    batch_size: int = 1
    """Sequences in an optimiser step (SEAL: 1)."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    clip: float = 1.0
    """Largest norm of an adapter's gradient; longer ones are scaled down to it."""

    def __post_init__(self) -> None:
        numbers = (self.learning_rate, self.weight_decay, self.clip)
        if not all(math.isfinite(x) and x >= 0 for x in numbers) or self.clip == 0:
            raise UserError(f"learning rate, weight decay, clip {numbers}: must be finite, not < 0")
        if self.epochs < 1 or self.batch_size < 1:
            raise UserError(
                f"epochs {self.epochs}, batch size {self.batch_size}: must be 1 or more"
            )

    def steps(self, count: int) -> int:
        """Optimiser steps for so many sequences."""
        return self.epochs * -(-count // self.batch_size)


@dataclass(frozen=True)
class Example:
    """One training sequence."""

    ids: tuple[int, ...]
    """Token ids, at least two."""
    unscored: int = 0
    """Leading tokens (a prompt) that are read but not learned."""


@dataclass(frozen=True)
class Trained:
    """What finetuning one adapter took."""

    steps: int
    """Optimiser steps."""
    tokens: int
    """Tokens trained on, over all epochs."""
    loss: float
    """Mean loss per token of the last step (NaN without steps)."""
    failed: bool
    """Whether the loss or the weights stopped being finite."""


def data_order(seed: int, count: int, config: FinetuneConfig) -> list[np.ndarray]:
    """Which sequences each optimiser step takes: a fresh order every epoch, from the seed alone."""
    generator = np.random.default_rng(seed)
    batches: list[np.ndarray] = []
    for _ in range(config.epochs):
        order = generator.permutation(count)
        batches += [order[i : i + config.batch_size] for i in range(0, count, config.batch_size)]
    return batches


def finetune(
    learner: Learner,
    bank: AdapterBank,
    datasets: Sequence[Sequence[Example]],
    config: FinetuneConfig,
    seeds: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> list[Trained]:
    """Trains every adapter of a bank on its own data, in place.

    Args:
        learner: The frozen base.
        bank: K adapters. Weights are changed, nothing else is.
        datasets: The sequences of each; an empty one leaves its adapter as it is.
        config: The optimiser's settings.
        seeds: One an adapter; fix its data order.
        progress: Called with (steps done, steps in all) of the longest adapter.

    Returns:
        One record an adapter.
    """
    orders = [data_order(s, len(d), config) for s, d in zip(seeds, datasets, strict=True)]
    totals = np.array([len(order) for order in orders])
    tokens = np.zeros(bank.count, dtype=np.int64)
    last = np.full(bank.count, math.nan)
    optimiser = _AdamW(bank, config, totals)
    longest = int(totals.max(initial=0))
    try:
        for step in range(longest):
            active = np.flatnonzero(totals > step)
            batches = [[datasets[k][int(i)] for i in orders[k][step]] for k in active.tolist()]
            losses = _accumulate(learner, bank, active, batches)
            optimiser.step(step, active)
            last[active] = losses
            tokens[active] += [sum(len(e.ids) for e in batch) for batch in batches]
            if progress is not None:
                progress(step + 1, longest)
    finally:
        bank.drop_grads()
    finite = torch.isfinite(bank.weights).all(dim=1).cpu().numpy()
    failed = ~finite | ((totals > 0) & ~np.isfinite(last))
    return [
        Trained(int(n), int(t), float(loss), bool(bad))
        for n, t, loss, bad in zip(totals, tokens, last, failed, strict=True)
    ]


def _accumulate(
    learner: Learner, bank: AdapterBank, active: np.ndarray, batches: Sequence[Sequence[Example]]
) -> np.ndarray:
    """Adds the gradient of each adapter's mean loss to the bank; returns the losses."""
    examples = [example for batch in batches for example in batch]
    owners = np.repeat(active, [len(batch) for batch in batches])
    layout = Layout([e.ids for e in examples], owners.tolist(), learner.device)
    rows: list[np.ndarray] = []
    labels: list[int] = []
    counts: list[int] = []
    for start, example in zip(layout.starts, examples, strict=True):
        first = max(1, example.unscored)
        rows.append(np.arange(start + first - 1, start + len(example.ids) - 1))
        labels += example.ids[first:]
        counts.append(len(example.ids) - first)
    tokens = np.bincount(owners, counts, minlength=bank.count)[active]
    owner_of_token = np.repeat(np.searchsorted(active, owners), counts)
    with torch.enable_grad():
        hidden = learner.hidden(layout.row, FullPass(layout), bank)
        losses = learner.losses(hidden, np.concatenate(rows), labels)
        weights = torch.from_numpy(1.0 / tokens[owner_of_token]).to(losses)
        (losses * weights).sum().backward()
    values = (losses.detach() * weights).cpu().numpy()
    return np.bincount(owner_of_token, values, minlength=len(active))


class _AdamW:
    """AdamW over all adapters at once; every operation is element-wise or per adapter."""

    def __init__(self, bank: AdapterBank, config: FinetuneConfig, totals: np.ndarray) -> None:
        bank.require_grads()
        self.bank, self.config, self.totals = bank, config, totals
        self.first = torch.zeros_like(bank.weights)
        self.second = torch.zeros_like(bank.weights)

    @torch.no_grad()
    def step(self, step: int, active: np.ndarray) -> None:
        """One step of the active adapters; clears their gradients."""
        config, bank = self.config, self.bank
        rates = config.learning_rate * (1 - step / np.maximum(self.totals[active], 1))
        everyone = len(active) == bank.count
        index = slice(None) if everyone else torch.from_numpy(active).to(bank.weights.device)
        assert bank.grads is not None
        weights, grads = bank.weights[index], bank.grads[index]
        first, second = self.first[index], self.second[index]
        rate = torch.from_numpy(rates).to(weights)[:, None]
        grads.mul_((config.clip / (_norms(grads) + 1e-6)).clamp(max=1.0)[:, None])
        # No lerp_: in the middle of a vector and at its end it rounds differently, so that an
        # adapter's weights would depend on its place in the bank.
        second.mul_(BETAS[1]).addcmul_(grads, grads, value=1 - BETAS[1])
        first.mul_(BETAS[0]).add_(grads.mul_(1 - BETAS[0]))
        # The gradient's memory takes the update: no temporary of the bank's size is needed.
        torch.sqrt(second, out=grads)
        grads.div_(math.sqrt(1 - BETAS[1] ** (step + 1))).add_(EPSILON)
        torch.div(first, grads, out=grads)
        weights.mul_(1 - rate * config.weight_decay)
        weights.sub_(grads.mul_(rate / (1 - BETAS[0] ** (step + 1))))
        if not everyone:
            bank.weights[index], self.first[index], self.second[index] = weights, first, second
        bank.grads.zero_()


def _norms(grads: Tensor) -> Tensor:
    """Norm of each row. Summed in double precision, so that the order of the sum is no matter."""
    return grads.double().square().sum(dim=1).sqrt().to(grads.dtype)
