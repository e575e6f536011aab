"""Passes: the state that attention and adapters need while a row goes through the model.

`packed_attention` and `packed_mask` are registered with transformers as an attention
implementation, for the architectures that run through transformers' own layers. The current pass
splits the row into sequences of similar length, attends within each, and joins the row again, so
that attention costs as much as for the separate sequences.

Dimensions:
    - T: rows of tokens in a pass, spare ones included.
    - D: width of a module's input or output.
    - G: adapters in one group of equal padded length L.
    - B: sequences in one group of equal padded length L.
    - Hq, Hk: heads of the queries, and of the keys and values; H = Hq + 2 Hk.
    - E: width of a head.
    - C: keys of a sequence, those of the sequence that it continues included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface

from seal_env.engine.attention import Scoring, attend, attend_and_learn
from seal_env.engine.heads import HeadBlocks, Heads
from seal_env.engine.packing import Blocks, Layout, take_rows
from seal_env.errors import UserError

IMPLEMENTATION = "seal_env_packed"
"""Name under which `packed_attention` is registered with transformers."""


class RowsBackward(NamedTuple):
    """The backward pass of attention over rows."""

    saved: tuple[Tensor, ...]
    """Tensors that it needs, for autograd to save."""
    run: Callable[[Tensor, Sequence[Tensor]], Tensor]
    """Gradient of queries, keys and values, from the gradient of the output and `saved`."""


class Pass:
    """State of one forward pass over a row, for attention and adapters.

    Args:
        owners: Indices of the adapters that have tokens in the row, ascending.
        owner_blocks: The row's segments, one per adapter.
    """

    def __init__(self, owners: np.ndarray, owner_blocks: Blocks) -> None:
        self.owner_blocks = owner_blocks
        device = owner_blocks.gather.device
        self.groups = [index_of(owners[chosen], device) for chosen in owner_blocks.members]
        """Adapters of each group of `owner_blocks`, as an index of G of them."""
        self.cache: dict[Any, Any] = {}
        """Data of a bank for this pass alone."""
        self.calls = 0
        """Calls of `attend` so far; a layer may make more than one, or none."""
        self._last: tuple[Tensor, list[Tensor]] | None = None

    def split(self, rows: Tensor) -> list[Tensor]:
        """Rows, shape (T, D), as one float32 tensor of blocks per group, shape (G, L, D)."""
        blocks = self.owner_blocks
        parts = take_rows(rows, blocks.gather, blocks).float().split(blocks.sizes)
        return [part.view(*shape, -1) for part, shape in zip(parts, blocks.shapes, strict=True)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The inverse of `split`."""
        flat = [part.flatten(0, 1) for part in parts]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat)
        return take_rows(joined, self.owner_blocks.scatter, self.owner_blocks)

    @torch.no_grad()
    def blocks_of(self, x: Tensor, rows: Tensor) -> list[Tensor]:
        """`split` of a module's input, computed once for modules that share an input.

        Args:
            x: The input tensor, compared by identity.
            rows: Its rows, shape (T, D).
        """
        if self._last is None or self._last[0] is not x:
            self._last = (x, self.split(rows))
        return self._last[1]

    def attend(
        self, x: Tensor, heads: Heads, scoring: Scoring, learning: bool
    ) -> tuple[Tensor, RowsBackward | None]:
        """Attention over rows.

        Args:
            x: Queries, keys and values side by side, shape (T, H, E).
            heads: Numbers of heads.
            scoring: The layer's way of scoring keys.
            learning: Whether a backward pass follows.

        Returns:
            Shape (T, Hq, E), and the backward pass, None without `learning`.
        """
        raise NotImplementedError


def index_of(owners: np.ndarray, device: torch.device) -> slice | Tensor:
    """Index of adapters: a slice, which copies nothing, where they are consecutive."""
    first, last = int(owners[0]), int(owners[-1])
    if last - first + 1 == len(owners):
        return slice(first, last + 1)
    return torch.from_numpy(owners).to(device)


