"""Attention over blocks of padded sequences, by the kernel that suits device and precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT = 64
"""Keys up to which batched products are quicker on a CPU than torch's attention in float32; in
bfloat16 they always are, by 2 to 6 times."""
CACHED = 256
"""Keys up to which a mask is kept for the next time."""


class Backward(NamedTuple):
    """The backward pass of attention."""

    kept: tuple[Tensor, ...]
    """What it needs; for autograd to save, so that this memory is counted and freed like any."""
    run: Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, Tensor, Tensor]]
    """The gradients of queries, keys and values from that of what came out, and from `kept`."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None,
    causal: bool,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention, grouped-query or not.

    In causal attention to more keys than there are queries, the last ones belong together.

    Args:
        q: Shape (count, heads, length, width).
        k: Shape (count, kv heads, keys, width).
        v: As k.
        scale: Factor on the scores; None for the usual one.
        causal: Whether what comes later is hidden.
        mask: Added to the scores, shape (count, 1, 1, keys), if it is not causal.

    Returns:
        As q.
    """
    if _by_products(q, k):
        return _products(q, k, v, scale, causal, mask)[0]
    return _kernel(q, k, v, scale, causal, mask)


def attend_and_learn(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None
) -> tuple[Tensor, Backward]:
    """Causal attention within sequences, and its backward pass; arguments as for `attend`."""
    if _by_products(q, k):
        return _products(q, k, v, scale, True, None)
    inputs = q.detach(), k.detach(), v.detach()
    for x in inputs:
        x.requires_grad_()
    with torch.enable_grad():  # a graph of its own: any kernel will do
        out = _kernel(*inputs, scale, True, None)

    def backward(grad: Tensor, _: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        q_grad, k_grad, v_grad = torch.autograd.grad(out, inputs, grad)
        return q_grad, k_grad, v_grad

    return out.detach(), Backward((), backward)


def _by_products(q: Tensor, k: Tensor) -> bool:
    return q.device.type == "cpu" and (q.dtype == torch.bfloat16 or k.shape[2] <= SHORT)


def _kernel(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, causal: bool, mask: Tensor | None
) -> Tensor:
    """Torch's own attention."""
    more = k.shape[2] - q.shape[2]
    if causal and more:
        shape = (q.shape[2], k.shape[2])
        mask = torch.ones(shape, dtype=torch.bool, device=q.device).tril(more)
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and not more, scale=scale
    )


def _products(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, causal: bool, mask: Tensor | None
) -> tuple[Tensor, Backward]:
    """The same as batched products.

    Heads that share keys stand below each other as rows of one product. As in transformers'
    eager attention, scores are rounded to the model's precision.
    """
    count, heads, length, width = q.shape
    shared, context = k.shape[1:3]
    groups = heads // shared
    rows = q.reshape(count * shared, groups * length, width)
    keys, values = (x.reshape(count * shared, context, -1) for x in (k, v))
    factor = width**-0.5 if scale is None else scale
    if causal:
        make_mask = _kept_later if context <= CACHED else _later
        mask = make_mask(length, context, groups, q.dtype, q.device)
    elif mask is not None:
        mask = mask.expand(count, shared, 1, context).reshape(count * shared, 1, context)
    if mask is None:
        scores = torch.bmm(rows, keys.transpose(1, 2)).mul_(factor)
    else:
        scores = torch.baddbmm(mask, rows, keys.transpose(1, 2), alpha=factor)
    shares = scores.softmax(-1)

    def backward(grad: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        rows, keys, values, shares = kept
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


def _later(
    length: int, context: int, groups: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """What hides later tokens from earlier ones, shape (1, groups * length, context)."""
    hidden = torch.full((length, context), -torch.inf, dtype=dtype, device=device)
    return hidden.triu(1 + context - length).repeat(groups, 1)[None]


_kept_later = lru_cache(maxsize=32)(_later)
