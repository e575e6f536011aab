"""A fixed, seeded basis of an adapter's weights: a few directions that an action can go along.

An adapter changes a matrix W by s B A, with s = alpha / rank (LoRA, arXiv 2106.09685). A is drawn
once, from the seed, and is the same for every vector of the basis; a vector is a B. So the change
of W is linear in the coefficients:

    W(c) = W + s (c_1 B_1 + ... + c_n B_n) A

and two actions that follow each other add up. Vector i is drawn from the seed and i alone; every
entry of its B is normal, and its B is scaled for each adapted matrix so that coefficient 1 changes
the matrix by its own Frobenius norm. The vectors are all but orthogonal (random directions of many
dimensions), so coefficients c change each matrix by about the length of c times its norm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seal_env.engine.config import LoraConfig
from seal_env.engine.deltas import norm_of
from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank, Target
from seal_env.hashing import stable_hash

CPU = torch.device("cpu")


class Basis:
    """Vectors in the weights of an adapter, laid out as an `AdapterBank` of one holds them.

    Args:
        learner: The model; its matrices' norms set the scale.
        targets: The adapted modules.
        config: Rank and scale of the adapter.
        seed: Fixes A and all vectors.
    """

    def __init__(
        self, learner: Learner, targets: Sequence[Target], config: LoraConfig, seed: int = 0
    ) -> None:
        self.targets, self.config, self.seed = tuple(targets), config, seed
        self._norms = {target.name: norm_of(learner, target.name) for target in targets}
        bank = AdapterBank(targets, config, 1, CPU)
        bank.initialize([stable_hash("basis", seed)])
        self.start = bank.copy_of(0)
        """The adapter that changes nothing: A, and zero for B; shape (size,)."""
        self._grams = {name: (a[0] @ a[0].t()).double() for name, (a, _) in bank.matrices.items()}
        self._vectors: dict[int, Tensor] = {}

    def vector(self, index: int) -> Tensor:
        """One vector, shape (size,): zero in A's place."""
        if index not in self._vectors:
            bank = AdapterBank(self.targets, self.config, 1, CPU)
            generator = torch.Generator().manual_seed(stable_hash("basis", self.seed, index))
            factor = self.config.alpha / self.config.rank
            for name, (_, views) in bank.matrices.items():
                b = torch.randn(views[0].shape, generator=generator)
                # |B A|^2 is the trace of B (A A^T) B^T: nothing of W's size is computed.
                wide = b.double()
                square = float(((wide @ self._grams[name]) * wide).sum())
                length = abs(factor) * square**0.5
                views[0] = b * (self._norms[name] / length if length > 0 else 0.0)
            self._vectors[index] = bank.copy_of(0)
        return self._vectors[index]

    def weights(self, coefficients: Sequence[float], start: Tensor | None = None) -> Tensor:
        """The adapter that coefficients lead to, shape (size,), float32, on the CPU.

        Args:
            coefficients: One a vector, beginning with vector 0.
            start: What they are counted from (a stream): an adapter that this basis made. None
                for the untouched model.
        """
        total = (self.start if start is None else start.to(CPU)).clone()
        for index, coefficient in enumerate(coefficients):
            total.add_(self.vector(index), alpha=float(np.float32(coefficient)))
        return total
