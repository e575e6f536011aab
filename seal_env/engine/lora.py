"""K LoRA adapters side by side on one frozen base (Hu et al. 2021, arXiv 2106.09685).

An `AdapterBank` holds the low-rank matrices of K adapters as stacked tensors. While it is
attached to a model, every target module adds to its output the low-rank product of the
adapter that a token belongs to. An adapter's outputs, gradients and weights are the same to the
bit beside any other adapters.

Dimensions:
    - K: adapters of the bank.
    - P: weights of one adapter, the zeros between its matrices included.
    - R: rank.
    - I, O: inputs and outputs of a target module.
    - T: rows of tokens in a pass, spare ones included.
    - G: adapters in one group of equal padded length L; the sum of G over a pass's groups is the
      number of adapters that have tokens in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from seal_env.engine.banks import add_at, add_blocks, product
from seal_env.engine.config import LoraConfig
from seal_env.engine.passes import Pass
from seal_env.engine.trainable import TrainableBank, TrainableState
from seal_env.errors import UserError

ALL_LINEAR = "all-linear"
"""Target name for every linear layer but the output head."""


@dataclass(frozen=True)
class Target:
    """An adapted module."""

    name: str
    """Name in the model."""
    inputs: int
    """I, width of the input."""
    outputs: int
    """O, width of the output."""


def find_targets(model: nn.Module, config: LoraConfig) -> tuple[Target, ...]:
    """Modules of a model that an adapter config names, in the model's order.

    A config without names selects PEFT's default for the architecture, or every linear layer where
    PEFT has none or the model has no such module.

    Raises:
        UserError: No module has one of the names.
    """
    wanted = config.targets or _default_names(model)
    targets = _modules_named(model, wanted)
    if not targets and not config.targets:
        targets = _modules_named(model, (ALL_LINEAR,))
    if not targets:
        raise UserError(
            f"no linear module is named {' or '.join(wanted) or '(nothing)'}: "
            f"give LoRA targets that the model has, or {ALL_LINEAR!r}"
        )
    return targets


def _default_names(model: Any) -> tuple[str, ...]:
    """PEFT's default targets for a model's architecture; empty if it has none."""
    table = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    kinds = (model.config.model_type, model.config.get_text_config().model_type)
    return next((tuple(table[kind]) for kind in kinds if kind in table), ())


def _modules_named(model: Any, wanted: Sequence[str]) -> tuple[Target, ...]:
    """Linear modules with one of the names as last part, in the layers that read text."""
    inside = {id(module) for module in model.base_model.modules()}
    text = {id(module) for module in model.get_decoder().modules()}
    if text <= inside:  # a part of the layers: others see images
        inside = text
    targets = []
    for name, module in model.named_modules():
        if id(module) not in inside or not _is_linear(module):
            continue
        if ALL_LINEAR in wanted or name.rpartition(".")[2] in wanted:
            shape = module.weight.shape
            turned = shape if isinstance(module, Conv1D) else shape[::-1]
            targets.append(Target(name, int(turned[0]), int(turned[1])))
    return tuple(targets)


def _is_linear(module: nn.Module) -> bool:
    """Whether a module only multiplies by its weights; a subclass may do more."""
    if isinstance(module, Conv1D) or type(module).forward is nn.Linear.forward:
        return True
    if not isinstance(module, nn.Linear):
        return False
    x = torch.linspace(-1, 1, module.in_features).to(module.weight)[None]
    with torch.no_grad():
        own, plain = type(module).forward(module, x), F.linear(x, module.weight, module.bias)
    return isinstance(own, Tensor) and torch.allclose(own, plain, rtol=1e-2, atol=1e-4)


class AdapterBank(TrainableBank):
    """The weights of K adapters, stacked.

    Args:
        targets: The adapted modules.
        config: Rank and scale.
        count: Number of adapters, K.
        device: Device of the weights, which are always float32.
    """

    def __init__(
        self, targets: Sequence[Target], config: LoraConfig, count: int, device: torch.device
    ) -> None:
        self.targets = tuple(targets)
        self.config = config
        rank = config.rank
        shapes = {t.name: ((rank, t.inputs), (t.outputs, rank)) for t in self.targets}
        super().__init__(shapes, count, device)

    def initialize(self, seeds: Sequence[int]) -> None:
        """Sets PEFT's initial weights (A uniform, B zero).

        Args:
            seeds: One seed per adapter, which alone decides its weights.
        """
        self.weights.zero_()
        drawn: dict[int, int] = {}
        for index, seed in enumerate(seeds):
            if seed in drawn:
                self.weights[index] = self.weights[drawn[seed]]
                continue
            generator = torch.Generator().manual_seed(seed)
            whole = torch.zeros(1, self.size)  # copied at once: each copy to a GPU takes long
            views = self._views(whole)
            for target in self.targets:
                a = torch.empty(self.config.rank, target.inputs)
                bound = 1 / math.sqrt(target.inputs)
                views[target.name][0][0] = a.uniform_(-bound, bound, generator=generator)
            self.weights[index] = whole[0].to(self.weights.device)
            drawn[seed] = index

    def adapter(self, name: str, run: Pass) -> Adapter | None:
        """See `Bank.adapter`; None for a module that is no target."""
        if name not in self.matrices:
            return None
        scale = self.config.alpha / self.config.rank
        grads = self.grad_views.get(name)
        return Adapter(self.matrices[name][0], self.taken(name, run), grads, scale)

    def state_of(self, index: int) -> AdapterState:
        """See `TrainableBank.state_of`."""
        return AdapterState(self.copy_of(index), self.targets, self.config)

    def merge_into(self, model: nn.Module) -> None:
        """Adds the update of a bank of one to the model's own weights."""
        for name, update in self.state_of(0).addends().items():
            module = model.get_submodule(name)
            weight: Tensor = module.weight.data  # type: ignore[assignment]
            weight += (update.t() if isinstance(module, Conv1D) else update).to(weight)


