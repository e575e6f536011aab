"""Learners with several states on top of each other, which are kept apart.

What such a learner adds to a module is the sum of what each of its states adds. Nothing is merged,
so that a state can be read or removed again; the price is memory and time that grow with their
number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from seal_env.engine.banks import LearnerState
from seal_env.engine.mixed_bank import MixedBank


@dataclass(frozen=True)
class Stacked(LearnerState):
    """A learner with states of one kind on top of each other."""

    states: tuple[LearnerState, ...]
    """The states, the first one lowest."""

    @property
    def size(self) -> int:
        """See `LearnerState.size`."""
        return sum(state.size for state in self.states)

    def norm(self) -> float:
        """Root of the sum of the squares of all states, each by itself."""
        return math.hypot(*(state.norm() for state in self.states))

    @classmethod
    def bank(cls, states: Sequence[Stacked | None], model: PreTrainedModel) -> MixedBank:
        """See `LearnerState.bank`: a bank per level, of the learners that reach it."""
        stacks = [() if state is None else state.states for state in states]
        parts = []
        for level in range(max(map(len, stacks))):
            members = [i for i, stack in enumerate(stacks) if len(stack) > level]
            chosen = [stacks[i][level] for i in members]
            parts.append((type(chosen[0]).bank(chosen, model), members))
        return MixedBank(parts, len(states))
