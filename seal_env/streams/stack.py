"""Stream `stack`: a new adapter for each self-edit, on the frozen earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seal_env.engine.stacked import Stacked
from seal_env.streams.base import AdapterStream, StreamStep
from seal_env.updates.base import PreparedUpdate, UpdateContext, UpdateResult


class Stack(AdapterStream):
    """Each update trains a fresh adapter on top of all earlier ones, which stay as they are.

    The learner computes what it computes with `merge`, but for rounding: the sum of all adapters.
    Here they are kept apart, so that each can be inspected or removed; memory and time of a step
    grow with their number. With adapters of rank r on matrices of O by I weights, `merge` takes
    less memory beyond O I / (r (O + I)) self-edits. Source: O-LoRA (Wang et al. 2023,
    arXiv 2310.14152, section 3), without its penalty.
    """

    name = "stack"
    leaves = Stacked

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`."""
        return replace(step.own, start=None, below=step.own.start)

    def conclude(
        self, steps: Sequence[StreamStep], results: Sequence[UpdateResult], context: UpdateContext
    ) -> list[UpdateResult]:
        """See `Stream.conclude`: puts each adapter on top."""
        concluded = []
        for step, result in zip(steps, results, strict=True):
            start, top = step.own.start, result.state
            assert top is not None
            lower = start.states if isinstance(start, Stacked) else ()
            concluded.append(replace(result, state=Stacked((*lower, top))))
        return concluded
