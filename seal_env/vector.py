"""`SelfEditVectorEnv`: many self-edits in one pass of the inner loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seal_env.asking import Progress
from seal_env.env import make_config, observation_space
from seal_env.episodes import Episodes
from seal_env.errors import UserError


class SelfEditVectorEnv(VectorEnv[dict[str, Any], Sequence[str], np.ndarray]):
    """`SelfEditEnv` K times, with one pass of the inner loop a step.

    Spaces, rewards and infos are those of `SelfEditEnv`, batched. Episodes that end start again
    in the same step (`AutoresetMode.SAME_STEP`): what the last step said is in
    ``infos["final_info"]``, the observation is already the next episode's.

    ``reset(seed=s)`` draws the K problems from s and gives all K the same inner seed s, so that
    self-edits are compared on common random numbers; a list gives each its own.
    ``reset(options={"problems": [...]})`` sets the problem of each, the same one several times
    if an agent wants a group.

    Args:
        num_envs: K.
        **settings: Fields of `EnvConfig`.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, num_envs: int = 1, **settings: Any) -> None:
        settings.pop("render_mode", None)
        if num_envs < 1:
            raise UserError(f"num_envs {num_envs}: a vector environment has at least 1")
        self.config = make_config(settings)
        self.num_envs = num_envs
        self.episodes = Episodes(self.config, num_envs)
        self.single_observation_space = observation_space(self.episodes.loop.learner.width)
        self.single_action_space = self.episodes.language.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._inner_seeds: list[int] | None = None
        self.progress: Progress | None = None
        """Set it to be told how a step is getting on."""

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts K episodes on the untouched learner; see the class for `seed` and `options`."""
        first = next((s for s in seed if s is not None), None) if isinstance(seed, list) else seed
        super().reset(seed=first)
        self._seed(seed)
        assert self._inner_seeds is not None
        given = (options or {}).get("problems")
        if given is not None and len(given) != self.num_envs:
            raise UserError(
                f"options['problems']: got {len(given)} for {self.num_envs} environments"
            )
        for slot, inner in enumerate(self._inner_seeds):
            problems = (
                self.episodes.draw(self.np_random)
                if given is None
                else self.episodes.resolve(given[slot])
            )
            self.episodes.begin(slot, problems, inner)
        infos: dict[str, Any] = {}
        for slot in range(self.num_envs):
            infos = self._add_info(infos, self.episodes.reset_info(slot), slot)
        return self._batch(), infos

    def step(
        self, actions: Sequence[str]
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Carries out K self-edits in one pass."""
        if len(actions) != self.num_envs:
            raise UserError(f"got {len(actions)} self-edits for {self.num_envs} environments")
        results = self.episodes.step(actions, self.progress)
        ended = [slot for slot, result in enumerate(results) if result.terminated]
        last = dict(zip(ended, self.episodes.observe(ended), strict=True)) if ended else {}
        infos: dict[str, Any] = {}
        for slot, result in enumerate(results):
            info = result.info
            if slot in last:
                final = {"final_obs": last[slot], "final_info": info}
                infos = self._add_info(infos, final, slot)
                assert self._inner_seeds is not None
                fresh = self.episodes.draw(self.np_random)
                self.episodes.begin(slot, fresh, self._inner_seeds[slot])
                info = self.episodes.reset_info(slot)
            infos = self._add_info(infos, info, slot)
        rewards = np.array([result.reward for result in results], dtype=np.float64)
        terminated = np.array([result.terminated for result in results])
        return self._batch(), rewards, terminated, np.zeros_like(terminated), infos

    def _seed(self, seed: int | list[int | None] | None) -> None:
        if isinstance(seed, int):  # before anything is drawn: what follows depends on it alone
            self._inner_seeds = [seed] * self.num_envs
            return
        before = self._inner_seeds
        if before is None:
            before = [int(self.np_random.integers(1 << 31))] * self.num_envs
        if seed is None:
            self._inner_seeds = before
        else:
            if len(seed) != self.num_envs:
                raise UserError(f"got {len(seed)} seeds for {self.num_envs} environments")
            if any(new is not None and new < 0 for new in seed):
                raise UserError(f"seeds {seed}: must not be negative")
            self._inner_seeds = [
                old if new is None else new for old, new in zip(before, seed, strict=True)
            ]

    def _batch(self) -> dict[str, Any]:
        observations = self.episodes.observe(range(self.num_envs))
        return {
            "context": tuple(o["context"] for o in observations),
            "model_state": np.stack([o["model_state"] for o in observations]),
        }
