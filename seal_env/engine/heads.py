"""Conversion between rows of tokens and the padded blocks per head that attention takes.

Dimensions:
    - T: rows of tokens in a pass, spare ones included.
    - B: sequences in one group of equal padded length L.
    - Hq, Hk: heads of the queries, and of the keys and values; H = Hq + 2 Hk.
    - E: width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from seal_env.engine.packing import Blocks


class Heads(NamedTuple):
    """Numbers of heads of a layer."""

    queries: int
    """Hq, heads of the queries."""
    keys: int
    """Hk, heads of the keys and of the values; a divisor of `queries`."""

    @property
    def all(self) -> int:
        """H, heads of queries, keys and values together."""
        return self.queries + 2 * self.keys

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries (T, Hq, E), keys (T, Hk, E) and values (T, Hk, E) of rows (T, H, E)."""
        return x.split((self.queries, self.keys, self.keys), dim=1)


class HeadBlocks:
    """A row's queries, keys and values as blocks of one sequence and one head, and back.

    One gather converts all of them. Each head's tokens are contiguous afterwards, as batched
    products need them.

    Args:
        blocks: The row's sequences.
        heads: Numbers of heads of each token.
    """

    def __init__(self, blocks: Blocks, heads: Heads) -> None:
        self.blocks, self.heads = blocks, heads
        device, rows = blocks.gather.device, len(blocks.scatter)
        ends = (0, heads.queries, heads.queries + heads.keys, heads.all)
        taken: list[Tensor] = []
        mixed: list[Tensor] = []
        self.shapes: list[tuple[int, int, int]] = []
        """(B, heads, L) of each tensor that `apart` returns, heads being Hq or Hk."""
        for part, (count, length) in zip(
            blocks.gather.split(blocks.sizes), blocks.shapes, strict=True
        ):
            tokens = part.view(count, 1, length)
            for first, last in pairwise(ends):
                places = torch.arange(first, last, device=device)[:, None]
                taken.append((tokens * heads.all + places).flatten())
                self.shapes.append((count, last - first, length))
            places = torch.arange(heads.queries, device=device)[:, None]
            mixed.append((tokens * heads.queries + places).flatten())
        self.sizes = [len(part) for part in taken]
        self._apart = _Index(torch.cat(taken), rows * heads.all)
        self._mixed = _Index(torch.cat(mixed), rows * heads.queries)

    def apart(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Queries, keys and values of each group.

        Args:
            x: Rows, shape (T, H, E).

        Returns:
            Per group tensors of shape (B, Hq, L, E), (B, Hk, L, E) and (B, Hk, L, E); padding
            holds the last spare row, which must be finite.
        """
        width = x.shape[-1]
        parts = x.view(-1, width).index_select(0, self._apart.there).split(self.sizes)
        views = [part.view(*shape, width) for part, shape in zip(parts, self.shapes, strict=True)]
        return list(zip(views[::3], views[1::3], views[2::3], strict=True))

    def apart_backward(self, grads: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """Gradient of `apart`'s input, shape (T, H, E), from the gradients of its output."""
        flat = [part.reshape(-1, part.shape[-1]) for group in grads for part in group]
        return self._back(torch.cat(flat), self._apart, self.heads.all)

    def together(self, parts: Sequence[Tensor]) -> Tensor:
        """Rows, shape (T, Hq, E), of blocks of shape (B, Hq, L, E), one per group."""
        flat = [part.reshape(-1, part.shape[-1]) for part in parts]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat)
        return self._back(joined, self._mixed, self.heads.queries)

    def together_backward(self, grad: Tensor) -> list[Tensor]:
        """Gradients of `together`'s input from the gradient of its output, shape (T, Hq, E)."""
        width = grad.shape[-1]
        parts = grad.reshape(-1, width).index_select(0, self._mixed.there).split(self.sizes[::3])
        return [
            part.view(*shape, width) for part, shape in zip(parts, self.shapes[::3], strict=True)
        ]

    def _back(self, flat: Tensor, index: _Index, heads: int) -> Tensor:
        rows = flat.index_select(0, index.back).view(-1, heads, flat.shape[-1])
        rows[self.blocks.real_rows :] = 0
        return rows


class _Index:
    """Row that each slot takes, and one slot that took each row."""

    def __init__(self, there: Tensor, rows: int) -> None:
        self.there = there
        self.back = torch.zeros(rows, dtype=there.dtype, device=there.device)
        # Only the last spare row is in several slots; its result is set to zero afterwards.
        self.back[there] = torch.arange(len(there), device=there.device)
