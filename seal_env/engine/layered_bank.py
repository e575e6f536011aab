"""Learners that are trained on top of what they have: frozen products below, trained ones above.

A `LayeredBank` adds the products of two banks to the same modules. Gradients go through both, and
only the upper one learns. A stream that merges or stacks its updates trains each of them in this
way (`seal_env.streams`): the learner goes on from the sum of all earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from seal_env.engine.banks import Bank, FrozenProducts, Products, add_blocks
from seal_env.engine.passes import Pass
from seal_env.engine.trainable import TrainableBank


class LayeredBank(Bank):
    """Two banks of the same K learners.

    Args:
        upper: The bank that is trained.
        lower: What the learners had before. Its products must be `FrozenProducts`.
    """

    def __init__(self, upper: TrainableBank, lower: Bank) -> None:
        self.upper, self.lower, self.count = upper, lower, upper.count
        self._modules = list(dict.fromkeys([*upper.modules, *lower.modules]))

    @property
    def modules(self) -> Sequence[str]:
        """See `Bank.modules`."""
        return self._modules

    def adapter(self, name: str, run: Pass) -> Products | None:
        """See `Bank.adapter`."""
        lower: Any = self.lower.adapter(name, run)
        upper = self.upper.adapter(name, run)
        if lower is None:
            return upper
        # Autograd is told by a trained matrix that there are gradients, also where none is trained.
        trigger = next(iter(self.upper.matrices.values()))[0]
        return _LayeredProducts(trigger, self.upper.grads, upper, lower)


class _LayeredProducts(NamedTuple):
    """The products of both banks for one module."""

    trigger: Tensor
    """See `Products.trigger`."""
    grads: Tensor | None
    """See `Products.grads`."""
    upper: Products | None
    """The trained ones; None where the upper bank has none."""
    lower: FrozenProducts
    """The frozen ones."""

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """See `Products.add`."""
        self.lower.add(out, blocks, run)
        return [] if self.upper is None else self.upper.add(out, blocks, run)

    def backward(
        self,
        outer: Sequence[Tensor],
        blocks: Sequence[Tensor],
        hidden: Sequence[Tensor],
        run: Pass,
        inner: list[Tensor] | None,
    ) -> None:
        """See `Products.backward`."""
        if self.upper is not None:
            self.upper.backward(outer, blocks, hidden, run, inner)
        if inner is not None:
            add_blocks(inner, self.lower.input_grad(outer, run))
