"""Screening: candidates are ranked by a critic before inner loops are spent on the best of them.

All samples of a problem are written, a critic (`seal_env.critics`) predicts the reward of each, and
only the best fraction is carried out and learned from. The critic is that of ``--critic``, or it is
trained before each round on the run's own earlier rounds. Without a critic, in the first round, the
first samples of each problem are carried out, which are as good as any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from seal_agents.base import Action
from seal_agents.run_folder import RunFolder
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.experience import text_of
from seal_agents.runner.pairs import Pair, recorded_pairs, worth_of_nothing
from seal_env.critics import Critic, load_critic
from seal_env.critics.hidden_states import HiddenStates
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.tasks.base import Problem, Task


@dataclass(frozen=True)
class Candidate:
    """A self-edit that is written but not carried out."""

    action: Action
    """The self-edit."""
    score: float
    """The critic's prediction of its reward."""


@dataclass(frozen=True)
class Screening:
    """Choice of the candidates of a round that are carried out."""

    quota: int
    """Number of candidates per problem that are carried out."""
    critic: Critic | None
    """The ranking; None for the order in which they were sampled."""

    def choose(
        self,
        problems: Mapping[str, Sequence[int]],
        known: Container[int],
        write: Callable[[Sequence[int]], Sequence[tuple[str, Action]]],
    ) -> dict[int, Candidate | None]:
        """Candidates that are carried out, ties in favor of the earlier one.

        Those of a run that was stopped are among them, and where they are all that a problem has,
        nothing is written about it again.

        Args:
            problems: Indices of each problem's candidates, in the order in which they are sampled.
            known: Indices of the candidates that were carried out already.
            write: Context and self-edit of candidates, by index.

        Returns:
            By index, the candidate; None where it was carried out already, or is to be written.
        """
        chosen: dict[int, Candidate | None] = {}
        left: dict[str, list[int]] = {}
        for problem, indices in problems.items():
            done = [index for index in indices if index in known]
            chosen |= dict.fromkeys(done)
            if len(done) < self.quota:
                left[problem] = [*indices]
        written = self._written([index for some in left.values() for index in some], write)
        for indices in left.values():
            ranked = sorted(indices, key=lambda i: -written[i].score) if written else indices
            wanted = [i for i in ranked if i not in known]
            count = self.quota - (len(indices) - len(wanted))
            chosen |= {i: written.get(i) for i in wanted[:count]}
        return chosen

    def _written(
        self,
        indices: Sequence[int],
        write: Callable[[Sequence[int]], Sequence[tuple[str, Action]]],
    ) -> dict[int, Candidate]:
        if self.critic is None or not indices:
            return {}
        drafts = write(indices)
        pairs = [(context, text_of(action)) for context, action in drafts]
        scores = iter(self.critic.score([(c, text) for c, text in pairs if text is not None]))
        return {
            index: Candidate(action, self.critic.nothing if text is None else next(scores))
            for index, (_, action), (_, text) in zip(indices, drafts, pairs, strict=True)
        }


def quota(fraction: float, samples: int) -> int:
    """Number of a problem's samples that are carried out, at least 1."""
    return max(1, math.floor(fraction * samples + 0.5))


def screening(
    run: RunFolder, task: Task, config: TrainConfig, earlier: Mapping[int, Sequence[Problem]]
) -> Screening | None:
    """The screening of a round; None without ``--screen``.

    Args:
        run: Run folder, with all records of earlier rounds.
        task: The run's task.
        config: The run's settings.
        earlier: Problems of each earlier round.
    """
    if config.screen is None:
        return None
    env, count = config.env, quota(config.screen, config.samples)
    learner = load_learner(env.model, env.dtype, env.device, None, env.trust_remote_code)
    if config.critic is not None:
        return Screening(count, load_critic(config.critic, learner))
    pairs = recorded_pairs(run, config.agent, task, earlier)
    return Screening(count, _trained(pairs, learner) if pairs else None)


def _trained(pairs: Sequence[Pair], learner: Learner) -> Critic:
    return Critic.fit(
        HiddenStates(learner),
        [(pair.context, pair.text) for pair in pairs],
        [pair.reward for pair in pairs],
        worth_of_nothing(pairs),
    )
