"""Steps in a random low-dimensional subspace of an adapter's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from seal_env.engine.lora import AdapterState
from seal_env.engine.subspace import Basis
from seal_env.updates.base import DirectUpdate, PreparedUpdate, UpdateContext


@dataclass(frozen=True)
class SubspaceStep(DirectUpdate[AdapterState]):
    """A linear combination of the vectors of a fixed basis (`seal_env.engine.subspace`)."""

    state: ClassVar = AdapterState

    coefficients: tuple[float, ...]
    """How far to go along each vector."""
    basis: int = 0
    """Seed of the basis."""

    def summary(self) -> str:
        """See `Update.summary`."""
        return ", ".join(f"{value:g}" for value in self.coefficients)

    def apply(self, prepared: PreparedUpdate[AdapterState], context: UpdateContext) -> AdapterState:
        """See `DirectUpdate.apply`."""
        bases: dict[Any, Basis] = context.learner.cache.setdefault("bases", {})
        key = context.targets, context.lora, self.basis
        if key not in bases:
            bases[key] = Basis(context.learner, context.targets, context.lora, self.basis)
        start = None if prepared.start is None else prepared.start.weights
        weights = bases[key].weights(self.coefficients, start)
        return AdapterState(weights, context.targets, context.lora)
