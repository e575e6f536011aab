"""Many sequences in one row of tokens, without padding, through an unmodified model.

A transformer's linear layers treat every token alike, so the tokens of all sequences (of all
adapters) can stand side by side in a single row; only attention has to know where a sequence
begins and ends. `Layout` describes such a row; `seal_env.engine.passes` takes it apart for
attention.

What each sequence gets does not depend on what else is in the row. On a CPU a row of a matrix
product has the same bits whatever the other rows are, once there are at least 8 of them, so
a row of tokens is filled up to a multiple of `ROW_MULTIPLE` with *spare* tokens; everything
that mixes tokens runs in blocks whose shape depends on the sequence alone (its `bucket`).
Spare tokens carry zeros through every gather, so that not even a NaN can spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ROW_MULTIPLE = 16
"""Rows of tokens are filled up to a multiple of this."""
SHORTEST_SHARED = 16
"""Fewest tokens that are worth being read once for several sequences that begin with them."""


def bucket(length: int) -> int:
    """The padded length of a block that holds `length` tokens.

    At most a quarter is padding beyond 64 tokens, and there are few distinct values: every one
    costs operations of its own.
    """
    step = 8 if length <= 8 else max(16, 1 << max(0, length.bit_length() - 3))
    return -(-length // step) * step


def whole_blocks(length: int) -> int:
    """The longest beginning of a text of so many tokens that fills its block; 0 if it is short."""
    fitting = (n for n in range(length, SHORTEST_SHARED - 1, -1) if bucket(n) == n)
    return next(fitting, 0)


@dataclass(frozen=True)
class Blocks:
    """Segments of a row as padded blocks, grouped by padded length."""

    gather: Tensor
    """For each slot of all blocks, one after the other, the row it takes; shape (slots,)."""
    scatter: Tensor
    """For each row, the slot that holds it; shape (rows,)."""
    shapes: tuple[tuple[int, int], ...]
    """(number of blocks, padded length) of each group."""
    members: tuple[np.ndarray, ...]
    """For each group, which segments its blocks hold."""
    real_rows: int
    """Rows in front of the spare ones."""

    @property
    def sizes(self) -> list[int]:
        """Slots in each group."""
        return [count * length for count, length in self.shapes]

    @staticmethod
    def build(
        lengths: np.ndarray, rows: int, device: torch.device, kinds: np.ndarray | None = None
    ) -> Blocks:
        """Blocks for segments that follow each other from row 0 on.

        Args:
            lengths: Tokens in each segment, all at least 1.
            rows: Rows of tokens, spare ones included (at least one).
            device: Where the index tensors live.
            kinds: A number a segment; those with different ones are in different groups.
        """
        ends = np.cumsum(lengths)
        starts, real_rows = ends - lengths, int(ends[-1])
        padded = np.array([bucket(int(n)) for n in lengths])
        kinds = np.zeros(len(lengths), dtype=np.int64) if kinds is None else kinds
        scatter = np.zeros(rows, dtype=np.int64)
        gathers, shapes, members, base = [], [], [], 0
        for kind, length in np.unique(np.stack([kinds, padded], axis=1), axis=0):
            chosen = np.flatnonzero((padded == length) & (kinds == kind))
            slots = np.arange(length)[None, :]
            real = slots < lengths[chosen][:, None]
            taken = np.where(real, starts[chosen][:, None] + slots, rows - 1).reshape(-1)
            scatter[taken[real.reshape(-1)]] = base + np.flatnonzero(real.reshape(-1))
            gathers.append(taken)
            shapes.append((len(chosen), int(length)))
            members.append(chosen)
            base += taken.size
        return Blocks(
            torch.from_numpy(np.concatenate(gathers)).to(device),
            torch.from_numpy(scatter).to(device),
            tuple(shapes),
            tuple(members),
            real_rows,
        )


def take_rows(x: Tensor, index: Tensor, blocks: Blocks) -> Tensor:
    """Rows into slots or slots into rows; spare rows come out as zeros.

    Args:
        x: Rows or slots.
        index: `blocks.gather` or `blocks.scatter`, the tensor itself.
        blocks: How.
    """
    taken = x.index_select(0, index)
    if index is blocks.scatter:
        taken[blocks.real_rows :] = 0
    return taken


class Row(NamedTuple):
    """The tokens that a model is called with."""

    ids: Tensor
    """Token ids, shape (rows,)."""
    positions: Tensor
    """Each token's position in its own sequence, shape (rows,)."""

    @staticmethod
    def build(ids: np.ndarray, positions: np.ndarray, device: torch.device) -> Row:
        """A row of the given tokens, filled up with spare ones (its first token at position 0).

        A token that stands in some text: what a model makes of padding need not be finite.
        """
        both = np.zeros((2, padded_rows(len(ids))), dtype=np.int64)
        both[0], both[0, : len(ids)], both[1, : len(ids)] = ids[0], ids, positions
        moved = torch.from_numpy(both).to(device)
        return Row(moved[0], moved[1])


class Layout:
    """One row of tokens that holds many sequences, those of one adapter next to each other.

    Args:
        sequences: Token ids of each sequence, none of them empty.
        owners: The adapter each sequence belongs to.
        device: Where the tensors live.
        before: For each sequence which other one it goes on from, -1 for none; `owners` ascend
            then. What is gone on from fills its block (`whole_blocks`), and begins by itself.
    """

    def __init__(
        self,
        sequences: Sequence[Sequence[int]],
        owners: Sequence[int],
        device: torch.device,
        before: np.ndarray | None = None,
    ) -> None:
        self.order = np.argsort(np.asarray(owners), kind="stable")
        lengths = np.array([len(s) for s in sequences])[self.order]
        before = np.full(len(lengths), -1) if before is None else before
        passed = np.where(before < 0, 0, lengths[before])
        ends = np.cumsum(lengths)
        self.starts = np.empty(len(lengths), dtype=np.int64)
        """For each sequence, in the order given, the row of its first token."""
        self.starts[self.order] = ends - lengths
        self.row = Row.build(
            np.concatenate([np.asarray(sequences[i]) for i in self.order]),
            np.concatenate([np.arange(p, p + n) for p, n in zip(passed, lengths, strict=True)]),
            device,
        )
        rows = len(self.row.ids)
        kinds = passed.copy()
        kinds[before[before >= 0]] = -1  # groups of their own, so that they can be looked up
        self.blocks = Blocks.build(lengths, rows, device, kinds)
        self.before = [self._found(before[members], device) for members in self.blocks.members]
        """For each group of blocks the group of the sequences that they go on from, and which of
        its blocks; None if from none."""
        self.owners, tokens = owner_segments(np.asarray(owners)[self.order], lengths)
        self.owner_blocks = (
            self.blocks if len(self.owners) == len(lengths) else Blocks.build(tokens, rows, device)
        )

    def _found(self, wanted: np.ndarray, device: torch.device) -> tuple[int, Tensor] | None:
        if wanted[0] < 0:
            return None
        groups = enumerate(self.blocks.members)
        group, members = next((g, m) for g, m in groups if np.isin(wanted, m).all())
        return group, torch.from_numpy(np.searchsorted(members, wanted)).to(device)


def padded_rows(real: int) -> int:
    """Rows of tokens for so many real ones: a multiple of `ROW_MULTIPLE`, at least one spare."""
    return -(-(real + 1) // ROW_MULTIPLE) * ROW_MULTIPLE


def owner_segments(owners: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins neighboring sequences of one owner: the distinct owners, and tokens of each."""
    distinct, first = np.unique(owners, return_index=True)
    return distinct, np.add.reduceat(lengths, first)
