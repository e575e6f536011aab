"""`TokenVecEnv`: whole self-edits for stable-baselines3, token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from seal_env.config import default_prompt
from seal_env.wrappers.sb3.text_vec import TextVecEnv, inner_of
from seal_env.wrappers.sb3.tokens import TextTokens


class TokenVecEnv(TextVecEnv):
    """`SelfEditVectorEnv` whose observations and actions are arrays of token ids.

    A policy reads the prompt's token ids (`Box`, padded with -1, which is no token) and writes
    token ids (`MultiDiscrete`; the text ends at the first end token). All self-edits of a step are
    carried out in one pass of the inner loop.

    Args:
        envs: The environments, as ``gym.make_vec("SelfEdit-v0", num_envs=K, ...)`` makes them.
        group: Number of neighbors with the same problem, a divisor of K.
        prompt: Name of the prompt (`seal_env.prompts`); None for the task's default.
        max_new_tokens: Length of the longest self-edit, in tokens.
        max_prompt_tokens: Length of the longest prompt, in tokens; None for the room that the model
            leaves.

    Raises:
        UserError: The environments are of another kind, or a number does not fit.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        group: int = 1,
        prompt: str | None = None,
        max_new_tokens: int = 256,
        max_prompt_tokens: int | None = None,
    ) -> None:
        episodes = inner_of(envs).episodes
        self.tokens = TextTokens(
            episodes.loop.learner,
            prompt or default_prompt(episodes.task, episodes.language),
            max_new_tokens,
            max_prompt_tokens,
        )
        """Converter between texts and token ids."""
        super().__init__(envs, self.tokens.observation_space, self.tokens.action_space, group=group)

    def read(self, observation: dict[str, Any]) -> np.ndarray:
        """Token ids of the prompts, int32 of shape (observations, longest prompt)."""
        return self.tokens.observe(observation["context"])

    def write(self, actions: np.ndarray, observation: dict[str, Any]) -> list[str]:
        """Texts of token ids of shape (num_envs, longest self-edit)."""
        return [self.tokens.decode(row) for row in actions]
