"""`SelfEditVectorEnv`: many self-edits in one pass of the inner loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seal_env.env import make_config, observation_space, read_options
from seal_env.episodes import Episodes
from seal_env.errors import UserError
from seal_env.evaluation import Progress
from seal_env.seeding import Source, check_seeds, inner_seed


class SelfEditVectorEnv(VectorEnv[dict[str, Any], Sequence[str], np.ndarray]):
    """K times `SelfEditEnv`, with one pass of the inner loop per step.

    Description:
        Spaces, rewards and infos are those of `SelfEditEnv`, batched. A sub-environment's reward
        does not depend on the others, to the bit.

    Action Space:
        A sequence of K self-edits. None among them is the no-op (see `SelfEditEnv`), with which a
        batch that is not full is padded.

    Observation Space:
        `Dict` of ``context``, a tuple of K texts, and ``model_state``, float32 of shape (K, D + 4).

    Starting State:
        ``reset(seed=s)`` draws the K problems one after the other from one generator, and gives
        all K the same inner seed s, so that self-edits are compared on common random numbers
        (Gymnasium's own vector environments use s, s + 1, ...). ``reset(seed=[a, b, ...])`` gives
        each sub-environment, in all its episodes, exactly what ``reset(seed=a)`` gives a
        `SelfEditEnv`; None in the list keeps the earlier seed. ``options={"problems": [...]}``
        sets the problem of each; the same one several times makes a group. With
        ``options={"reset_mask": mask}``, K bools, only some of them begin anew.

    Episode End:
        After `horizon` problems. `autoreset_mode` is as Gymnasium defines it. In ``SAME_STEP`` an
        episode that ends starts again in the same step: the last step's info is in
        ``infos["final_info"]``, and the observation belongs to the next episode. In ``NEXT_STEP``
        it starts again in the step after, which ignores the action and rewards 0. In ``DISABLED``
        it is over until `reset`.

    Args:
        num_envs: Sub-environments, K.
        autoreset_mode: A member of `gymnasium.vector.AutoresetMode`, its name or its value.
        observe_final: Whether the observation that ends an episode describes the updated learner.
            No algorithm learns from it, and it takes a forward pass of each adapter over its
            context; if False, the mean hidden state and the context loss in it are 0.
        **settings: Fields of `seal_env.EnvConfig`.

    Example:
        >>> import gymnasium as gym
        >>> import seal_env
        >>> envs = gym.make_vec("SelfEdit-v0", num_envs=3)
        >>> observations, infos = envs.reset(seed=0, options={"problems": [7, 7, 8]})
        >>> texts = ["One line.", "Another line.", ""]  # two candidates for problem 7
        >>> observations, rewards, terminated, truncated, infos = envs.step(texts)
        >>> rewards.shape, terminated.tolist(), len(infos["final_info"]["accuracy"])
        ((3,), [True, True, True], 3)
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        observe_final: bool = True,
        **settings: Any,
    ) -> None:
        settings.pop("render_mode", None)
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise UserError(f"num_envs {num_envs!r}: a vector environment has at least 1")
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        """Handling of an episode that ends."""
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.config = make_config(settings)
        self.num_envs = int(num_envs)
        self.episodes = Episodes(self.config, self.num_envs, observe_final)
        width = self.episodes.loop.learner.width
        self.single_observation_space = observation_space(width, self.config.horizon)
        self.single_action_space = self.episodes.language.action_space()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._sources: list[Source | None] = [None] * self.num_envs
        self.progress: Progress | None = None
        """Callback for the progress of a step: (stage, done, total)."""

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts K episodes on the untouched learner; the class describes `seed` and `options`."""
        seeds = check_seeds(seed, self.num_envs)
        given = read_options(options)
        problems = self._each(given.get("problems"))
        chosen = self._masked(given.get("reset_mask"))
        super().reset(seed=None if isinstance(seeds, list) else seeds)
        self._seed(seeds, chosen)
        infos: dict[str, Any] = {}
        for slot in chosen:
            self._begin(slot, None if problems is None else problems[slot])
            infos = self._add_info(infos, self.episodes.reset_info(slot), slot)
        return self._batch(), infos

    def step(
        self, actions: Sequence[str | None]
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Carries out K self-edits in one pass."""
        texts = self._listed(actions)
        mode, over = self.autoreset_mode, self.episodes.over()
        fresh = over if mode is AutoresetMode.NEXT_STEP else []
        acting = [slot for slot in range(self.num_envs) if slot not in fresh]
        steps = self.episodes.step([texts[slot] for slot in acting], self.progress, acting)
        results = dict(zip(acting, steps, strict=True))
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        for slot, result in results.items():
            rewards[slot], terminated[slot] = result.reward, result.terminated
        ended = np.flatnonzero(terminated).tolist() if mode is AutoresetMode.SAME_STEP else []
        last = dict(zip(ended, self.episodes.observe(ended), strict=True)) if ended else {}
        infos: dict[str, Any] = {}
        for slot in range(self.num_envs):
            if slot in last:
                final = {"final_obs": last[slot], "final_info": results[slot].info}
                infos = self._add_info(infos, final, slot)
            if slot in last or slot in fresh:
                self._begin(slot, None)
                info = self.episodes.reset_info(slot)
            else:
                info = results[slot].info
            infos = self._add_info(infos, info, slot)
        return self._batch(), rewards, terminated, np.zeros_like(terminated), infos

    def use_adapter(self, adapter: str | None) -> None:
        """Changes the learner on which episodes start to the base with a PEFT adapter merged in.

        Ends all running episodes: call `reset` before the next step.

        Args:
            adapter: Its folder; None for the base itself.
        """
        self.episodes.use_adapter(adapter)
        self.episodes.running = [None] * self.num_envs

    def _begin(self, slot: int, problems: Any) -> None:
        """Starts an episode; on problems of its own source if None are given."""
        source = self._sources[slot]
        assert source is not None
        if problems is None:
            stream = self.episodes.draw(source.random)
        else:
            stream = self.episodes.resolve(problems)
        self.episodes.begin(slot, stream, source.inner)

    def _seed(self, seeds: int | list[int | None] | None, chosen: Sequence[int]) -> None:
        """Gives some sub-environments their sources."""
        if isinstance(seeds, list):
            for slot in chosen:
                seed = seeds[slot]
                if seed is not None:
                    self._sources[slot] = Source.of(seed)
        new = [s for s in chosen if self._sources[s] is None or isinstance(seeds, int)]
        if new:
            random = self.np_random
            common = Source(random, inner_seed(self.np_random_seed, random))
            for slot in new:
                self._sources[slot] = common

    def _each(self, problems: Any) -> list[Any] | None:
        """``options["problems"]`` as a list with an entry for each sub-environment."""
        if problems is None:
            return None
        if not isinstance(problems, list | tuple | np.ndarray):
            kind = type(problems).__name__
            raise UserError(f"options['problems']: give a list with one for each, not {kind}")
        if len(problems) != self.num_envs:
            raise UserError(
                f"options['problems']: got {len(problems)} for {self.num_envs} environments"
            )
        return list(problems)

    def _masked(self, mask: Any) -> list[int]:
        """Which sub-environments ``options["reset_mask"]`` means."""
        if mask is None:
            return list(range(self.num_envs))
        try:
            flags = np.asarray(mask)
        except ValueError:  # lists of unequal length
            flags = np.empty(0)
        if flags.dtype != bool or flags.shape != (self.num_envs,) or not flags.any():
            raise UserError(
                f"options['reset_mask']: must be {self.num_envs} bools, at least one of them true"
            )
        if not flags.all() and None in self._sources:
            raise UserError("options['reset_mask']: the first reset is of all environments")
        return np.flatnonzero(flags).tolist()

    def _listed(self, actions: Any) -> list[Any]:
        """Actions as a list."""
        try:
            if isinstance(actions, str | bytes | Mapping | Set):
                raise TypeError
            listed = list(actions)
        except TypeError:
            given = type(actions).__name__
            raise UserError(f"step takes {self.num_envs} self-edits, not {given}") from None
        if len(listed) != self.num_envs:
            raise UserError(f"got {len(listed)} self-edits for {self.num_envs} environments")
        return listed

    def _batch(self) -> dict[str, Any]:
        observations = self.episodes.observe(range(self.num_envs))
        arrays = [name for name in observations[0] if name != "context"]
        return {
            "context": tuple(o["context"] for o in observations),
            **{name: np.stack([o[name] for o in observations]) for name in arrays},
        }


def _autoreset_mode(given: Any) -> AutoresetMode:
    """A mode by itself, its name or its value.

    Raises:
        UserError: There is none of that name.
    """
    for mode in AutoresetMode:
        if given in (mode, mode.value) or (isinstance(given, str) and given.upper() == mode.name):
            return mode
    known = ", ".join(mode.name for mode in AutoresetMode)
    raise UserError(f"autoreset_mode {given!r}: use one of {known}")
