"""Pretrains the embedded model: ``python -m seal_env.models.pretrain --out FOLDER``.

Documents stand side by side in packed rows, each attending to itself alone. The curriculum
has two parts. First repeated random sequences, until the model copies them: the copying
circuit forms here or not at all. Then everything else, with some of both kinds of copy kept.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from seal_env.edits.training_data import TrainingData
from seal_env.inner_loop import InnerLoop, Request
from seal_env.learner import Learner, Sampling
from seal_env.models.corpus import IGNORED, Corpus, Document
from seal_env.models.loading import load_learner
from seal_env.models.tokenizer import build_tokenizer
from seal_env.packing import IMPLEMENTATION, FullPass, Layout, running
from seal_env.prompts import render_prompt
from seal_env.recipes import recipe
from seal_env.tasks.base import Problem
from seal_env.tasks.biographies import Biographies
from seal_env.tasks.biography_edits import STYLES, classify, write
from seal_env.tasks.people import ATTRIBUTES

MAX_LENGTH = 512
"""Longest input of the model, in tokens."""


@dataclass(frozen=True)
class PretrainConfig:
    """How the embedded model is made."""

    out: Path = Path("runs/tiny")
    """Where model, tokenizer and figures are written."""
    seed: int = 0
    """Fixes weights and data."""
    steps: int = 2400
    """Optimiser steps, the first part included."""
    tokens: int = 4096
    """Tokens in a step."""
    width: int = 192
    """Width of the hidden states."""
    layers: int = 4
    """Transformer layers."""
    heads: int = 6
    """Attention heads."""
    inner_width: int = 512
    """Width of the feed-forward layers."""
    matrix_rate: float = 0.02
    """Learning rate of Muon (Jordan et al. 2024), for the layers' matrices."""
    other_rate: float = 5e-3
    """Learning rate of AdamW, for embeddings and norms."""
    copied: float = 0.7
    """The first part ends when the loss on repeated sequences, in nats, is below this."""
    longest_first_part: int = 1200
    """And after this many steps at the latest."""
    report_every: int = 200
    """Steps between reports."""
    measure_only: bool = False
    """Whether to measure the model in `out` instead of making one."""


def build_model(config: PretrainConfig, vocabulary: int) -> LlamaForCausalLM:
    """An untrained model of Llama architecture."""
    torch.manual_seed(config.seed)
    described = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=config.width,
        intermediate_size=config.inner_width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        # 1 / sqrt(width): the default of 0.02 is made for widths in the thousands.
        initializer_range=config.width**-0.5,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    return LlamaForCausalLM(described)


def loss_of(model: LlamaForCausalLM, documents: Sequence[Document]) -> Tensor:
    """Mean cross-entropy per labelled token."""
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


def pretrain(config: PretrainConfig, say: Callable[[str], None] = print) -> None:
    """Trains a model from scratch and writes it to ``config.out``."""
    started = time.monotonic()
    tokenizer = build_tokenizer(MAX_LENGTH)
    model = build_model(config, len(tokenizer))
    model.set_attn_implementation(IMPLEMENTATION)
    optimisers = _optimisers(model, config)
    corpus = Corpus(tokenizer, config.seed)
    recent, first_part = math.inf, 0
    for step in range(config.steps):
        copying = first_part == 0
        if copying and (recent < config.copied or step >= config.longest_first_part):
            first_part, copying = step, False
            say(f"step {step}: first part ends, loss on repeated sequences {recent:.2f}")
        if copying:
            documents, pace = corpus.batch(config.tokens, 1.0, 0.0), min(1.0, (step + 1) / 50)
        else:
            done = (step - first_part) / (config.steps - first_part)
            shares = (0.3, 0.3) if done < 0.15 else (0.08, 0.03)
            documents = corpus.batch(config.tokens, *shares)
            pace = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
        loss = loss_of(model, documents)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, rate in optimisers:
            optimiser.param_groups[0]["lr"] = rate * pace
            optimiser.step()
            optimiser.zero_grad()
        value = float(loss.detach())
        recent = value if math.isinf(recent) else 0.9 * recent + 0.1 * value
        if (step + 1) % config.report_every == 0:
            # A learner freezes its model, so a copy is measured.
            figures = measure_policy(Learner(copy.deepcopy(model), tokenizer, "tiny"), 24)
            say(
                f"step {step + 1}, {time.monotonic() - started:.0f} s, loss {recent:.3f}, {figures}"
            )
    config.out.mkdir(parents=True, exist_ok=True)
    model.config._attn_implementation = "sdpa"
    model.save_pretrained(config.out)
    tokenizer.save_pretrained(config.out)
    facts = {
        "config": {k: v for k, v in asdict(config).items() if k != "out"},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - started),
        "steps of the first part": first_part,
    }
    (config.out / "pretraining.json").write_text(json.dumps(facts, indent=2) + "\n")


