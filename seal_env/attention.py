"""Attention over blocks of padded sequences, by the kernel that suits device and precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def scaled_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, causal: bool, mask: Tensor | None = None
) -> Tensor:
    """Attention over blocks (count, length, heads, width), grouped-query or not.

    In causal attention to more keys than there are queries, the last ones belong together.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return _plain_attention(q, k, v, scale, causal, mask)
    more = k.shape[1] - q.shape[1]
    if causal and more:
        shape = (q.shape[1], k.shape[1])
        mask = torch.ones(shape, dtype=torch.bool, device=q.device).tril(more)
    groups = q.shape[2] // k.shape[2]
    if groups > 1:
        k, v = (x.repeat_interleave(groups, dim=2) for x in (k, v))
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal and not more,
        scale=scale,
    )
    return out.transpose(1, 2)


def _plain_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, causal: bool, mask: Tensor | None
) -> Tensor:
    """The same as batched products: on a CPU torch's kernel is 2 to 6 times slower in bfloat16.

    Heads that share keys stand below each other as rows of one product. As in transformers'
    eager attention, scores are rounded to bfloat16.
    """
    count, length, heads, width = q.shape
    shared = k.shape[2]
    groups, context = heads // shared, k.shape[1]
    rows = q.view(count, length, shared, groups, width).permute(0, 2, 3, 1, 4)
    rows = rows.reshape(count * shared, groups * length, width)
    keys, values = (x.transpose(1, 2).reshape(count * shared, context, -1) for x in (k, v))
    factor = width**-0.5 if scale is None else scale
    if causal:
        hidden = torch.full((length, context), -torch.inf, dtype=q.dtype, device=q.device)
        mask = hidden.triu(1 + context - length)
        mask = mask.repeat(groups, 1)[None]
    elif mask is not None:  # (count, 1, 1, context), the same for all heads
        mask = mask.expand(count, shared, 1, context).reshape(count * shared, 1, context)
    if mask is None:
        scores = torch.bmm(rows, keys.transpose(1, 2)).mul_(factor)
    else:
        scores = torch.baddbmm(mask, rows, keys.transpose(1, 2), alpha=factor)
    out = torch.bmm(scores.softmax(-1), values)
    return out.view(count, shared, groups, length, -1).permute(0, 3, 1, 2, 4).flatten(2, 3)
