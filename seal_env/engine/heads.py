"""The heads of a row's tokens as padded blocks, as attention takes them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from seal_env.engine.packing import Blocks


class Heads(NamedTuple):
    """How many heads a layer has."""

    queries: int
    """Heads of the queries."""
    keys: int
    """Heads of the keys, and of the values; a divisor of `queries`."""

    @property
    def all(self) -> int:
        """Queries, keys and values."""
        return self.queries + 2 * self.keys

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of rows, shape (rows, all, width)."""
        return x.split((self.queries, self.keys, self.keys), dim=1)


class HeadBlocks:
    """Takes a row's queries, keys and values apart into blocks of one sequence and one head.

    One gather does it for all of them. Each head's tokens lie next to each other then, which is
    what batched products want.

    Args:
        blocks: The row's sequences.
        heads: Heads of each token.
    """

    def __init__(self, blocks: Blocks, heads: Heads) -> None:
        self.blocks, self.heads = blocks, heads
        device, rows = blocks.gather.device, len(blocks.scatter)
        ends = (0, heads.queries, heads.queries + heads.keys, heads.all)
        taken: list[Tensor] = []
        mixed: list[Tensor] = []
        self.shapes: list[tuple[int, int, int]] = []
        """(sequences, heads, padded length) of each part of `apart`."""
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
        """Rows, shape (rows, heads.all, width), as queries, keys and values of each group.

        Returns:
            Tensors of shape (sequences, heads, padded length, width); padding holds the last spare
            row, which must be finite.
        """
        width = x.shape[-1]
        parts = x.view(-1, width).index_select(0, self._apart.there).split(self.sizes)
        views = [part.view(*shape, width) for part, shape in zip(parts, self.shapes, strict=True)]
        return list(zip(views[::3], views[1::3], views[2::3], strict=True))

    def apart_backward(self, grads: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """The gradient of `apart`'s input."""
        flat = [part.reshape(-1, part.shape[-1]) for group in grads for part in group]
        return self._back(torch.cat(flat), self._apart, self.heads.all)

    def together(self, parts: Sequence[Tensor]) -> Tensor:
        """Blocks of the queries' shapes as rows, shape (rows, heads.queries, width)."""
        flat = [part.reshape(-1, part.shape[-1]) for part in parts]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat)
        return self._back(joined, self._mixed, self.heads.queries)

    def together_backward(self, grad: Tensor) -> list[Tensor]:
        """The gradients of `together`'s input."""
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
    """Which rows slots take, and for each row a slot that took it."""

    def __init__(self, there: Tensor, rows: int) -> None:
        self.there = there
        self.back = torch.zeros(rows, dtype=there.dtype, device=there.device)
        # Only the last spare row is in several slots, and whatever it gets is set to zero.
        self.back[there] = torch.arange(len(there), device=there.device)
