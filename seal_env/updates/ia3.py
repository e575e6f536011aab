"""Finetuning of rescaling vectors: (IA)^3 by Liu et al. 2022 (arXiv 2205.05638, section 3.3).

A vector per layer rescales its keys, one its values, and one the activations inside its MLP. A
learner then has some thousands of numbers beyond the base, where a LoRA adapter has tens of
thousands. They are stored as offsets d from 1, so that zeros are the untouched base:

    keys, values:   y = (1 + d) * (W x + b)
    MLP:            y = W ((1 + d) * x) + b

Dimensions as in `seal_env.engine.banks`; N is O for keys and values, I for the MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch.nn.functional as F
from peft.utils import constants
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from seal_env.engine.banks import add_at, add_blocks
from seal_env.engine.config import LoraConfig
from seal_env.engine.lora import ALL_LINEAR, Target, find_targets
from seal_env.engine.passes import Pass
from seal_env.engine.trainable import TrainableBank, TrainableState
from seal_env.errors import UserError
from seal_env.updates.base import UpdateContext
from seal_env.updates.finetuning import Finetuning

_MODULES = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
_OF_INPUT = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING


def rescaled_modules(model: Any) -> dict[Target, bool]:
    """PEFT's default modules for a model's architecture, and whether their input is rescaled.

    Raises:
        UserError: PEFT has no default that the model has.
    """
    kinds = (model.config.get_text_config().model_type, model.config.model_type)
    names, of_input = (
        tuple(f".{name}" for kind in kinds for name in table.get(kind, ()))
        for table in (_MODULES, _OF_INPUT)
    )
    linear = find_targets(model, LoraConfig(targets=(ALL_LINEAR,)))
    rescaled = {t: t.name.endswith(of_input) for t in linear if t.name.endswith(names)}
    if not rescaled:
        raise UserError(f"(IA)^3 has no modules to rescale in a model of the kind {kinds[-1]!r}")
    return rescaled


class IA3Bank(TrainableBank):
    """Rescaling vectors of K learners."""

    def __init__(self, model: PreTrainedModel, count: int) -> None:
        self.model = model
        rescaled = rescaled_modules(model).items()
        self.rescaled = {target.name: of_input for target, of_input in rescaled}
        shapes = {t.name: ((t.inputs if of_input else t.outputs,),) for t, of_input in rescaled}
        super().__init__(shapes, count, model.device)

    def adapter(self, name: str, run: Pass) -> Rescaling | None:
        """See `Bank.adapter`."""
        if name not in self.matrices:
            return None
        module: Any = self.model.get_submodule(name)
        weight = module.weight.t() if isinstance(module, Conv1D) else module.weight
        offsets = [vectors[0][:, None] for vectors in self.taken(name, run)]
        trigger, grads = self.matrices[name][0], self.grad_views.get(name)
        return Rescaling(trigger, offsets, grads, weight, self.rescaled[name])

    def state_of(self, index: int) -> IA3State:
        """See `TrainableBank.state_of`."""
        return IA3State(self.copy_of(index))


class IA3State(TrainableState):
    """A learner with rescaling vectors."""

    @classmethod
    def bank(cls, states: Sequence[IA3State | None], model: PreTrainedModel) -> IA3Bank:
        """See `LearnerState.bank`."""
        bank = IA3Bank(model, len(states))
        bank.load(states)
        return bank


class Rescaling(NamedTuple):
    """Products of one module, see the top of the file."""

    trigger: Tensor
    """See `Products.trigger`."""
    offsets: Sequence[Tensor]
    """d of each group of the pass, shape (G, 1, N)."""
    grads: tuple[Tensor, ...] | None
    """Gradient of d, shape (K, N); None without training."""
    weight: Tensor
    """W, shape (O, I), frozen."""
    of_input: bool
    """Whether the input is rescaled, not the output."""

    def _scaled(self, blocks: Sequence[Tensor], run: Pass) -> Tensor:
        """Rows times d, shape (T, N)."""
        scaled = [rows * d for rows, d in zip(blocks, self.offsets, strict=True)]
        return run.join(scaled).to(self.weight.dtype)

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """See `Products.add`."""
        if self.of_input:
            out.add_(F.linear(self._scaled(blocks, run), self.weight))
            return []
        hidden = run.split(out)
        out.add_(self._scaled(hidden, run))
        return hidden

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
        rescaled = blocks if self.of_input else hidden
        if self.of_input:  # the gradient of the rescaled input, before it is rescaled
            outer = run.split(run.join(outer).to(self.weight.dtype) @ self.weight)
        for owners, grad, rows in zip(run.groups, outer, rescaled, strict=True):
            add_at(self.grads[0], owners, (grad * rows).sum(1))
        if inner is None:
            return
        parts = [grad * d for grad, d in zip(outer, self.offsets, strict=True)]
        if not self.of_input:
            parts = run.split(run.join(parts).to(self.weight.dtype) @ self.weight)
        add_blocks(inner, parts)


class IA3Finetuning(Finetuning):
    """Next-token training of rescaling vectors in place of a LoRA adapter."""

    state: ClassVar = IA3State

    @classmethod
    def new_bank(cls, seeds: Sequence[int], context: UpdateContext) -> IA3Bank:
        """See `Finetuning.new_bank`; all learners start from the base, whatever the seed."""
        return IA3Bank(context.learner.model, len(seeds))
