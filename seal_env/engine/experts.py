"""Mixtures of experts with results that do not depend, to the bit, on neighboring tokens.

Registered with transformers as an experts implementation. An expert takes its tokens in a product
of a multiple of `ROW_MULTIPLE` rows: smaller products take other paths in the CPU's matrix library
and round differently, and the number of an expert's tokens depends on all texts in the row.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from seal_env.engine.packing import padded_rows

EXPERTS = "seal_env_experts"
"""Name under which `padded_experts` is registered with transformers."""


def padded_experts(
    module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """Experts function with transformers' signature.

    Args:
        module: The experts with stacked matrices; its flags give the layout.
        hidden_states: Shape (tokens, width).
        top_k_index: Indices of the experts of each token, shape (tokens, k).
        top_k_weights: Weights of these experts, shape (tokens, k).

    Returns:
        Shape (tokens, width).
    """
    tokens, chosen = top_k_index.shape
    experts = top_k_index.reshape(-1)
    results: list[Tensor] = []
    slots: list[Tensor] = []
    for expert in experts.unique().tolist():
        mine = (experts == expert).nonzero()[:, 0]
        spare = padded_rows(len(mine)) - len(mine)
        rows = F.pad(hidden_states[mine // chosen], (0, 0, 0, spare))
        results.append(_apply(module, expert, rows)[: len(mine)])
        slots.append(mine)
    places = torch.cat(slots).argsort()
    out = torch.cat(results).index_select(0, places).view(tokens, chosen, -1)
    return (out * top_k_weights[..., None]).sum(1).to(hidden_states.dtype)


def _apply(module: Any, expert: int, x: Tensor) -> Tensor:
    """Output of one expert for some rows."""
    first = "gate_up_proj" if module.has_gate else "up_proj"
    inner = _linear(module, first, expert, x)
    inner = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)
    out = _linear(module, "down_proj", expert, inner)
    return module.post_expert_norm(out) if module.has_post_expert_norm else out


def _linear(module: Any, name: str, expert: int, x: Tensor) -> Tensor:
    weight = getattr(module, name)[expert]
    bias = getattr(module, f"{name}_bias")[expert] if module.has_bias else None
    return F.linear(x, weight.t() if module.is_transposed else weight, bias)


ALL_EXPERTS_FUNCTIONS.register(EXPERTS, padded_experts)
