"""Pretrains the embedded model for grids.

``python -m seal_env.pretraining.tiny_grids --out FOLDER``

The model learns to continue demonstrations of known operations and to write directives
(`seal_env.pretraining.grid_corpus`). The task evaluates it on other operations.
"""

from __future__ import annotations

import copy
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from seal_env.config import InnerLoopConfig
from seal_env.edits.directives import Directives
from seal_env.engine.generation import generate
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner, prepare
from seal_env.engine.sampling import Sampling
from seal_env.inner_loop import InnerLoop
from seal_env.pretraining.common import (
    Document,
    MakingConfig,
    build_model,
    cosine,
    optimize,
    padded_loss,
    warm_up,
    write_json,
    write_model,
)
from seal_env.pretraining.grid_corpus import GridCorpus
from seal_env.pretraining.tokenizer import build_grid_tokenizer
from seal_env.prompts import prompt_tokens
from seal_env.tasks.grids.families import FAMILIES, REMARKS_ON
from seal_env.tasks.grids.tiny_grids import TinyGrids
from seal_env.updates.finetuning import Finetuning

MAX_LENGTH = 512
"""Maximum input length of the model, in tokens."""


@dataclass(frozen=True)
class GridPretrainConfig(MakingConfig):
    """Settings of the pretraining of the embedded model for grids."""

    out: Path = Path("runs/tiny-grids")
    """Output folder of the model, the tokenizer and the figures."""
    steps: int = 1600
    """Number of optimizer steps."""
    width: int = 128
    """Width of the hidden states."""
    heads: int = 4
    """Number of attention heads."""
    inner_width: int = 384
    """Width of the feed-forward layers."""


def pretrain(config: GridPretrainConfig, say: Callable[[str], None] = print) -> None:
    """Trains a model from scratch and writes it to ``config.out``."""
    tokenizer = build_grid_tokenizer(MAX_LENGTH)
    model = build_model(config, len(tokenizer), MAX_LENGTH)
    model.set_attn_implementation("eager")
    corpus = GridCorpus(tokenizer, config.seed)

    def curriculum(step: int, recent: float) -> tuple[list[Document], float]:
        return corpus.batch(config.tokens), warm_up(step) * cosine(step / config.steps)

    def report(line: str) -> None:
        # A learner freezes its model, so a copy is measured.
        shares = measure_in_context(prepare(copy.deepcopy(model), tokenizer, "tiny-grids"), 2)
        means = {split: round(float(np.mean([*s.values()])), 3) for split, s in shares.items()}
        say(f"{line}, in context {means}")

    seconds = optimize(model, config, curriculum, padded_loss, report)
    write_model(model, tokenizer, config, seconds)


def measure(folder: Path) -> None:
    """Measures a model that `pretrain` made; writes ``figures.json``."""
    learner = load_learner(str(folder))
    figures = {
        "in context": measure_in_context(learner, 25),
        "directives": measure_directives(learner, 200),
    }
    write_json(folder / "figures.json", figures)
    print(json.dumps(figures, indent=2))


def measure_in_context(learner: Learner, problems: int) -> dict[str, dict[str, float]]:
    """Share of test grids that the untouched model gets right, by split and family.

    Args:
        learner: Model to measure.
        problems: Number of problems per family.
    """
    world = TinyGrids()
    loop = InnerLoop(learner, world, InnerLoopConfig())
    shares: dict[str, dict[str, float]] = {}
    for split, families in FAMILIES.items():
        asked = [world.problem(split, i) for i in range(problems * len(families))]
        found = defaultdict(list)
        for problem, score in zip(asked, loop.baselines(asked), strict=True):
            found[problem.questions[0].subject].append(score.accuracy)
        shares[split] = {name: round(float(np.mean(s)), 3) for name, s in found.items()}
    return shares


def measure_directives(learner: Learner, problems: int) -> dict[str, object]:
    """Figures of the untrained model as a policy, at temperature 1, on held-out problems.

    Returns:
        ``remarks right``: share of its texts that begin with the right word for the kind of
        operation; ``valid``: share of its texts that contain a directive; and the number of texts
        that enable each tool and select each strategy, learning rate and number of epochs.
    """
    world, language = TinyGrids(), Directives(TinyGrids.tools)
    asked = [world.problem("train", i) for i in range(problems)]
    prompts = [prompt_tokens(learner.renderer, "directives", world.reads(p)).ids for p in asked]
    ids = generate(learner, prompts, Sampling(64, temperature=1.0), seeds=list(range(problems)))
    texts = [learner.decode(one) for one in ids]
    kinds = [world.family("train", i).kind for i in range(problems)]
    right = [text.startswith(REMARKS_ON[k]) for text, k in zip(texts, kinds, strict=True)]
    edits = [language.parse(text, p) for text, p in zip(texts, asked, strict=True)]
    valid = [edit.update for edit in edits if isinstance(edit.update, Finetuning)]
    return {
        "remarks right": round(sum(right) / problems, 4),
        "valid": round(len(valid) / problems, 4),
        **{tool: sum(tool in (update.tools or ()) for update in valid) for tool in world.tools},
        "outputs only": sum(update.training.outputs_only for update in valid),
        "learning rates": _counts(update.training.learning_rate for update in valid),
        "epochs": _counts(update.training.epochs for update in valid),
    }


def _counts(values: Iterable[object]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


if __name__ == "__main__":
    chosen = tyro.cli(GridPretrainConfig)
    if not chosen.measure_only:
        pretrain(chosen)
    measure(chosen.out)
