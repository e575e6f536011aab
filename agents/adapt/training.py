"""One adapter trained on the self-edits of all passages: together, or passage after passage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from seal_agents.base import Progress
from seal_env.config import InnerLoopConfig
from seal_env.edits.base import EditLanguage
from seal_env.engine.banks import LearnerState
from seal_env.engine.capacity import check_fits
from seal_env.engine.learner import Learner
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.inner_loop import DIVERGED, InnerLoop
from seal_env.tasks.base import Generated, Problem, Task
from seal_env.updates.finetuning import Finetuning, Training

MOST_TOKENS = 1 << 30
"""Bound on the tokens of all self-edits together; that of one self-edit does not apply."""


@dataclass(frozen=True)
class Adapted:
    """Result of a training."""

    state: LearnerState
    """The trained learner."""
    sequences: int
    """Number of training sequences, without those that do not fit into the model."""
    tokens: int
    """Training tokens over all epochs."""
    steps: int
    """Optimizer steps."""
    loss: float
    """Mean loss of the last step, in nats per token."""


def make_loop(learner: Learner, task: Task, inner: InnerLoopConfig) -> InnerLoop:
    """The inner loop, without the bound on the tokens of a self-edit."""
    return InnerLoop(learner, task, replace(inner, max_tokens=MOST_TOKENS))


def pooled(
    language: EditLanguage, problems: Sequence[Problem], texts: Mapping[str, Sequence[str | None]]
) -> list[tuple[str | Generated, ...]]:
    """Training sequences of each passage, those of its self-edits together and each once.

    Args:
        language: Reader of the self-edits.
        problems: The passages.
        texts: Self-edits by the passage's id; None for one that leaves the learner as it is.

    Raises:
        UserError: A self-edit is no plain text to finetune on.
    """
    found = []
    for problem in problems:
        sequences: dict[str | Generated, None] = {}
        for text in texts[problem.id]:
            if text is None:
                continue
            update: Any = language.parse(text, problem).update
            if update is None:
                continue
            if type(update) is not Finetuning or update.tools or update.training != Training():
                raise UserError(f"passage {problem.id}: adapt takes self-edits of plain text only")
            sequences |= dict.fromkeys(update.sequences)
        found.append(tuple(sequences))
    return found


def train(
    loop: InnerLoop,
    sequences: Sequence[tuple[str | Generated, ...]],
    problems: Sequence[Problem],
    mode: Literal["joint", "stream"],
    seed: int,
    progress: Progress,
    kind: Finetuning | None = None,
) -> Adapted:
    """Trains one adapter, or what else a kind of finetuning trains.

    Args:
        loop: The inner loop; see `make_loop`.
        sequences: Training sequences of each passage.
        problems: The passages.
        mode: Whether all sequences are one data set in random order, or each passage's are one,
            on which training goes on.
        seed: Seed of the adapter's first weights and of the order of the data.
        progress: Progress callback for the stage "training".
        kind: Kind of update and its settings, whose own sequences do not count; None for an
            adapter with the inner loop's settings.

    Raises:
        UserError: There is nothing to train on, a sequence does not fit into memory, or training
            diverged.
    """
    parts = [sequences] if mode == "joint" else [[one] for one in sequences]
    kind = Finetuning() if kind is None else kind
    updates = [replace(kind, sequences=tuple(s for one in part for s in one)) for part in parts]
    updates = [update for update in updates if update.sequences]
    if not updates:
        raise UserError("nothing to train on: no self-edit holds a text")
    context = loop.context
    state: Any = None
    count = tokens = steps = 0
    loss = 0.0
    for number, update in enumerate(updates):
        ready = update.prepare(problems[0], stable_hash(seed, number), state, context)
        assert ready.data is not None
        if ready.error is not None:
            if mode == "joint":
                raise UserError(ready.error)
            continue
        count += len(ready.data.examples)
        longest = max(len(example.ids) for example in ready.data.examples)
        check_fits(loop.learner, context.targets, context.lora, context.tokens_per_pass, longest)
        share = None if mode == "stream" else progress
        result = update.apply_batch([ready], context, share)[0]
        if result.state is None or result.trained is None:
            raise UserError(f"{DIVERGED}; lower --inner.finetune.learning-rate")
        state, loss = result.state, result.trained.loss
        tokens += result.trained.tokens
        steps += result.trained.steps
        if mode == "stream":
            progress("training", number + 1, len(updates))
    if state is None:
        raise UserError("nothing to train on: no self-edit has a sequence that fits into the model")
    return Adapted(state, count, tokens, steps, loss)
