"""`ScalarInfo`: an info of the same numbers at every step, for buffers of fixed shape."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs


class ScalarInfo(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Keeps the numbers of an info and drops texts and lists.

    Buffers that allocate an array for each entry of an info, such as Tianshou's, cannot hold
    ``answers`` or ``sequences``, whose lengths differ from step to step. ``terms`` becomes one
    number per term, named ``terms/NAME``. The info of `reset` is empty.

    Args:
        env: `SelfEdit-v0`, which may be wrapped.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; see `SelfEditEnv`."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, scalars(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Carries out an action; see `SelfEditEnv`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, scalars(info)


def scalars(info: dict[str, Any]) -> dict[str, float]:
    """Numbers of an info, by name."""
    flat = dict(info)
    for name, value in info.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": number for inner, number in value.items()}
    return {name: value for name, value in flat.items() if isinstance(value, bool | int | float)}