class FullPass(Pass):
    """All tokens of all sequences at once, causal within each: training, scoring, prefill.

    Args:
        layout: The row.
        keep: Callback with (keys, values) at every call of attention, for a key-value cache; each
            is a list of one tensor per group, shape (B, Hk, C, E).
    """

    def __init__(self, layout: Layout, keep: Any = None) -> None:
        super().__init__(layout.owners, layout.owner_blocks)
        self.layout = layout
        self.keep = keep
        self._blocks: dict[Heads, HeadBlocks] = {}

    def attend(
        self, x: Tensor, heads: Heads, scoring: Scoring, learning: bool
    ) -> tuple[Tensor, RowsBackward | None]:
        """See `Pass.attend`."""
        self.calls += 1
        if heads not in self._blocks:
            self._blocks[heads] = HeadBlocks(self.layout.blocks, heads)
        blocks = self._blocks[heads]
        groups = blocks.apart(x)
        if not learning:
            keys, values = (self._with_before([g[i] for g in groups]) for i in (1, 2))
            if self.keep is not None:
                self.keep(keys, values)
            parts = zip((q for q, _, _ in groups), keys, values, strict=True)
            return blocks.together([attend(*part, scoring, causal=True) for part in parts]), None
        assert self.keep is None, "what is learned is not continued"
        assert not any(self.layout.before), "what goes on from another sequence is not learned"
        outs: list[Tensor] = []
        steps: list[Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, Tensor, Tensor]]] = []
        saved: list[Tensor] = []
        places: list[slice] = []
        for group in groups:
            out, back = attend_and_learn(*group, scoring)
            outs.append(out)
            steps.append(back.run)
            places.append(slice(len(saved), len(saved) + len(back.saved)))
            saved += back.saved

        def backward(grad: Tensor, saved: Sequence[Tensor]) -> Tensor:
            parts = zip(steps, places, blocks.together_backward(grad), strict=True)
            return blocks.apart_backward([run(part, saved[place]) for run, place, part in parts])

        return blocks.together(outs), RowsBackward(tuple(saved), backward)

    def _with_before(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Keys or values of each group after those of continued sequences, shape (B, Hk, C, E)."""
        whole = []
        for own, before in zip(parts, self.layout.before, strict=True):
            if before is None:
                whole.append(own)
            else:
                group, index = before
                whole.append(torch.cat([parts[group].index_select(0, index), own], dim=2))
        return whole


_current: ContextVar[Pass] = ContextVar("seal_env_pass")


@contextmanager
def running(run: Pass) -> Iterator[None]:
    """Context in which a pass is the current one."""
    token = _current.set(run)
    try:
        yield
    finally:
        _current.reset(token)


def current_pass() -> Pass | None:
    """The current pass; None if the model was not called through this package."""
    return _current.get(None)


class _Attention(torch.autograd.Function):
    """`Pass.attend` as a function of autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Pass, heads: Heads, scoring: Scoring) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # the backward pass has none either
            out, back = run.attend(x, heads, scoring, ctx.needs_input_grad[0])
        if back is not None:
            ctx.save_for_backward(*back.saved)
            ctx.run = back.run
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        run, ctx.run = ctx.run, None  # frees this layer's memory before the next one's turn
        return run(outer[0], ctx.saved_tensors), None, None, None


@dataclass(frozen=True)
class Window:
    """Placeholder of a layer's mask in transformers, for a layer with a sliding window."""

    size: int
    """See `Scoring.window`."""

    def __getattr__(self, name: str) -> Any:
        """Refuses layers that use their mask as a tensor."""
        raise AttributeError("its attention needs a mask of its own")


def packed_mask(*, config: Any, local_size: int | None = None, **_: Any) -> Window | None:
    """Mask function with transformers' signature; passes make the masks themselves.

    Args:
        config: The model's config.
        local_size: Size of a sliding window or of a chunk, in tokens.

    Raises:
        UserError: `local_size` is the size of a chunk.
    """
    if local_size is None:
        return None
    if local_size != getattr(config, "sliding_window", None):
        raise UserError("it attends in chunks")
    return Window(local_size)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Window | Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention function with transformers' signature.

    Args:
        module: The attention layer.
        query: Shape (1, Hq, T, E).
        key: Shape (1, Hk, T, E).
        value: Shape (1, Hk, T, E'), where E' may differ from E.
        attention_mask: Result of `packed_mask`; the current pass has the rest.
        scaling: Factor on the scores.
        softcap: See `Scoring.softcap`.
        s_aux: See `Scoring.sinks`.
        **others: Further arguments; those that would change the result are refused.

    Returns:
        Shape (1, T, Hq, E'), and None in place of attention weights.

    Raises:
        UserError: The layer needs attention that is not implemented here.
    """
    asked = [name for name in _REFUSED if others.get(name) is not None]
    if isinstance(attention_mask, Tensor) or asked:
        raise UserError(f"its attention needs {', '.join(asked) or 'a mask of its own'}")
    run = current_pass()
    assert run is not None, "attention over packed rows was called outside of a pass"
    heads = Heads(query.shape[1], key.shape[1])
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    width, out_width = query.shape[-1], value.shape[-1]
    widest = max(width, out_width)
    scale = width**-0.5 if scaling is None and widest > width else scaling
    # Zeros make values as wide as keys, or keys as values, and change no product.
    parts = [F.pad(part[0].to(dtype), (0, widest - part.shape[-1])) for part in (query, key, value)]
    x = torch.cat(parts).transpose(0, 1).contiguous()
    window = None if attention_mask is None else attention_mask.size
    out = _Attention.apply(x, run, heads, Scoring(scale, window, softcap, s_aux))
    return out[..., :out_width].unsqueeze(0), None


_REFUSED = ("position_bias", "indices", "block_indices")
"""Arguments of attention layers that change scores or select keys, and are not implemented."""

AttentionInterface.register(IMPLEMENTATION, packed_attention)
AttentionMaskInterface.register(IMPLEMENTATION, packed_mask)