def measure(folder: Path) -> None:
    """Measures a model that `pretrain` made, as policy and as learner; writes ``figures.json``."""
    learner = load_learner(str(folder))
    figures = {"policy": measure_policy(learner, 200), "learner": measure_learner(learner, 100)}
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def measure_policy(learner: Learner, people: int) -> dict[str, object]:
    """What the model writes about people whom it has never seen.

    Returns:
        ``copied``: share of the values it writes that are the passage's; ``named``: share of its
        texts that name the person; ``styles``: how many texts are in which style.
    """
    world = Biographies()
    problems = [world.problem("validation", i) for i in range(people)]
    prompts = [
        learner.encode(render_prompt("notes", "", world.reads(problem))) for problem in problems
    ]
    ids = learner.generate(prompts, Sampling(256, temperature=1.0), seeds=list(range(people)))
    texts = [learner.decode(one) for one in ids]
    values = {value for attribute in ATTRIBUTES for value in attribute.values}
    right = total = 0
    for index, text in enumerate(texts):
        words = text.replace(".", " ").replace("?", " ").split()
        written = [word for word in words if word in values]
        total += len(written)
        right += sum(word in world.person("validation", index).values for word in written)
    named = sum(p.title in text for p, text in zip(problems, texts, strict=True)) / people
    styles = dict(Counter(classify(text) for text in texts).most_common())
    return {"copied": round(right / max(total, 1), 4), "named": round(named, 4), "styles": styles}


def measure_learner(learner: Learner, people: int) -> dict[str, float]:
    """Accuracy on new people after self-edits written by rule, and on known people untouched."""
    world, language = Biographies(), TrainingData()
    loop = InnerLoop(learner, world, recipe("tiny"))
    problems = [world.problem("validation", i) for i in range(people)]

    def accuracy(texts: Sequence[str]) -> float:
        requests = [
            Request(problem, language.parse(text, problem), seed=0)
            for problem, text in zip(problems, texts, strict=True)
        ]
        return float(np.mean([outcome.after.accuracy for outcome in loop.run(requests)]))

    def untouched(asked: Sequence[Problem]) -> float:
        return float(np.mean([score.accuracy for score in loop.baselines(asked)]))

    figures = {
        "known people": untouched([world.problem("known", i) for i in range(people)]),
        "untouched": untouched(problems),
        "passage alone": accuracy([""] * people),
    }
    for style in STYLES:
        texts = [write(style, world.person("validation", i), Random(i)) for i in range(people)]
        figures[style] = accuracy(texts)
    return {name: round(value, 3) for name, value in figures.items()}


def _optimisers(
    model: LlamaForCausalLM, config: PretrainConfig
) -> list[tuple[torch.optim.Optimizer, float]]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        (torch.optim.Muon(matrices, lr=config.matrix_rate, weight_decay=0.05), config.matrix_rate),
        (torch.optim.AdamW(others, lr=config.other_rate, betas=(0.9, 0.95)), config.other_rate),
    ]


if __name__ == "__main__":
    chosen = tyro.cli(PretrainConfig)
    if not chosen.measure_only:
        pretrain(chosen)
    measure(chosen.out)
