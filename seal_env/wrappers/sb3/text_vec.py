"""`TextVecEnv`: base class of the bridges from `SelfEditVectorEnv` to stable-baselines3."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from seal_env.errors import UserError
from seal_env.vector import SelfEditVectorEnv


class TextVecEnv(VecEnv):
    """`SelfEditVectorEnv` as a `VecEnv`, for policies without texts.

    stable-baselines3 supports neither texts nor Gymnasium's vector environments. A subclass
    converts observations (`read`) and actions (`write`). All self-edits of a step are carried out
    in one pass of the inner loop. Sub-environments restart in the step that ends them, as
    stable-baselines3 expects: their info has ``terminal_observation``, the info of `SelfEditEnv`,
    and ``text``, the self-edit.

    ``seed(s)`` seeds the draw of problems and gives all the same inner seed s, so that self-edits
    are compared on common random numbers. ``set_options([{"problems": p}, ...])`` sets the problem
    of each, at the next `reset`.

    Args:
        envs: The environments, as ``gym.make_vec("SelfEdit-v0", num_envs=K, ...)`` makes them.
        observation_space: Space of the policy's observations.
        action_space: Space of its actions.
        group: Number of neighbors with the same problem, a divisor of K.

    Raises:
        UserError: The environments are of another kind, or a number does not fit.
    """

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        group: int = 1,
    ) -> None:
        if group < 1 or envs.num_envs % group:
            raise UserError(f"group {group}: num_envs, {envs.num_envs}, must be a multiple of it")
        self.envs, self.inner, self.group = DictInfoToList(envs), inner_of(envs), group
        mode = self.inner.autoreset_mode
        if mode is not AutoresetMode.SAME_STEP:
            raise UserError(f"autoreset_mode {mode.name}: stable-baselines3 needs SAME_STEP")
        self.render_mode = None
        super().__init__(envs.num_envs, observation_space, action_space)
        self._observation: dict[str, Any] = {}
        self._texts: list[str] = []

    @abstractmethod
    def read(self, observation: dict[str, Any]) -> VecEnvObs:
        """Policy's observations, from any number of observations of `SelfEditVectorEnv`."""

    @abstractmethod
    def write(self, actions: np.ndarray, observation: dict[str, Any]) -> list[str]:
        """Texts of actions, given the observations that they respond to."""

    def reset(self) -> VecEnvObs:
        """Starts an episode in every sub-environment."""
        given = [options.get("problems") for options in self._options]
        if any(p is None for p in given) and not all(p is None for p in given):
            raise UserError("set_options: give problems to all environments or to none")
        options = None if given[0] is None else {"problems": given}
        self._observation, self.reset_infos = self.envs.reset(seed=self._seeds[0], options=options)
        self._reset_seeds()
        self._reset_options()
        if options is None:
            self._draw_groups()
        return self.read(self._observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Stores one action per sub-environment."""
        self._texts = self.write(np.asarray(actions), self._observation)

    def step_wait(self) -> VecEnvStepReturn:
        """Carries out all self-edits in one pass."""
        self._observation, rewards, ended, cut, infos = self.envs.step(self._texts)
        dones = ended | cut
        told: list[dict[str, Any]] = []
        for slot, (info, done) in enumerate(zip(infos, dones, strict=True)):
            # An inner wrapper may have carried out another text, which its info has.
            text = info.pop("text", self._texts[slot])
            if done:
                last = {name: [value] for name, value in info["final_obs"].items()}
                self.reset_infos[slot] = {
                    name: value for name, value in info.items() if not name.startswith("final_")
                }
                info = info["final_info"] | {"terminal_observation": first(self.read(last))}
                info["TimeLimit.truncated"] = bool(cut[slot] and not ended[slot])
            told.append(info | {"text": text})
        if dones.all():  # they began together, so they end together
            self._draw_groups()
        return self.read(self._observation), rewards.astype(np.float32), dones, told

    def _draw_groups(self) -> None:
        """Starts new episodes with the same problems for the neighbors of a group."""
        if self.group > 1:
            drawn: list[list[Any]] = []
            for _ in range(self.num_envs // self.group):
                problems = self.inner.episodes.draw(self.inner.np_random)
                drawn += [list(problems)] * self.group
            options = {"problems": drawn}
            self._observation, self.reset_infos = self.envs.reset(options=options)

    def close(self) -> None:
        """Closes the environments."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Attribute that all sub-environments share."""
        found = getattr(self if attr_name == "render_mode" else self.inner, attr_name)
        return [found for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute; all sub-environments share it."""
        setattr(self.inner, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Not supported: sub-environments have no methods of their own.

        Raises:
            UserError: Always.
        """
        raise UserError(
            f"{type(self).__name__} has no sub-environments to call {method_name!r} on; call it "
            f"on its attribute `inner`, which is all of them"
        )

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """False: no sub-environment is wrapped by itself."""
        return [False for _ in self._get_indices(indices)]


def inner_of(envs: VectorEnv[Any, Any, Any]) -> SelfEditVectorEnv:
    """Vector environment inside of all wrappers.

    Raises:
        UserError: It is no SelfEdit-v0.
    """
    inner = envs.unwrapped
    if not isinstance(inner, SelfEditVectorEnv):
        raise UserError(
            f"expected the vector environment SelfEdit-v0, not {type(inner).__name__}; make one by "
            f"gym.make_vec('SelfEdit-v0', num_envs=K)"
        )
    return inner


def stacked(observations: Sequence[Any]) -> Any:
    """Batch of observations, in one array or in one array per name."""
    if isinstance(observations[0], dict):
        return {name: np.stack([o[name] for o in observations]) for name in observations[0]}
    return np.stack(observations)


def first(observations: VecEnvObs) -> Any:
    """First observation of a batch; the inverse of `stacked` for one."""
    if isinstance(observations, dict):
        return {name: array[0] for name, array in observations.items()}
    return observations[0]
