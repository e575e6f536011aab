"""Finetuning of all linear layers of a small model, in place of an adapter.

A learner has an addend D for the matrix W of every linear layer but the output head, and computes
(W + D) x. Embeddings, norms, biases and the head stay. D is as large as W: K learners take K
times the model's memory, and four times that in training (weights, gradients, two moments).

Dimensions as in `seal_env.engine.banks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from seal_env.engine.banks import add_at, add_blocks, product
from seal_env.engine.capacity import STATES
from seal_env.engine.config import LoraConfig
from seal_env.engine.lora import ALL_LINEAR, find_targets
from seal_env.engine.passes import Pass
from seal_env.engine.trainable import TrainableBank, TrainableState
from seal_env.updates.base import UpdateContext
from seal_env.updates.finetuning import Finetuning


class FullBank(TrainableBank):
    """Addends of all linear layers of K learners."""

    def __init__(self, model: PreTrainedModel, count: int) -> None:
        targets = find_targets(model, LoraConfig(targets=(ALL_LINEAR,)))
        shapes = {target.name: ((target.outputs, target.inputs),) for target in targets}
        super().__init__(shapes, count, model.device)

    def adapter(self, name: str, run: Pass) -> FullProducts | None:
        """See `Bank.adapter`."""
        if name not in self.matrices:
            return None
        addends = [matrices[0] for matrices in self.taken(name, run)]
        return FullProducts(self.matrices[name][0], addends, self.grad_views.get(name))

    def state_of(self, index: int) -> FullState:
        """See `TrainableBank.state_of`."""
        return FullState(self.copy_of(index))


class FullState(TrainableState):
    """A learner with addends for all linear layers."""

    @classmethod
    def bank(cls, states: Sequence[FullState | None], model: PreTrainedModel) -> FullBank:
        """See `LearnerState.bank`."""
        bank = FullBank(model, len(states))
        bank.load(states)
        return bank


class FullProducts(NamedTuple):
    """Products of one module: D_k x for each row x of a learner k."""

    trigger: Tensor
    """See `Products.trigger`."""
    addends: Sequence[Tensor]
    """D of each group of the pass, shape (G, O, I)."""
    grads: tuple[Tensor, ...] | None
    """Gradient of D, shape (K, O, I); None without training."""

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """See `Products.add`."""
        pairs = zip(blocks, self.addends, strict=True)
        out.add_(run.join([product(rows, d.transpose(1, 2)) for rows, d in pairs]))
        return []

    def backward(
        self,
        outer: Sequence[Tensor],
        blocks: Sequence[Tensor],
        hidden: Sequence[Tensor],
        run: Pass,
        inner: list[Tensor] | None,
    ) -> None:
        """See `Products.backward`."""
        assert self.grads is not None
        for owners, grad, rows in zip(run.groups, outer, blocks, strict=True):
            add_at(self.grads[0], owners, product(grad.transpose(1, 2), rows))
        if inner is not None:
            add_blocks(inner, self.input_grad(outer, run))

    def input_grad(self, outer: Sequence[Tensor], run: Pass) -> list[Tensor]:
        """See `FrozenProducts.input_grad`."""
        return [product(grad, d) for grad, d in zip(outer, self.addends, strict=True)]


class FullFinetuning(Finetuning):
    """Next-token training of all linear layers in place of a LoRA adapter."""

    state: ClassVar = FullState

    def numbers(self, start: Any, context: UpdateContext) -> int:
        """See `Update.numbers`."""
        return STATES * FullBank(context.learner.model, 0).size

    @classmethod
    def new_bank(cls, seeds: Sequence[int], context: UpdateContext) -> FullBank:
        """See `Finetuning.new_bank`; all learners start from the base, whatever the seed."""
        return FullBank(context.learner.model, len(seeds))
