"""Attention over blocks of padded sequences, with the fastest kernel for device and precision.

Dimensions:
    - B: sequences in a block.
    - Hq, Hk: heads of the queries, and of the keys and values; Hq is a multiple of Hk.
    - L: queries of a sequence, padded.
    - C: keys of a sequence, padded; C = L unless earlier keys are cached.
    - E: width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seal_env.engine.rounding import evenly

SHORT = 64
"""Largest C at which batched products are faster on a CPU than torch's attention in float32; in
bfloat16 they are at any C, by a factor of 2 to 6."""
CACHED = 256
"""Largest C whose masks are cached."""


class Scoring(NamedTuple):
    """The way in which a layer scores keys."""

    scale: float | None = None
    """Factor on the products of queries and keys; None for E ** -0.5."""
    window: int | None = None
    """Number of latest keys that a query sees, its own included (sliding window); None for all."""
    softcap: float | None = None
    """Bound c on the scores, which become c * tanh(score / c) (Gemma 2); None for no bound."""
    sinks: Tensor | None = None
    """Scores that take part in the softmax and add no value (gpt-oss), shape (Hq,)."""

    @property
    def is_plain(self) -> bool:
        """Whether the weights are the softmax of the scaled scores, without cap or sinks."""
        return self.softcap is None and self.sinks is None


class Backward(NamedTuple):
    """The backward pass of attention."""

    saved: tuple[Tensor, ...]
    """Tensors that it needs, for autograd to save: this memory is counted and freed like any."""
    run: Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, Tensor, Tensor]]
    """Gradients of queries, keys and values, from the gradient of the output and `saved`."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scoring: Scoring,
    causal: bool,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention, with Hq = Hk or grouped queries.

    In causal attention with C > L the queries are those of the last L keys.

    Args:
        q: Queries, shape (B, Hq, L, E).
        k: Keys, shape (B, Hk, C, E).
        v: Values, shape (B, Hk, C, E).
        scoring: The layer's way of scoring keys.
        causal: Whether later keys and those outside of the window are hidden.
        mask: Addend of the scores, shape (B, 1, 1, C), for attention that is not causal.

    Returns:
        Shape (B, Hq, L, E).
    """
    if not scoring.is_plain:
        return _formula(q, k, v, scoring, causal, mask)
    if _by_products(q, k):
        return _products(q, k, v, scoring, causal, mask)[0]
    return _kernel(q, k, v, scoring, causal, mask)


def attend_and_learn(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> tuple[Tensor, Backward]:
    """Causal attention with C = L, and its backward pass; arguments as for `attend`."""
    if scoring.is_plain and _by_products(q, k):
        return _products(q, k, v, scoring, True, None)
    inputs = q.detach(), k.detach(), v.detach()
    for x in inputs:
        x.requires_grad_()
    way = _kernel if scoring.is_plain else _formula
    with torch.enable_grad():  # a separate graph, since any kernel may be used
        out = way(*inputs, scoring, True, None)

    def backward(grad: Tensor, _: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        q_grad, k_grad, v_grad = torch.autograd.grad(out, inputs, grad)
        return q_grad, k_grad, v_grad

    return out.detach(), Backward((), backward)


def _by_products(q: Tensor, k: Tensor) -> bool:
    return q.device.type == "cpu" and (q.dtype == torch.bfloat16 or k.shape[2] <= SHORT)


def _kernel(
    q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, causal: bool, mask: Tensor | None
) -> Tensor:
    """Torch's fused attention."""
    length, context = q.shape[2], k.shape[2]
    whole = length == context and not _is_cut(scoring.window, context)
    if causal and not whole:
        mask = ~_is_hidden(length, context, scoring.window, q.device)
    k, v = _for_each_query_head(q, k, v)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and whole, scale=scoring.scale
    )


