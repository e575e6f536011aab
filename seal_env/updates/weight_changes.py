"""Changes of named weights: dense differences of single matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seal_env.engine.changes import Change
from seal_env.engine.deltas import Deltas
from seal_env.updates.base import DirectUpdate, PreparedUpdate, UpdateContext


@dataclass(frozen=True)
class WeightChanges(DirectUpdate[Deltas]):
    """Additions to, and rescalings of, named weights, one after the other."""

    state: ClassVar = Deltas

    changes: tuple[Change, ...]
    """What to do, in order."""

    def summary(self) -> str:
        """See `Update.summary`."""
        return ", ".join(map(str, self.changes))

    def numbers(self, start: Deltas | None, context: UpdateContext) -> int:
        """See `Update.numbers`: those of all touched matrices."""
        touched = {change.name for change in self.changes}
        touched |= set(start.matrices) if start is not None else set()
        model = context.learner.model
        sizes = (model.get_submodule(name).weight.numel() for name in touched)
        return 2 * sum(sizes)  # differences on their own, and stacked with those of the others

    def apply(self, prepared: PreparedUpdate[Deltas], context: UpdateContext) -> Deltas:
        """See `DirectUpdate.apply`."""
        return Deltas.of(context.learner.model, self.changes, prepared.start)
