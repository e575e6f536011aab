"""Probe `TextDrift`: how far an update moved the learner on texts that it is not about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from seal_env.engine.divergence import Divergence, divergences
from seal_env.engine.mixed_bank import bank_of
from seal_env.errors import UserError
from seal_env.probes.base import Probe, ProbeContext, Probed, Subject
from seal_env.probes.texts import suited_texts

LARGEST = 1e6
"""What a number counts as that is not finite, in nats per token."""


@dataclass(frozen=True)
class TextDrift(Probe[Divergence]):
    """Divergence of the learner after an update from the learner before it, on fixed texts."""

    texts: tuple[str, ...] = ()
    """The texts; empty for those that suit the model (`seal_env.probes.texts`)."""

    def measure(
        self, subjects: Sequence[Subject], context: ProbeContext
    ) -> list[Probed[Divergence]]:
        """See `Probe.measure`.

        Raises:
            UserError: No text has two tokens.
        """
        learner = context.learner
        key = "probe texts", self.texts
        if key not in context.measured:
            texts = self.texts or suited_texts(learner.name)
            read = [learner.renderer.reading(text) for text in texts]
            context.measured[key] = [ids for ids in read if len(ids) > 1]
        ids = context.measured[key]
        if not ids:
            raise UserError("probe texts: none is longer than one token; give longer ones")
        before, after = (
            bank_of(states, learner.model)
            for states in ([s.before for s in subjects], [s.after for s in subjects])
        )
        tokens = context.evaluator.tokens
        found = divergences(learner, ids, len(subjects), after, before, tokens)
        return [Probed(_none(moved), moved) for moved in map(_finite, found)]


def _none(moved: Divergence) -> Divergence:
    """Divergence of the old learner from itself."""
    return Divergence(0.0, moved.old_loss, moved.old_loss)


def _finite(divergence: Divergence) -> Divergence:
    numbers = asdict(divergence).items()
    return Divergence(**{k: min(v, LARGEST) if math.isfinite(v) else LARGEST for k, v in numbers})
