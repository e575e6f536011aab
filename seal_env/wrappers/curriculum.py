"""A curriculum: short self-edits first, then longer ones.

What a policy writes is cut to a length that grows with its progress. Progress is told from
outside, as a number from 0 to 1, and kept over resets: an environment that counted by itself
would make a reward depend on what was tried before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from seal_env.curriculum import Curriculum
from seal_env.env import SelfEditEnv
from seal_env.errors import UserError
from seal_env.vector import SelfEditVectorEnv

Unit = Literal["lines", "tokens", "characters"]


class ShortFirst(gym.Wrapper[dict[str, Any], str, dict[str, Any], str], RecordConstructorArgs):
    """Cuts what is written to what the curriculum allows.

    **Info** of a step also has ``text``, what was carried out.

    Args:
        env: `SelfEdit-v0`.
        curriculum: How long a self-edit may be.
        progress: How far training has come; set the attribute as it goes on.
    """

    def __init__(
        self,
        env: gym.Env[dict[str, Any], str],
        curriculum: Curriculum = Curriculum(),
        progress: float = 0.0,
    ) -> None:
        # So that env.spec says how to make it again, as Gymnasium's own wrappers do.
        RecordConstructorArgs.__init__(self, curriculum=curriculum, progress=progress)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, SelfEditEnv):
            raise UserError(f"ShortFirst wraps SelfEdit-v0, not {type(env.unwrapped).__name__}")
        self.curriculum, self.progress = curriculum, progress
        self._learner = env.unwrapped.episodes.loop.learner

    def step(self, action: str) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Carries out the allowed part of a self-edit."""
        text = self.curriculum.cut(action, self.progress, self._learner)
        observation, reward, terminated, truncated, info = self.env.step(text)
        return observation, reward, terminated, truncated, info | {"text": text}


class VectorShortFirst(VectorWrapper):
    """`ShortFirst` for `SelfEditVectorEnv`.

    ``infos["text"]`` has what was carried out, also of episodes that ended.

    Args:
        env: `SelfEditVectorEnv`.
        curriculum: How long a self-edit may be.
        progress: How far training has come; set the attribute as it goes on.
    """

    def __init__(
        self,
        env: VectorEnv[dict[str, Any], Sequence[str], np.ndarray],
        curriculum: Curriculum = Curriculum(),
        progress: float = 0.0,
    ) -> None:
        super().__init__(env)
        if not isinstance(env.unwrapped, SelfEditVectorEnv):
            name = type(env.unwrapped).__name__
            raise UserError(f"VectorShortFirst wraps SelfEditVectorEnv, not {name}")
        self.curriculum, self.progress = curriculum, progress
        self._learner = env.unwrapped.episodes.loop.learner

    def step(
        self, actions: Sequence[str]
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Carries out the allowed part of each self-edit."""
        texts = [self.curriculum.cut(text, self.progress, self._learner) for text in actions]
        observations, rewards, terminated, truncated, infos = self.env.step(texts)
        told = {"text": np.array(texts, dtype=object), "_text": np.ones(len(texts), dtype=bool)}
        return observations, rewards, terminated, truncated, infos | told
