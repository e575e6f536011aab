"""Rotary embeddings that depend on the length of the input: LongRoPE and dynamic NTK.

transformers uses the longest text of a call for all of its texts. In a row of many texts, the
result of one would depend on another's length. Inputs are therefore limited to the length at which
the embeddings would first change, and the embeddings are fixed to those below it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_CHANGING = ("longrope", "dynamic")


def longest_unchanged(config: Any) -> int | None:
    """Longest input in tokens before rotary embeddings change; None if they never do.

    Args:
        config: Config of a text model.
    """
    rotary = getattr(config, "rope_parameters", None) or {}
    found = [
        parameters.get("original_max_position_embeddings") or config.max_position_embeddings
        for parameters in (rotary, *rotary.values())  # of all layers, or by kind of layer
        if isinstance(parameters, dict) and parameters.get("rope_type") in _CHANGING
    ]
    return min(found, default=None)


def fix_rotary(model: nn.Module) -> None:
    """Fixes rotary embeddings to those of short inputs, in place."""
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        if kind in _CHANGING:
            module.rope_type = "default"  # type: ignore[assignment]
        elif isinstance(kind, dict):
            fixed = {k: "default" if v in _CHANGING else v for k, v in kind.items()}
            module.rope_type = fixed  # type: ignore[assignment]
