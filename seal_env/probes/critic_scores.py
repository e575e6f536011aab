"""Probe `CriticScores`: a critic's prediction of what a self-edit is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal_env.critics import Critic, load_critic
from seal_env.critics.hidden_states import without_adapter
from seal_env.probes.base import Probe, ProbeContext, Probed, Subject


@dataclass(frozen=True)
class CriticScores(Probe[float]):
    """Predicted reward of each self-edit that changed its learner."""

    path: str
    """The critic's folder."""

    def prepare(self, context: ProbeContext) -> None:
        """Loads the critic; see `Probe.prepare`."""
        # Of a learner that follows its policy the base reads, as when the critic was trained.
        context.measured[self] = load_critic(self.path, without_adapter(context.learner))

    def measure(self, subjects: Sequence[Subject], context: ProbeContext) -> list[Probed[float]]:
        """See `Probe.measure`."""
        critic: Critic = context.measured[self]
        judged = [i for i, s in enumerate(subjects) if s.after is not s.before]
        pairs = [(context.task.reads(subjects[i].problem), subjects[i].text) for i in judged]
        scores = dict(zip(judged, critic.score(pairs), strict=True))
        nothing = critic.nothing
        return [Probed(nothing, scores.get(i, nothing)) for i in range(len(subjects))]
