"""Stream `route`: an adapter for each self-edit, chosen by what a question is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

from seal_env.checks import check_fields
from seal_env.engine.lora import AdapterState
from seal_env.engine.routed import Memory, Routed, TokenWeights
from seal_env.errors import UserError
from seal_env.streams.base import AdapterStream, StreamStep
from seal_env.tasks.base import Problem, first_problems
from seal_env.updates.base import PreparedUpdate, UpdateContext, UpdateResult

DOCUMENTS = 64
"""Problems whose texts say how rare tokens are."""


@dataclass
class Route(AdapterStream):
    """Trains a fresh adapter of the base for each self-edit, and keeps all of them.

    A question is answered with the adapter that was trained on most of its rare tokens, by the base
    if that is less than `threshold` of them (`seal_env.engine.routed`). How rare a token is, is
    counted in the contexts and questions of the first problems of the task's `known_split`. The
    adapters never meet, so that nothing is overwritten; memory grows with their number, time hardly
    does. Source: MEGa (Li et al. 2025, arXiv 2504.21239).

    Raises:
        UserError: `threshold` is not from 0 to 1.
    """

    threshold: float = 0.6
    """Smallest share of a question's tokens, by weight, that an adapter must know, 0 to 1."""

    name = "route"
    leaves = Routed

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.threshold <= 1:
            raise UserError(f"threshold {self.threshold}: must be from 0 to 1")

    def prepare(self, step: StreamStep, context: UpdateContext) -> PreparedUpdate[Any]:
        """See `Stream.prepare`."""
        return replace(step.own, start=None)

    def conclude(
        self, steps: Sequence[StreamStep], results: Sequence[UpdateResult], context: UpdateContext
    ) -> list[UpdateResult]:
        """See `Stream.conclude`: files each adapter under what it was trained on."""
        weights = cache(partial(token_weights, context))  # the first step of a stream asks for them
        concluded = []
        for step, result in zip(steps, results, strict=True):
            assert isinstance(result.state, AdapterState)
            start, data = step.own.start, step.own.data
            examples = () if data is None else data.examples
            memory = Memory(frozenset(t for e in examples for t in e.ids), result.state)
            if isinstance(start, Routed):
                state = replace(start, memories=(*start.memories, memory))
            else:
                state = Routed((memory,), weights(), self.threshold)
            concluded.append(replace(result, state=state))
        return concluded


def token_weights(context: UpdateContext) -> TokenWeights:
    """Weights of tokens by the task's own texts, as the learner reads them."""
    problems = first_problems(context.task, context.task.known_split, DOCUMENTS)
    counts = Counter(token for problem in problems for token in _tokens(problem, context))
    return TokenWeights(len(problems), counts)


def _tokens(problem: Problem, context: UpdateContext) -> set[int]:
    """Tokens of a problem's context and of its questions as they are put."""
    read = context.learner.renderer.document(problem.context)
    asked = context.evaluator.tokenize(problem).asked
    return {*read, *(token for question in asked for token in question.prompt)}
