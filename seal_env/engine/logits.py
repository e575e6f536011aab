"""From last hidden states to logits, in the way that a model itself takes.

Between its layers and its logits a model may scale (Granite, Cohere), cap (Gemma 2) or norm. Its
own `forward` is run for that, with the layers replaced by something that hands hidden states on.
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
"""Sizes of the hidden states that are tried: a bound on the logits shows on large ones alone."""


class Logits:
    """Makes logits, shape (rows, vocabulary), of hidden states, shape (rows, width).

    The output head alone does where it gives the same bits, as in most models.

    Args:
        model: A causal language model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._tail = copy.copy(model)  # it shares all modules, the layers left out
        self._tail._modules = {**model._modules, model.base_model_prefix: _HandOn()}
        self._is_plain = self._head_is_all()

    def __call__(self, hidden: Tensor) -> Tensor:
        """The logits, in the precision of the model."""
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
        # Where the model's own forward cannot be run so, the check at load decides.
        return all(
            x is None or (y is not None and torch.equal(x, y))
            for x, y in zip(own, plain, strict=True)
        )


@torch.no_grad()
def _tried(way: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor | None:
    """What comes of it; None if it fails."""
    try:
        return way(hidden)
    except Exception:  # models raise whatever they raise
        return None


class _HandOn(nn.Module):
    """Stands in for a model's layers: its last hidden states are what it is given."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> BaseModelOutputWithPast:
        """Shape in, same shape out."""
        return _Output(last_hidden_state=inputs_embeds)


class _Output(BaseModelOutputWithPast):
    """An output that has whatever a model's `forward` takes from its layers, as None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
