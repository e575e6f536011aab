"""K LoRA adapters side by side on one frozen base (Hu et al. 2021, arXiv 2106.09685).

An `AdapterBank` holds the low-rank matrices of K adapters as stacked tensors. While it is
attached to a model, every target module adds to its output the low-rank product of the
adapter that a token belongs to. Each adapter's product runs in blocks that hold its own
tokens alone (see `seal_env.engine.packing`), so an adapter's outputs, gradients and weights are the
same to the bit beside any other adapters.

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
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from seal_env.engine.config import LoraConfig
from seal_env.engine.passes import Pass, current_pass
from seal_env.errors import UserError

ALL_LINEAR = "all-linear"
"""Target name for every linear layer but the output head."""
_ALIGNED = 16
"""Alignment of matrices, in weights (64 bytes): the address of a matrix can change how a product
is rounded, and must not depend on an adapter's index in the bank."""


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
    found = _modules_named(model, wanted)
    if not found and not config.targets:
        found = _modules_named(model, (ALL_LINEAR,))
    if not found:
        raise UserError(
            f"no linear module is named {' or '.join(wanted) or '(nothing)'}: "
            f"give LoRA targets that the model has, or {ALL_LINEAR!r}"
        )
    return found


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
    found = []
    for name, module in model.named_modules():
        if id(module) not in inside or not _is_linear(module):
            continue
        if ALL_LINEAR in wanted or name.rpartition(".")[2] in wanted:
            shape = module.weight.shape
            turned = shape if isinstance(module, Conv1D) else shape[::-1]
            found.append(Target(name, int(turned[0]), int(turned[1])))
    return tuple(found)


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


class Products(Protocol):
    """Products that the learners of a bank add to the output of one module."""

    @property
    def trigger(self) -> Tensor:
        """Tensor of the weights; gradients are computed if it requires them."""

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """See `Adapter.add`."""

    def backward(
        self,
        outer: Sequence[Tensor],
        blocks: Sequence[Tensor],
        hidden: Sequence[Tensor],
        run: Pass,
        inner: list[Tensor] | None,
    ) -> None:
        """See `Adapter.backward`."""


class Bank(Protocol):
    """Changes of K learners side by side on one frozen base: adapters, or dense differences."""

    def attached(self, model: nn.Module) -> AbstractContextManager[None]:
        """Context in which the model's modules add the bank's products to their outputs."""

    def adapter(self, name: str, run: Pass) -> Products | None:
        """Products added to the output of one module in a pass; None if there are none."""


def layer_of(name: str) -> int | None:
    """Index of the layer that a module's name says, from 0; None outside of layers."""
    found = re.search(r"\.(\d+)\.", name)
    return int(found[1]) if found else None


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


