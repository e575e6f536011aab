"""Agent `ppo-choices`: stable-baselines3's PPO on choices from a menu instead of text.

PPO (Schulman et al. 2017, arXiv 1707.06347) with SB3's stock ``MultiInputPolicy``: it reads a few
numbers about the context and, if wanted, the learner's state, and chooses what kind of self-edit
to write (`seal_env.menus.base`). A policy of some thousand parameters, against which a language
model that writes freely has to show what its freedom is worth.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor
from torch import Tensor

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_agents.algorithms.choice_options import PPOChoicesOptions
from seal_agents.base import Agent, AgentContext, Experience, Observation
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.menus.base import Chosen
from seal_env.wrappers.sb3.choice_vec import ChoiceVecEnv
from seal_env.wrappers.sb3.text_vec import stacked

WEIGHTS, STATE = "policy.safetensors", "policy.json"
"""Files of a checkpoint: weights of policy and optimizer; the menu's shape and counters."""


class OnlyFeatures(BaseFeaturesExtractor):
    """Features extractor: the menu's features of the context, without the learner's state."""

    def __init__(self, observation_space: gym.spaces.Dict) -> None:
        super().__init__(observation_space, gym.spaces.flatdim(observation_space["features"]))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """The features, shape (n, features)."""
        return observations["features"]


