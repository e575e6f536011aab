"""The environment of a run: one vector environment, with a curriculum and a user's wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_agents.runner.vectorize import Vectorized
from seal_env.config import EnvConfig
from seal_env.curriculum import Curriculum
from seal_env.errors import UserError
from seal_env.registry import Registry
from seal_env.vector import SelfEditVectorEnv
from seal_env.wrappers.curriculum import VectorShortFirst

WRAPPERS = Registry("wrapper", {})
"""Wrappers have no short names: each is given as "package.module:Name"."""


def make_environment(
    env: EnvConfig,
    num_envs: int,
    wrappers: Sequence[str] = (),
    curriculum: Curriculum | None = None,
) -> VectorEnv[Any, Any, Any]:
    """The vector environment on which a run's rollouts are made.

    Its episodes end without a new one (``DISABLED``), and nobody reads what comes after an end.

    Args:
        env: The environment's settings.
        num_envs: Self-edits that are carried out in one pass.
        wrappers: Names of classes, the innermost first: subclasses of Gymnasium's `VectorWrapper`,
            `ActionWrapper`, `RewardWrapper` or `ObservationWrapper` (`Vectorized`).
        curriculum: How long a self-edit may be, by ``options["progress"]`` of `reset`; it is
            below all wrappers.

    Raises:
        UserError: The environment cannot be made, or a wrapper does not fit around it.
    """
    envs: VectorEnv[Any, Any, Any] = gym.make_vec(
        "SelfEdit-v0",
        num_envs=num_envs,
        autoreset_mode=AutoresetMode.DISABLED,
        observe_final=False,
        **env.kwargs(),
    )
    if curriculum is not None:
        envs = VectorShortFirst(envs, curriculum)
    for name in wrappers:
        envs = _wrapped(envs, name)
    return envs


def base_of(envs: VectorEnv[Any, Any, Any]) -> SelfEditVectorEnv:
    """The environment under the wrappers."""
    base = envs.unwrapped
    assert isinstance(base, SelfEditVectorEnv)
    return base


def _wrapped(envs: VectorEnv[Any, Any, Any], name: str) -> VectorEnv[Any, Any, Any]:
    """An environment with one more wrapper, named on the command line, around it."""
    kind = WRAPPERS.load(name)
    if not (isinstance(kind, type) and issubclass(kind, VectorWrapper | gym.Wrapper)):
        raise UserError(
            f"wrapper {name!r}: is no subclass of gymnasium.vector.VectorWrapper or "
            f"gymnasium.Wrapper"
        )
    try:
        wrapped = kind(envs) if issubclass(kind, VectorWrapper) else Vectorized(envs, kind)
    except UserError as error:
        raise UserError(f"wrapper {name!r}: {error}") from error
    except (TypeError, ValueError, AssertionError, gym.error.Error) as error:
        raise UserError(
            f"wrapper {name!r}: cannot be constructed with an environment alone ({error})"
        ) from error
    if wrapped.single_action_space != envs.single_action_space:
        raise UserError(
            f"wrapper {name!r}: has the action space {wrapped.single_action_space}; agents write "
            f"self-edits, so leave it as it is"
        )
    seen, read = wrapped.single_observation_space, envs.single_observation_space
    assert isinstance(read, spaces.Dict)
    if not isinstance(seen, spaces.Dict) or any(seen.get(key) != read[key] for key in read):
        raise UserError(
            f"wrapper {name!r}: must leave 'context' and 'model_state' in the observations, in "
            f"their spaces; agents read them"
        )
    return wrapped
