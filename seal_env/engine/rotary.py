"""Rotary embeddings that change with the length of the input: LongRoPE and dynamic NTK.

transformers takes the longest text of a call for all of its texts. In a row of many texts, what
one gets would depend on another's length. So texts end where the first change would come, and the
embeddings are kept as they are up to there.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_CHANGING = ("longrope", "dynamic")


def longest_unchanged(config: Any) -> int | None:
    """Longest input in tokens before rotary embeddings change; None if they never do.

    Args:
        config: A text model's.
    """
    rotary = getattr(config, "rope_parameters", None) or {}
    found = [
        parameters.get("original_max_position_embeddings") or config.max_position_embeddings
        for parameters in (rotary, *rotary.values())  # of all layers alike, or by kind of layer
        if isinstance(parameters, dict) and parameters.get("rope_type") in _CHANGING
    ]
    return min(found, default=None)


def fix_rotary(model: nn.Module) -> None:
    """Keeps rotary embeddings from changing with the length of the input, in place."""
    for module in model.modules():
        kind = getattr(module, "rope_type", None)
        if kind in _CHANGING:
            module.rope_type = "default"  # type: ignore[assignment]
        elif isinstance(kind, dict):
            fixed = {k: "default" if v in _CHANGING else v for k, v in kind.items()}
            module.rope_type = fixed  # type: ignore[assignment]