def _products(
    q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, causal: bool, mask: Tensor | None
) -> tuple[Tensor, Backward]:
    """Attention as batched products of shape (B * Hk, Hq / Hk * L, C).

    Heads that share keys are stacked as rows of one product. As in transformers' eager attention,
    scores are rounded to the model's precision.
    """
    count, heads, length, width = q.shape
    shared, context = k.shape[1:3]
    groups = heads // shared
    rows = q.reshape(count * shared, groups * length, width)
    keys, values = (x.reshape(count * shared, context, -1) for x in (k, v))
    factor = width**-0.5 if scoring.scale is None else scoring.scale
    if causal:
        make_mask = _kept_bias if context <= CACHED else _bias
        window = scoring.window if _is_cut(scoring.window, context) else None
        mask = make_mask(length, context, window, groups, q.dtype, q.device)
    elif mask is not None:
        mask = mask.expand(count, shared, 1, context).reshape(count * shared, 1, context)
    if mask is None:
        scores = torch.bmm(rows, keys.transpose(1, 2)).mul_(factor)
    else:
        scores = torch.baddbmm(mask, rows, keys.transpose(1, 2), alpha=factor)
    shares = scores.softmax(-1)

    def backward(grad: Tensor, saved: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        rows, keys, values, shares = saved
        outer = grad.reshape(count * shared, groups * length, -1)
        v_grad = torch.bmm(shares.transpose(1, 2), outer)
        inner = torch.bmm(outer, values.transpose(1, 2))
        inner = torch.ops.aten._softmax_backward_data(inner, shares, -1, shares.dtype).mul_(factor)
        k_grad = torch.bmm(inner.transpose(1, 2), rows)
        return (
            torch.bmm(inner, keys).view(count, heads, length, -1),
            k_grad.view(count, shared, context, -1),
            v_grad.view(count, shared, context, -1),
        )

    out = torch.bmm(shares, values).view(count, heads, length, -1)
    return out, Backward((rows, keys, values, shares), backward)


def _formula(
    q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, causal: bool, mask: Tensor | None
) -> Tensor:
    """Attention step by step, for capped scores and sinks, which the other kernels lack.

    As in transformers' eager attention, the softmax is computed in float32.
    """
    length, width = q.shape[2:]
    k, v = _for_each_query_head(q, k, v)
    scores = q @ k.transpose(2, 3) * (width**-0.5 if scoring.scale is None else scoring.scale)
    if causal:
        hidden = _is_hidden(length, k.shape[2], scoring.window, q.device)
        mask = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device)
        mask.masked_fill_(hidden, -torch.inf)
    return shares_of(scores, scoring, mask).to(v.dtype) @ v


def shares_of(scores: Tensor, scoring: Scoring, mask: Tensor | None) -> Tensor:
    """Weights of the values, from the scaled products of queries and keys.

    Args:
        scores: Shape (B, Hq, L, C).
        scoring: The layer's way of scoring keys.
        mask: Addend of the scores that hides keys; None for none.
    """
    context = scores.shape[-1]
    if scoring.softcap is not None:
        scores = evenly(torch.tanh, scores / scoring.softcap) * scoring.softcap
    if mask is not None:
        scores = scores + mask
    if scoring.sinks is not None:
        sinks = scoring.sinks.to(scores)[None, :, None, None]
        scores = torch.cat([scores, sinks.expand(*scores.shape[:3], 1)], dim=-1)
    return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)[..., :context]


def _for_each_query_head(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values repeated for the query heads that share them, shape (B, Hq, C, E)."""
    groups = q.shape[1] // k.shape[1]
    if groups == 1:
        return k, v
    return k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)


def _is_cut(window: int | None, context: int) -> bool:
    """Whether a window hides any of C keys."""
    return window is not None and window < context


def _is_hidden(length: int, context: int, window: int | None, device: torch.device) -> Tensor:
    """Whether causal attention hides a key from a query, bool, shape (L, C)."""
    more = context - length
    hidden = torch.ones((length, context), dtype=torch.bool, device=device)
    later = hidden.triu(1 + more)
    return later if window is None else later | hidden.tril(more - window)


def _bias(
    length: int,
    context: int,
    window: int | None,
    groups: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Addend of the scores that hides keys, shape (1, Hq / Hk * L, C)."""
    bias = torch.zeros((length, context), dtype=dtype, device=device)
    bias.masked_fill_(_is_hidden(length, context, window, device), -torch.inf)
    return bias.repeat(groups, 1)[None]


_kept_bias = lru_cache(maxsize=32)(_bias)
