"""Many sequences in one row of tokens, without padding, through an unmodified model.

A transformer's linear layers treat every token alike, so the tokens of all sequences (of all
adapters) can stand side by side in a single row; only attention has to know where a sequence
begins and ends. `Layout` describes such a row. `packed_attention` is registered with
transformers as an attention implementation: it takes the row apart into sequences of similar
length, attends within each, and puts the row together again, so that attention costs what
the separate sequences cost.

What each sequence gets does not depend on what else is in the row. On a CPU a row of a matrix
product has the same bits whatever the other rows are, once there are at least 8 of them, so
a row of tokens is filled up to a multiple of `ROW_MULTIPLE` with *spare* tokens; everything
that mixes tokens runs in blocks whose shape depends on the sequence alone (its `bucket`).
Spare tokens carry zeros through every gather, so that not even a NaN can spread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from seal_env.attention import scaled_attention

IMPLEMENTATION = "seal_env_packed"
"""The name under which `packed_attention` is registered with transformers."""
ROW_MULTIPLE = 16
"""Rows of tokens are filled up to a multiple of this."""
SHORTEST_SHARED = 16
"""Fewest tokens that are worth being read once for several sequences that begin with them."""


def bucket(length: int) -> int:
    """The padded length of a block that holds `length` tokens.

    At most a quarter is padding beyond 32 tokens, and there are few distinct values: every one
    costs operations of its own.
    """
    step = max(8 if length <= 32 else 16, 1 << max(0, length.bit_length() - 3))
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


class _Move(torch.autograd.Function):
    """Takes rows by one index; the gradient comes back by the inverse one. Spare rows are 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor, blocks: Blocks) -> Tensor:
        ctx.save_for_backward(index, inverse)
        ctx.blocks = blocks
        return take_rows(x, index, blocks)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _, inverse = ctx.saved_tensors
        return take_rows(grads[0], inverse, ctx.blocks), None, None, None


def take_rows(x: Tensor, index: Tensor, blocks: Blocks) -> Tensor:
    """Rows into slots or slots into rows, outside of autograd; spare rows come out as zeros.

    Args:
        x: Rows or slots.
        index: `blocks.gather` or `blocks.scatter`, the tensor itself.
        blocks: How.
    """
    taken = x.index_select(0, index)
    if index is blocks.scatter:
        taken[blocks.real_rows :] = 0
    return taken


def to_blocks(x: Tensor, blocks: Blocks) -> tuple[Tensor, ...]:
    """Splits rows into blocks.

    Args:
        x: Rows, shape (rows, ...); the spare rows must be finite.
        blocks: How.

    Returns:
        One tensor a group, shape (count, length, ...); padding holds the last spare row.
    """
    flat = _Move.apply(x, blocks.gather, blocks.scatter, blocks)
    parts = flat.split(blocks.sizes)
    return tuple(
        part.view(count, length, *x.shape[1:])
        for part, (count, length) in zip(parts, blocks.shapes, strict=True)
    )


def to_rows(parts: Sequence[Tensor], blocks: Blocks) -> Tensor:
    """The inverse of `to_blocks`; spare rows come out as zeros."""
    flat = [part.reshape(-1, *part.shape[2:]) for part in parts]
    joined = flat[0] if len(flat) == 1 else torch.cat(flat)
    return _Move.apply(joined, blocks.scatter, blocks.gather, blocks)


class Row(NamedTuple):
    """The tokens that a model is called with."""

    ids: Tensor
    """Token ids, shape (rows,)."""
    positions: Tensor
    """Each token's position in its own sequence, shape (rows,)."""

    @staticmethod
    def build(ids: np.ndarray, positions: np.ndarray, device: torch.device) -> Row:
        """A row of the given tokens, filled up with spare ones (id 0 at position 0)."""
        both = np.zeros((2, padded_rows(len(ids))), dtype=np.int64)
        both[0, : len(ids)], both[1, : len(ids)] = ids, positions
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
    """Joins neighbouring sequences of one owner: the distinct owners, and tokens of each."""
    distinct, first = np.unique(owners, return_index=True)
    return distinct, np.add.reduceat(lengths, first)


