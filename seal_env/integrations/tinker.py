"""Tinker cookbook: groups of rollouts whose self-edits are rewarded together.

Example::

    builder = SelfEditGroupBuilder({"task": "biographies"}, problem=7, renderer=r, num_envs=8)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seal_env.integrations.prompts import prompt_of
from seal_env.integrations.shared import needs, shared_sessions

with needs("tinker-cookbook", "pip install tinker-cookbook"):
    import tinker
    from tinker_cookbook.renderers import get_text_content
    from tinker_cookbook.rl.types import Env, EnvGroupBuilder, StepResult


class SelfEditEnv(Env):
    """One rollout, which only keeps the self-edit; the group rewards it.

    Args:
        renderer: The policy's `tinker_cookbook.renderers.Renderer`.
        prompt: Text that asks for a self-edit.
    """

    def __init__(self, renderer: Any, prompt: str) -> None:
        self.renderer, self.prompt = renderer, prompt
        self.text = ""
        """The self-edit; empty before the step."""

    async def initial_observation(self) -> tuple[Any, Any]:
        """The prompt, and where a generation stops."""
        messages = [{"role": "user", "content": self.prompt}]
        prompt = self.renderer.build_generation_prompt(messages)
        return prompt, self.renderer.get_stop_sequences()

    async def step(self, action: list[int], *, extra: Any = None) -> StepResult:
        """Reads the self-edit and ends the episode."""
        message, _ = self.renderer.parse_response(action)
        self.text = get_text_content(message)
        return StepResult(
            reward=0.0,
            episode_done=True,
            next_observation=tinker.ModelInput.empty(),
            next_stop_condition=self.renderer.get_stop_sequences(),
        )


@dataclass(frozen=True)
class SelfEditGroupBuilder(EnvGroupBuilder):
    """Rollouts of one problem; of plain values, so that it can be sent to other processes."""

    env_config: Mapping[str, Any]
    """Fields of `seal_env.EnvConfig`, with a horizon of 1."""
    problem: int
    """Index of the problem in the split."""
    renderer: Any
    """The policy's `tinker_cookbook.renderers.Renderer`."""
    num_envs: int
    """Rollouts per group."""
    seed: int = 0
    """Seed of the inner loops, the same for all, for common random numbers."""

    async def make_envs(self) -> Sequence[SelfEditEnv]:
        """Rollouts, all with the same prompt."""
        sessions = await asyncio.to_thread(shared_sessions, self.env_config)
        prompt = prompt_of(sessions, self.problem)
        return [SelfEditEnv(self.renderer, prompt) for _ in range(self.num_envs)]

    async def compute_group_rewards(
        self, trajectory_group: list[Any], env_group: Sequence[SelfEditEnv]
    ) -> list[tuple[float, dict[str, float | int]]]:
        """Rewards of the group, in shared passes with all other groups of the process."""
        sessions = await asyncio.to_thread(shared_sessions, self.env_config)
        steps = await asyncio.gather(
            *(sessions.one_step_async(self.problem, env.text, self.seed) for env in env_group)
        )
        return [(step.reward, {"invalid": float(bool(step.info["error"]))}) for step in steps]

    def logging_tags(self) -> list[str]:
        """Name under which the trainer groups metrics."""
        return ["self_edit"]
