"""`VectorChoiceActions`: choices and numbers for Gymnasium's vector environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from seal_env.errors import UserError
from seal_env.menus.base import Menu
from seal_env.vector import SelfEditVectorEnv
from seal_env.wrappers.choices import ChoiceView, Numbers, each_of


class VectorChoiceActions(VectorWrapper):
    """`ChoiceActions` for `SelfEditVectorEnv`: many self-edits in one pass of the inner loop.

    Gymnasium's vector wrappers can be applied to it, and libraries for Gymnasium's vector
    environments train on it. ``infos["text"]`` and ``infos["choices"]`` are the self-edits that
    were carried out.

    Args:
        env: The environments, as ``gym.make_vec("SelfEdit-v0", num_envs=K, ...)`` makes them.
        menu: See `ChoiceActions`.
        flat: See `ChoiceActions`.
        discrete: See `ChoiceActions`.

    Raises:
        UserError: The environments are of another kind, or the menu cannot be used.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        menu: str | Menu | None = None,
        flat: bool = False,
        discrete: bool = False,
    ) -> None:
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, SelfEditVectorEnv):
            raise UserError(f"VectorChoiceActions wraps SelfEdit-v0, not {type(base).__name__}")
        self.autoreset_mode = base.autoreset_mode
        """See `SelfEditVectorEnv`."""
        self.view = ChoiceView.of(base.episodes, menu, flat, discrete)
        self.single_action_space = self.view.action_space()
        self.single_observation_space = self.view.observation_space(base.episodes)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._contexts: Sequence[str] = ()

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Numbers, dict[str, Any]]:
        """Starts episodes; see `SelfEditVectorEnv`."""
        observation, infos = self.env.reset(seed=seed, options=options)
        return self._observe(observation), infos

    def step(
        self, actions: Any
    ) -> tuple[Numbers, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Writes the chosen self-edits and carries them out."""
        if not self._contexts:
            raise RuntimeError("call reset before step")
        menu = self.view.menu
        chosen = [self.view.chosen(action) for action in np.asarray(actions)]
        texts = [menu.render(c, one) for c, one in zip(self._contexts, chosen, strict=True)]
        observation, rewards, terminated, truncated, infos = self.env.step(texts)
        # An inner wrapper may have carried out another text, which its info has.
        said = {"text": texts, "choices": [menu.label(one) for one in chosen]}
        for name, some in said.items():
            if name not in infos:
                infos[name] = np.array(some, dtype=object)
                infos[f"_{name}"] = np.ones(self.num_envs, dtype=bool)
        if "final_obs" in infos:
            last = [None if one is None else self.view.observe(one) for one in infos["final_obs"]]
            infos["final_obs"] = np.empty(len(last), dtype=object)
            infos["final_obs"][:] = last
        return self._observe(observation), rewards, terminated, truncated, infos

    def _observe(self, observation: dict[str, Any]) -> Numbers:
        self._contexts = observation["context"]
        rows = [self.view.observe(one) for one in each_of(observation)]
        if self.view.flat:
            return np.stack(rows)  # type: ignore[arg-type]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
