"""Settings of LoRA adapters and of their finetuning: plain data, importable without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seal_env.engine.fields import set_checked
from seal_env.errors import UserError

LARGEST_RANK = 1 << 14
"""Bound on the rank, above the width of any model's matrices."""
MOST_EPOCHS = 100_000
"""Bound on the epochs, since the order of the data of all epochs is held in memory."""


@dataclass(frozen=True)
class LoraConfig:
    """Shape of an adapter."""

    rank: int = 32
    """Rank of the update (SEAL: 32)."""
    alpha: float = 64.0
    """Numerator of the update's factor, alpha / rank (SEAL: 64)."""
    targets: tuple[str, ...] = ()
    """Last parts of the names of the adapted modules; empty for PEFT's default for the
    architecture, or every linear layer where it has none; ``("all-linear",)`` for every linear
    layer but the output head."""

    def __post_init__(self) -> None:
        set_checked(self)
        if not 1 <= self.rank <= LARGEST_RANK or not math.isfinite(self.alpha):
            raise UserError(
                f"LoRA rank {self.rank}, alpha {self.alpha}: rank must be from 1 to "
                f"{LARGEST_RANK}, alpha finite"
            )


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of AdamW (Loshchilov & Hutter 2019) with linear decay to zero."""

    learning_rate: float = 1e-3
    """Learning rate of the first step (SEAL: 1e-3)."""
    epochs: int = 10
    """Passes over the data (SEAL: 10)."""
    batch_size: int = 1
    """Sequences per optimizer step (SEAL: 1)."""
    weight_decay: float = 0.0
    """Coefficient of the decoupled weight decay."""
    max_grad_norm: float = 1.0
    """Largest norm of an adapter's gradient; longer ones are scaled down to it."""

    def __post_init__(self) -> None:
        set_checked(self)
        numbers = (self.learning_rate, self.weight_decay, self.max_grad_norm)
        if not all(math.isfinite(x) and x >= 0 for x in numbers) or self.max_grad_norm == 0:
            raise UserError(
                f"learning rate, weight decay, max_grad_norm {numbers}: must be finite, not < 0"
            )
        if not 1 <= self.epochs <= MOST_EPOCHS or self.batch_size < 1:
            raise UserError(
                f"epochs {self.epochs}, batch size {self.batch_size}: epochs must be from 1 to "
                f"{MOST_EPOCHS}, the batch size at least 1"
            )

    def steps(self, count: int) -> int:
        """Optimizer steps for a number of sequences."""
        return self.epochs * -(-count // self.batch_size)
