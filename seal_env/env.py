"""`SelfEdit-v0`: a language model that learns from what it writes, as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from seal_env.config import EnvConfig
from seal_env.episodes import STATE_EXTRAS, Episodes
from seal_env.errors import UserError
from seal_env.seeding import check_seed, inner_seed
from seal_env.spaces import LONGEST_TEXT, AnyText


class UnknownSettingError(UserError, TypeError):
    """A setting that there is not.

    To Python it is a `TypeError`, by which TorchRL finds out that it has to skip frames itself.
    """


def make_config(settings: dict[str, Any]) -> EnvConfig:
    """An `EnvConfig` from keyword arguments.

    Raises:
        UserError: A setting is unknown.
    """
    unknown = set(settings) - set(EnvConfig.__dataclass_fields__)
    if unknown:
        known = ", ".join(EnvConfig.__dataclass_fields__)
        name = min(unknown)
        raise UnknownSettingError(
            f"SelfEdit-v0 has no setting {name!r} (unexpected keyword argument {name!r}); "
            f"it has: {known}"
        )
    return EnvConfig(**settings)


def read_options(options: Any) -> Mapping[str, Any]:
    """The options of a `reset`.

    Raises:
        UserError: They are no mapping.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UserError(f"options: {type(options).__name__} is no dict like {{'problems': 3}}")
    return options


def observation_space(width: int) -> spaces.Dict:
    """The space of observations for a learner whose hidden states have so many entries."""
    largest = float(np.finfo(np.float32).max)
    return spaces.Dict(
        {
            "context": AnyText(LONGEST_TEXT),
            "model_state": spaces.Box(-largest, largest, (width + STATE_EXTRAS,), np.float32),
        }
    )


class SelfEditEnv(gym.Env[dict[str, Any], str]):
    """One problem, one policy: write a self-edit, see what the learner learns from it.

    **Action** (`Text`): the self-edit. Any string is legal. One that cannot be carried out is
    an outcome like any other: the learner stays as it was, ``info["error"]`` says why, and
    the reward is that of doing nothing less `invalid_penalty`.

    **Observation** (`Dict`):

    - ``context``: the text that the policy reads;
    - ``model_state``: float32 of shape (width + 4,): the mean last hidden state of the context
      under the learner's current weights, its loss per token on the context (nats), the norm
      of its adapter, the last reward, and the fraction of the horizon left.

    Nothing in it comes from the held-out questions.

    **Reward**: a weighted sum of terms (`seal_env.rewards`), by default the share of held-out
    questions that the updated learner answers right without seeing the context.

    **Info** of a step: ``problem`` and ``title``; ``accuracy``, ``log_likelihood``, ``answers``
    and ``verdicts``, each also with ``_before`` for the learner as it was; ``terms``, the
    reward's terms by name; ``sequences``, the texts that were read out of the self-edit, and
    ``parsed``, what else was, in a line; ``truncated_edit``, whether a cap cut something off;
    ``truncated_prompt``, how many tokens a question's prompt lost; ``error`` ("" if none);
    ``steps``, ``tokens`` and ``train_loss`` of the finetuning.

    **Episode**: `horizon` problems, by default one. After `reset` the learner's weights are
    those of the base, to the bit, whatever happened before. ``reset(seed=s)`` also fixes the
    adapter's initial weights and the data order, for this and all later episodes until the
    next seed, so that rewards can be compared. ``reset(options={"problems": p})`` sets the
    problem: a `Problem` or an index into the split, or a list of `horizon` of these.

    Args:
        **settings: Fields of `EnvConfig`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, **settings: Any) -> None:
        settings.pop("render_mode", None)
        self.config = make_config(settings)
        self.episodes = Episodes(self.config, 1)
        self.observation_space = observation_space(self.episodes.loop.learner.width)
        self.action_space = self.episodes.language.action_space()
        self._inner_seed: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode on the untouched learner; see the class for `options`."""
        seed = check_seed(seed)
        super().reset(seed=seed)
        if seed is not None or self._inner_seed is None:
            self._inner_seed = inner_seed(self.np_random_seed, self.np_random)
        given = read_options(options).get("problems")
        problems = (
            self.episodes.draw(self.np_random) if given is None else self.episodes.resolve(given)
        )
        self.episodes.begin(0, problems, self._inner_seed)
        return self.episodes.observe([0])[0], self.episodes.reset_info(0)

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carries out a self-edit."""
        result = self.episodes.step([action])[0]
        return self.episodes.observe([0])[0], result.reward, result.terminated, False, result.info
