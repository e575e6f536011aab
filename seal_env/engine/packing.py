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

Dimensions:
    - T: rows of tokens in a pass, spare ones included.
    - S: sequences in the row.
    - B: blocks in one group of equal padded length.
    - L: padded length of a group's blocks, a `bucket`, in tokens.
    - N: slots of all blocks together, the sum of B * L over the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ROW_MULTIPLE = 16
"""Divisor of T: rows of tokens are filled up to a multiple of it."""
CPU = torch.device("cpu")
SHORTEST_SHARED = 16
"""Shortest common beginning of several sequences that is read once for all, in tokens."""


def bucket(length: int, device: torch.device = CPU) -> int:
    """Padded length of a block that holds `length` tokens.

    There are few distinct values, since each costs operations of its own: on a CPU at most a
    quarter is padding beyond 64 tokens; elsewhere, where an operation costs as much as thousands of
    padded tokens, values above 16 are multiples of 128.
    """
    short, step = (8, 16) if device.type == "cpu" else (16, 128)
    step = short if length <= short else max(step, 1 << max(0, length.bit_length() - 3))
    return -(-length // step) * step


def whole_blocks(length: int, device: torch.device = CPU) -> int:
    """Tokens of the longest beginning that fills its block exactly; 0 if it would be short."""
    fitting = (n for n in range(length, SHORTEST_SHARED - 1, -1) if bucket(n, device) == n)
    return next(fitting, 0)


@dataclass(frozen=True)
class Blocks:
    """Segments of a row as padded blocks, grouped by padded length."""

    gather: Tensor
    """Row that each slot of all blocks takes, shape (N,)."""
    scatter: Tensor
    """Slot that holds each row, shape (T,)."""
    shapes: tuple[tuple[int, int], ...]
    """(B, L) of each group."""
    members: tuple[np.ndarray, ...]
    """Indices of the segments in each group's blocks, each of shape (B,)."""
    real_rows: int
    """Rows before the spare ones."""

    @property
    def sizes(self) -> list[int]:
        """Slots in each group, B * L."""
        return [count * length for count, length in self.shapes]

    @staticmethod
    def build(
        lengths: np.ndarray, rows: int, device: torch.device, kinds: np.ndarray | None = None
    ) -> Blocks:
        """Blocks for segments that follow each other from row 0 on.

        Args:
            lengths: Tokens in each segment, all at least 1.
            rows: Rows of tokens, spare ones included (at least one).
            device: Device of the index tensors.
            kinds: One number per segment; segments with different numbers are in different groups.
        """
        ends = np.cumsum(lengths)
        starts, real_rows = ends - lengths, int(ends[-1])
        padded = np.array([bucket(int(n), device) for n in lengths])
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
    """Rows gathered into slots, or slots scattered into rows; spare rows become zeros.

    Args:
        x: Rows, shape (T, ...), or slots, shape (N, ...).
        index: `blocks.gather` or `blocks.scatter`, the tensor itself.
        blocks: The blocks that `index` belongs to.

    Returns:
        Shape (N, ...) or (T, ...).
    """
    taken = x.index_select(0, index)
    if index is blocks.scatter:
        taken[blocks.real_rows :] = 0
    return taken


class Row(NamedTuple):
    """The tokens of one call of the model."""

    ids: Tensor
    """Token ids, shape (T,)."""
    positions: Tensor
    """Position of each token in its own sequence, shape (T,)."""

    @staticmethod
    def build(
        ids: np.ndarray, positions: np.ndarray, device: torch.device, rows: int | None = None
    ) -> Row:
        """A row of the given tokens, filled up with spare ones: its first token at position 0.

        A real token is taken, since a model's output for a padding token need not be finite. `rows`
        is T, `padded_rows` if left out.
        """
        both = np.zeros((2, rows or padded_rows(len(ids))), dtype=np.int64)
        both[0], both[0, : len(ids)], both[1, : len(ids)] = ids[0], ids, positions
        moved = torch.from_numpy(both).to(device)
        return Row(moved[0], moved[1])


class Layout:
    """One row of tokens that holds many sequences, those of one adapter next to each other.

    Args:
        sequences: Token ids of each of the S sequences, none of them empty.
        owners: Index of the adapter of each sequence.
        device: Device of the tensors.
        before: Index of the sequence that each sequence continues, -1 for none, shape (S,);
            `owners` ascend in this case. A continued sequence fills its block (`whole_blocks`)
            and continues no other.
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
        """Row of the first token of each sequence, in the order given, shape (S,)."""
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
        """For each group of blocks, the group of the sequences that they continue and the indices
        of those blocks in it, shape (B,); None for a group that continues none."""
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


def whole_rows(real: int) -> int:
    """Multiple of `ROW_MULTIPLE` that holds a number of rows."""
    return -(-real // ROW_MULTIPLE) * ROW_MULTIPLE


def padded_rows(real: int) -> int:
    """T for a number of real tokens: a multiple of `ROW_MULTIPLE`, with at least one spare row."""
    return whole_rows(real + 1)


def owner_segments(owners: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct owners of neighboring sequences, and the number of tokens of each."""
    distinct, first = np.unique(owners, return_index=True)
    return distinct, np.add.reduceat(lengths, first)
