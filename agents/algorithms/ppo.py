"""Agent `ppo`: proximal policy optimization by stable-baselines3, on the language model itself.

PPO (Schulman et al. 2017, arXiv 1707.06347) as `stable_baselines3.PPO` implements it: its
update is called as it is. What is written and what it is worth comes from the run, so that a
run is recorded, resumed and evaluated like that of any other agent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import gymnasium as gym
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from torch import Tensor

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_agents.algorithms.prompted import Prompted
from seal_agents.base import AgentContext, Experience
from seal_agents.policies.options import ADAPTER, PolicyOptions
from seal_agents.policies.token_buffer import TokenRolloutBuffer
from seal_agents.policies.token_policy import (
    Evaluation,
    LanguageModelConfig,
    LanguageModelPolicy,
    Ratio,
    spread,
)
from seal_env.config import EnvConfig
from seal_env.engine.peft_io import load_peft
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.wrappers.sb3.token_vec import TokenVecEnv
from seal_env.wrappers.sb3.tokens import action

_STATE, _COUNTERS = "ppo.safetensors", "ppo.json"


@dataclass(frozen=True)
class PPOOptions(PolicyOptions):
    """Options of PPO; the defaults suit the embedded model."""

    learning_rate: float = 1e-3
    """Adam's learning rate for the adapter and the value head, constant over the run."""
    n_epochs: int = 4
    """Passes over the self-edits of a round."""
    batch_size: int = 32
    """Self-edits per optimizer step."""
    importance_sampling_level: Ratio = "token"
    """Level of the probability ratio: per token, or per self-edit, the geometric mean over its
    tokens (GSPO, arXiv 2507.18071)."""
    clip_range: float = 0.2
    """Clip range of the probability ratio: 1 - clip_range to 1 + clip_range (Schulman et al. 2017,
    eq. 7)."""
    target_kl: float | None = 0.05
    """KL divergence (nats per token; per self-edit's mean where the ratio is) that stops a round's
    update early, at 1.5 times this; None for no limit."""
    max_grad_norm: float = 0.5
    """Maximum norm of the gradient; longer gradients are scaled down to it."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus: the entropy (nats) of the sampling distribution, mean over
    tokens."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    kl_coef: float = 0.0
    """Weight of the penalty KL(policy, base) of the sampling distributions (nats, mean over
    tokens)."""
    baseline: Literal["value", "group"] = "value"
    """Baseline of advantages: the value head, or the mean reward of the group's other
    self-edits."""
    normalize_advantage: bool = True
    """Whether advantages are normalized to mean 0 and standard deviation 1 per minibatch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.constrained:
            raise UserError(
                "constrained: what is written must be as likely as the policy's own numbers say, "
                "by which this agent learns; leave it out"
            )
        if self.n_epochs < 1 or self.batch_size < 2:
            raise UserError(
                f"n_epochs {self.n_epochs}, batch_size {self.batch_size}: n_epochs must be "
                f"at least 1, batch_size at least 2"
            )
        for name in ("learning_rate", "clip_range", "max_grad_norm", "target_kl"):
            value = getattr(self, name)
            if not (name == "target_kl" and value is None) and not 0 < value < math.inf:
                raise UserError(f"{name} {value}: must be finite and more than 0")
        for name in ("ent_coef", "vf_coef", "kl_coef"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} {getattr(self, name)}: must be finite and not < 0")
        if self.baseline not in ("value", "group"):
            raise UserError(f"baseline {self.baseline!r}: must be 'value' or 'group'")
        self.policy(EnvConfig(), 0)  # what is wrong with the rest is said there

    def policy(self, env: EnvConfig, seed: int) -> LanguageModelConfig:
        """Settings of the trained policy."""
        return LanguageModelConfig(
            model=env.model,
            dtype=env.dtype,
            device=env.device,
            trust_remote_code=env.trust_remote_code,
            rank=self.rank,
            temperature=self.temperature,
            generation_batch_size=self.generation_batch_size,
            importance_sampling_level=self.importance_sampling_level,
            ent_coef=self.ent_coef,
            kl_coef=self.kl_coef,
            seed=seed,
        )


