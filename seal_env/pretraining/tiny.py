"""Pretrains the embedded model: ``python -m seal_env.pretraining.tiny --out FOLDER``.

Documents are packed side by side into rows; each attends only to itself. The curriculum has two
parts. The first has repeated random sequences alone, until the model copies them: the copying
circuit forms here or not at all. The second has all documents, with a share of both kinds of copy.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import tyro

from seal_env.edits.training_data import TrainingData
from seal_env.engine.generation import generate
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.engine.passes import IMPLEMENTATION
from seal_env.engine.sampling import Sampling
from seal_env.inner_loop import InnerLoop, Request
from seal_env.presets import model_preset
from seal_env.pretraining.common import (
    Document,
    MakingConfig,
    build_model,
    cosine,
    optimize,
    packed_loss,
    warm_up,
    write_json,
    write_model,
)
from seal_env.pretraining.corpus import Corpus
from seal_env.pretraining.tokenizer import build_tokenizer
from seal_env.prompts import prompt_tokens
from seal_env.tasks.base import Problem
from seal_env.tasks.biographies.edits import STYLES, classify, write
from seal_env.tasks.biographies.people import ATTRIBUTES
from seal_env.tasks.biographies.task import Biographies

MAX_LENGTH = 512
"""Maximum input length of the model, in tokens."""


@dataclass(frozen=True)
class PretrainConfig(MakingConfig):
    """Settings of the pretraining of the embedded model."""

    out: Path = Path("runs/tiny")
    """Output folder of the model, the tokenizer and the figures."""
    copied: float = 0.7
    """Loss on repeated sequences, in nats per token, below which the first part ends."""
    longest_first_part: int = 1200
    """Maximum length of the first part, in optimizer steps."""


class TwoParts:
    """Curriculum of repeated random sequences until they are copied, then of all documents.

    Args:
        corpus: Source of the documents.
        config: Settings, among them the end of the first part.
        say: Callback for a line of progress at the end of the first part.
    """

    def __init__(self, corpus: Corpus, config: PretrainConfig, say: Callable[[str], None]) -> None:
        self.corpus, self.config, self.say = corpus, config, say
        self.first_part = 0
        """Length of the first part in optimizer steps; 0 until it ends."""

    def __call__(self, step: int, recent: float) -> tuple[list[Document], float]:
        """Documents of a step and the factor of its learning rate; see `common.Curriculum`."""
        config = self.config
        copying = self.first_part == 0
        if copying and (recent < config.copied or step >= config.longest_first_part):
            self.first_part, copying = step, False
            self.say(f"step {step}: first part ends, loss on repeated sequences {recent:.2f}")
        if copying:
            return self.corpus.batch(config.tokens, 1.0, 0.0), warm_up(step)
        done = (step - self.first_part) / (config.steps - self.first_part)
        shares = (0.3, 0.3) if done < 0.15 else (0.08, 0.03)
        return self.corpus.batch(config.tokens, *shares), cosine(done)


def pretrain(config: PretrainConfig, say: Callable[[str], None] = print) -> None:
    """Trains a model from scratch and writes it to ``config.out``."""
    tokenizer = build_tokenizer(MAX_LENGTH)
    model = build_model(config, len(tokenizer), MAX_LENGTH)
    model.set_attn_implementation(IMPLEMENTATION)
    curriculum = TwoParts(Corpus(tokenizer, config.seed), config, say)

    def report(line: str) -> None:
        # A learner freezes its model, so a copy is measured.
        say(f"{line}, {measure_policy(Learner(copy.deepcopy(model), tokenizer, 'tiny'), 24)}")

    seconds = optimize(model, config, curriculum, packed_loss, report)
    facts = {"steps of the first part": curriculum.first_part}
    write_model(model, tokenizer, config, seconds, **facts)


def measure(folder: Path) -> None:
    """Measures a model that `pretrain` made, as policy and as learner; writes ``figures.json``."""
    learner = load_learner(str(folder))
    figures = {"policy": measure_policy(learner, 200), "learner": measure_learner(learner, 100)}
    write_json(folder / "figures.json", figures)
    print(json.dumps(figures, indent=2))


def measure_policy(learner: Learner, people: int) -> dict[str, object]:
    """Figures of the model as a policy, on people that it has never seen.

    Returns:
        ``copied``: share of the values in its texts that are those of the passage; ``named``: share
        of its texts that name the person; ``styles``: number of texts per style.
    """
    world = Biographies()
    problems = [world.problem("validation", i) for i in range(people)]
    prompts = [
        prompt_tokens(learner.renderer, "notes", world.reads(problem)).ids for problem in problems
    ]
    ids = generate(learner, prompts, Sampling(256, temperature=1.0), seeds=list(range(people)))
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
    """Accuracy on new people after rule-based self-edits, and on known people without an update."""
    world, language = Biographies(), TrainingData()
    loop = InnerLoop(learner, world, model_preset("tiny").inner)
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


if __name__ == "__main__":
    chosen = tyro.cli(PretrainConfig)
    if not chosen.measure_only:
        pretrain(chosen)
    measure(chosen.out)
