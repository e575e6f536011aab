"""Addition `orthogonal` to the stream `stack`: no adapter reads what an earlier one reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from seal_env.engine.lora import AdapterBank, AdapterState
from seal_env.engine.stacked import Stacked
from seal_env.errors import UserError
from seal_env.streams.base import Addition, Stream, StreamStep
from seal_env.streams.stack import Stack
from seal_env.updates.base import PreparedUpdate, UpdateContext, UpdateResult

TOLERANCE = 1e-6
"""Singular values below this share of their norm are rounding errors of float32 weights."""


class Orthogonal(Addition):
    """Keeps the A of each adapter orthogonal to the A of all earlier ones, module by module.

    An adapter starts from A - A P, where P projects on the span of the rows of all earlier A, and
    what training makes of A is projected in the same way: A_t A_s^T = 0 for s < t. It adds
    nothing to a module's output for inputs in that span. Rows of A that B ignores (of layers that
    were not trained) do not count. A module with I inputs has room for I / r adapters of rank r;
    later ones change nothing. Source: O-LoRA (Wang et al. 2023, arXiv 2310.14152, section 3), with
    a projection in place of its penalty.

    Raises:
        UserError: The stream does not keep its adapters apart.
    """

    def on(self, stream: Stream) -> Self:
        """See `Addition.on`."""
        way = stream
        while isinstance(way, Addition):
            way = way.stream
        if not isinstance(way, Stack):
            raise UserError(
                "stream 'orthogonal': needs the earlier adapters, which only 'stack' keeps on top "
                "of each other; use 'stack + orthogonal'"
            )
        return super().on(stream)

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`: the untrained adapter is orthogonal, too, so B is trained on it."""
        prepared = super().prepare(step, context)
        if not isinstance(step.own.start, Stacked):
            return prepared
        bank = context.new_bank(1)
        bank.initialize([step.own.seed])
        return replace(prepared, start=projected(bank.state_of(0), _spans(step.own.start)))

    def conclude(
        self, steps: Sequence[StreamStep], results: Sequence[UpdateResult], context: UpdateContext
    ) -> list[UpdateResult]:
        """See `Stream.conclude`."""
        new = []
        for step, result in zip(steps, results, strict=True):
            state = result.state
            if isinstance(step.own.start, Stacked):
                assert isinstance(state, AdapterState)
                state = projected(state, _spans(step.own.start))
            new.append(replace(result, state=state))
        return super().conclude(steps, new, context)


def _spans(below: Stacked) -> dict[str, Tensor]:
    """Basis of the span of the rows of all A of adapters, by module name."""
    earlier = [_bank(lower).matrices for lower in below.states if isinstance(lower, AdapterState)]
    names = dict.fromkeys(name for matrices in earlier for name in matrices)
    pairs = {name: [matrices[name] for matrices in earlier if name in matrices] for name in names}
    return {name: _basis([a[0][b[0].any(dim=0)] for a, b in own]) for name, own in pairs.items()}


@torch.no_grad()
def projected(state: AdapterState, bases: Mapping[str, Tensor]) -> AdapterState:
    """An adapter whose A is orthogonal to some directions.

    Args:
        state: The adapter.
        bases: Orthonormal directions by module name, float64, shape (d, I).
    """
    bank = _bank(state)
    for name, (own, _) in bank.matrices.items():
        if name in bases:
            rows, basis = own[0].double(), bases[name].to(own.device)
            own[0] = rows - rows @ basis.t() @ basis
    return bank.state_of(0)


@torch.no_grad()
def _basis(rows: Sequence[Tensor]) -> Tensor:
    """Orthonormal basis of the span of rows, float64, shape (dimensions, I)."""
    _, sizes, directions = torch.linalg.svd(torch.cat(list(rows)).double(), full_matrices=False)
    return directions[sizes > TOLERANCE * torch.linalg.vector_norm(sizes)]


def _bank(state: AdapterState) -> AdapterBank:
    bank = AdapterBank(state.targets, state.config, 1, state.weights.device)
    bank.load([state])
    return bank