class ProximalPolicy(Prompted[PPOOptions]):
    """PPO by `stable_baselines3.PPO` with the language model as actor and critic."""

    Options = PPOOptions
    on_policy = True

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        options = self.options
        self.envs = _envs(context.env, self.policy.prompt, options)
        self.policy.tokens = self.envs.tokens  # what is learned from is what was read and written
        self.ppo = PPO(
            LanguageModelPolicy,
            self.envs,
            learning_rate=options.learning_rate,
            n_steps=1,
            batch_size=options.batch_size,
            n_epochs=options.n_epochs,
            clip_range=options.clip_range,
            normalize_advantage=options.normalize_advantage,
            ent_coef=1.0,  # the policy weighs entropy and divergence itself
            vf_coef=options.vf_coef,
            max_grad_norm=options.max_grad_norm,
            target_kl=options.target_kl,
            policy_kwargs={"config": options.policy(context.env, context.seed)},
            device=self.policy.model.device,
        )
        self.ppo.set_logger(Logger(None, []))
        self.actor = cast("LanguageModelPolicy", self.ppo.policy)
        self.policy.adapter = self.actor.bank  # writes with the weights that PPO trains
        self.rounds = 0
        """Number of rounds learned from."""

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """Updates the policy on one round by stable-baselines3's `PPO.train`."""
        used = [e for e in experiences if math.isfinite(e.reward)]
        if not used:
            return {}
        self.context.progress("learning", 0, 1)
        observations = self.envs.tokens.observe([e.observation["context"] for e in used])
        tokenized = [self.policy.tokenize(e) for e in used]
        actions = np.stack([action(t.completion_ids, self.actor.length) for t in tokenized])
        before = self._evaluate(observations, actions)
        rows = spread(before.log_probs, before.counts, self.actor.length).cpu().numpy()
        for row, one in zip(rows, tokenized, strict=True):
            if one.log_probs is not None:  # what the sampler said, which is on file
                row[: len(one.log_probs)] = one.log_probs
        self.ppo.rollout_buffer = self._filled(used, observations, actions, before.values, rows)
        with _numpy_seeded(stable_hash("minibatches", self.context.seed, self.rounds)):
            self.ppo.train()
        if not all(bool(p.isfinite().all()) for p in self.actor.parameters()):
            raise UserError("PPO diverged (infinite or NaN): lower learning_rate")
        self.rounds += 1
        self.context.progress("learning", 1, 1)
        numbers = {
            name.removeprefix("train/"): float(value)
            for name, value in self.ppo.logger.name_to_value.items()
            if name.removeprefix("train/") in _REPORTED and math.isfinite(value)
        }
        numbers["entropy"] = float(before.entropies.mean())
        numbers["length"] = float(before.counts.float().mean())
        if self.options.kl_coef > 0:
            numbers["kl_to_base"] = float(before.divergences.mean())
        return numbers

    def save(self, folder: Path) -> None:
        """Writes the adapter in PEFT's format, the value head, Adam's state and counters."""
        super().save(folder)
        tensors = {
            name: value.detach().cpu().contiguous()
            for name, value in self.actor.value_net.state_dict(prefix="value_net.").items()
        }
        for name, parameter in self.actor.named_parameters():
            for moment, value in self.actor.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{name}.{moment}"] = value.detach().cpu().contiguous()
        save_file(tensors, folder / _STATE)
        counters = {"rounds": self.rounds, "updates": self.ppo._n_updates}
        (folder / _COUNTERS).write_text(json.dumps(counters) + "\n")

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        bank = load_peft(folder / ADAPTER, self.policy.model.model, self.policy.model.device)
        mine = self.actor.bank
        if (bank.targets, bank.config.rank) != (mine.targets, mine.config.rank):
            raise UserError(
                f"{folder}: its adapter has rank {bank.config.rank} and this agent's has "
                f"{mine.config.rank}, or they sit on other modules; use the options it was "
                f"trained with"
            )
        try:
            tensors = load_file(folder / _STATE)
            counters = json.loads((folder / _COUNTERS).read_text())
            self.rounds = int(counters["rounds"])
            self.ppo._n_updates = int(counters["updates"])
            state = {
                name.removeprefix("value_net."): tensor
                for name, tensor in tensors.items()
                if name.startswith("value_net.")
            }
            self.actor.value_net.load_state_dict(state)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{folder}: no readable checkpoint of agent ppo ({reason})") from error
        mine.weights.copy_(bank.weights)
        self.actor.optimizer.state.clear()
        for name, parameter in self.actor.named_parameters():
            prefix = f"adam.{name}."
            moments = {
                key.removeprefix(prefix): tensor if tensor.dim() == 0 else tensor.to(parameter)
                for key, tensor in tensors.items()
                if key.startswith(prefix)
            }
            if moments:
                self.actor.optimizer.state[parameter] = moments

    @torch.no_grad()
    def _evaluate(self, observations: np.ndarray, actions: np.ndarray) -> Evaluation:
        """The policy's evaluation of a round's self-edits before its update."""
        parts = []
        for i in range(0, len(actions), self.options.batch_size):
            part = slice(i, i + self.options.batch_size)
            obs, chosen = torch.from_numpy(observations[part]), torch.from_numpy(actions[part])
            parts.append(self.actor.evaluate(obs, chosen))
        return Evaluation(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _filled(
        self,
        experiences: Sequence[Experience],
        observations: np.ndarray,
        actions: np.ndarray,
        values: Tensor,
        log_probs: np.ndarray,
    ) -> RolloutBuffer:
        """A round as a rollout buffer of stable-baselines3.

        Args:
            experiences: The round's self-edits, n of them.
            observations: Prompts, token ids of shape (n, longest prompt).
            actions: Self-edits, token ids of shape (n, length).
            values: Value estimates, shape (n,).
            log_probs: Of each token when it was sampled, shape (n, length), NaN behind the end.
        """
        token = self.options.importance_sampling_level == "token"
        count = len(experiences)
        buffer = (TokenRolloutBuffer if token else RolloutBuffer)(
            1,
            self.envs.observation_space,
            self.envs.action_space,
            device=self.policy.model.device,
            gamma=1.0,
            n_envs=count,
        )
        rewards = np.array([e.reward for e in experiences])
        if self.options.baseline == "group":
            values = torch.from_numpy(leave_one_out(rewards, [e.group for e in experiences]))
        old = torch.from_numpy(log_probs if token else np.nanmean(log_probs, axis=1))
        buffer.add(observations, actions, rewards, np.ones(count), values, old)
        buffer.compute_returns_and_advantage(torch.zeros(count), np.ones(count))
        return buffer


_REPORTED = (
    "approx_kl",
    "clip_fraction",
    "policy_gradient_loss",
    "value_loss",
    "explained_variance",
)


def leave_one_out(rewards: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Mean reward of the others in each one's group; of all others where it is alone."""
    _, index = np.unique(np.array(groups), return_inverse=True)
    sums, counts = np.bincount(index, rewards)[index], np.bincount(index)[index]
    alone = counts == 1
    sums[alone], counts[alone] = rewards.sum(), len(rewards)
    return (sums - rewards) / np.maximum(counts - 1, 1)


def _envs(env: EnvConfig, prompt: str, options: PPOOptions) -> TokenVecEnv:
    """The environment as stable-baselines3 sees it, for its spaces and its tokens."""
    vector = gym.make_vec("SelfEdit-v0", num_envs=options.batch_size, **env.kwargs())
    return TokenVecEnv(vector, prompt=prompt, max_new_tokens=options.max_new_tokens)


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seeds numpy's global random state, from which minibatches are drawn, and restores it."""
    kept = np.random.get_state()
    np.random.seed(seed % (1 << 32))
    try:
        yield
    finally:
        np.random.set_state(kept)
