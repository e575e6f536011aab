"""verifiers (v1): the problems of `SelfEdit-v0` as a taskset, through it prime-rl.

verifiers finds tasksets by the names of top-level modules, such as a file ``self_edit.py``::

    from seal_env.integrations.verifiers import SelfEditTaskset

    __all__ = ["SelfEditTaskset"]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from seal_env.integrations.prompts import prompt_of
from seal_env.integrations.shared import needs, shared_sessions

with needs("verifiers", "pip install verifiers, in an environment without openenv"):
    import verifiers.v1 as vf


class SelfEditTasksetConfig(vf.TasksetConfig):
    """Which problems there are."""

    env_config: dict[str, Any] = Field(default_factory=dict)
    """Fields of `seal_env.EnvConfig`, with a horizon of 1."""
    problems: int = 256
    """Number of problems, from the beginning of the split."""
    seed: int = 0
    """Seed of all inner loops."""


class SelfEditData(vf.TaskData):
    """One problem."""

    problem: int
    """Index of the problem in the split."""
    env_config: dict[str, Any]
    """As in `SelfEditTasksetConfig`."""
    seed: int
    """As in `SelfEditTasksetConfig`."""


class SelfEditTask(vf.Task[SelfEditData, vf.State, vf.TaskConfig]):
    """Rewards of self-edits; rollouts that are scored at the same time share passes."""

    @vf.reward
    async def self_edit(self, trace: vf.Trace) -> float:
        """Reward of the last reply."""
        sessions = shared_sessions(self.data.env_config)
        problem, seed = self.data.problem, self.data.seed
        return (await sessions.one_step_async(problem, trace.last_reply, seed)).reward


class SelfEditTaskset(vf.Taskset[SelfEditTask, SelfEditTasksetConfig]):
    """The first problems of a split."""

    def load(self) -> Iterator[SelfEditTask]:
        """One task per problem."""
        settings = self.config.env_config
        sessions = shared_sessions(settings)
        for problem in range(self.config.problems):
            data = SelfEditData(
                name=f"problem {problem}",
                prompt=prompt_of(sessions, problem),
                problem=problem,
                env_config=settings,
                seed=self.config.seed,
            )
            yield SelfEditTask(data, self.config.task)


def load_environment(module: str = "self_edit", **settings: Any) -> vf.Env:
    """The environment, for callers of the older ``load_environment``.

    Args:
        module: Top-level module that exports the taskset; see above.
        settings: Fields of `SelfEditTasksetConfig`.
    """
    taskset = {"id": module, **settings}
    return vf.load_environment(vf.SingleAgentEnvConfig.model_validate({"taskset": taskset}))
