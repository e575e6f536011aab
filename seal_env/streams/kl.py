"""Addition `kl` to a stream: training is kept close to the learner before the step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from seal_env.checks import check_fields
from seal_env.engine.anchors import Anchor
from seal_env.errors import UserError
from seal_env.streams.base import Addition, StreamStep
from seal_env.updates.base import PreparedUpdate, UpdateContext


@dataclass
class KL(Addition):
    """Adds `weight` * KL(previous ‖ current) to the training loss of each token.

    The divergence of the next-token distributions is measured on the training sequences, over the
    whole vocabulary; the previous learner is the one before the step, the base at the first. A step
    takes one more forward pass per optimizer step, however long the stream is. Updates without
    training are as they are. Source: learning without forgetting (Li and Hoiem 2016,
    arXiv 1606.09282), with the texts as inputs.

    Raises:
        UserError: `weight` is not positive.
    """

    weight: float = 1.0
    """Weight of the divergence, in nats per nat of cross-entropy."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.weight < float("inf"):
            raise UserError(f"weight {self.weight}: must be positive and finite")

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`."""
        prepared = super().prepare(step, context)
        if prepared.data is None:
            return prepared
        anchor = Anchor(step.own.start, self.weight)
        return replace(prepared, data=replace(prepared.data, anchor=anchor))
