"""Stream `replay`: earlier self-edits are mixed into the training of each new one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seal_env.checks import check_fields
from seal_env.engine.training import Example
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.streams.base import Stream, StreamStep
from seal_env.updates.base import PreparedUpdate, UpdateContext


@dataclass
class Replay(Stream):
    """Goes on with one adapter, and trains it on sequences of earlier self-edits again.

    Nobody has to keep the passages: what is replayed is what the policy wrote about them. They are
    drawn anew at every step, without replacement, by the step's seed, so that the cost of a step
    does not grow with the number of self-edits. Source: experience replay (Chaudhry et al. 2019,
    arXiv 1902.10486).

    Raises:
        UserError: `ratio` is not positive.
    """

    ratio: float = 1.0
    """Number of replayed sequences per new one."""

    remembers = True

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.ratio < float("inf"):
            raise UserError(f"ratio {self.ratio}: must be positive and finite")

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`."""
        data = step.own.data
        if data is None:
            return step.own
        earlier = earlier_examples(step)
        count = min(len(earlier), round(self.ratio * len(data.examples)))
        random = np.random.default_rng(stable_hash("replay", step.own.seed))
        chosen = sorted(random.choice(len(earlier), count, replace=False)) if count else []
        examples = [*data.examples, *(earlier[i] for i in chosen)]
        return replace(step.own, data=replace(data, examples=examples))


def earlier_examples(step: StreamStep) -> list[Example]:
    """Training sequences of all earlier updates, the oldest first."""
    return [e for past in step.history if past.data is not None for e in past.data.examples]
