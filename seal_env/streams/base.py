"""Interface of streams: how a learner goes on that earlier self-edits have changed.

A stream says what each update starts from, what it is trained on, and what becomes of its result.
It is handed K learners at once, and what comes of one does not depend on the others. It keeps
nothing itself: all that it needs of an episode is in the learner's state and in its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from seal_env.engine.banks import LearnerState
from seal_env.engine.lora import AdapterState
from seal_env.updates.base import PreparedUpdate, Update, UpdateContext, UpdateResult

History = tuple[PreparedUpdate[Any], ...]
"""Updates that have changed a learner, the oldest first, without the states they began with."""


@dataclass(frozen=True)
class StreamStep:
    """One learner's step in a stream."""

    own: PreparedUpdate[Any]
    """The update as the self-edit asks for it; `start` is the learner before the step."""
    history: History = ()
    """The updates before it; empty unless `Stream.remembers`."""

    def remembered(self) -> PreparedUpdate[Any]:
        """The update for the history of later steps."""
        return replace(self.own, start=None)


class Stream:
    """A way of going on. The methods of this class go on from the learner as it is."""

    remembers = False
    """Whether steps have a history. It takes some kilobytes a step (token ids)."""

    def refusal(self, update: Update[Any], start: LearnerState | None) -> str | None:
        """Reason why an update cannot follow on a state, in one line; None if it can."""
        return update.refusal(start)

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """The update as it is carried out: start, what lies below, training data."""
        return step.own

    def conclude(
        self, steps: Sequence[StreamStep], results: Sequence[UpdateResult], context: UpdateContext
    ) -> list[UpdateResult]:
        """Results of a step with the states from which learners answer and go on.

        Args:
            steps: Steps whose update has changed its learner.
            results: Their results, with a state each.
            context: The learner and the settings.
        """
        return list(results)


class Addition(Stream):
    """What is added to a stream. The methods of this class change nothing about it."""

    stream: Stream = Stream()
    """What it is added to."""

    def on(self, stream: Stream) -> Self:
        """Adds it to a stream; returns itself."""
        self.stream = stream
        self.remembers = self.remembers or stream.remembers
        return self

    def refusal(self, update: Update[Any], start: LearnerState | None) -> str | None:
        """See `Stream.refusal`."""
        return self.stream.refusal(update, start)

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`."""
        return self.stream.prepare(step, context)

    def conclude(
        self, steps: Sequence[StreamStep], results: Sequence[UpdateResult], context: UpdateContext
    ) -> list[UpdateResult]:
        """See `Stream.conclude`."""
        return self.stream.conclude(steps, results, context)


class AdapterStream(Stream):
    """A stream in which every update is an adapter of its own."""

    name = ""
    """Name in messages."""
    leaves: type[LearnerState] = AdapterState
    """Kind of state that it leaves and goes on from."""

    def refusal(self, update: Update[Any], start: LearnerState | None) -> str | None:
        """See `Stream.refusal`: any adapter can follow, and nothing else."""
        if not issubclass(update.state, AdapterState):
            return (
                f"stream {self.name!r}: takes LoRA adapters, and {type(update).__name__} makes "
                f"{update.state.__name__}; use the stream 'continue'"
            )
        if start is not None and not isinstance(start, self.leaves):
            return (
                f"stream {self.name!r}: goes on from {self.leaves.__name__} alone, and the learner "
                f"is {type(start).__name__}; use the stream that left it"
            )
        return None
