"""Key-value caches of generation, and the pass that reads and fills them.

`KeyValueCache` holds each text's keys and values in one piece, prompt and continuation;
`SharedCache` (`seal_env.engine.shared_cache`) those of each distinct prompt once.

Dimensions:
    - A: sequences that are not finished yet.
    - B: sequences in one cache.
    - Hq, Hk: heads of the queries, and of the keys and values; E: width of a head.
    - C: tokens that a cache has room for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seal_env.engine.attention import Scoring, attend
from seal_env.engine.heads import Heads
from seal_env.engine.packing import Blocks, owner_segments
from seal_env.engine.passes import Pass

CACHE_STEP = 32
"""Tokens by which the room of a key-value cache grows."""


class Cache(ABC):
    """Keys and values of some unfinished sequences.

    Args:
        members: Indices of the sequences, shape (B,), ascending.
        lengths: Tokens of their prompts, shape (B,).
    """

    rows: Tensor
    """Row of each sequence in the current step, shape (B,)."""

    def __init__(self, members: np.ndarray, lengths: np.ndarray) -> None:
        self.members, self.lengths = members, lengths
        self.keys: list[Tensor] = []
        """Keys of each call of attention in a pass, shape (B, Hk, C, E)."""
        self.values: list[Tensor] = []
        """Values, as the keys."""

    @abstractmethod
    def store(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Adds the prompts' keys and values of one call of attention.

        Args:
            keys: One tensor per group of the pass that holds the prompts, in the cache's order.
            values: As the keys.
        """

    @abstractmethod
    def prepare(self, active: np.ndarray, step: int) -> None:
        """Makes room and indices for the token at position `lengths + step` of each sequence.

        Args:
            active: Indices of all unfinished sequences, shape (A,), ascending.
            step: Number of tokens that were generated before.
        """

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, call: int, scoring: Scoring) -> Tensor:
        """Attention of the new tokens, whose keys and values are added.

        Args:
            q: Queries of the cache's sequences, shape (B, Hq, E).
            k: Keys, shape (B, Hk, E).
            v: Values, as the keys.
            call: Number of calls of attention before this one in the pass.
            scoring: The layer's way of scoring keys.

        Returns:
            Shape (B, Hq, E).
        """

    @abstractmethod
    def keep(self, stay: np.ndarray) -> None:
        """Removes the finished sequences; `stay` is bool, shape (B,)."""


class KeyValueCache(Cache):
    """Keys and values in one piece of the sequences whose prompts have the same bucket.

    Args:
        members: As in `Cache`.
        lengths: As in `Cache`.
        room: Padded length of the prompts, in tokens.
    """

    def __init__(self, members: np.ndarray, lengths: np.ndarray, room: int) -> None:
        super().__init__(members, lengths)
        self.room = room
        self._masks: dict[int | None, Tensor] = {}

    def store(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """See `Cache.store`; there is one group."""
        # With room for the first tokens; a view would keep the queries in memory.
        self.keys.append(longer(keys[0]))
        self.values.append(longer(values[0]))

    def prepare(self, active: np.ndarray, step: int) -> None:
        """See `Cache.prepare`."""
        device = self.keys[0].device
        if self.keys[0].shape[2] < self.room + -(-(step + 1) // CACHE_STEP) * CACHE_STEP:
            self.keys = [longer(tensor) for tensor in self.keys]
            self.values = [longer(tensor) for tensor in self.values]
        self.rows = torch.from_numpy(np.searchsorted(active, self.members)).to(device)
        self.index = torch.arange(len(self.members), device=device)
        self.slots = torch.from_numpy(self.lengths + step).to(device)
        self._masks = {}

    def mask(self, window: int | None) -> Tensor:
        """Addend of the scores that hides empty keys and those before a window, (B, 1, 1, C)."""
        if window not in self._masks:
            hidden = hidden_keys(self.keys[0].shape[2], self.slots, self.slots, window)
            mask = torch.zeros(hidden.shape, dtype=self.keys[0].dtype, device=hidden.device)
            self._masks[window] = mask.masked_fill_(hidden, -math.inf)[:, None, None]
        return self._masks[window]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, call: int, scoring: Scoring) -> Tensor:
        """See `Cache.attend`."""
        keys, values = self.keys[call], self.values[call]
        keys[self.index, :, self.slots] = k
        values[self.index, :, self.slots] = v
        mask = self.mask(scoring.window)
        return attend(q.unsqueeze(2), keys, values, scoring, False, mask).squeeze(2)

    def keep(self, stay: np.ndarray) -> None:
        """See `Cache.keep`."""
        self.members, self.lengths = self.members[stay], self.lengths[stay]
        chosen = torch.from_numpy(np.flatnonzero(stay)).to(self.keys[0].device)
        self.keys = [tensor[chosen] for tensor in self.keys]
        self.values = [tensor[chosen] for tensor in self.values]


def longer(cached: Tensor) -> Tensor:
    """Keys or values with room for `CACHE_STEP` more tokens."""
    return F.pad(cached, (0, 0, 0, CACHE_STEP))


def hidden_keys(room: int, last: Tensor, position: Tensor, window: int | None) -> Tensor:
    """Whether a key is empty or before the window of a query, bool, shape (B, room).

    Args:
        room: Number of keys, the first at position 0.
        last: Position of the last key of each sequence that is not empty, shape (B,).
        position: Position of each sequence's query, shape (B,).
        window: Number of latest keys that a query sees; None for all.
    """
    places = torch.arange(room, device=last.device)[None]
    hidden = places > last[:, None]
    if window is not None:
        hidden |= places <= position[:, None] - window
    return hidden


class DecodePass(Pass):
    """Pass over one new token of every unfinished sequence, which attends to its cache.

    Args:
        owners: Index of the adapter of each sequence, shape (A,).
        rows: Rows of tokens in the pass, spare ones included.
        caches: The sequences' keys and values.
        device: Where the pass runs.
    """

    def __init__(
        self, owners: np.ndarray, rows: int, caches: Sequence[Cache], device: torch.device
    ) -> None:
        segments, counts = owner_segments(owners, np.ones(len(owners), dtype=np.int64))
        super().__init__(segments, Blocks.build(counts, rows, device))
        self.caches = caches

    def attend(
        self, x: Tensor, heads: Heads, scoring: Scoring, learning: bool
    ) -> tuple[Tensor, None]:
        """Attention of the new tokens to their sequences; their keys and values join the caches."""
        assert not learning, "what is written token by token is not learned"
        q, k, v = heads.split(x)
        out = torch.zeros_like(q)
        for cache in self.caches:
            rows = cache.rows
            out[rows] = cache.attend(q[rows], k[rows], v[rows], self.calls, scoring)
        self.calls += 1
        return out, None
