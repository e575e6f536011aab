"""Common part of the pretraining scripts: model, optimizers, training loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass, running

IGNORED = -100
"""Label of a token without a loss."""

Document = tuple[list[int], list[int]]
"""Token ids and labels (`IGNORED` without a loss)."""
Curriculum = Callable[[int, float], tuple[list[Document], float]]
"""Function of a step and the running loss before it (infinite at first) that returns the documents
of the step, and the fraction of the full learning rates."""


@dataclass(frozen=True)
class MakingConfig:
    """Settings of the model and its training."""

    out: Path
    """Folder of model, tokenizer and figures."""
    seed: int = 0
    """Seed of weights and data."""
    steps: int = 2400
    """Optimizer steps."""
    tokens: int = 4096
    """Tokens per step."""
    width: int = 192
    """Width of the hidden states."""
    layers: int = 4
    """Number of transformer layers."""
    heads: int = 6
    """Number of attention heads."""
    inner_width: int = 512
    """Width of the feed-forward layers."""
    matrix_rate: float = 0.02
    """Learning rate of Muon (Jordan et al. 2024), for the layers' matrices."""
    other_rate: float = 5e-3
    """Learning rate of AdamW, for embeddings and norms."""
    report_every: int = 200
    """Steps between reports."""
    measure_only: bool = False
    """Whether to measure the model in `out` instead of training one."""


def build_model(config: MakingConfig, vocabulary: int, max_length: int) -> LlamaForCausalLM:
    """Untrained model of Llama architecture.

    Args:
        config: Shape and seed of the weights.
        vocabulary: Number of tokens of the tokenizer.
        max_length: Length of the longest input, in tokens.
    """
    torch.manual_seed(config.seed)
    described = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        intermediate_size=config.inner_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        # 1 / sqrt(width): the default of 0.02 is for widths in the thousands.
        initializer_range=config.width**-0.5,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    return LlamaForCausalLM(described)


def packed_loss(model: LlamaForCausalLM, documents: Sequence[Document]) -> Tensor:
    """Mean cross-entropy per labeled token of documents side by side in one row.

    The model's attention has to be `passes.IMPLEMENTATION`.
    """
    layout = Layout([ids for ids, _ in documents], [0] * len(documents), model.device)
    labels = np.full(len(layout.row.ids), IGNORED, dtype=np.int64)
    for start, (ids, targets) in zip(layout.starts, documents, strict=True):
        labels[start : start + len(ids) - 1] = targets[1:]
    chosen = torch.from_numpy(np.flatnonzero(labels != IGNORED)).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16), running(FullPass(layout)):
        hidden = model.model(
            input_ids=layout.row.ids[None], position_ids=layout.row.positions[None], use_cache=False
        ).last_hidden_state[0]
        logits = model.lm_head(hidden[chosen])
    return F.cross_entropy(logits.float(), torch.from_numpy(labels).to(model.device)[chosen])


def padded_loss(model: LlamaForCausalLM, documents: Sequence[Document]) -> Tensor:
    """Mean cross-entropy per labeled token of short documents of about equal length, padded.

    With attention "eager" this takes half the time of `packed_loss` on a CPU: at a hundred
    tokens, torch's fused attention in bfloat16 is slower than two matrix products. Padding is at
    the end, where causal attention never sees it.
    """
    longest = max(len(ids) for ids, _ in documents)
    ids = np.zeros((len(documents), longest), dtype=np.int64)
    labels = np.full((len(documents), longest), IGNORED, dtype=np.int64)
    for row, (tokens, targets) in enumerate(documents):
        ids[row, : len(tokens)] = tokens
        labels[row, : len(targets) - 1] = targets[1:]
    wanted = torch.from_numpy(labels).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16):
        hidden = model.model(
            input_ids=torch.from_numpy(ids).to(model.device), use_cache=False
        ).last_hidden_state
        logits = model.lm_head(hidden[wanted != IGNORED])
    return F.cross_entropy(logits.float(), wanted[wanted != IGNORED])


def cosine(done: float) -> float:
    """Fraction of the full learning rate after a fraction of the steps."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def warm_up(step: int) -> float:
    """Fraction of the full learning rate in the first steps."""
    return min(1.0, (step + 1) / 50)


def optimize(
    model: LlamaForCausalLM,
    config: MakingConfig,
    curriculum: Curriculum,
    loss_of: Callable[[LlamaForCausalLM, Sequence[Document]], Tensor],
    report: Callable[[str], None],
) -> float:
    """Trains a model in place with Muon and AdamW.

    Args:
        model: The model.
        config: Steps and learning rates.
        curriculum: Documents of each step.
        loss_of: `packed_loss` or `padded_loss`.
        report: Callback with a line of progress every `report_every` steps.

    Returns:
        Duration in seconds.
    """
    started = time.monotonic()
    optimizers = _optimizers(model, config)
    recent = math.inf
    for step in range(config.steps):
        documents, pace = curriculum(step, recent)
        loss = loss_of(model, documents)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in optimizers:
            optimizer.param_groups[0]["lr"] = rate * pace
            optimizer.step()
            optimizer.zero_grad()
        value = float(loss.detach())
        recent = value if math.isinf(recent) else 0.9 * recent + 0.1 * value
        if (step + 1) % config.report_every == 0:
            report(f"step {step + 1}, {time.monotonic() - started:.0f} s, loss {recent:.3f}")
    return time.monotonic() - started


def write_model(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    config: MakingConfig,
    seconds: float,
    **facts: object,
) -> None:
    """Writes model, tokenizer and the settings of their training to ``config.out``."""
    config.out.mkdir(parents=True, exist_ok=True)
    model.config._attn_implementation = "sdpa"
    model.save_pretrained(config.out)
    tokenizer.save_pretrained(config.out)
    written = {
        "config": {k: v for k, v in asdict(config).items() if k != "out"},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds),
        **facts,
    }
    write_json(config.out / "pretraining.json", written)


def write_json(path: Path, facts: object) -> None:
    """Writes plain data as JSON in the format of the embedded models' files."""
    path.write_text(json.dumps(facts, indent=2) + "\n")


def _optimizers(
    model: LlamaForCausalLM, config: MakingConfig
) -> list[tuple[torch.optim.Optimizer, float]]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        (torch.optim.Muon(matrices, lr=config.matrix_rate, weight_decay=0.05), config.matrix_rate),
        (torch.optim.AdamW(others, lr=config.other_rate, betas=(0.9, 0.95)), config.other_rate),
    ]