class AdapterBank:
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
        self.count = count
        size = sum(_aligned(config.rank * n) for t in targets for n in (t.inputs, t.outputs))
        self.weights = torch.zeros(count, size, device=device)
        """All weights, float32, shape (K, P); the matrices below are views of it."""
        self.grads: Tensor | None = None
        self._grad_views: dict[str, tuple[Tensor, Tensor]] = {}
        self.matrices = self._views(self.weights)
        """A, shape (K, R, I), and B, shape (K, O, R), by target name."""

    @property
    def size(self) -> int:
        """P, weights of one adapter, with the zeros that keep its matrices aligned."""
        return self.weights.shape[1]

    def _views(self, flat: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        views, start, rank, count = {}, 0, self.config.rank, len(flat)
        for target in self.targets:
            size_a, size_b = rank * target.inputs, rank * target.outputs
            middle = start + _aligned(size_a)
            views[target.name] = (
                flat[:, start : start + size_a].view(count, rank, target.inputs),
                flat[:, middle : middle + size_b].view(count, target.outputs, rank),
            )
            start = middle + _aligned(size_b)
        return views

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
            for target in self.targets:
                a = torch.empty(self.config.rank, target.inputs)
                bound = 1 / math.sqrt(target.inputs)
                a.uniform_(-bound, bound, generator=generator)
                self.matrices[target.name][0][index] = a
            drawn[seed] = index

    def reorder(self, order: np.ndarray) -> None:
        """Permutes the adapters' weights in place, with room for one copy; gradients stay.

        Args:
            order: Index of the adapter that becomes first, second and so on, shape (K,).
        """
        after = dict(enumerate(order.tolist()))
        while after:
            first, source = after.popitem()
            kept, place = self.weights[first].clone(), first
            while source != first:
                self.weights[place] = self.weights[source]
                place, source = source, after.pop(source)
            self.weights[place] = kept

    def require_grads(self) -> None:
        """Allocates `grads`, shape (K, P), to which backward passes add."""
        self.grads = torch.zeros_like(self.weights)
        self._grad_views = self._views(self.grads)
        for views in self.matrices.values():
            for matrix in views:
                matrix.requires_grad_(True)

    def drop_grads(self) -> None:
        """Frees the gradients and freezes the weights."""
        self.grads = None
        self._grad_views = {}
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

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Context in which the model's target modules add this bank's products."""
        modules = [model.get_submodule(target.name) for target in self.targets]
        try:
            for target, module in zip(self.targets, modules, strict=True):
                module.forward = self._forward(target.name, module)
            yield
        finally:
            for module in modules:
                module.__dict__.pop("forward", None)

    def adapter(self, name: str, run: Pass) -> Adapter | None:
        """Adapters of one module in a pass; None for a module that is no target."""
        if name not in self.matrices:
            return None
        # The weights of a pass are gathered once, not once per module.
        if self not in run.kept:
            run.kept[self] = [self._views(_take(self.weights, owners)) for owners in run.groups]
        matrices = [views[name] for views in run.kept[self]]
        scale = self.config.alpha / self.config.rank
        return Adapter(self.matrices[name][0], matrices, self._grad_views.get(name), scale)

    def _forward(self, name: str, module: nn.Module) -> Callable[[Tensor], Tensor]:
        """Forward function of a target module while the bank is attached."""
        weight: Tensor = module.weight  # type: ignore[assignment]
        turned = weight.t() if isinstance(module, Conv1D) else weight

        def forward(x: Tensor) -> Tensor:
            run = current_pass()
            assert run is not None, "an adapted model was called outside of a pass"
            adapter = self.adapter(name, run)
            assert adapter is not None
            rows = x.reshape(-1, x.shape[-1])
            blocks = run.blocks_of(x, rows)
            out = _Adapted.apply(rows, adapter.trigger, turned, module.bias, adapter, blocks, run)
            return out.view(*x.shape[:-1], -1)

        return forward

    def copy_of(self, index: int) -> Tensor:
        """Copy of one adapter's weights, shape (P,), on the CPU."""
        return self.weights[index].detach().cpu().clone()

    def merge_into(self, model: nn.Module) -> None:
        """Adds the update of a bank of one to the model's own weights."""
        scale = self.config.alpha / self.config.rank
        for target in self.targets:
            a, b = (matrix[0] for matrix in self.matrices[target.name])
            module = model.get_submodule(target.name)
            update = (b @ a) * scale
            weight: Tensor = module.weight.data  # type: ignore[assignment]
            weight += (update.t() if isinstance(module, Conv1D) else update).to(weight)


class Adapter(NamedTuple):
    """Low-rank products of one module: scale * B_k A_k x for each row x of adapter k.

    Each adapter's product runs in a block of its own rows. The gradients of the matrices are
    added to the bank's own buffers and not returned, since autograd would first write each as a
    tensor of all K adapters.
    """

    trigger: Tensor
    """Tensor of the bank's weights that tells autograd whether gradients are needed."""
    matrices: Sequence[tuple[Tensor, Tensor]]
    """A, shape (G, R, I), and B, shape (G, O, R), of each group of the pass."""
    grads: tuple[Tensor, Tensor] | None
    """Gradients of A and B, shapes (K, R, I) and (K, O, R); None without training."""
    scale: float
    """Factor on the products, alpha / R."""

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """Adds the products to a module's output.

        Args:
            out: The output, shape (T, O), changed in place.
            blocks: The module's input as `Pass.split` returns it, shape (G, L, I) per group.
            run: The pass.

        Returns:
            A x of each group for `backward`, shape (G, L, R).
        """
        hidden, parts = [], []
        for (a, b), rows in zip(self.matrices, blocks, strict=True):
            hidden.append(_product(rows, a.transpose(1, 2)))
            parts.append(_product(hidden[-1], b.transpose(1, 2)))
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
        """Adds the gradients of the matrices to the bank's.

        Args:
            outer: The output's gradient as `Pass.split` returns it, shape (G, L, O) per group.
            blocks: As in `add`.
            hidden: Result of `add`.
            run: The pass.
            inner: The input's gradient, shape (G, L, I) per group, which is added to, or an empty
                list to fill; None if it is not needed.
        """
        assert self.grads is not None
        grad_a, grad_b = self.grads
        fresh = inner is not None and not inner
        pieces = zip(run.groups, self.matrices, blocks, hidden, outer, strict=True)
        for index, (owners, (a, b), rows, low, grad) in enumerate(pieces):
            grad_low = _product(grad, b)
            _add_at(grad_a, owners, _product(grad_low.transpose(1, 2), rows), self.scale)
            _add_at(grad_b, owners, _product(grad.transpose(1, 2), low), self.scale)
            if inner is not None:
                part = _product(grad_low, a).mul_(self.scale)
                if fresh:
                    inner.append(part)
                else:
                    inner[index].add_(part)


class _Adapted(torch.autograd.Function):
    """A linear layer with its adapters."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        trigger: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        adapter: Adapter,
        blocks: list[Tensor],
        run: Pass,
    ) -> Tensor:
        out = F.linear(x, weight, bias)
        hidden = adapter.add(out, blocks, run)
        if adapter.grads is not None:
            ctx.save_for_backward(weight, *blocks, *hidden)
            ctx.adapter, ctx.run = adapter, run
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        weight, *kept = ctx.saved_tensors
        count = len(ctx.run.groups)
        inner: list[Tensor] | None = [] if ctx.needs_input_grad[0] else None
        blocks = ctx.run.split(outer[0])
        ctx.adapter.backward(blocks, kept[:count], kept[count:], ctx.run, inner)
        grad = None if inner is None else (outer[0] @ weight).add_(ctx.run.join(inner))
        return grad, None, None, None, None, None, None


def _take(weights: Tensor, owners: slice | Tensor) -> Tensor:
    """Weights of some adapters, shape (G, P)."""
    return weights[owners] if isinstance(owners, slice) else weights.index_select(0, owners)


def _add_at(total: Tensor, owners: slice | Tensor, products: Tensor, scale: float) -> None:
    """Adds products to the matrices of some adapters, each of which is named once."""
    if isinstance(owners, slice):
        total[owners].add_(products, alpha=scale)
    else:
        total.index_add_(0, owners, products, alpha=scale)


def _product(x: Tensor, y: Tensor) -> Tensor:
    """Batched matrix product whose rounding does not depend on the size of the batch."""
    if x.shape[0] == 1 and (x.shape[1] % 2 or x.shape[2] % 2 or y.shape[2] % 2):
        # A single product of an odd shape takes another path in the CPU's matrix library.
        return torch.bmm(x.expand(2, -1, -1), y.expand(2, -1, -1))[:1]
    return torch.bmm(x, y)
