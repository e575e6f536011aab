"""Capacity: tokens per pass and adapters per batch that fit into the free memory.

It is computed before anything is allocated, from measurements of the model and the free memory.
The result of a self-edit does not depend on it, only the number of self-edits per pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seal_env.engine.config import LoraConfig
from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank, Target
from seal_env.engine.memory import available_memory
from seal_env.engine.packing import CPU, Layout, bucket, padded_rows
from seal_env.engine.passes import FullPass
from seal_env.errors import UserError

QUICK = {"cpu": 1024}
"""Tokens per pass at which throughput saturates, by device type: on a CPU smaller passes stay in
its caches once the matrix products are large enough."""
QUICK_ELSEWHERE = 32768
"""Tokens per pass at which throughput saturates on other devices."""
SHARE = 0.5
"""Fraction of the free memory that may be used."""
STATES = 5
"""Numbers in memory per weight of an adapter: the weight, its gradient, Adam's two moments, and
the copy of a pass."""
_PROBES = (128, 256)
"""Tokens of the texts on which memory is measured: lengths without padding on any device."""


@dataclass(frozen=True)
class Cost:
    """Memory of sequences between their forward and backward pass, in bytes."""

    token: float
    """Bytes per row of tokens, spare ones included."""
    pair: float
    """Bytes per pair of tokens of a sequence, where attention saves its scores."""
    device: torch.device = CPU
    """Device of the tensors, on which padding depends."""

    def of(self, length: int) -> float:
        """Bytes for one sequence of `length` tokens."""
        return self.token * padded_rows(length) + self.pair * bucket(length, self.device) ** 2

    def fitting(self, room: float, longest: int) -> int:
        """Tokens that fit into `room` bytes, in sequences of at most `longest` tokens."""
        if self.of(longest) <= room:
            return int(room * longest / self.of(longest))
        fits, too_many = 0, longest
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            fits, too_many = (middle, too_many) if self.of(middle) <= room else (fits, middle)
        return fits


def token_budget(
    learner: Learner,
    targets: Sequence[Target],
    lora: LoraConfig,
    longest: int,
    asked: int | None,
) -> int:
    """Bound on the tokens of one training pass.

    Args:
        learner: The model.
        targets: The adapted modules.
        lora: Shape of the adapters.
        longest: Tokens of the longest possible sequence.
        asked: The user's setting; None to compute it.

    Raises:
        UserError: The setting is too small for the longest sequence.
    """
    if asked is not None:
        if asked < longest:
            raise UserError(
                f"tokens_per_pass {asked}: too small for one sequence, which may have {longest} "
                f"tokens; raise it, or lower max_tokens"
            )
        return asked
    quick = QUICK.get(learner.device.type, QUICK_ELSEWHERE)
    fitting = tokens_that_fit(learner, targets, lora, min(longest, quick))
    return quick if fitting is None else max(1, min(quick, fitting))


def tokens_that_fit(
    learner: Learner, targets: Sequence[Target], lora: LoraConfig, longest: int
) -> int | None:
    """Tokens whose activations fit into the free memory; None where that is unknown.

    Args:
        learner: The model.
        targets: The adapted modules.
        lora: Shape of the adapters.
        longest: Tokens of the longest sequence.
    """
    free = available_memory(learner.device)
    if free is None:
        return None
    return memory_cost(learner, targets, lora).fitting(free * SHARE, longest)


def check_fits(
    learner: Learner, targets: Sequence[Target], lora: LoraConfig, budget: int, longest: int
) -> None:
    """Checks that a sequence above the budget, which is a pass by itself, fits into memory.

    Raises:
        UserError: It does not fit.
    """
    if longest <= budget:
        return
    fitting = tokens_that_fit(learner, targets, lora, longest)
    if fitting is not None and fitting < longest:
        raise UserError(
            f"a self-edit has a sequence of {longest} tokens, and the memory that is free allows "
            f"{fitting}; lower max_tokens, or free some memory"
        )


def max_adapters_per_batch(device: torch.device, numbers: int) -> int:
    """Number of learners side by side that fit into memory, at `numbers` float32 values each."""
    free = available_memory(device)
    return 4096 if free is None else max(1, min(4096, int(free * SHARE / (4 * numbers))))


def memory_cost(learner: Learner, targets: Sequence[Target], lora: LoraConfig) -> Cost:
    """Memory cost of sequences, measured once per learner on two short ones.

    Twice the tensors that autograd saves are counted, to allow for temporary ones.
    """
    known: dict[Any, Cost] = learner.cache.setdefault("memory", {})  # freed with the learner
    key = tuple(targets), lora
    if key not in known:
        measured = [2.0 * _bytes_saved(learner, targets, lora, n) for n in _PROBES]
        sizes = [(padded_rows(n), n**2) for n in _PROBES]
        (token, pair), *_ = np.linalg.lstsq(np.array(sizes, dtype=float), np.array(measured))
        known[key] = Cost(max(float(token), 1.0), max(float(pair), 0.0), learner.device)
    return known[key]


def _bytes_saved(learner: Learner, targets: Sequence[Target], lora: LoraConfig, length: int) -> int:
    """Bytes that autograd saves of one sequence for the backward pass."""
    bank = AdapterBank(targets, lora, 1, learner.device)
    bank.require_grads()
    vocabulary = int(learner.model.get_input_embeddings().weight.shape[0])
    layout = Layout([[i % vocabulary for i in range(length)]], [0], learner.device)
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    frozen = {p.untyped_storage().data_ptr() for p in learner.model.parameters()}
    frozen.add(bank.weights.untyped_storage().data_ptr())
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        hidden = learner.hidden(layout.row, FullPass(layout), bank)
    bank.drop_grads()
    del hidden
    return sum(size for address, size in saved.items() if address not in frozen)
