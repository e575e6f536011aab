"""A causal language model as a policy of stable-baselines3.

An action is a whole self-edit: the policy reads the prompt's token ids, samples token ids up
to an end token, and a linear head on the hidden state at the prompt's last token says what the
result will be worth. The base model is frozen and belongs to the process-wide pool; the
policy's own parameters are a LoRA adapter and the value head, and only these are saved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import skip_init
from torch.utils.checkpoint import checkpoint

from seal_agents.policies.writing import write_texts
from seal_env.engine.capacity import memory_cost
from seal_env.engine.config import LoraConfig
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.engine.lora import AdapterBank, find_targets
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.sampling import Sampling
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.wrappers.sb3.tokens import action, prompts, vocabulary_size, written

Ratio = Literal["token", "sequence"]
"""Level of PPO's probability ratio."""
ACTIVATIONS = 2 << 30
"""Bytes that the activations of a minibatch may take at once."""
SHARE_ELSEWHERE = 5
"""On a GPU, one in so many bytes of all its memory."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """Settings of `LanguageModelPolicy`: names and plain data, never a model."""

    model: str = "tiny"
    """The base model, as in `EnvConfig`; its tokens must be the environment's."""
    dtype: str = "auto"
    """Precision of the frozen weights, as in `EnvConfig`."""
    device: str = "auto"
    """Device of the model, as in `EnvConfig`."""
    rank: int = 16
    """Rank of the LoRA adapter, on all linear layers; its scale, alpha, is twice that."""
    temperature: float = 1.0
    """Sampling temperature; log-probabilities are those of the tempered distribution."""
    generation_batch_size: int = 256
    """Self-edits sampled per batch; bounds the memory of the key-value cache."""
    importance_sampling_level: Ratio = "sequence"
    """Level of the probability ratio: "token" (needs `TokenRolloutBuffer`), or "sequence", the
    geometric mean over the tokens of a self-edit (GSPO, Zheng et al. 2025, arXiv 2507.18071,
    eq. 7)."""
    ent_coef: float = 1.0
    """Weight of the entropy (nats) in what `evaluate_actions` returns as entropy."""
    kl_coef: float = 0.0
    """Weight of the KL divergence from the base model (nats), which is subtracted there."""
    seed: int = 0
    """Seed of the adapter's initial weights and of sampling."""
    trust_remote_code: bool = False
    """Whether the model may bring Python code of its own, as in `EnvConfig`."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UserError(
                f"temperature {self.temperature}: must be finite and more than 0; a policy that "
                f"always writes the same has nothing to compare"
            )
        if min(self.rank, self.generation_batch_size) < 1:
            raise UserError(
                f"rank {self.rank}, generation_batch_size {self.generation_batch_size}: must be at "
                f"least 1"
            )
        if self.importance_sampling_level not in ("token", "sequence"):
            raise UserError(
                f"importance_sampling_level {self.importance_sampling_level!r}: must be 'token' or "
                f"'sequence'"
            )
        if not (math.isfinite(self.ent_coef) and 0 <= self.kl_coef < math.inf):
            raise UserError(
                f"ent_coef {self.ent_coef}, kl_coef {self.kl_coef}: must be finite, kl_coef not < 0"
            )


class Evaluation(NamedTuple):
    """A policy's evaluation of n self-edits with T tokens in all, end tokens included."""

    values: Tensor
    """Value estimates, shape (n,)."""
    log_probs: Tensor
    """Log-probabilities of tokens (nats), self-edit by self-edit, shape (T,)."""
    entropies: Tensor
    """Entropies of the sampling distributions (nats), shape (T,)."""
    divergences: Tensor
    """KL(policy, base) of these distributions (nats), shape (T,); zeros if `kl_coef` is 0."""
    counts: Tensor
    """Tokens per self-edit, shape (n,)."""


