"""Stream `joint`: all self-edits of the episode trained together, from the base."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from seal_env.streams.base import AdapterStream, StreamStep
from seal_env.streams.replay import earlier_examples
from seal_env.updates.base import PreparedUpdate, UpdateContext


class Joint(AdapterStream):
    """Trains a fresh adapter of the base on the sequences of all self-edits so far.

    Nothing is learned one after the other, so this bounds what a stream can keep with one adapter;
    it is continued pretraining on what the policy wrote (SEAL, arXiv 2506.10943, table 2). The cost
    of a step grows with the number of self-edits. The training's settings are those of the last
    one.
    """

    name = "joint"
    remembers = True

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`."""
        data = step.own.data
        if data is None:
            return step.own
        examples = [*earlier_examples(step), *data.examples]
        return replace(step.own, start=None, data=replace(data, examples=examples))