@dataclass(frozen=True, eq=False)
class AdapterState(TrainableState):
    """A learner with a LoRA adapter."""

    targets: tuple[Target, ...]
    """The adapted modules."""
    config: LoraConfig
    """Rank and scale."""

    @torch.no_grad()
    def addends(self) -> dict[str, Tensor]:
        """Additions to the targets' matrices, float32, shape (O, I), by module name."""
        bank = AdapterBank(self.targets, self.config, 1, self.weights.device)
        bank.load([self])
        scale = self.config.alpha / self.config.rank
        views = bank.matrices.items()
        return {name: (b[0] @ a[0]).mul_(scale) for name, (a, b) in views}

    @classmethod
    def bank(cls, states: Sequence[AdapterState | None], model: PreTrainedModel) -> AdapterBank:
        """See `LearnerState.bank`; all adapters have one shape."""
        shape = next(state for state in states if state is not None)
        bank = AdapterBank(shape.targets, shape.config, len(states), model.device)
        bank.load(states)
        return bank


class Adapter(NamedTuple):
    """Low-rank products of one module: scale * B_k A_k x for each row x of adapter k.

    Each adapter's product runs in a block of its own rows. The gradients of the matrices are
    added to the bank's own buffers and not returned, since autograd would first write each as a
    tensor of all K adapters.
    """

    trigger: Tensor
    """Tensor of the bank's weights that tells autograd whether gradients are needed."""
    matrices: Sequence[tuple[Tensor, ...]]
    """A, shape (G, R, I), and B, shape (G, O, R), of each group of the pass."""
    grads: tuple[Tensor, ...] | None
    """Gradients of A and B, shapes (K, R, I) and (K, O, R); None without training."""
    scale: float
    """Factor on the products, alpha / R."""

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """See `Products.add`."""
        hidden, parts = [], []
        for (a, b), rows in zip(self.matrices, blocks, strict=True):
            hidden.append(product(rows, a.transpose(1, 2)))
            parts.append(product(hidden[-1], b.transpose(1, 2)))
        out.add_(run.join(parts), alpha=self.scale)
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
        grad_a, grad_b = self.grads
        parts = []
        pieces = zip(run.groups, self.matrices, blocks, hidden, outer, strict=True)
        for owners, (a, b), rows, low, grad in pieces:
            grad_low = product(grad, b)
            add_at(grad_a, owners, product(grad_low.transpose(1, 2), rows), self.scale)
            add_at(grad_b, owners, product(grad.transpose(1, 2), low), self.scale)
            if inner is not None:
                parts.append(product(grad_low, a).mul_(self.scale))
        if inner is not None:
            add_blocks(inner, parts)

    def input_grad(self, outer: Sequence[Tensor], run: Pass) -> list[Tensor]:
        """See `FrozenProducts.input_grad`."""
        pairs = zip(self.matrices, outer, strict=True)
        return [product(product(grad, b), a).mul_(self.scale) for (a, b), grad in pairs]