class LanguageModelPolicy(ActorCriticPolicy):
    """The language model itself as actor and critic.

    Use it with `seal_env.wrappers.sb3.token_vec.TokenVecEnv`, whose spaces it takes::

        PPO(LanguageModelPolicy, envs, policy_kwargs={"config": LanguageModelConfig()})

    Samples depend on the config's seed and on the number of self-edits sampled before, which is
    saved, not on any global random state.

    Args:
        observation_space: Token ids, filled up with -1.
        action_space: Token ids, up to the first end token.
        lr_schedule: The learning rate, by the progress that remains.
        config: The model and its settings.
        use_sde: Must be False, as stable-baselines3 passes it.
        optimizer_class: As in `ActorCriticPolicy`.
        optimizer_kwargs: As in `ActorCriticPolicy`.

    Raises:
        UserError: The model's vocabulary is not the action space's.
    """

    drawn: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        config: LanguageModelConfig | None = None,
        use_sde: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            use_sde=use_sde,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )
        self.config = config = config or LanguageModelConfig()
        self.learner: Learner = load_learner(
            config.model, config.dtype, config.device, None, config.trust_remote_code
        )
        _check_spaces(observation_space, action_space, self.learner, config)
        assert isinstance(action_space, spaces.MultiDiscrete)
        self.length = int(action_space.shape[0])
        self._lora = LoraConfig(config.rank, 2.0 * config.rank, ("all-linear",))
        self._targets = find_targets(self.learner.model, self._lora)
        self.bank = AdapterBank(self._targets, self._lora, 1, self.learner.device)
        self.bank.initialize([config.seed])
        self.bank.require_grads()
        self.adapter = nn.Parameter(self.bank.weights)  # the bank's own memory
        # Without its random initial weights, which would be drawn from the global state.
        self.value_net = skip_init(nn.Linear, self.learner.width, 1, device=self.learner.device)
        nn.init.zeros_(self.value_net.weight)
        nn.init.zeros_(self.value_net.bias)
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        """None of the networks of the base class are wanted."""

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "config": self.config,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Writes self-edits.

        Args:
            obs: Token ids, shape (n, longest prompt).
            deterministic: Whether to write the likeliest tokens.

        Returns:
            Token ids (n, length); values (n, 1); log-probabilities, (n,) with ratios over
            sequences, else (n, length) with NaN behind the end.
        """
        actions = self._predict(obs, deterministic)
        result = self.evaluate(obs, actions)
        if self.config.importance_sampling_level == "sequence":
            log_probs = _means(result.log_probs, result.counts)
        else:
            log_probs = spread(result.log_probs, result.counts, self.length)
        return actions, result.values[:, None], log_probs

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        read, config = prompts(observation.cpu().numpy()), self.config
        first = int(self.drawn)
        seeds = [stable_hash("draw", config.seed, first + i) for i in range(len(read))]
        if not deterministic:
            self.drawn += len(read)
        sampling = Sampling(self.length, 0.0 if deterministic else config.temperature)
        self._share()
        filler = next(iter(self.learner.stop_ids.tolist()), 0)
        size = config.generation_batch_size
        texts = write_texts(self.learner, read, sampling, seeds, size, self.bank)
        rows = [action(text.tokens, self.length, filler) for text in texts]
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def evaluate_actions(
        self, obs: PyTorchObs, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values (n, 1), log-probabilities, and the weighted sum of entropy and divergence.

        Log-probabilities have shape (n,) with ratios over sequences, else (T,): those of all
        real tokens, as `TokenRolloutBuffer` gives them, so that nothing is padded.
        """
        assert isinstance(obs, Tensor)
        result = self.evaluate(obs, actions)
        log_probs = result.log_probs
        if self.config.importance_sampling_level == "sequence":
            log_probs = _means(log_probs, result.counts)
        bonus = self.config.ent_coef * result.entropies - self.config.kl_coef * result.divergences
        return result.values[:, None], log_probs, bonus

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Value estimates, shape (n, 1)."""
        assert isinstance(obs, Tensor)
        layout = Layout(prompts(obs.cpu().numpy()), [0] * len(obs), self.learner.device)
        lengths = torch.from_numpy((obs.cpu().numpy() >= 0).sum(1)).to(self.learner.device)
        starts = torch.from_numpy(layout.starts).to(self.learner.device)
        return self.value_net(self._hidden(layout)[starts + lengths - 1].float())

    def get_distribution(self, obs: PyTorchObs) -> Any:
        """There is no distribution over all texts that could be written down.

        Raises:
            NotImplementedError: Always; see `evaluate`.
        """
        raise NotImplementedError("a distribution over whole texts; use evaluate instead")

    def evaluate(self, obs: Tensor, actions: Tensor) -> Evaluation:
        """Evaluates self-edits under the current weights.

        Args:
            obs: Token ids, shape (n, longest prompt).
            actions: Token ids, shape (n, length); as `seal_env.wrappers.sb3.tokens.action` makes
                them.
        """
        labels = [written(row, self.learner.stop_ids) for row in actions.cpu().numpy()]
        read = prompts(obs.cpu().numpy())
        parts = self._parts([(len(p) + len(x), len(x)) for p, x in zip(read, labels, strict=True)])

        def of(_: Tensor, part: slice) -> tuple[Tensor, ...]:
            return self._evaluate(read[part], labels[part])

        # Activations of several parts are computed again in the backward pass. The reentrant kind
        # saves none, not even in `_Hidden`; the adapter tells it that gradients are wanted.
        once = len(parts) == 1 or not torch.is_grad_enabled()
        found = [
            of(self.adapter, part)
            if once
            else checkpoint(of, self.adapter, part, use_reentrant=True)
            for part in parts
        ]
        return Evaluation(*map(torch.cat, zip(*found, strict=True)))

    def _parts(self, lengths: Sequence[tuple[int, int]]) -> list[slice]:
        """Slices of consecutive texts whose activations fit into `ACTIVATIONS` together.

        They do not depend on the free memory, by which the sums of gradients would differ.

        Args:
            lengths: Tokens of each text, and those of them that the policy wrote.
        """
        cost = memory_cost(self.learner, self._targets, self._lora)
        device, config = self.learner.device, self.config
        room = ACTIVATIONS
        if device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            room = max(room, total // SHARE_ELSEWHERE)
        # `_terms` keeps what it needs of all logits, in float32.
        logits = 4 * vocabulary_size(self.learner)
        logits *= 1 + (config.ent_coef != 0) + 2 * (config.kl_coef > 0)
        starts, used = [0], 0.0
        for i, (length, learned) in enumerate(lengths):
            bytes_needed = cost.of(length) + logits * learned
            used += bytes_needed
            if used > room and i > starts[-1]:
                starts.append(i)
                used = bytes_needed
        return [slice(a, b) for a, b in pairwise([*starts, len(lengths)])]

    def _evaluate(
        self, read: Sequence[list[int]], labels: Sequence[list[int]]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The fields of an `Evaluation` for token ids of prompts and self-edits."""
        device = self.learner.device
        # Nothing follows the last label, so it need not be read.
        layout = Layout(
            [[*p, *label[:-1]] for p, label in zip(read, labels, strict=True)],
            [0] * len(read),
            device,
        )
        counts = np.array([len(label) for label in labels])
        last = layout.starts + np.array([len(p) for p in read]) - 1
        rows = np.concatenate([np.arange(i, i + n) for i, n in zip(last, counts, strict=True)])
        hidden = self._hidden(layout)
        base = None
        if self.config.kl_coef > 0:
            with torch.no_grad():
                base = self.learner.hidden(layout.row, FullPass(layout), None)
        every = torch.tensor([i for label in labels for i in label], device=device)
        terms = self._terms(hidden, base, torch.from_numpy(rows).to(device), every)
        values = self.value_net(hidden[torch.from_numpy(last).to(device)].float())[:, 0]
        return values, *terms, torch.from_numpy(counts).to(device)

    def _terms(
        self, hidden: Tensor, base: Tensor | None, rows: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability, entropy and divergence at each row, shape (rows,) each."""
        parts = []
        for some, wanted in zip(
            *(x.split(self.learner.head_rows) for x in (rows, labels)), strict=True
        ):
            logs = self._log_softmax(hidden[some])
            found = logs.gather(1, wanted[:, None])[:, 0]
            # The gradient of what has no weight is not worth its memory.
            shares = logs if self.config.ent_coef else logs.detach()
            entropies = -(shares.exp() * shares).sum(-1)
            divergences = torch.zeros_like(found)
            if base is not None:
                with torch.no_grad():
                    reference = self._log_softmax(base[some])
                divergences = (logs.exp() * (logs - reference)).sum(-1)
            parts.append((found, entropies, divergences))
        found, entropies, divergences = (torch.cat(part) for part in zip(*parts, strict=True))
        return found, entropies, divergences

    def _log_softmax(self, hidden: Tensor) -> Tensor:
        return (self.learner.head(hidden) / self.config.temperature).log_softmax(-1)

    def _hidden(self, layout: Layout) -> Tensor:
        """Last hidden states under the adapter; gradients reach `adapter`."""
        self._share()
        if torch.is_grad_enabled():
            hidden: Tensor = _Hidden.apply(self.adapter, self.learner, self.bank, layout)
            return hidden
        return self.learner.hidden(layout.row, FullPass(layout), self.bank)

    def _share(self) -> None:
        """Makes sure that the bank has the parameter's weights: moving a module copies them."""
        if self.adapter.data_ptr() != self.bank.weights.data_ptr():
            with torch.no_grad():
                self.bank.weights.copy_(self.adapter)


class _Hidden(torch.autograd.Function):
    """Hidden states as a function of the adapter's weights as one flat tensor.

    A backward pass through the model adds to the bank's own buffer and returns no gradient; so
    here that pass is made inside, and its buffer handed on.
    """

    @staticmethod
    def forward(ctx: Any, flat: Tensor, learner: Learner, bank: AdapterBank, layout: Layout) -> Any:
        with torch.enable_grad():
            hidden = learner.hidden(layout.row, FullPass(layout), bank)
        ctx.inner, ctx.bank = hidden, bank
        return hidden.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        bank: AdapterBank = ctx.bank
        assert bank.grads is not None
        bank.grads.zero_()
        torch.autograd.backward(ctx.inner, grads[0])
        return bank.grads.clone(), None, None, None


def spread(values: Tensor, counts: Tensor, length: int) -> Tensor:
    """Values of packed tokens, shape (T,), as rows (n, length), with NaN behind the end."""
    there = torch.arange(length, device=values.device)[None] < counts[:, None]
    rows = torch.full(there.shape, math.nan, device=values.device, dtype=values.dtype)
    return rows.masked_scatter(there, values)


def _means(values: Tensor, counts: Tensor) -> Tensor:
    """Means over the tokens of each self-edit, shape (n,)."""
    owners = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    sums = torch.zeros(len(counts), device=values.device, dtype=values.dtype)
    return sums.index_add(0, owners, values) / counts


def _check_spaces(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    learner: Learner,
    config: LanguageModelConfig,
) -> None:
    size = vocabulary_size(learner)
    fits = isinstance(action_space, spaces.MultiDiscrete) and (action_space.nvec == size).all()
    if not fits or not isinstance(observation_space, spaces.Box):
        raise UserError(
            f"the environment's spaces are not token ids of model {config.model!r} ({size} "
            f"tokens); wrap SelfEdit-v0 with that model in "
            "seal_env.wrappers.sb3.token_vec.TokenVecEnv"
        )
