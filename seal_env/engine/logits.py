"""Logits from last hidden states, computed as by the model itself.

Between its layers and its logits a model may scale (Granite, Cohere), cap (Gemma 2) or normalize.
Its own `forward` is run, with the layers replaced by a module that returns given hidden states.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

_SIZES = (1.0, 10.0, 100.0)
"""Scales of the hidden states that are compared: a cap shows on large logits only."""


class Logits:
    """Logits, shape (rows, vocabulary), of hidden states, shape (rows, width).

    The output head alone is used where it gives the same bits, as in most models.

    Args:
        model: A causal language model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._tail = copy.copy(model)  # shares all modules but the layers
        self._tail._modules = {**model._modules, model.base_model_prefix: _HandOn()}
        self._is_plain = self._head_is_all()

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits in the precision of the model."""
        return self._head(hidden) if self._is_plain else self._own(hidden)

    def _head(self, hidden: Tensor) -> Tensor:
        return self._model.get_output_embeddings()(hidden)

    def _own(self, hidden: Tensor) -> Tensor:
        return self._tail(inputs_embeds=hidden[None], use_cache=False).logits[0]

    def _head_is_all(self) -> bool:
        weight: Any = self._model.get_input_embeddings().weight
        generator = torch.Generator().manual_seed(0)
        states = torch.randn(16, weight.shape[1], generator=generator).to(weight)
        own, plain = (
            [_tried(way, states * size) for size in _SIZES] for way in (self._own, self._head)
        )
        # Where the model's own forward fails on this, the check at load decides.
        return all(
            x is None or (y is not None and torch.equal(x, y))
            for x, y in zip(own, plain, strict=True)
        )


@torch.no_grad()
def _tried(way: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor | None:
    """Result of a function; None if it fails."""
    try:
        return way(hidden)
    except Exception:  # models raise whatever they raise
        return None


class _HandOn(nn.Module):
    """Stand-in for a model's layers, whose last hidden states are its input."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutputWithPast:
        """Returns its input as last hidden states."""
        return _Output(last_hidden_state=inputs_embeds)


class _Output(BaseModelOutputWithPast):
    """Output of layers whose other attributes, whatever they are called, are None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
