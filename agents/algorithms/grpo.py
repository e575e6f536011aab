"""Agents `grpo` and `rloo`: policy gradients relative to a group, through TRL's trainers.

GRPO: Shao et al. 2024 (arXiv 2402.03300). RLOO: Ahmadian et al. 2024 (arXiv 2402.14740). Both
compare the self-edits of one problem with each other; the run loop gives all of them the same
inner seed, so that they are compared on common random numbers.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from seal_agents.algorithms.prompted import Prompted
from seal_agents.base import AgentContext, Experience
from seal_agents.policies.options import PolicyOptions
from seal_env.errors import UserError
from seal_env.hashing import stable_hash

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer

    from seal_agents.trl.trainers import Round


@dataclass(frozen=True)
class GroupOptions(PolicyOptions):
    """What `grpo` and `rloo` share."""

    learning_rate: float = 1e-3
    """AdamW's learning rate, constant over the run."""
    n_epochs: int = 2
    """Passes over a round's self-edits."""
    num_mini_batches: int = 2
    """Optimizer steps in a pass; at most as many as divide the round evenly."""
    clip_range: float = 0.2
    """Trust region: how far a probability ratio counts, from 1 - clip_range to
    1 + clip_range."""
    kl_coef: float = 0.02
    """Weight of the KL divergence from the base model."""
    max_grad_norm: float = 1.0
    """Largest norm of the gradient; longer ones are scaled down to it."""
    per_device_train_batch_size: int = 32
    """Self-edits that are in memory at once, at most; does not change what is learned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.constrained:
            raise UserError(
                "constrained: what is written must be as likely as the policy's own numbers say, "
                "by which this agent learns; leave it out"
            )
        positive = {n: getattr(self, n) for n in ("learning_rate", "clip_range", "max_grad_norm")}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise UserError(f"{name} {value}: must be positive and finite")
        if not 0 <= self.kl_coef < math.inf:
            raise UserError(f"kl_coef {self.kl_coef}: must be finite and not < 0")
        if min(self.n_epochs, self.num_mini_batches, self.per_device_train_batch_size) < 1:
            raise UserError(
                "n_epochs, num_mini_batches and per_device_train_batch_size must be at least 1"
            )
        if self.temperature == 0:
            raise UserError("temperature 0: a group of equal self-edits teaches nothing; give 1.0")


@dataclass(frozen=True)
class GRPOOptions(GroupOptions):
    """Settings of GRPO."""

    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by: the standard deviation of the rewards of the group (GRPO), of
    the round, or nothing (Dr. GRPO, arXiv 2503.20783)."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Whether probability ratios are of tokens (GRPO), or of whole self-edits, normalized by their
    length (GSPO, arXiv 2507.18071)."""


@dataclass(frozen=True)
class RLOOOptions(GroupOptions):
    """Settings of RLOO."""

    kl_coef: float = 0.0
    """Weight of the KL divergence from the base model, summed over tokens; off the reward."""
    normalize_advantage: bool = True
    """Whether advantages are normalized over the round."""


class GroupRelative(Prompted):
    """Learns from the differences within groups of self-edits for one problem."""

    trainable = True
    name: ClassVar[str]

    def __init__(self, context: AgentContext) -> None:
        from seal_agents.trl.bridge import AdapterTraining

        super().__init__(context)
        self.training = AdapterTraining(self.name, self.policy)

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """One round: some passes of TRL's trainer over it."""
        if not experiences:
            return {}
        from seal_agents.trl.trainers import Round

        given = Round(self.name, self.policy, experiences)
        seed = stable_hash(self.context.seed, *sorted({e.group for e in experiences}))
        logged = self.training.run(
            lambda model, lora, folder: self.trainer(model, lora, folder, given, seed), seed
        )
        return {name: logged[key] for key, name in _LOGGED.items() if key in logged}

    @abstractmethod
    def trainer(
        self, model: PreTrainedModel, lora: Any, folder: Path, given: Round, seed: int
    ) -> Trainer:
        """TRL's trainer for a round."""

    def arguments(self, folder: Path, given: Round, seed: int) -> dict[str, Any]:
        """The arguments that both trainers take."""
        from seal_agents.trl.bridge import arguments

        options = self.context.options
        assert isinstance(options, GroupOptions)
        return arguments(
            self.policy,
            folder,
            seed,
            **given.batches(
                options.num_mini_batches, options.n_epochs, options.per_device_train_batch_size
            ),
            shuffle_dataset=False,  # a round's self-edits are handed over in their own order
            learning_rate=options.learning_rate,
            epsilon=options.clip_range,
            beta=options.kl_coef,
            max_grad_norm=options.max_grad_norm,
            temperature=options.temperature,
            disable_dropout=True,  # the policy writes without, and so are its probabilities
        )

    def save(self, folder: Path) -> None:
        """Writes the adapter and the optimizer's state."""
        super().save(folder)
        self.training.save(folder)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        super().load(folder)
        self.training.load(folder)


class GRPO(GroupRelative):
    """GRPO through `trl.GRPOTrainer` (DeepSeekMath, arXiv 2402.03300, section 4.1)."""

    Options = GRPOOptions
    name = "grpo"

    def trainer(
        self, model: PreTrainedModel, lora: Any, folder: Path, given: Round, seed: int
    ) -> Trainer:
        """See the class."""
        from trl.trainer.grpo_config import GRPOConfig

        from seal_agents.trl.trainers import RoundGRPO

        options = self.context.options
        assert isinstance(options, GRPOOptions)
        args = GRPOConfig(
            **self.arguments(folder, given, seed),
            scale_rewards=options.scale_rewards,
            importance_sampling_level=options.importance_sampling_level,
            loss_type="grpo" if options.importance_sampling_level == "sequence" else "dapo",
        )
        return RoundGRPO(
            model=model,
            reward_funcs=given.reward,
            args=args,
            train_dataset=given.dataset(),
            processing_class=copy.deepcopy(self.policy.model.tokenizer),
            peft_config=lora,
            rollout_func=given.rollout,
        )


class RLOO(GroupRelative):
    """RLOO through `trl.RLOOTrainer` (Back to Basics, arXiv 2402.14740)."""

    Options = RLOOOptions
    name = "rloo"

    def trainer(
        self, model: PreTrainedModel, lora: Any, folder: Path, given: Round, seed: int
    ) -> Trainer:
        """See the class."""
        from trl.trainer.rloo_config import RLOOConfig

        from seal_agents.trl.trainers import RoundRLOO

        options = self.context.options
        assert isinstance(options, RLOOOptions)
        args = RLOOConfig(
            **self.arguments(folder, given, seed), normalize_advantages=options.normalize_advantage
        )
        trainer = RoundRLOO(
            model=model,
            reward_funcs=given.reward,
            args=args,
            train_dataset=given.dataset(),
            processing_class=copy.deepcopy(self.policy.model.tokenizer),
            peft_config=lora,
        )
        trainer.rollout = given.rollout
        return trainer


_LOGGED = {
    "train_loss": "policy_loss",
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clipped",
    "frac_reward_zero_std": "tied_groups",
}
"""What is worth plotting of TRL's numbers, and under which name."""
