"""Workload of `benchmarks.throughput`: self-edits, and this package's loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from seal_env.edits.training_data import TrainingData
from seal_env.engine.learner import Learner
from seal_env.engine.training import Dataset, finetune
from seal_env.errors import UserError
from seal_env.inner_loop import InnerLoop, Request
from seal_env.presets import model_preset
from seal_env.tasks.base import Problem, Task
from seal_env.tasks.biographies.edits import STYLES, write
from seal_env.tasks.biographies.task import Biographies
from seal_env.tasks.squad import Squad


@dataclass(frozen=True)
class Workload:
    """Self-edits to carry out."""

    loop: InnerLoop
    """The learner, the task and the settings."""
    requests: tuple[Request, ...]
    """The self-edits."""
    datasets: tuple[Dataset, ...]
    """Training data of each self-edit."""

    @property
    def tokens(self) -> list[int]:
        """Tokens that each self-edit is trained on, over all epochs."""
        return [data.tokens for data in self.datasets]


@dataclass(frozen=True)
class ThroughputConfig:
    """Times the inner loop against two others."""

    model: str = "tiny"
    """The learner."""
    adapters: int = 64
    """K, the number of self-edits with one adapter each."""
    rounds: int = 3
    """Interleaved rounds; medians are reported."""
    data: str | None = None
    """SEAL-format file whose first self-edits are used; biographies if left out."""
    pad_to: int | None = None
    """Length that the reference pads to; the model's own maximum, at most 2,048, if left out."""
    epochs: int | None = None
    """Epochs; the model's preset if left out."""
    dtype: str = "auto"
    """Precision of all three."""
    device: str = "auto"
    """Device of all loops."""
    reference_edits: int = 2
    """Self-edits that the reference is timed on, in the first round alone: it is slow."""
    peft_edits: int | None = None
    """Self-edits that the PEFT loop is timed on in each round; all if left out."""
    peft_float32: bool = False
    """Whether a PEFT loop in float32 is timed as well (for a run in bfloat16)."""
    evaluation: bool = True
    """Whether whole evaluations (training and answering) are timed as well."""
    json: Path | None = None
    """File of the figures."""
    sweep: Path | None = None
    """Draws time and memory against K = 1, 2, 4, ... up to `adapters` (at most 1,024) into this PNG
    instead."""

    def check(self) -> None:
        """Raises UserError where a setting makes no sense."""
        edits = (self.adapters, self.rounds, self.reference_edits, self.peft_edits or 1)
        if min(edits) < 1:
            raise UserError("adapters, rounds, reference_edits and peft_edits must be at least 1")


def make_workload(config: ThroughputConfig, learner: Learner) -> Workload:
    """The self-edits and the settings."""
    inner = model_preset(config.model).inner
    if config.epochs is not None:
        inner = replace(inner, finetune=replace(inner.finetune, epochs=config.epochs))
    task, pairs = _passages(config) if config.data else _people(config)
    loop, language = InnerLoop(learner, task, inner), TrainingData()
    requests = tuple(
        Request(problem, language.parse(text, problem), seed=index)
        for index, (problem, text) in enumerate(pairs)
    )
    prepared = [loop.prepare(request).update for request in requests]
    datasets = tuple(p.data for p in prepared if p is not None and p.data is not None)
    return Workload(loop, requests, datasets)


def _people(config: ThroughputConfig) -> tuple[Task, list[tuple[Problem, str]]]:
    world, styles, random = Biographies(), list(STYLES), Random(0)
    return world, [
        (world.problem("train", i), write(random.choice(styles), world.person("train", i), random))
        for i in range(config.adapters)
    ]


def _passages(config: ThroughputConfig) -> tuple[Task, list[tuple[Problem, str]]]:
    task = Squad(config.data)
    problems = [task.problem("all", i) for i in range(task.size("all") or 0)]
    edits = [next((text for text in p.edits.values() if text), None) for p in problems]
    pairs = [(p, text) for p, text in zip(problems, edits, strict=True) if text is not None]
    if len(pairs) < config.adapters:
        raise UserError(f"{config.data}: holds {len(pairs)} self-edits, not {config.adapters}")
    return task, pairs[: config.adapters]


def train_ours(work: Workload) -> None:
    """Trains all adapters side by side."""
    bank = work.loop.context.new_bank(len(work.datasets))
    bank.initialize([request.seed for request in work.requests])
    limit = work.loop.context.tokens_per_pass
    finetune(work.loop.learner, bank, work.datasets, tokens_per_pass=limit)


def evaluate_ours(work: Workload) -> None:
    """Trains all adapters and answers all questions, the baseline included."""
    loop = InnerLoop(work.loop.learner, work.loop.task, work.loop.config)
    loop.run(work.requests)


def model_name(model: str) -> str:
    """A model's name without the folder it lies in."""
    return Path(model).name
