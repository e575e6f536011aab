"""Key-value cache of texts that continue the same prompts: each prompt's part is stored once.

A new token attends to two parts, its text's prompt and its text's own tokens. The queries of all
texts of one prompt are rows of one product with the prompt's keys, so that these are read from
memory once for all (Hydragen, Juravsky et al. 2024, arXiv 2402.05099, section 3; one softmax over
both parts takes the place of its sums). The texts' own tokens are all as many, and need no mask.

What a text gets does not depend on the number of texts beside it: products have at least
`FEWEST_ROWS` rows, above which a row's bits are the same whatever the others are.

Dimensions:
    - B: sequences in the cache.
    - N: prompts; C: their padded length.
    - S: slots per prompt, at least the number of its sequences.
    - Hq, Hk: heads of the queries, and of the keys and values; Q = Hq / Hk; E: width of a head.
    - M: generated tokens per sequence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seal_env.engine.attention import Scoring, shares_of
from seal_env.engine.cache import Cache, hidden_keys, longer

FEWEST_ROWS = 8
"""Rows of a product from which on each has the same bits whatever the others are."""
SHORTEST = 32
"""Shortest padded length of a prompt, in tokens."""


def shared_room(length: int) -> int:
    """Padded length of a prompt: a power of two, so that there are few groups of prompts."""
    return max(SHORTEST, 1 << (length - 1).bit_length())


class _Slots(NamedTuple):
    """Places of the sequences among the slots of their prompts."""

    size: int
    """S, slots per prompt."""
    taken: Tensor
    """Slot of each sequence, shape (B,)."""
    filled: Tensor
    """Sequence in each slot, shape (N * S,); any of them in slots that none takes."""


class SharedCache(Cache):
    """Keys and values of sequences, apart from those of their prompts.

    Args:
        members: As in `Cache`.
        lengths: As in `Cache`.
        prompts: Index of the prompt of each sequence, shape (B,), among those given to `store`.
        room: C, tokens that every prompt is padded to.
    """

    def __init__(
        self, members: np.ndarray, lengths: np.ndarray, prompts: np.ndarray, room: int
    ) -> None:
        super().__init__(members, lengths)
        self.prompts, self.room = prompts, room
        self.prompt_keys: list[Tensor] = []
        """Keys of the prompts of each call of attention, shape (N, Hk, C, E)."""
        self.prompt_values: list[Tensor] = []
        """Values, as the keys."""
        self.step = 0
        self._slots: dict[int, _Slots] = {}
        self._masks: dict[int | None, Tensor] = {}

    def store(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """See `Cache.store`."""
        for parts, whole, own in (
            (keys, self.prompt_keys, self.keys),
            (values, self.prompt_values, self.values),
        ):
            padded = [F.pad(part, (0, 0, 0, self.room - part.shape[2])) for part in parts]
            whole.append(torch.cat(padded))
            own.append(
                parts[0].new_empty(len(self.members), parts[0].shape[1], 0, whole[-1].shape[3])
            )

    def prepare(self, active: np.ndarray, step: int) -> None:
        """See `Cache.prepare`."""
        device = self.keys[0].device
        if self.keys[0].shape[2] <= step:
            self.keys = [longer(tensor) for tensor in self.keys]
            self.values = [longer(tensor) for tensor in self.values]
        self.rows = torch.from_numpy(np.searchsorted(active, self.members)).to(device)
        self.step = step
        self._masks = {}

    def mask(self, window: int | None, own: int) -> Tensor:
        """Addend of the scores that hides keys of the prompts, shape (B, 1, 1, C + own)."""
        if window not in self._masks:
            lengths = torch.from_numpy(self.lengths).to(self.rows.device)
            hidden = hidden_keys(self.room, lengths - 1, lengths + self.step, window)
            mask = torch.zeros(hidden.shape, dtype=self.keys[0].dtype, device=hidden.device)
            mask.masked_fill_(hidden, -math.inf)
            self._masks[window] = F.pad(mask, (0, own))[:, None, None]
        return self._masks[window]

    def slots(self, groups: int) -> _Slots:
        """Slots for Q query heads per key head."""
        if groups not in self._slots:
            counts = np.bincount(self.prompts)
            count = max(int(counts.max()), -(-FEWEST_ROWS // groups))
            order = np.argsort(self.prompts, kind="stable")
            owners = self.prompts[order]
            places = owners * count + np.arange(len(owners)) - (np.cumsum(counts) - counts)[owners]
            filled = np.zeros(len(counts) * count, dtype=np.int64)
            filled[places] = order
            taken = np.empty_like(order)
            taken[order] = places
            both = (torch.from_numpy(x).to(self.rows.device) for x in (taken, filled))
            self._slots[groups] = _Slots(count, *both)
        return self._slots[groups]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, call: int, scoring: Scoring) -> Tensor:
        """See `Cache.attend`."""
        count, heads, width = q.shape
        shared = k.shape[1]
        groups = heads // shared
        slots = self.slots(groups)
        self.keys[call][:, :, self.step] = k
        self.values[call][:, :, self.step] = v
        first = 0 if scoring.window is None else max(0, self.step + 1 - scoring.window)
        own_keys, own_values = (
            x[call][:, :, first : self.step + 1].flatten(0, 1) for x in (self.keys, self.values)
        )
        keys, values = (x[call].flatten(0, 1) for x in (self.prompt_keys, self.prompt_values))

        def apart(x: Tensor) -> Tensor:
            """Sequences (B, Hq, .) as rows of their prompts' products, (N * Hk, S * Q, .)."""
            parts = x[slots.filled].view(-1, slots.size, shared, groups, x.shape[-1])
            return parts.transpose(1, 2).reshape(len(keys), slots.size * groups, x.shape[-1])

        def together(x: Tensor) -> Tensor:
            """The inverse of `apart`."""
            parts = x.view(-1, shared, slots.size, groups, x.shape[-1]).transpose(1, 2)
            return parts.reshape(-1, heads, x.shape[-1])[slots.taken]

        own = torch.bmm(q.view(count * shared, groups, width), own_keys.transpose(1, 2))
        prompt = together(torch.bmm(apart(q), keys.transpose(1, 2)))
        scores = torch.cat([prompt, own.view(count, heads, -1)], dim=-1)
        scores.mul_(width**-0.5 if scoring.scale is None else scoring.scale)
        mask = self.mask(scoring.window, own.shape[-1])
        shares = shares_of(scores.unsqueeze(2), scoring, mask).squeeze(2)
        prompt_shares, own_shares = shares.split((self.room, own.shape[-1]), dim=-1)
        out = torch.bmm(own_shares.reshape(count * shared, groups, -1), own_values)
        return out.view(count, heads, -1) + together(torch.bmm(apart(prompt_shares), values))

    def keep(self, stay: np.ndarray) -> None:
        """See `Cache.keep`."""
        device = self.keys[0].device
        self.members, self.lengths = self.members[stay], self.lengths[stay]
        chosen = torch.from_numpy(np.flatnonzero(stay)).to(device)
        self.keys, self.values = ([x[chosen] for x in y] for y in (self.keys, self.values))
        left, self.prompts = np.unique(self.prompts[stay], return_inverse=True)
        if len(left) < len(self.prompt_keys[0]):
            needed = torch.from_numpy(left).to(device)
            self.prompt_keys = [x[needed] for x in self.prompt_keys]
            self.prompt_values = [x[needed] for x in self.prompt_values]
        self._slots = {}
