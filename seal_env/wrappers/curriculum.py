"""A curriculum: short self-edits first, then longer ones.

What a policy writes is cut to a length that grows with its progress. Progress is told from
outside, as a number from 0 to 1, by ``reset(options={"progress": p})`` or by the attribute, and
kept over resets: an environment that counted by itself would make a reward depend on what was
tried before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from seal_env.curriculum import Curriculum
from seal_env.env import SelfEditEnv, read_options
from seal_env.episodes import Episodes
from seal_env.errors import UserError
from seal_env.vector import SelfEditVectorEnv


class ShortFirst(gym.Wrapper[dict[str, Any], str, dict[str, Any], str], RecordConstructorArgs):
    """Cuts what is written to what the curriculum allows.

    **Info** of a step has what was carried out as ``text``.

    Args:
        env: `SelfEdit-v0`.
        curriculum: How long a self-edit may be.
        progress: How far training has come, until `reset` is told otherwise.
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
        self._episodes = env.unwrapped.episodes

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode; ``options["progress"]`` says how far training has come."""
        self.progress = read_options(options).get("progress", self.progress)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """Carries out the allowed part of a self-edit."""
        return self.env.step(_allowed(self.curriculum, action, self.progress, self._episodes))


class VectorShortFirst(VectorWrapper):
    """`ShortFirst` for `SelfEditVectorEnv`.

    ``infos["text"]`` has what was carried out, also of episodes that ended.

    Args:
        env: `SelfEditVectorEnv`.
        curriculum: How long a self-edit may be.
        progress: How far training has come, until `reset` is told otherwise.
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
        self._episodes = env.unwrapped.episodes

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts episodes; ``options["progress"]`` says how far training has come."""
        self.progress = read_options(options).get("progress", self.progress)
        return self.env.reset(seed=seed, options=options)

    def step(
        self, actions: Sequence[str]
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Carries out the allowed part of each self-edit."""
        texts = [_allowed(self.curriculum, a, self.progress, self._episodes) for a in actions]
        observations, rewards, terminated, truncated, infos = self.env.step(texts)
        told = {"text": np.array(texts, dtype=object), "_text": np.ones(len(texts), dtype=bool)}
        return observations, rewards, terminated, truncated, infos | told


def _allowed(curriculum: Curriculum, action: Any, progress: float, episodes: Episodes) -> Any:
    """What is carried out of an action; what is no text goes through as it is."""
    if not isinstance(action, str):
        return action
    return curriculum.cut(action, progress, episodes.loop.learner)
