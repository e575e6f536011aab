"""`ChoiceActions`: `SelfEdit-v0` with choices as actions and numbers as observations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from seal_env.env import SelfEditEnv, observation_space
from seal_env.episodes import Episodes
from seal_env.errors import UserError
from seal_env.menus.base import Chosen, Menu, load_menu

Numbers = dict[str, np.ndarray] | np.ndarray
"""Observation as numbers: arrays by name, or one array."""
STATE_KEYS = ("model_state", "earlier")
"""Numbers in an observation of `SelfEditEnv`; the second is there in streams."""


@dataclass(frozen=True)
class ChoiceView:
    """Conversion between texts and the numbers of a policy that chooses from a menu."""

    menu: Menu
    """The menu."""
    flat: bool = False
    """Whether an observation is one array instead of two named ones."""
    discrete: bool = False
    """Whether an action is one number instead of one per choice."""

    @classmethod
    def of(
        cls, episodes: Episodes, menu: str | Menu | None, flat: bool, discrete: bool
    ) -> ChoiceView:
        """View of an environment's episodes; `load_menu` describes the argument `menu`."""
        names = (episodes.config.edit, episodes.config.task)
        return cls(load_menu(menu, episodes.task, episodes.language, names), flat, discrete)

    @property
    def sizes(self) -> Chosen:
        """Number of options of each choice."""
        return tuple(len(choice.options) for choice in self.menu.choices)

    def action_space(self) -> spaces.MultiDiscrete | spaces.Discrete:
        """Space of the choices."""
        if self.discrete:
            return spaces.Discrete(math.prod(self.sizes))
        return spaces.MultiDiscrete(list(self.sizes))

    def observation_space(self, episodes: Episodes) -> spaces.Dict | spaces.Box:
        """Space of the observations of an environment's episodes."""
        read = observation_space(episodes.loop.learner.width, episodes.config.horizon)
        boxes = [read[key] for key in STATE_KEYS if key in read.spaces]
        low, high = (float(getattr(boxes[0], end).flat[0]) for end in ("low", "high"))
        count, size = len(self.menu.features), sum(math.prod(box.shape or ()) for box in boxes)
        if self.flat:
            return spaces.Box(low, high, (count + size,), np.float32)
        features = spaces.Box(low, high, (count,), np.float32)
        state = spaces.Box(low, high, (size,), np.float32)
        return spaces.Dict({"features": features, "model_state": state})

    def observe(self, observation: Mapping[str, Any]) -> Numbers:
        """Observation of `SelfEditEnv` as numbers."""
        described = np.asarray(self.menu.describe(observation["context"]), dtype=np.float32)
        if described.shape != (len(self.menu.features),):
            raise UserError(
                f"menu {type(self.menu).__name__}: describe returned numbers of shape "
                f"{described.shape} for its {len(self.menu.features)} features"
            )
        features = np.nan_to_num(described)
        state = np.concatenate([observation[key] for key in STATE_KEYS if key in observation])
        if self.flat:
            return np.concatenate([features, state])
        return {"features": features, "model_state": state}

    def chosen(self, action: Any) -> Chosen:
        """Combination of options that an action chooses.

        Raises:
            UserError: The action is not on this menu.
        """
        if not self.action_space().contains(action):
            raise UserError(f"action {action!r}: is not in {self.action_space()}")
        positions = np.unravel_index(int(action), self.sizes) if self.discrete else action
        return tuple(int(position) for position in positions)

    def action(self, chosen: Chosen) -> np.ndarray:
        """Action that chooses a combination, int64 of shape (choices,), or () if `discrete`."""
        place = np.ravel_multi_index(chosen, self.sizes) if self.discrete else chosen
        return np.asarray(place, dtype=np.int64)


def each_of(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Observations of a vector environment, one by one."""
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]


class ChoiceActions(gym.Wrapper[Any, Any, dict[str, Any], str], RecordConstructorArgs):
    """Converts the `Text` action to choices from a menu, and the observation to numbers.

    **Action**: `MultiDiscrete`, the index of an option for each choice of the menu, or with
    `discrete` their combination as one `Discrete` number.

    **Observation**: a `Dict` of ``features``, the menu's features of the context, and the unchanged
    ``model_state``, in streams with ``earlier`` as its last entry; or with `flat` both in one
    `Box`, the features first.

    **Info** of a step also has ``text``, the self-edit that was carried out, and ``choices``, the
    combination in words.

    Any algorithm for such spaces trains on it, for example all of stable-baselines3's discrete
    ones. For many self-edits per pass see `seal_env.wrappers.sb3.choice_vec.ChoiceVecEnv`.

    Args:
        env: `SelfEdit-v0`, which may be wrapped.
        menu: A `Menu`, its name in `MENUS` or "package.module:Name"; None for the default
            of the self-edit language or the task.
        flat: Whether the observation is one `Box`, for policies that take nothing else.
        discrete: Whether the action is one `Discrete`, for algorithms that take nothing else.

    Raises:
        UserError: The environment is another one, or the menu cannot be used.
    """

    def __init__(
        self,
        env: gym.Env[dict[str, Any], str],
        menu: str | Menu | None = None,
        flat: bool = False,
        discrete: bool = False,
    ) -> None:
        # Recorded so that env.spec can make the wrapper again, as in Gymnasium's own wrappers.
        RecordConstructorArgs.__init__(self, menu=menu, flat=flat, discrete=discrete)
        gym.Wrapper.__init__(self, env)
        base = env.unwrapped
        if not isinstance(base, SelfEditEnv):
            raise UserError(f"ChoiceActions wraps SelfEdit-v0, not {type(base).__name__}")
        self.view = ChoiceView.of(base.episodes, menu, flat, discrete)
        self.action_space = self.view.action_space()
        self.observation_space = self.view.observation_space(base.episodes)
        self._context: str | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Numbers, dict[str, Any]]:
        """Starts an episode; `SelfEditEnv` describes the options."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(observation), info

    def step(self, action: Any) -> tuple[Numbers, float, bool, bool, dict[str, Any]]:
        """Writes the chosen self-edit and carries it out."""
        if self._context is None:
            raise RuntimeError("call reset before step")
        chosen = self.view.chosen(action)
        text = self.view.menu.render(self._context, chosen)
        observation, reward, terminated, truncated, info = self.env.step(text)
        # An inner wrapper may have carried out another text, which its info has.
        info = {"text": text, "choices": self.view.menu.label(chosen)} | info
        return self._observe(observation), float(reward), terminated, truncated, info

    def _observe(self, observation: dict[str, Any]) -> Numbers:
        self._context = observation["context"]
        return self.view.observe(observation)
