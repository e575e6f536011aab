"""Checks of one architecture: a small random model, compared with transformers and PEFT."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from torch import Tensor, nn

from benchmarks.small_models import small_model
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.engine.generation import generate
from seal_env.engine.learner import Learner
from seal_env.engine.loading import prepare
from seal_env.engine.lora import AdapterBank, find_targets
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.sampling import Sampling
from seal_env.engine.training import Dataset, Example, data_order, finetune
from seal_env.errors import UserError
from seal_env.pretraining.tokenizer import build_tokenizer

LORA = LoraConfig(rank=4, alpha=8.0)
FINETUNE = FinetuneConfig(learning_rate=5e-3, epochs=2)
LENGTHS = (60, 23, 44)
"""Tokens of the texts; the longest go beyond the window."""
NEW_TOKENS = 24


@dataclass(frozen=True)
class Result:
    """Results of the checks of one architecture."""

    name: str
    """Value of ``config.model_type``."""
    refused: str = ""
    """Why it is not used; empty if it is."""
    targets: str = ""
    """Last names of the modules that are adapted by default."""
    trains: bool = False
    """Whether adapters change and stay finite."""
    bits: bool = False
    """Whether scores, answers and adapters are equal to the bit, alone and beside others."""
    peft: bool = False
    """Whether adapters are trained as PEFT trains them."""
    window: bool = False
    """Whether some layer has a sliding window."""
    scores: bool = False
    """Whether scores are transformers', beyond the window as well if there is one."""
    cached: bool = False
    """Whether answers are those of transformers without a cache."""


def measure(name: str) -> Result:
    """Tries one architecture."""
    tokenizer = build_tokenizer(512)
    try:
        network = small_model(name, len(tokenizer)).eval()
    except Exception as error:
        return Result(name, f"(not tried) a small one cannot be built: {line_of(error)}")
    reference = copy.deepcopy(network)
    try:
        learner = prepare(network, tokenizer, name)
    except UserError as error:
        return Result(name, str(error).rpartition("): ")[2])
    texts = [_ids(n, seed) for seed, n in enumerate(LENGTHS)]
    targets = find_targets(learner.model, LORA)
    together, changes = _train(learner, [0, 1, 2])
    alone, _ = _train(learner, [0])
    watched = _Watched(Layout(texts[:1], [0], learner.device))
    with torch.no_grad():
        expected = reference(input_ids=torch.tensor(texts[:1]), use_cache=False).logits[0]
        found = learner.head(learner.hidden(watched.layout.row, watched, None))[: len(texts[0])]
    answers = generate(learner, texts, Sampling(NEW_TOKENS))
    scored = learner.score(texts, texts[::-1], [0, 0, 0], None)
    bits = [
        torch.equal(together[0], alone[0]),
        generate(learner, texts[:1], Sampling(NEW_TOKENS)) == answers[:1],
        learner.score(texts[:1], texts[2:], [0], None) == scored[:1],
    ]
    peft = _train_peft(reference, learner, 0)
    return Result(
        name,
        targets=", ".join(sorted({target.name.rpartition(".")[2] for target in targets})),
        trains=bool(changes.isfinite().all() and (changes.norm(dim=1) > 0).all()),
        bits=all(bits),
        peft=bool((changes[0] - peft).norm() <= 0.02 * peft.norm()),
        window=watched.has_window,
        scores=_agree(found, expected),
        cached=_continuation(reference, texts[1], learner) == answers[1],
    )


class _Plain(nn.Module):
    """A model in a module that is none of transformers'."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, **arguments: Any) -> Any:
        return self.inner(**arguments)


_PREFIX = "inner."


class _Watched(FullPass):
    """A pass that notes whether a layer has a window."""

    has_window = False

    def attend(self, x: Tensor, heads: Any, scoring: Any, learning: bool) -> Any:
        self.has_window |= scoring.window is not None
        return super().attend(x, heads, scoring, learning)


def _ids(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, 500, (length,), generator=generator).tolist()


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Whether logits of every token are equal but for rounding."""
    return bool((found - expected).norm(dim=1).max() <= 2e-3 * expected.norm(dim=1).max())


def _examples(seed: int) -> list[Example]:
    return [Example(tuple(_ids(n, 10 * seed + n))) for n in (18, 37)]


def _bank(learner: Learner, seeds: Sequence[int]) -> AdapterBank:
    bank = AdapterBank(find_targets(learner.model, LORA), LORA, len(seeds), learner.device)
    bank.initialize(seeds)
    return bank


def _train(learner: Learner, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Changes of adapters that are trained side by side, one per seed."""
    bank = _bank(learner, seeds)
    before = bank.weights.clone()
    finetune(learner, bank, [Dataset(_examples(seed), FINETUNE, seed) for seed in seeds])
    return bank.weights, bank.weights - before


def _train_peft(network: Any, learner: Learner, seed: int) -> Tensor:
    """Change of the adapter of a seed by PEFT, in the layout of a bank's weights."""
    bank = _bank(learner, [seed])
    # As a plain module: of a model with stacked experts PEFT takes the names for theirs.
    names = [f"{_PREFIX}{target.name}" for target in bank.targets]
    described = PeftLoraConfig(r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules=names)
    model: Any = get_peft_model(_Plain(network), described).eval()
    weights = dict(model.named_parameters())
    before = bank.weights.clone()
    places = {
        f"base_model.model.{_PREFIX}{name}.lora_{letter}.default.weight": matrix[0]
        for name, matrices in bank.matrices.items()
        for letter, matrix in zip("AB", matrices, strict=True)
    }
    with torch.no_grad():
        for place, matrix in places.items():
            weights[place].copy_(matrix)
    trained = [weights[place].requires_grad_() for place in places]
    optimizer = torch.optim.AdamW(trained, lr=FINETUNE.learning_rate, weight_decay=0.0)
    examples = _examples(seed)
    order = np.concatenate(data_order(seed, len(examples), FINETUNE))
    for step, index in enumerate(order.tolist()):
        optimizer.param_groups[0]["lr"] = FINETUNE.learning_rate * (1 - step / len(order))
        ids = torch.tensor([examples[index].ids])
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, ids[0, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(trained, FINETUNE.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        for place, matrix in places.items():
            matrix.copy_(weights[place])
    model.unload()
    return (bank.weights - before)[0]


@torch.no_grad()
def _continuation(network: Any, prompt: list[int], learner: Learner) -> list[int]:
    """The likeliest tokens after a prompt, each from a forward pass over all before it."""
    ids = list(prompt)
    for _ in range(NEW_TOKENS):
        logits = network(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        if int(logits.argmax()) in learner.stop_ids:
            break
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


def line_of(error: BaseException) -> str:
    """The first line that an error says."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
