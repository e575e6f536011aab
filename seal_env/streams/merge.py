"""Stream `merge`: a new adapter for each self-edit, merged into the weights after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seal_env.engine.banks import LearnerState
from seal_env.engine.deltas import Deltas
from seal_env.engine.lora import AdapterState
from seal_env.streams.base import AdapterStream, StreamStep
from seal_env.updates.base import PreparedUpdate, Update, UpdateContext, UpdateResult


class Merge(AdapterStream):
    """Each update trains a fresh adapter on the learner as it is, and is added to its weights.

    The base is shared and stays as it is: a learner has a dense float32 addend for each matrix that
    adapters adapt, so that its size and the cost of a step do not grow with the number of
    self-edits, and nothing is rounded to the base's precision. An update of single weights
    (`weights`) goes on from the sum, too. Source: SEAL's continual setting (arXiv 2506.10943,
    section 4.3).
    """

    name = "merge"
    leaves = Deltas

    def refusal(self, update: Update[Any], start: LearnerState | None) -> str | None:
        """See `Stream.refusal`: adapters and changes of single weights may follow one another."""
        if issubclass(update.state, Deltas):
            return update.refusal(start)
        return super().refusal(update, start)

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`."""
        if issubclass(step.own.update.state, Deltas):
            return step.own
        return replace(step.own, start=None, below=step.own.start)

    def conclude(
        self, steps: Sequence[StreamStep], results: Sequence[UpdateResult], context: UpdateContext
    ) -> list[UpdateResult]:
        """See `Stream.conclude`: adds each adapter to what its learner has."""
        pairs = zip(steps, results, strict=True)
        return [replace(r, state=_merged(r.state, step.own.start)) for step, r in pairs]


def _merged(state: LearnerState | None, below: LearnerState | None) -> LearnerState | None:
    if not isinstance(state, AdapterState):
        return state
    assert below is None or isinstance(below, Deltas)
    return Deltas.merged(state, below)
