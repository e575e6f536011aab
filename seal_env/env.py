"""`SelfEdit-v0`: a language model that learns from text written for it, as an environment."""

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


def observation_space(width: int, horizon: int) -> spaces.Dict:
    """The space of observations.

    Args:
        width: Entries of the learner's hidden states.
        horizon: Problems in an episode.
    """
    largest = float(np.finfo(np.float32).max)
    entries: dict[str, spaces.Space[Any]] = {
        "context": AnyText(LONGEST_TEXT),
        "model_state": spaces.Box(-largest, largest, (width + STATE_EXTRAS,), np.float32),
    }
    if horizon > 1:
        entries["earlier"] = spaces.Box(-1.0, 1.0, (1,), np.float32)
    return spaces.Dict(entries)


class SelfEditEnv(gym.Env[dict[str, Any], str]):
    r"""A language model learns from the text that a policy writes, and answers questions.

    Description:
        The environment holds a **learner**, a frozen causal language model with a LoRA adapter. An
        observation shows a context, for example a passage about a person. The action is a
        **self-edit**, a text that says how the learner should change; in the default language,
        ``training-data``, each of its lines is a training sequence. A step carries the self-edit
        out (the inner loop: a finetuning of the adapter), asks the learner held-out questions
        about the context without showing it, and rewards correct answers. It is the loop of SEAL
        (Zweiger et al. 2025, arXiv 2506.10943, section 3).

    Action Space:
        `Text`, of up to 2^20 characters; `step` also takes longer ones. Any string is legal. One
        that cannot be carried out leaves the learner unchanged, and ``info["error"]`` says why.
        A language of vectors has a `Box` instead. None is not in the space and is accepted: the
        no-op leaves the learner unchanged, without a penalty, and the episode moves on. A wrapper
        passes it on.

    Observation Space:
        `Dict`:

        - ``context`` (`Text`): the text that the policy reads;
        - ``model_state`` (`Box`, float32, shape (D + 4,) for a learner of width D): the mean last
          hidden state of the context under the learner's current weights (D entries), the
          learner's loss on the context (nats per token), the Euclidean norm of its adapter, the
          last reward of the episode, and the fraction of the horizon that is left.

        Nothing in an observation comes from the held-out questions.

    Rewards:
        A weighted sum of terms, by default ``"accuracy"``: the fraction of the held-out questions
        that the updated learner answers correctly, from 0 to 1. ``log_likelihood`` is dense (nats
        per token); ``retention`` is what earlier problems of the episode lost, and is added if
        `horizon` is above 1. A self-edit that cannot be carried out is rewarded like no update,
        less `invalid_penalty`.

    Starting State:
        The learner's base weights, to the bit, whatever happened before. The problem is drawn
        uniformly from the split, or set by ``reset(options={"problems": p})``: a `Problem` or an
        index into the split, with `horizon` above 1 a list of these. ``reset(seed=s)`` seeds this
        draw, and the adapter's initial weights and the data order of this and all later episodes
        until the next seed. Two self-edits for one problem under one seed are thus compared on
        common random numbers, and their rewards are reproducible to the bit.

    Episode End:
        Termination: after `horizon` problems, by default one; the adapter persists within the
        episode. Truncation: never.

    Info:
        ``reset`` returns ``problem`` (its id) and ``title``. ``step`` adds ``accuracy``,
        ``log_likelihood`` (both None for a problem without questions), ``answers`` and
        ``verdicts``, each also with the suffix ``_before`` for the learner before the step;
        ``terms``, the reward's terms by name; ``reward_before``, the reward of the no-op; ``text``,
        the self-edit as it reached the environment, None for the no-op (absent where it is a
        vector); ``sequences`` and ``parsed``, what was read out of the self-edit;
        ``truncated_edit``, whether a limit cut something off; ``truncated_prompt``, tokens that the
        longest prompt lost; ``error``, ``""`` if there was none; ``steps``, ``tokens`` and
        ``train_loss`` (nats per token) of the
        finetuning.

    Args:
        **settings: Fields of `seal_env.EnvConfig`: names, paths and plain data.

    Example:
        >>> import gymnasium as gym
        >>> import seal_env
        >>> env = gym.make("SelfEdit-v0", task="biographies", model="tiny")
        >>> observation, info = env.reset(seed=0)
        >>> self_edit = observation["context"].replace(". ", ".\n")  # one sentence per line
        >>> observation, reward, terminated, truncated, info = env.step(self_edit)
        >>> reward == info["accuracy"], info["steps"] > 0, terminated, truncated
        (True, True, True, False)

    Version History:
        - v0: initial version (seal-env 0.1.0).
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, **settings: Any) -> None:
        settings.pop("render_mode", None)
        self.config = make_config(settings)
        self.episodes = Episodes(self.config, 1)
        self.observation_space = observation_space(
            self.episodes.loop.learner.width, self.config.horizon
        )
        self.action_space = self.episodes.language.action_space()
        self._inner_seed: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode on the untouched learner; the class describes `options`."""
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

    def step(self, action: str | None) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carries out a self-edit."""
        result = self.episodes.step([action])[0]
        return self.episodes.observe([0])[0], result.reward, result.terminated, False, result.info
