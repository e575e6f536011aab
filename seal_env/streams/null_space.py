"""Addition `null_space` to a stream: new adapters do not read what is to be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from seal_env.checks import check_fields
from seal_env.engine.lora import AdapterState
from seal_env.engine.moments import second_moments
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.streams.base import Addition, Stream, StreamStep
from seal_env.streams.merge import Merge
from seal_env.streams.orthogonal import projected
from seal_env.streams.replay import earlier_examples
from seal_env.streams.stack import Stack
from seal_env.tasks.base import first_problems
from seal_env.updates.base import PreparedUpdate, UpdateContext, UpdateResult


@dataclass
class NullSpace(Addition):
    """Keeps the A of each adapter orthogonal to what its modules read where nothing is to change.

    To be kept are texts of problems of the task's `known_split` (contexts, and questions that the
    task makes for training) and sequences of earlier self-edits, drawn anew at every step. The
    second moment of each module's input over their tokens, as the learner before the step reads
    them, has eigenvectors; A is projected on those that are left without the largest ones, which
    have the share `energy` of all. An adapter starts from A - A P, and what training makes of A is
    projected in the same way, so that it adds to the outputs of kept tokens what the other
    1 - `energy` of their inputs is worth. The cost of a step does not grow. Source: AlphaEdit (Fang
    et al. 2025, arXiv 2410.02355, section 3), for adapters; the share in place of a bound on
    eigenvalues is that of GPM (Saha et al. 2021, arXiv 2103.09762).

    Raises:
        UserError: A setting is out of bounds, or the stream trains one adapter on.
    """

    energy: float = 0.7
    """Share of the kept inputs' squared norm that adapters do not read, 0 to 1."""
    known: int = 8
    """Problems of the `known_split` whose texts are kept."""
    earlier: int = 64
    """Sequences of earlier self-edits that are kept."""

    remembers = True

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.energy < 1:
            raise UserError(f"energy {self.energy}: must be above 0 and below 1")
        if min(self.known, self.earlier) < 0:
            raise UserError("known, earlier: must not be below 0")

    def on(self, stream: Stream) -> Self:
        """See `Addition.on`."""
        way = stream
        while isinstance(way, Addition):
            way = way.stream
        if not isinstance(way, Merge | Stack):
            raise UserError(
                "stream 'null_space': needs a new adapter for each self-edit on top of the earlier "
                "ones; use 'merge + null_space' or 'stack + null_space'"
            )
        return super().on(stream)

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`: the untrained adapter reads nothing of it, too."""
        prepared = super().prepare(step, context)
        if not issubclass(step.own.update.state, AdapterState):
            return prepared
        bank = context.new_bank(1)
        bank.initialize([step.own.seed])
        start = projected(bank.state_of(0), self._bases(step, context))
        return replace(prepared, start=start)

    def conclude(
        self, steps: Sequence[StreamStep], results: Sequence[UpdateResult], context: UpdateContext
    ) -> list[UpdateResult]:
        """See `Stream.conclude`."""
        pairs = zip(steps, results, strict=True)
        return super().conclude(steps, [self._projected(*p, context) for p in pairs], context)

    def _projected(
        self, step: StreamStep, result: UpdateResult, context: UpdateContext
    ) -> UpdateResult:
        if not isinstance(result.state, AdapterState):
            return result
        return replace(result, state=projected(result.state, self._bases(step, context)))

    def _bases(self, step: StreamStep, context: UpdateContext) -> Mapping[str, Tensor]:
        """Directions that the adapter must not read, by module name; see `projected`."""
        texts = [*self._known(context), *self._earlier(step)]
        if not texts:
            return {}
        tokens = context.tokens_per_pass
        start = step.own.start
        moments = second_moments(context.learner, texts, start, context.targets, tokens)
        return {name: _largest(moment, self.energy) for name, moment in moments.items()}

    def _known(self, context: UpdateContext) -> list[list[int]]:
        """Texts of the `known_split` in tokens; held-out questions are not among them."""
        task, texts = context.task, []
        for problem in first_problems(task, task.known_split, self.known):
            reading = task.reads(problem)
            texts.append(context.learner.renderer.document(reading))
            made = task.training_problem(reading)
            asked = () if made is None else context.evaluator.tokenize(made).asked
            texts += [[*question.prompt, *question.gold] for question in asked]
        return texts

    def _earlier(self, step: StreamStep) -> list[list[int]]:
        """Sequences of earlier self-edits, in tokens."""
        earlier = earlier_examples(step)
        random = np.random.default_rng(stable_hash("null space", step.own.seed))
        count = min(self.earlier, len(earlier))
        chosen = sorted(random.choice(len(earlier), count, replace=False)) if count else []
        return [list(earlier[i].ids) for i in chosen]


def _largest(moment: Tensor, energy: float) -> Tensor:
    """Orthonormal eigenvectors with the largest share of a moment, float64, shape (d, I)."""
    values, vectors = torch.linalg.eigh(moment.double())
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    below = values.cumsum(0) < energy * values.sum()
    return vectors[:, : int(below.sum()) + 1].t()