class PPOChoices(Agent[PPOChoicesOptions]):
    """PPO on choices from a menu of self-edits."""

    Options = PPOChoicesOptions
    on_policy = True

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        options = asdict(self.options)
        menu, width = options.pop("menu"), options.pop("width")
        reader = CombinedExtractor if options.pop("read_state") else OnlyFeatures
        envs = gym.make_vec("SelfEdit-v0", num_envs=1, **context.env.kwargs())
        env = ChoiceVecEnv(envs, menu)
        self.view = env.view
        with seeded(context.seed):
            # The environment gives the spaces; what is tried out comes to `learn` from elsewhere.
            self.model = PPO(
                "MultiInputPolicy",
                env,
                n_steps=self.options.batch_size,
                policy_kwargs={"net_arch": [width, width], "features_extractor_class": reader},
                seed=context.seed % (1 << 32),
                device="cpu",
                **options,
            )
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self.rounds = 0

    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[str | None]:
        """Samples choices for each observation and renders them as self-edits."""
        chosen = self.choose(observations, seeds)
        contexts = [str(observation["context"]) for observation in observations]
        return [self.view.menu.render(c, one) for c, one in zip(contexts, chosen, strict=True)]

    def choose(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[Chosen]:
        """Samples choices for each observation, each with its own seed."""
        if not observations:
            return []
        with torch.no_grad():
            # One Categorical per choice.
            parts: Any = self.model.policy.get_distribution(self.read(observations)).distribution
        shares = [part.probs.double().cumsum(dim=1).numpy() for part in parts]
        chosen = []
        for row, seed in enumerate(seeds):
            generator = random.Random(seed)
            drawn = (np.searchsorted(s[row], generator.random() * s[row, -1]) for s in shares)
            chosen.append(tuple(int(place) for place in drawn))
        return chosen

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """Updates the policy on one round by PPO."""
        self.rounds += 1
        found = [self._chosen(e, place) for place, e in enumerate(experiences)]
        own = [(e, one) for e, one in zip(experiences, found, strict=True) if one is not None]
        numbers = {"off_menu": float(len(found) - len(own))}
        if not own:
            return numbers
        model = self.model
        read = [self.view.observe(e.observation) for e, _ in own]
        actions = np.stack([self.view.action(one) for _, one in own])
        with torch.no_grad():
            values, log_probs, _ = model.policy.evaluate_actions(
                self.read([e.observation for e, _ in own]), torch.as_tensor(actions)
            )
        space = model.observation_space
        buffer = DictRolloutBuffer(1, space, model.action_space, "cpu", 1.0, 1.0, len(own))  # type: ignore[arg-type]
        rewards, ended = np.array([e.reward for e, _ in own]), np.ones(len(own))
        buffer.add(stacked(read), actions, rewards, ended, values, log_probs)
        buffer.compute_returns_and_advantage(torch.zeros(len(own)), ended)
        model.rollout_buffer = buffer
        with seeded(stable_hash(self.context.seed, "ppo-choices", self.rounds)):
            model.train()
        logged = model.logger.name_to_value
        return numbers | {k.removeprefix("train/"): float(v) for k, v in logged.items()}

    def read(self, observations: Sequence[Observation]) -> dict[str, Tensor]:
        """Observations as tensors of the policy's observation space."""
        tensors, _ = self.model.policy.obs_to_tensor(
            stacked([self.view.observe(observation) for observation in observations])
        )
        return cast("dict[str, Tensor]", tensors)

    def _chosen(self, experience: Experience, place: int) -> Chosen | None:
        """The choices that a text was rendered from; None if the text is not on the menu.

        Several combinations may be rendered as the same text. One of them is drawn by the
        policy's own probabilities given the text, so that choices and text have the joint
        distribution that they had when the policy acted, and nothing has to be remembered.
        """
        found = self.view.menu.matches(str(experience.observation["context"]), experience.text)
        if len(found) < 2:
            return found[0] if found else None
        actions = torch.as_tensor(np.stack([self.view.action(one) for one in found]))
        with torch.no_grad():
            read = self.read([experience.observation] * len(found))
            _, log_probs, _ = self.model.policy.evaluate_actions(read, actions)
        weights = (log_probs - log_probs.max()).exp().tolist()
        seed = stable_hash(self.context.seed, "which", self.rounds, place)
        return random.Random(seed).choices(found, weights)[0]

    def save(self, folder: Path) -> None:
        """Writes the policy, its optimizer and its counters, as plain data."""
        tensors = {f"policy.{k}": v for k, v in self.model.policy.state_dict().items()}
        for index, state in self.model.policy.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        save_file({k: v.detach().clone() for k, v in tensors.items()}, folder / WEIGHTS)
        counters = {"rounds": self.rounds, "n_updates": self.model._n_updates}
        text = json.dumps(self._shape() | counters, indent=2) + "\n"
        (folder / STATE).write_text(text, "utf-8")

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        try:
            told = json.loads((folder / STATE).read_text("utf-8"))
            tensors = load_file(folder / WEIGHTS)
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"{folder}: holds no checkpoint of ppo-choices ({error}); give one that it wrote"
            ) from error
        for name, value in self._shape().items():
            if told.get(name) != json.loads(json.dumps(value)):
                raise UserError(
                    f"{folder}: its policy has another {name} ({told.get(name)}, here {value}); "
                    f"use the menu, the task and the model that it was trained with"
                )
        policy, optimizer = self.model.policy, self.model.policy.optimizer
        states: dict[int, dict[str, Tensor]] = {}
        weights: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "policy":
                weights[rest] = tensor
            else:
                index, _, entry = rest.partition(".")
                states.setdefault(int(index), {})[entry] = tensor
        policy.load_state_dict(weights)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.rounds, self.model._n_updates = int(told["rounds"]), int(told["n_updates"])

    def _shape(self) -> dict[str, Any]:
        """Properties that a checkpoint and this agent must share."""
        menu, options = self.view.menu, self.options
        state = self.model.observation_space["model_state"]  # type: ignore[index]
        return {
            "choices": [[choice.name, *choice.options] for choice in menu.choices],
            "features": list(menu.features),
            "width": options.width,
            "model_state": list(state.shape) if options.read_state else [],
        }


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global random states within this context and restores them after it.

    SB3 seeds and draws from all three.
    """
    kept_numpy, kept_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % (1 << 32))
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(kept_numpy)
            random.setstate(kept_python)
