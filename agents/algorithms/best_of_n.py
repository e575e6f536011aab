"""Agent `best-of-n`: samples N self-edits per problem, evaluates them, returns the best.

`best-of-n:4` samples 4. Candidates are evaluated on training questions, which are made from the
observation (`Task.training_problem`), never on the held-out questions. Nothing is learned. Every
candidate costs one inner loop, so compare N of them with agents that learned from N more. With
`screen` a critic (`seal_env.critics`) ranks the candidates, and the best fraction is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from seal_agents.algorithms.prompted import Prompted
from seal_agents.base import AgentContext, Experience, Observation
from seal_agents.policies.options import ADAPTER, PolicyOptions
from seal_env.config import make_task
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem

if TYPE_CHECKING:
    from seal_env.critics import Critic

NUM_ENVS = 64
"""Candidates evaluated per pass of the inner loop."""

_UNKNOWN = (0.0, 0.0)
"""Rank of a candidate on whose context no question can be asked."""


@dataclass(frozen=True)
class BestOfNOptions(PolicyOptions):
    """Options of best-of-N."""

    candidates: int = 8
    """N: self-edits sampled per problem; with 1 none is evaluated."""
    screen: float = 1.0
    """Fraction of the candidates that is evaluated, those that `critic` ranks best."""
    critic: str | None = None
    """Folder of the critic, as seal-env train-critic writes it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise UserError(f"candidates {self.candidates}: at least 1 self-edit must be written")
        if not 0 < self.screen <= 1:
            raise UserError(f"screen {self.screen}: must be above 0 and at most 1")
        if (self.critic is None) != (self.screen == 1):
            raise UserError(
                "screen and critic: give both, a fraction below 1 and the folder of the critic "
                "that ranks the candidates"
            )


class BestOfN(Prompted[BestOfNOptions]):
    """Returns the best of N self-edits, ranked by their reward on training questions."""

    Options = BestOfNOptions
    takes = "N"

    def __init__(self, context: AgentContext) -> None:
        count = context.argument
        if count and not count.isdecimal():
            raise UserError(f"agent best-of-n:{count}: give how many, as in best-of-n:4")
        super().__init__(replace(context, argument=""))
        if count:
            self.options = replace(self.options, candidates=int(count))
        self.candidates = self.options.candidates
        self.env = replace(context.env, horizon=1)
        self.task = make_task(self.env.task, self.env.data, self.env.task_options)
        if not self.task.has_training_questions:
            raise UserError(
                f"agent best-of-n: task {self.env.task!r} makes no training questions; give it a "
                f"method training_problem, as seal_env.tasks.Task describes it"
            )
        self.quota = max(1, math.floor(self.options.screen * self.candidates + 0.5))
        """Candidates that are evaluated per problem."""
        self.critic: Critic | None = None
        if self.options.critic is not None:
            # Here, since critics load torch, which the options do without.
            from seal_env.critics import load_critic
            from seal_env.critics.hidden_states import without_adapter

            self.critic = load_critic(self.options.critic, without_adapter(self.policy.model))
        self.worth: dict[tuple[str, str], tuple[float, float]] = {}
        """Evaluated candidates: (context, self-edit) to reward and mean log-likelihood of the gold
        answers (nats per token), both on training questions."""

    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[str | None]:
        """The best of N for each observation; of 1, what `base` writes with the same seed.

        Where no question can be made from what was read, the first is as good as any.
        """
        count = self.candidates
        every = [observation for observation in observations for _ in range(count)]
        drawn = [stable_hash(s, i) if i else s for s in seeds for i in range(count)]
        texts = [one.text for one in self.policy.write(every, drawn)]
        readings = [str(observation["context"]) for observation in observations]
        groups = [texts[start : start + count] for start in range(0, len(texts), count)]
        groups = self._screened(readings, groups)
        if count > 1:
            self._try_out(
                [r for r, group in zip(readings, groups, strict=True) for _ in group],
                [text for group in groups for text in group],
            )
        best: list[str | None] = []
        for reading, group in zip(readings, groups, strict=True):
            # max takes the first of equals.
            best.append(max(group, key=lambda text: self.worth.get((reading, text), _UNKNOWN)))
        return best

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """Reports the candidates evaluated and the mean training reward of the selected ones."""
        if not experiences or self.candidates == 1:
            return {}
        readings = [str(e.observation["context"]) for e in experiences]
        self._try_out(readings, [e.text for e in experiences])  # after a stop: again, and the same
        promised = [
            self.worth.get((reading, e.text), _UNKNOWN)[0]
            for reading, e in zip(readings, experiences, strict=True)
        ]
        self.worth.clear()
        return {
            "candidate_evaluations": float(self.quota * len(experiences)),
            "training_reward": sum(promised) / len(promised),
        }

    def save(self, folder: Path) -> None:
        """Writes the policy's adapter, if it has one."""
        super().save(folder)

    def load(self, folder: Path) -> None:
        """Reads another agent's adapter, if there is one, to sample candidates with it."""
        if (folder / ADAPTER).is_dir():
            super().load(folder)

    def _screened(
        self, readings: Sequence[str], groups: Sequence[Sequence[str]]
    ) -> list[list[str]]:
        """The candidates that are evaluated for each problem, in the order in which they came."""
        if self.critic is None:
            return [list(group) for group in groups]
        pairs = [(r, text) for r, group in zip(readings, groups, strict=True) for text in group]
        scores = iter(self.critic.score(pairs))
        chosen = []
        for group in groups:
            own = [next(scores) for _ in group]
            ranks = sorted(range(len(group)), key=lambda i: -own[i])[: self.quota]
            chosen.append([group[i] for i in sorted(ranks)])
        return chosen

    def _try_out(self, readings: Sequence[str], texts: Sequence[str]) -> None:
        """Evaluates self-edits on training questions; adds to `worth`."""
        from seal_env.vector import SelfEditVectorEnv

        problems = {reading: self.task.training_problem(reading) for reading in set(readings)}
        wanted: dict[tuple[str, str], Problem] = {}
        for reading, text in zip(readings, texts, strict=True):
            problem = problems[reading]
            if problem is not None and (reading, text) not in self.worth:
                wanted[reading, text] = problem
        known = list(wanted)
        for start in range(0, len(known), NUM_ENVS):
            part = known[start : start + NUM_ENVS]
            envs = SelfEditVectorEnv(len(part), **self.env.kwargs())
            envs.progress = self.context.progress
            # Not the seed that the choice will be measured with: a choice that holds for one
            # initial adapter alone is no good one.
            seed = stable_hash(self.context.seed, "best-of-n")
            envs.reset(seed=seed, options={"problems": [wanted[key] for key in part]})
            _, rewards, _, _, infos = envs.step([text for _, text in part])
            likelihoods = infos["final_info"]["log_likelihood"]
            ranks = zip(map(float, rewards), map(float, likelihoods), strict=True)
            self.worth |= dict(zip(part, ranks, strict=True))
