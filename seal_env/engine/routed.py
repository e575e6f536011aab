"""Learners with several adapters, of which a text is read with the one that knows most of it.

The similarity of a text to what an adapter was trained on is the share of the text's tokens that
the training had, each weighted by how rare it is (inverse document frequency, Spärck Jones 1972).
It takes no forward pass, and depends on the text and the learner alone.

MEGa (Li et al. 2025, arXiv 2504.21239) keys adapters by embeddings of what they were trained on,
and mixes them by a softmax over similarities; here the best one alone answers, or the base where
none is similar.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from seal_env.engine.banks import LearnerState, listed
from seal_env.engine.lora import AdapterBank, AdapterState
from seal_env.engine.passes import Pass


@dataclass(frozen=True, eq=False)
class TokenWeights:
    """How much tokens tell about what a text is about."""

    documents: int
    """Number of documents that were counted."""
    counts: Mapping[int, int]
    """Documents that have a token, by token id."""

    def __call__(self, token: int) -> float:
        """Inverse document frequency; 0 for a token that all documents have."""
        return math.log((1 + self.documents) / (1 + self.counts.get(token, 0)))


@dataclass(frozen=True, eq=False)
class Memory:
    """An adapter, and what it was trained on."""

    tokens: frozenset[int]
    """Tokens of the training data."""
    state: AdapterState
    """The adapter."""


@dataclass(frozen=True, eq=False)
class Routed(LearnerState):
    """A learner with several adapters."""

    memories: tuple[Memory, ...]
    """The adapters, the oldest first."""
    weights: TokenWeights
    """Weights of the tokens of texts."""
    threshold: float
    """Smallest similarity at which an adapter reads a text."""

    @property
    def size(self) -> int:
        """See `LearnerState.size`."""
        return sum(memory.state.size for memory in self.memories)

    def norm(self) -> float:
        """Root of the sum of the squares of all adapters."""
        return math.hypot(*(memory.state.norm() for memory in self.memories))

    def index_for(self, ids: Sequence[int]) -> int | None:
        """Index of the adapter that reads a text, of equals the newest; None for the base."""
        asked = {token: self.weights(token) for token in ids}
        total = math.fsum(asked.values())
        if total == 0:
            return None
        best, index = self.threshold, None
        for i, memory in enumerate(self.memories):
            known = math.fsum(weight for t, weight in asked.items() if t in memory.tokens) / total
            if known >= best:
                best, index = known, i
        return index

    @classmethod
    def bank(cls, states: Sequence[Routed | None], model: PreTrainedModel) -> RoutedBank:
        """See `LearnerState.bank`."""
        return RoutedBank(states, model.device)


class RoutedBank(AdapterBank):
    """The adapters of K learners, for evaluation.

    Owners from 0 to K - 1 are the learners without an adapter; `route` turns them into those with
    one. Weights are gathered for the adapters that a pass uses, not for all.

    Args:
        states: One per learner; None for the untouched base.
        device: Device of the model.
    """

    def __init__(self, states: Sequence[Routed | None], device: torch.device) -> None:
        first = next(state for state in states if state is not None).memories[0].state
        super().__init__(first.targets, first.config, 0, device)
        self._states = states
        none = torch.zeros(self.size)
        self._rows = [none] * len(states)
        self._first: list[int] = []
        for state in states:
            self._first.append(len(self._rows))
            memories = () if state is None else state.memories
            self._rows += [memory.state.weights for memory in memories]
        self.count = len(self._rows)

    def route(self, owner: int, ids: Sequence[int]) -> int:
        """See `Bank.route`."""
        state = self._states[owner]
        index = None if state is None else state.index_for(ids)
        return owner if index is None else self._first[owner] + index

    def taken(self, name: str, run: Pass) -> list[tuple[Tensor, ...]]:
        """See `TrainableBank.taken`."""
        if self not in run.cache:
            gathered = (torch.stack([self._rows[i] for i in listed(o)]) for o in run.groups)
            run.cache[self] = [self._views(rows.to(self.weights.device)) for rows in gathered]
        return [views[name] for views in run.cache[self]]
