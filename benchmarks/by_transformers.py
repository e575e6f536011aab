"""Sampling by `transformers.generate`, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel


def generate_with_transformers(
    network: PreTrainedModel,
    stops: Sequence[int],
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> int:
    """Samples one text per prompt at temperature 1, in one batch that is padded on the left.

    Args:
        network: The model.
        stops: Ids of the tokens that end a text.
        prompts: Token ids.
        max_new_tokens: Tokens of the longest text.

    Returns:
        The number of tokens up to the ends of the texts, the end tokens included.
    """
    width, device = max(map(len, prompts)), network.device
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        out: Any = network.generate(  # type: ignore[operator]
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(stops) or None,
            pad_token_id=0,
        )
    ends = torch.isin(out[:, width:].cpu(), torch.tensor(list(stops)))
    going = ends.cumsum(1) - ends.long() == 0
    return int(going.sum())
