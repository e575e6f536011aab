"""Changes of K learners side by side on one frozen base: what every kind of them has in common.

A `LearnerState` is what one learner has beyond the base. A `Bank` holds the states of K learners
of one kind, stacked, and adds its `Products` to the outputs of the linear modules that it touches;
`seal_env.engine.mixed_bank` puts banks of several kinds together. The base's own weights are never
written, so there is nothing to restore. Each learner's products run in blocks that hold its own
tokens alone (see `seal_env.engine.packing`), so its outputs are the same to the bit whoever its
neighbors are.

Dimensions:
    - K: learners of the bank.
    - I, O: inputs and outputs of a module.
    - T: rows of tokens in a pass, spare ones included.
    - G: learners in one group of equal padded length L.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from seal_env.engine.passes import Pass, current_pass

_ALIGNED = 16
"""Alignment of matrices, in weights (64 bytes): the address of a matrix can change how a product
is rounded, and must not depend on a learner's index in the bank."""


class Products(Protocol):
    """Additions of a bank's learners to the output of one module in one pass."""

    @property
    def trigger(self) -> Tensor:
        """Tensor of the weights; gradients are computed if it requires them."""

    @property
    def grads(self) -> Any:
        """Gradients of the weights; None without training."""

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """Adds the products to a module's output.

        Args:
            out: The output, shape (T, O), changed in place.
            blocks: The module's input as `Pass.split` returns it, shape (G, L, I) per group.
            run: The pass.

        Returns:
            Tensors that `backward` needs.
        """

    def backward(
        self,
        outer: Sequence[Tensor],
        blocks: Sequence[Tensor],
        hidden: Sequence[Tensor],
        run: Pass,
        inner: list[Tensor] | None,
    ) -> None:
        """Adds the gradients of the bank's weights to its `grads`.

        Args:
            outer: The output's gradient as `Pass.split` returns it, shape (G, L, O) per group.
            blocks: As in `add`.
            hidden: Result of `add`.
            run: The pass.
            inner: The input's gradient, shape (G, L, I) per group, which is added to, or an empty
                list to fill; None if it is not needed.
        """


class FrozenProducts(Products, Protocol):
    """Products through which gradients go, while their own weights have none."""

    def input_grad(self, outer: Sequence[Tensor], run: Pass) -> list[Tensor]:
        """Gradient of the module's input, shape (G, L, I) per group; arguments as in `backward`."""


class Bank(ABC):
    """States of K learners on one frozen base."""

    count: int
    """K."""

    @property
    @abstractmethod
    def modules(self) -> Sequence[str]:
        """Names of the linear modules whose outputs the bank adds to."""

    @abstractmethod
    def adapter(self, name: str, run: Pass) -> Products | None:
        """Products added to the output of one module in a pass; None if there are none."""

    def route(self, owner: int, ids: Sequence[int]) -> int:
        """Index under which the bank reads a text of one learner.

        Args:
            owner: Index of the learner.
            ids: Token ids of the text, or of the prompt of what is generated.
        """
        return owner

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Context in which the model's modules add the bank's products to their outputs."""
        modules = [model.get_submodule(name) for name in self.modules]
        try:
            for name, module in zip(self.modules, modules, strict=True):
                module.forward = self._forward(name, module)
            yield
        finally:
            for module in modules:
                module.__dict__.pop("forward", None)

    def _forward(self, name: str, module: nn.Module) -> Callable[[Tensor], Tensor]:
        """Forward function of a module while the bank is attached."""
        linear: Any = module
        weight: Tensor = linear.weight
        turned = weight.t() if isinstance(module, Conv1D) else weight

        def forward(x: Tensor) -> Tensor:
            run = current_pass()
            assert run is not None, "an adapted model was called outside of a pass"
            rows = x.reshape(-1, x.shape[-1])
            adapter = self.adapter(name, run)
            if adapter is None:
                return F.linear(rows, turned, linear.bias).view(*x.shape[:-1], -1)
            blocks = run.blocks_of(x, rows)
            out = _Adapted.apply(rows, adapter.trigger, turned, linear.bias, adapter, blocks, run)
            return out.view(*x.shape[:-1], -1)

        return forward


def routed(bank: Bank | None, owners: Sequence[int], texts: Sequence[Sequence[int]]) -> list[int]:
    """Indices under which a bank reads texts; see `Bank.route`."""
    if bank is None:
        return list(owners)
    return [bank.route(owner, ids) for owner, ids in zip(owners, texts, strict=True)]


class LearnerState(ABC):
    """What one learner has beyond the frozen base. Immutable."""

    @property
    def size(self) -> int:
        """Float32 numbers in memory; 0 where they do not count beside an adapter in training."""
        return 0

    @abstractmethod
    def norm(self) -> float:
        """Root of the sum of all squares; inf or NaN if a number is not finite."""

    @classmethod
    @abstractmethod
    def bank(cls, states: Sequence[Self | None], model: PreTrainedModel) -> Bank:
        """A bank with which K learners answer.

        Args:
            states: One per learner, at least one of them not None (the untouched base).
            model: The frozen base.
        """


def aligned(size: int) -> int:
    """A number of weights, rounded up so that what follows them is aligned."""
    return -(-size // _ALIGNED) * _ALIGNED


def product(x: Tensor, y: Tensor) -> Tensor:
    """Batched matrix product whose rounding does not depend on the size of the batch."""
    if x.shape[0] == 1 and (x.shape[1] % 2 or x.shape[2] % 2 or y.shape[2] % 2):
        # A single product of an odd shape takes another path in the CPU's matrix library.
        return torch.bmm(x.expand(2, -1, -1), y.expand(2, -1, -1))[:1]
    return torch.bmm(x, y)


def take(weights: Tensor, owners: slice | Tensor) -> Tensor:
    """Weights of some learners, shape (G, ...)."""
    return weights[owners] if isinstance(owners, slice) else weights.index_select(0, owners)


def add_at(total: Tensor, owners: slice | Tensor, products: Tensor, scale: float = 1.0) -> None:
    """Adds products to the weights of some learners, each of which is named once."""
    if isinstance(owners, slice):
        total[owners].add_(products, alpha=scale)
    else:
        total.index_add_(0, owners, products, alpha=scale)


def add_blocks(total: list[Tensor], parts: Sequence[Tensor]) -> None:
    """Adds blocks, one tensor per group, to those of a list in place; fills it if it is empty."""
    if not total:
        total += parts
        return
    for whole, part in zip(total, parts, strict=True):
        whole.add_(part)


def listed(owners: slice | Tensor) -> list[int]:
    """Learners that an index of `Pass.groups` selects."""
    return list(range(owners.start, owners.stop)) if isinstance(owners, slice) else owners.tolist()


class _Adapted(torch.autograd.Function):
    """A linear layer with a bank's products."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        trigger: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        adapter: Products,
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
        weight, *saved = ctx.saved_tensors
        count = len(ctx.run.groups)
        inner: list[Tensor] | None = [] if ctx.needs_input_grad[0] else None
        blocks = ctx.run.split(outer[0])
        ctx.adapter.backward(blocks, saved[:count], saved[count:], ctx.run, inner)
        grad = None if inner is None else (outer[0] @ weight).add_(ctx.run.join(inner))
        return grad, None, None, None, None, None, None
