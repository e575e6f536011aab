"""`ChoiceVecEnv`: choices for stable-baselines3, many self-edits per pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs

from seal_env.menus.base import Menu
from seal_env.wrappers.choices import ChoiceView, each_of
from seal_env.wrappers.sb3.text_vec import TextVecEnv, inner_of, stacked


class ChoiceVecEnv(TextVecEnv):
    """K times `ChoiceActions`, with one pass of the inner loop per step.

    Args:
        envs: The environments, as ``gym.make_vec("SelfEdit-v0", num_envs=K, ...)`` makes them.
        menu: See `ChoiceActions`.
        flat: See `ChoiceActions`.
        discrete: See `ChoiceActions`.
        group: Number of neighbors with the same problem, a divisor of K.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        menu: str | Menu | None = None,
        flat: bool = False,
        discrete: bool = False,
        group: int = 1,
    ) -> None:
        episodes = inner_of(envs).episodes
        self.view = ChoiceView.of(episodes, menu, flat, discrete)
        space = self.view.observation_space(episodes)
        super().__init__(envs, space, self.view.action_space(), group)

    def read(self, observation: dict[str, Any]) -> VecEnvObs:
        """Observations as numbers."""
        return stacked([self.view.observe(one) for one in each_of(observation)])

    def write(self, actions: np.ndarray, observation: dict[str, Any]) -> list[str]:
        """Self-edits of the chosen combinations."""
        pairs = zip(observation["context"], actions, strict=True)
        return [self.view.menu.render(c, self.view.chosen(action)) for c, action in pairs]
