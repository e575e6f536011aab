"""Finetuning of a LoRA adapter on texts, and on examples that the task's tools make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from re import Pattern
from typing import ClassVar

from seal_env.engine.config import FinetuneConfig
from seal_env.engine.lora import AdapterState
from seal_env.engine.rendering import DoesNotFit
from seal_env.engine.trainable import TrainableBank, TrainableState
from seal_env.engine.training import Dataset, Example, finetune
from seal_env.evaluation import Progress
from seal_env.tasks.base import Generated, Problem
from seal_env.updates.base import PreparedUpdate, Update, UpdateContext, UpdateResult


@dataclass(frozen=True)
class Training:
    """Training settings that a self-edit asks for; None leaves one to the inner loop."""

    learning_rate: float | None = None
    """Highest learning rate."""
    epochs: int | None = None
    """Passes over the data."""
    outputs_only: bool = False
    """Whether examples of tools are learned from their answers alone, without their prompts."""
    layers: tuple[int, ...] | None = None
    """Layers whose adapters are trained, counted from 0; None for all."""
    batch_size: int | None = None
    """Sequences per optimizer step."""

    def applied_to(self, config: FinetuneConfig) -> FinetuneConfig:
        """The optimizer's settings with what is asked for."""
        if self.learning_rate is not None:
            config = replace(config, learning_rate=self.learning_rate)
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        if self.batch_size is not None:
            config = replace(config, batch_size=self.batch_size)
        return config


@dataclass(frozen=True)
class Finetuning(Update[TrainableState]):
    """Next-token training of a LoRA adapter (SEAL, arXiv 2506.10943, section 3.1)."""

    state: ClassVar[type[TrainableState]] = AdapterState

    sequences: tuple[str | Generated, ...] = ()
    """What to finetune on, in order: texts as the tokenizer will see them, and examples, which are
    learned from their answers alone."""
    tools: tuple[str, ...] | None = None
    """Names of the task's data-generation tools (`Task.tools`) whose examples are trained on, none
    of them for the plain ones; None for no examples."""
    training: Training = Training()
    """Settings of the training."""

    def texts(self) -> tuple[str, ...]:
        """See `Update.texts`."""
        return tuple(s if isinstance(s, str) else s.prompt + s.answer for s in self.sequences)

    def summary(self) -> str:
        """See `Update.summary`."""
        training = self.training
        said = [] if self.tools is None else [" + ".join(("examples", *self.tools))]
        said += [] if training.learning_rate is None else [f"rate {training.learning_rate:g}"]
        said += [] if training.epochs is None else [f"{training.epochs} epochs"]
        said += [] if training.batch_size is None else [f"batch size {training.batch_size}"]
        said += ["on outputs"] if training.outputs_only else []
        said += [] if training.layers is None else [f"layers {list(training.layers)}"]
        return ", ".join(said)

    def prepare(
        self, problem: Problem, seed: int, start: TrainableState | None, context: UpdateContext
    ) -> PreparedUpdate[TrainableState]:
        """See `Update.prepare`: the training data, cut to `UpdateContext.max_tokens`."""
        own = [s if isinstance(s, Generated) else Generated("", s) for s in self.sequences]
        made: Sequence[Generated] = ()
        if self.tools is not None:
            made = context.task.generate(problem, self.tools, seed)
        examples, truncated = self._examples(own, made, context.masks(problem), context)
        error = None
        if not examples:
            why = "no example fits into the model" if truncated else "the self-edit holds no text"
            error = f"nothing to train on: {why}"
        config = self.training.applied_to(context.finetune)
        data = Dataset(examples, config, seed, self.training.layers)
        return PreparedUpdate(self, problem, seed, start, data, truncated, error)

    def _examples(
        self,
        own: Sequence[Generated],
        made: Sequence[Generated],
        masks: Sequence[Pattern[str]],
        context: UpdateContext,
    ) -> tuple[list[Example], bool]:
        """Training sequences in tokens, and whether a cap cut something off.

        Args:
            own: The self-edit's own sequences.
            made: Examples that tools made.
            masks: What is not learned of texts.
            context: The learner and the settings.
        """
        texts = [*own, *made]
        evaluator, longest = context.evaluator, context.learner.max_length
        examples: list[Example] = []
        left, truncated = context.max_tokens, False
        for position, text in enumerate(texts):
            prompt, answer = _tokens(text, context)
            if len(prompt) + len(answer) > left:
                truncated = True
                if prompt and examples:  # less of it would be another example
                    break
            room = min(left, longest)
            if len(prompt) + len(answer) > room:
                truncated = True
                try:
                    prompt = prompt and evaluator.prompt_tokens(text.prompt, room - len(answer))
                except DoesNotFit:
                    continue
                answer = answer[: room - len(prompt)]
            if len(prompt) + len(answer) >= 2:
                of_edit = position < len(own)
                unscored = len(prompt) if of_edit or self.training.outputs_only else 0
                masked = frozenset[int]()
                if of_edit or not prompt:
                    masked = _masked(text.answer, masks, len(prompt), context)
                examples.append(Example((*prompt, *answer), unscored, masked))
            left -= len(prompt) + len(answer)
            if left < 2:
                truncated |= position + 1 < len(texts)
                break
        return examples, truncated

    @classmethod
    def new_bank(cls, seeds: Sequence[int], context: UpdateContext) -> TrainableBank:
        """A bank of untrained learners, one per seed."""
        bank = context.new_bank(len(seeds))
        bank.initialize(seeds)
        return bank

    @classmethod
    def apply_batch(
        cls,
        batch: Sequence[PreparedUpdate[TrainableState]],
        context: UpdateContext,
        progress: Progress | None = None,
    ) -> list[UpdateResult]:
        """See `Update.apply_batch`: trains all learners side by side."""
        bank = cls.new_bank([prepared.seed for prepared in batch], context)
        bank.load([prepared.start for prepared in batch])

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress("training", done, total)

        data = [prepared.data for prepared in batch if prepared.data is not None]
        below = [prepared.below for prepared in batch]
        records = finetune(context.learner, bank, data, tell, context.tokens_per_pass, below)
        return [
            UpdateResult(None if record.failed else bank.state_of(index), record)
            for index, record in enumerate(records)
        ]


def _tokens(text: Generated, context: UpdateContext) -> tuple[list[int], list[int]]:
    """What is read and what is learned; prompts as they are put when they are asked."""
    if not text.prompt:
        return [], context.learner.renderer.document(text.answer)
    evaluator = context.evaluator
    return evaluator.prompt_tokens(text.prompt), evaluator.answer_tokens(text.answer)


def _masked(
    text: str, masks: Sequence[Pattern[str]], read: int, context: UpdateContext
) -> frozenset[int]:
    """Positions of the tokens of a text that some patterns mask, to the nearest token.

    Args:
        text: The text.
        masks: The patterns.
        read: Number of tokens of the prompt before it; 0 for a text by itself.
        context: The learner and the settings.
    """
    renderer = context.learner.renderer
    encode = renderer.answer if read else renderer.encode
    positions: set[int] = set()
    for mask in masks:
        for match in mask.finditer(text):
            start, stop = (read + len(encode(text[:end])) for end in match.span("masked"))
            positions.update(range(start, max(stop, start + 1)))
    return frozenset(positions)
