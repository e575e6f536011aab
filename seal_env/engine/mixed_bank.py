"""Learners of different kinds side by side: adapters beside dense changes beside anything else.

Each kind has a bank of its own for the learners that are of it. A `PassPart` shows such a bank a
pass as if its learners were alone in it, so no bank knows of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from seal_env.engine.banks import Bank, LearnerState, Products, listed
from seal_env.engine.passes import Pass, index_of


def bank_of(states: Sequence[LearnerState | None], model: PreTrainedModel) -> Bank | None:
    """A bank with which K learners answer, whatever kinds they are of.

    Args:
        states: One per learner; None for the untouched base.
        model: The frozen base.

    Returns:
        None if all are the base.
    """
    kinds = list(dict.fromkeys(type(state) for state in states if state is not None))
    if not kinds:
        return None
    if len(kinds) == 1:
        return kinds[0].bank(states, model)
    parts = []
    for kind in kinds:
        members = [i for i, state in enumerate(states) if type(state) is kind]
        parts.append((kind.bank([states[i] for i in members], model), members))
    return MixedBank(parts, len(states))


class MixedBank(Bank):
    """Banks of several kinds, each for some of K learners. It answers and is not trained.

    What a bank has beside its learners, and routes texts to, is numbered after the K.

    Args:
        parts: Banks, and the numbers of their learners among the K, ascending.
        count: K.
    """

    def __init__(self, parts: Sequence[tuple[Bank, Sequence[int]]], count: int) -> None:
        self.parts: list[tuple[Bank, list[int]]] = []
        for bank, members in parts:
            further = bank.count - len(members)
            self.parts.append((bank, [*members, *range(count, count + further)]))
            count += further
        self.count = count
        self._modules = list(dict.fromkeys(name for bank, _ in parts for name in bank.modules))

    @property
    def modules(self) -> Sequence[str]:
        """See `Bank.modules`."""
        return self._modules

    def route(self, owner: int, ids: Sequence[int]) -> int:
        """See `Bank.route`."""
        for bank, numbers in self.parts:
            if owner in numbers:
                owner = numbers[bank.route(numbers.index(owner), ids)]
        return owner

    def adapter(self, name: str, run: Pass) -> Products | None:
        """See `Bank.adapter`."""
        if self not in run.cache:
            run.cache[self] = [(bank, PassPart(run, members)) for bank, members in self.parts]
        views: list[tuple[Bank, PassPart]] = run.cache[self]
        found = [(bank.adapter(name, view), view) for bank, view in views if view.groups]
        parts = [(products, view) for products, view in found if products is not None]
        return _MixedProducts(parts) if parts else None


class PassPart(Pass):
    """A pass as a bank sees it that holds only some of the pass's learners.

    Args:
        run: The pass.
        members: The bank's learners by their numbers in the pass, ascending.
    """

    def __init__(self, run: Pass, members: Sequence[int]) -> None:
        self.run = run
        self.cache: dict[Any, Any] = {}
        self.groups = []
        self._chosen: list[tuple[int, Tensor]] = []
        number_of = {owner: number for number, owner in enumerate(members)}
        device = run.owner_blocks.gather.device
        for group, owners in enumerate(run.groups):
            present = [(i, number_of[o]) for i, o in enumerate(listed(owners)) if o in number_of]
            if present:
                blocks, numbers = zip(*present, strict=True)
                self.groups.append(index_of(np.array(numbers), device))
                self._chosen.append((group, torch.tensor(blocks, device=device)))

    def select(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """The blocks of the bank's own learners."""
        return [blocks[group].index_select(0, index) for group, index in self._chosen]

    def split(self, rows: Tensor) -> list[Tensor]:
        """See `Pass.split`."""
        return self.select(self.run.split(rows))

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """See `Pass.join`; the rows of other learners are zeros."""
        width = parts[0].shape[-1]
        whole = [parts[0].new_zeros(*shape, width) for shape in self.run.owner_blocks.shapes]
        self.add_to(whole, parts)
        return self.run.join(whole)

    def add_to(self, whole: Sequence[Tensor], parts: Sequence[Tensor]) -> None:
        """Adds blocks of the bank's own learners to those of all, in place."""
        for (group, index), part in zip(self._chosen, parts, strict=True):
            whole[group].index_add_(0, index, part)


class _MixedProducts(NamedTuple):
    """The products of several banks for one module."""

    parts: Sequence[tuple[Any, PassPart]]
    """Those of each bank, and the pass as it sees it."""
    grads: None = None

    @property
    def trigger(self) -> Tensor:
        """See `Products.trigger`."""
        return self.parts[0][0].trigger

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """See `Products.add`."""
        for products, view in self.parts:
            products.add(out, view.select(blocks), view)
        return []

    def input_grad(self, outer: Sequence[Tensor], run: Pass) -> list[Tensor]:
        """See `FrozenProducts.input_grad`."""
        found = [
            (products.input_grad(view.select(outer), view), view) for products, view in self.parts
        ]
        width = found[0][0][0].shape[-1]
        whole = [grad.new_zeros(*grad.shape[:-1], width) for grad in outer]
        for grads, view in found:
            view.add_to(whole, grads)
        return whole

    def backward(self, *_: object) -> None:
        """A mixed bank is not trained."""
        raise NotImplementedError("a mixed bank has no gradients")
