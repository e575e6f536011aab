"""A user's wrapper of single environments, around each sub-environment of a vector environment.

All sub-environments are stepped in one pass, so a wrapper cannot call `step` of its own. What
Gymnasium's `ActionWrapper`, `RewardWrapper` and `ObservationWrapper` add is a function, which is
called here per sub-environment, as Gymnasium's own ``Vectorize...`` wrappers call theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from seal_env.errors import UserError


class SubEnvironment(gym.Env[Any, Any]):
    """The spaces of one sub-environment, for a wrapper to be constructed on.

    Args:
        envs: The vector environment.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        self.observation_space = envs.single_observation_space
        self.action_space = envs.single_action_space
        self.config = getattr(envs.unwrapped, "config", None)
        """The settings of `SelfEditEnv`."""


class Vectorized(VectorWrapper):
    """One instance of a single-environment wrapper per sub-environment.

    None, the no-op, is given to no `ActionWrapper`; its reward and observation are like any other.

    Args:
        env: The vector environment, in autoreset mode ``DISABLED``.
        kind: The wrapper's class.

    Raises:
        UserError: The class does more than transform actions, rewards or observations.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], kind: type[gym.Wrapper]) -> None:
        super().__init__(env)
        bases: list[Any] = [gym.ActionWrapper, gym.RewardWrapper, gym.ObservationWrapper]
        self.base: Any = next((base for base in bases if kind.step is base.step), None)
        """Which of Gymnasium's three it is."""
        if self.base is None or kind.reset not in (gym.Wrapper.reset, self.base.reset):
            raise UserError(
                "has a step or a reset of its own for a single environment; derive it from "
                "gymnasium's ActionWrapper, RewardWrapper or ObservationWrapper and leave them as "
                "they are, or from gymnasium.vector.VectorWrapper"
            )
        self.each: list[Any] = [kind(SubEnvironment(env)) for _ in range(env.num_envs)]
        self.single_observation_space = self.each[0].observation_space
        self.single_action_space = self.each[0].action_space
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Starts episodes."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return self._observed(observations), infos

    def step(self, actions: Sequence[Any]) -> Any:
        """Carries out the actions, each as its wrapper has it."""
        if self.base is gym.ActionWrapper:
            pairs = zip(self.each, actions, strict=True)
            actions = [None if action is None else one.action(action) for one, action in pairs]
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        if self.base is gym.RewardWrapper:
            rewards = self._rewarded(rewards)
            # Agents compare a reward with that of the no-op: both have to be on one scale.
            infos = infos | {"reward_before": self._rewarded(infos["reward_before"])}
        return self._observed(observations), rewards, terminated, truncated, infos

    @property
    def _name(self) -> str:
        """The wrapper's name in messages."""
        return type(self.each[0]).__name__

    def _rewarded(self, rewards: np.ndarray) -> np.ndarray:
        pairs = zip(self.each, rewards, strict=True)
        given = [one.reward(float(reward)) for one, reward in pairs]
        try:
            return np.array([float(reward) for reward in given])
        except (TypeError, ValueError) as error:
            raise UserError(
                f"wrapper {self._name}: reward must return a number ({error})"
            ) from error

    def _observed(self, observations: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.base is not gym.ObservationWrapper:
            return observations
        rows = [
            one.observation({name: values[i] for name, values in observations.items()})
            for i, one in enumerate(self.each)
        ]
        for row in rows:
            if not isinstance(row, Mapping) or not row.keys() >= observations.keys():
                raise UserError(
                    f"wrapper {self._name}: observation must return a dict with "
                    f"{', '.join(map(repr, observations))}"
                )
        return {
            name: values if isinstance(values[0], str) else np.stack(values)
            for name in rows[0]
            if (values := tuple(row[name] for row in rows))
        }
