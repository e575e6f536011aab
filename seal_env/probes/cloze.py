"""Probe `ClozeSpans`: how likely a learner finds spans of a passage that it does not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from re import Pattern
from typing import NamedTuple

from seal_env.engine.banks import LearnerState
from seal_env.engine.mixed_bank import bank_of
from seal_env.engine.rendering import Content
from seal_env.engine.scoring import log_likelihoods
from seal_env.probes.base import Probe, ProbeContext, Probed, Subject
from seal_env.probes.spans import Span, salient_spans
from seal_env.tasks.base import Problem

LEAST = -100.0
"""Lower bound of a log-likelihood, in nats per token; what is not finite counts as this."""


class _Blank(NamedTuple):
    """A span in tokens."""

    prompt: list[int]
    """Token ids of the title and of the sentence up to the span."""
    answer: list[int]
    """Token ids of the span."""


class Cloze(NamedTuple):
    """Spans of a passage and what a learner makes of them."""

    spans: tuple[Span, ...]
    """The spans; empty for a passage without words."""
    log_likelihoods: tuple[float, ...]
    """Mean log-probability of each, in nats per token."""


@dataclass(frozen=True)
class ClozeSpans(Probe[Cloze]):
    """Log-likelihoods of spans of the passage, after the title and the beginning of the sentence.

    The passage itself is not in view. Texts are read as in training, not as chat turns.
    """

    spans: int
    """Largest number of spans per passage."""
    mask: bool = False
    """Whether a span has no loss where the training data has it in the passage's own words."""

    def masks(self, problem: Problem) -> Sequence[Pattern[str]]:
        """See `Probe.masks`."""
        return [span.copies() for span in self.chosen(problem)] if self.mask else []

    def measure(self, subjects: Sequence[Subject], context: ProbeContext) -> list[Probed[Cloze]]:
        """See `Probe.measure`."""
        chosen = [self.chosen(subject.problem) for subject in subjects]
        blanks = [_blanks(s.problem, own, context) for s, own in zip(subjects, chosen, strict=True)]
        before, after = (
            _scores(blanks, states, context)
            for states in ([s.before for s in subjects], [s.after for s in subjects])
        )
        return [
            Probed(Cloze(spans, first), Cloze(spans, last))
            for spans, first, last in zip(chosen, before, after, strict=True)
        ]

    def chosen(self, problem: Problem) -> tuple[Span, ...]:
        """The spans of a problem's passage."""
        return salient_spans(problem.context, problem.title, self.spans)


def _blanks(problem: Problem, spans: Sequence[Span], context: ProbeContext) -> list[_Blank]:
    """The spans in tokens; a beginning that is too long for the model loses its middle."""
    renderer = context.learner.renderer
    title = f"{problem.title}\n" if problem.title else ""
    blanks = []
    for span in spans:
        answer = renderer.scored(span.text, context.learner.max_length // 2, chat=False)
        room = context.learner.max_length - len(answer)
        head = renderer.prompt((Content(title + span.before),), room, chat=False).ids
        blanks.append(_Blank(head, answer))
    return blanks


def _scores(
    blanks: Sequence[Sequence[_Blank]],
    states: Sequence[LearnerState | None],
    context: ProbeContext,
) -> list[tuple[float, ...]]:
    """Log-likelihoods of each learner's own spans."""
    learner = context.learner
    pairs = [(blank, owner) for owner, own in enumerate(blanks) for blank in own]
    found = iter(
        log_likelihoods(
            learner,
            [blank.prompt for blank, _ in pairs],
            [blank.answer for blank, _ in pairs],
            [owner for _, owner in pairs],
            bank_of(states, learner.model),
            context.evaluator.tokens,
        )
    )
    return [tuple(bounded(next(found)) for _ in own) for own in blanks]


def bounded(log_likelihood: float) -> float:
    """A log-likelihood of at least `LEAST`."""
    return max(log_likelihood, LEAST) if math.isfinite(log_likelihood) else LEAST