class Pass:
    """What attention and adapters need to know during one forward pass.

    Args:
        owners: The adapters that have tokens in the row, ascending.
        owner_blocks: The row's segments by adapter.
    """

    def __init__(self, owners: np.ndarray, owner_blocks: Blocks) -> None:
        self.owner_blocks = owner_blocks
        self.groups = [_index(owners[chosen], owner_blocks) for chosen in owner_blocks.members]
        """For each group of `owner_blocks`, which adapters its blocks belong to."""
        self._last: tuple[Tensor, list[Tensor]] | None = None

    def split(self, rows: Tensor) -> list[Tensor]:
        """Rows (rows, width) as one float32 tensor of blocks a group, (adapters, length, width)."""
        blocks = self.owner_blocks
        parts = take_rows(rows, blocks.gather, blocks).float().split(blocks.sizes)
        return [part.view(*shape, -1) for part, shape in zip(parts, blocks.shapes, strict=True)]

    @torch.no_grad()
    def blocks_of(self, x: Tensor, rows: Tensor) -> list[Tensor]:
        """`split` of a module's input, done once for modules that take the same input.

        Args:
            x: The input itself, by which it is known again.
            rows: Its rows.
        """
        if self._last is None or self._last[0] is not x:
            self._last = (x, self.split(rows))
        return self._last[1]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        """Attention over rows.

        Args:
            layer: The layer's number.
            q: Shape (rows, heads, width).
            k: Shape (rows, kv heads, width).
            v: As k.
            scale: Factor on the scores; None for the usual one.

        Returns:
            Shape (rows, heads, width).
        """
        raise NotImplementedError


def _index(owners: np.ndarray, blocks: Blocks) -> slice | Tensor:
    """An index of adapters; a slice, which copies nothing, where they are consecutive."""
    first, last = int(owners[0]), int(owners[-1])
    if last - first + 1 == len(owners):
        return slice(first, last + 1)
    return torch.from_numpy(owners).to(blocks.gather.device)


class FullPass(Pass):
    """All tokens of all sequences at once, causal within each: training, scoring, prefill.

    Args:
        layout: The row.
        keep: Called with (layer, keys, values) where a decoder wants them; each a list with
            one tensor a group, shape (count, length, kv heads, width), where the length is that of
            what a sequence goes on from as well.
    """

    def __init__(self, layout: Layout, keep: Any = None) -> None:
        super().__init__(layout.owners, layout.owner_blocks)
        self.layout = layout
        self.keep = keep

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
        """See `Pass.attend`."""
        blocks = self.layout.blocks
        queries = to_blocks(q, blocks)
        keys, values = (self._with_before(to_blocks(x, blocks)) for x in (k, v))
        if self.keep is not None:
            self.keep(layer, keys, values)
        parts = []
        for q_part, k_part, v_part in zip(queries, keys, values, strict=True):
            out = scaled_attention(q_part, k_part, v_part, scale, causal=True)
            parts.append(out)
        return to_rows(parts, blocks)

    def _with_before(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Keys or values of each group, behind those of what its sequences go on from."""
        whole = []
        for own, before in zip(parts, self.layout.before, strict=True):
            if before is None:
                whole.append(own)
            else:
                group, index = before
                whole.append(torch.cat([parts[group].index_select(0, index), own], dim=1))
        return whole


_current: ContextVar[Pass] = ContextVar("seal_env_pass")


@contextmanager
def running(run: Pass) -> Iterator[None]:
    """Makes a pass the current one while the model is called."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


def current_pass() -> Pass | None:
    """The pass that is under way, if the model was called through this package."""
    return _current.get(None)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention implementation that transformers calls, in its signature.

    Args:
        module: The attention layer.
        query: Shape (1, heads, rows, width).
        key: Shape (1, kv heads, rows, width).
        value: As key.
        attention_mask: None; the current pass knows what attends to what.
        scaling: Factor on the scores.

    Returns:
        Shape (1, rows, heads, width), and None in place of attention weights.
    """
    run = _current.get()
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    return run.attend(layer, q, k, v, scaling).unsqueeze(0), None


AttentionInterface.register(IMPLEMENTATION, packed_attention)
