"""Key-value cache of generation, and the pass that reads and fills it.

Dimensions:
    - A: sequences that are not finished yet.
    - B: sequences in one cache.
    - Hk: heads of the keys and values; E: width of a head.
    - C: tokens that a cache has room for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seal_env.engine.attention import Scoring, attend
from seal_env.engine.heads import Heads
from seal_env.engine.packing import Blocks, owner_segments, padded_rows
from seal_env.engine.passes import Pass

CACHE_STEP = 32
"""Tokens by which the room of a key-value cache grows."""


class KeyValueCache:
    """Keys and values of the unfinished sequences whose prompts have the same bucket."""

    def __init__(self, members: np.ndarray, lengths: np.ndarray, room: int) -> None:
        self.members, self.lengths, self.room = members, lengths, room
        self.keys: list[Tensor] = []
        """Keys of each call of attention in a pass, shape (B, Hk, C, E)."""
        self.values: list[Tensor] = []
        """Values, as the keys."""
        self._masks: dict[int | None, Tensor] = {}

    def prepare(self, active: np.ndarray, step: int, capacity: int) -> None:
        """Makes room and indices for the token at position `lengths + step` of each sequence."""
        device = self.keys[0].device
        if self.keys[0].shape[2] < capacity:
            self.keys = [longer(tensor) for tensor in self.keys]
            self.values = [longer(tensor) for tensor in self.values]
        self.rows = torch.from_numpy(np.searchsorted(active, self.members)).to(device)
        self.index = torch.arange(len(self.members), device=device)
        self.slots = torch.from_numpy(self.lengths + step).to(device)
        self._masks = {}

    def mask(self, window: int | None) -> Tensor:
        """Addend of the scores that hides empty keys and those before a window, (B, 1, 1, C)."""
        if window not in self._masks:
            like = self.keys[0]
            places = torch.arange(like.shape[2], device=like.device)[None]
            hidden = places > self.slots[:, None]
            if window is not None:
                hidden |= places <= self.slots[:, None] - window
            mask = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
            self._masks[window] = mask.masked_fill_(hidden, -math.inf)[:, None, None]
        return self._masks[window]

    def keep(self, stay: np.ndarray) -> None:
        """Removes the finished sequences."""
        chosen = torch.from_numpy(np.flatnonzero(stay))
        self.members, self.lengths = self.members[stay], self.lengths[stay]
        self.keys = [tensor[chosen.to(tensor.device)] for tensor in self.keys]
        self.values = [tensor[chosen.to(tensor.device)] for tensor in self.values]


def longer(cached: Tensor) -> Tensor:
    """Keys or values with room for `CACHE_STEP` more tokens."""
    return F.pad(cached, (0, 0, 0, CACHE_STEP))


class DecodePass(Pass):
    """Pass over one new token of every unfinished sequence, which attends to its cache.

    Args:
        owners: Index of the adapter of each sequence, shape (A,).
        caches: The sequences' keys and values.
        device: Where the pass runs.
    """

    def __init__(
        self, owners: np.ndarray, caches: Sequence[KeyValueCache], device: torch.device
    ) -> None:
        segments, counts = owner_segments(owners, np.ones(len(owners), dtype=np.int64))
        super().__init__(segments, Blocks.build(counts, padded_rows(len(owners)), device))
        self.caches = caches

    def attend(
        self, x: Tensor, heads: Heads, scoring: Scoring, learning: bool
    ) -> tuple[Tensor, None]:
        """Attention of the new tokens to their sequences; their keys and values join the caches."""
        assert not learning, "what is written token by token is not learned"
        q, k, v = heads.split(x)
        out = torch.zeros_like(q)
        for cache in self.caches:
            rows, slots = cache.rows, cache.slots
            keys, values = cache.keys[self.calls], cache.values[self.calls]
            keys[cache.index, :, slots] = k[rows]
            values[cache.index, :, slots] = v[rows]
            mask = cache.mask(scoring.window)
            mixed = attend(q[rows].unsqueeze(2), keys, values, scoring, False, mask)
            out[rows] = mixed.squeeze(2)
        self.calls += 1
        return out, None
