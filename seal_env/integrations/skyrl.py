"""SkyRL-Gym: `SelfEdit-v0` as a `BaseTextEnv`.

Example::

    skyrl_gym.register(id="self-edit", entry_point="seal_env.integrations.skyrl:SelfEditTextEnv")
    env = skyrl_gym.make("self-edit", extras={"problem": 7, "seed": 0})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seal_env.integrations.prompts import prompt_of
from seal_env.integrations.shared import needs, shared_sessions

with needs("skyrl-gym", "pip install 'seal-env[skyrl]'"):
    from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput


class SelfEditTextEnv(BaseTextEnv):
    """One trajectory; its steps share passes with those of all others.

    SkyRL steps its environments in many threads at once.

    Args:
        env_config: Fields of `seal_env.EnvConfig`, plain values.
        extras: The row of the data set: ``problem``, an index in the split or a list of these, and
            perhaps ``seed``, by default 0.
    """

    def __init__(
        self, env_config: Mapping[str, Any] | None = None, extras: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._sessions = shared_sessions(env_config or {})
        self._extras = dict(extras or {})
        self._session = self._sessions.open()
        self.max_turns = self._sessions.config.horizon

    def init(self, prompt: list[dict[str, str]]) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """Starts the episode; an empty prompt becomes the default one."""
        problem = self._extras["problem"]
        _, info = self._session.reset(self._extras.get("seed", 0), problem)
        first = problem if isinstance(problem, int) else problem[0]
        asked = [{"role": "user", "content": prompt_of(self._sessions, first)}]
        return prompt or asked, info

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Carries out a self-edit."""
        context, step = self._session.step(action)
        self.turns += 1
        following = [] if step.terminated else [{"role": "user", "content": context}]
        return BaseTextEnvStepOutput(
            observations=following,
            reward=step.reward,
            done=step.terminated,
            metadata=step.info,
            postprocessed_action=None,
        )
