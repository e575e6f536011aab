"""Banks that can be trained: the weights of K learners as one tensor, with gradients beside it.

`seal_env.engine.training` trains any of them. A kind of its own says which matrices one learner
has, and what they add to the outputs of the modules.

Dimensions:
    - K: learners of the bank.
    - P: weights of one learner, the zeros between its matrices included.
    - G: learners in one group of a pass.
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seal_env.engine.banks import Bank, LearnerState, aligned, take
from seal_env.engine.passes import Pass

Shape = tuple[int, ...]


def layer_of(name: str) -> int | None:
    """Index of the layer that a module's name says, from 0; None outside of layers."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None


@dataclass(frozen=True, eq=False)
class TrainableState(LearnerState):
    """A learner of a bank that can be trained."""

    weights: Tensor
    """Weights as in a bank of one: float32, shape (P,), on the CPU."""

    @property
    def size(self) -> int:
        """See `LearnerState.size`."""
        return self.weights.numel()

    def norm(self) -> float:
        """See `LearnerState.norm`."""
        return float(self.weights.double().norm())


class TrainableBank(Bank):
    """The weights of K learners, stacked.

    Args:
        shapes: Shapes of the matrices that one learner has in a module, by module name.
        count: Number of learners, K.
        device: Device of the weights, which are always float32, and all 0 at first.
    """

    def __init__(
        self, shapes: Mapping[str, Sequence[Shape]], count: int, device: torch.device
    ) -> None:
        self.count = count
        self._shapes = shapes
        size = sum(aligned(math.prod(shape)) for group in shapes.values() for shape in group)
        self.weights = torch.zeros(count, size, device=device)
        """All weights, float32, shape (K, P); the matrices below are views of it."""
        self.grads: Tensor | None = None
        self.grad_views: dict[str, tuple[Tensor, ...]] = {}
        """Views of the gradients, like `matrices`; empty without training."""
        self.matrices = self._views(self.weights)
        """The matrices of a module, each ``(K, *shape)``, by module name."""

    @property
    def size(self) -> int:
        """P, weights of one learner, with the zeros that keep its matrices aligned."""
        return self.weights.shape[1]

    @property
    def modules(self) -> Sequence[str]:
        """See `Bank.modules`."""
        return list(self._shapes)

    def _views(self, flat: Tensor) -> dict[str, tuple[Tensor, ...]]:
        views, start, count = {}, 0, len(flat)
        for name, shapes in self._shapes.items():
            matrices = []
            for shape in shapes:
                size = math.prod(shape)
                matrices.append(flat[:, start : start + size].view(count, *shape))
                start += aligned(size)
            views[name] = tuple(matrices)
        return views

    def taken(self, name: str, run: Pass) -> list[tuple[Tensor, ...]]:
        """The matrices of one module, each ``(G, *shape)``, for each group of a pass."""
        # The weights of a pass are gathered once, not once per module.
        if self not in run.cache:
            run.cache[self] = [self._views(take(self.weights, owners)) for owners in run.groups]
        return [views[name] for views in run.cache[self]]

    @abstractmethod
    def state_of(self, index: int) -> TrainableState:
        """One learner's state, which later training of the bank does not change."""

    def load(self, states: Sequence[TrainableState | None]) -> None:
        """Sets the learners' weights to those of states, one per learner; None leaves them."""
        for index, state in enumerate(states):
            if state is not None:
                self.weights[index] = state.weights.to(self.weights.device)

    def reorder(self, order: np.ndarray) -> None:
        """Permutes the learners' weights in place, with room for one copy; gradients stay.

        Args:
            order: Index of the learner that becomes first, second and so on, shape (K,).
        """
        after = dict(enumerate(order.tolist()))
        while after:
            first, source = after.popitem()
            saved, target = self.weights[first].clone(), first
            while source != first:
                self.weights[target] = self.weights[source]
                target, source = source, after.pop(source)
            self.weights[target] = saved

    def require_grads(self) -> None:
        """Allocates `grads`, shape (K, P), to which backward passes add."""
        self.grads = torch.zeros_like(self.weights)
        self.grad_views = self._views(self.grads)
        for views in self.matrices.values():
            for matrix in views:
                matrix.requires_grad_(True)

    def drop_grads(self) -> None:
        """Frees the gradients and freezes the weights."""
        self.grads = None
        self.grad_views = {}
        for views in self.matrices.values():
            for matrix in views:
                matrix.requires_grad_(False)

    def mask(self, layers: Sequence[int]) -> Tensor:
        """Mask of the weights that belong to some of the model's layers.

        Args:
            layers: Indices of layers, from 0.

        Returns:
            1.0 for weights of these layers, 0.0 for all others, shape (P,).
        """
        mask = torch.zeros(1, self.size, device=self.weights.device)
        for name, views in self._views(mask).items():
            if layer_of(name) in layers:
                for view in views:
                    view.fill_(1.0)
        return mask[0]

    def copy_of(self, index: int) -> Tensor:
        """Copy of one learner's weights, shape (P,), on the CPU."""
        return self.weights[index].detach().cpu().clone()
