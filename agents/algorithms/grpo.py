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
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

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
    """Options that `grpo` and `rloo` share."""

    learning_rate: float = 1e-3
    """AdamW's learning rate, constant over the run."""
    n_epochs: int = 2
    """Passes over the self-edits of a round (TRL: `num_iterations`)."""
    num_mini_batches: int = 2
    """Optimizer steps per pass; rounded down to a divisor of the number of self-edits per round."""
    clip_range: float = 0.2
    """Clip range of the probability ratio: 1 - clip_range to 1 + clip_range (TRL: `epsilon`)."""
    kl_coef: float = 0.02
    """Weight of the KL divergence (nats per token) from the base model (TRL: `beta`)."""
    max_grad_norm: float = 1.0
    """Maximum norm of the gradient; longer gradients are scaled down to it."""
    per_device_train_batch_size: int = 32
    """Maximum number of self-edits per forward pass; bounds memory, does not change the update."""

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
    """Options of GRPO."""

    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divisor of advantages: the standard deviation of the rewards in the group (GRPO) or in the
    round (batch), or none (Dr. GRPO, arXiv 2503.20783)."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Level of the probability ratio: per token (GRPO), or per self-edit, normalized by its length
    (GSPO, arXiv 2507.18071)."""


@dataclass(frozen=True)
class RLOOOptions(GroupOptions):
    """Options of RLOO."""

    kl_coef: float = 0.0
    """Weight of the KL divergence from the base model (nats per self-edit), which is subtracted
    from the reward."""
    normalize_advantage: bool = True
    """Whether advantages are normalized to mean 0 and standard deviation 1 over the round."""


GroupOptionsT = TypeVar("GroupOptionsT", bound=GroupOptions)


class GroupRelative(Prompted[GroupOptionsT]):
    """Policy gradient with group-relative advantages; a group is the self-edits for one problem."""

    trainable = True
    on_policy = True
    name: ClassVar[str]

    def __init__(self, context: AgentContext) -> None:
        from seal_agents.trl.bridge import AdapterTraining

        super().__init__(context)
        self.training = AdapterTraining(self.name, self.policy)

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """Updates the policy on one round with TRL's trainer."""
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

        options = self.options
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


class GRPO(GroupRelative[GRPOOptions]):
    """GRPO through `trl.GRPOTrainer` (DeepSeekMath, arXiv 2402.03300, section 4.1)."""

    Options = GRPOOptions
    name = "grpo"

    def trainer(
        self, model: PreTrainedModel, lora: Any, folder: Path, given: Round, seed: int
    ) -> Trainer:
        """See the class."""
        from trl.trainer.grpo_config import GRPOConfig

        from seal_agents.trl.trainers import RoundGRPO

        options = self.options
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


class RLOO(GroupRelative[RLOOOptions]):
    """RLOO through `trl.RLOOTrainer` (Back to Basics, arXiv 2402.14740)."""

    Options = RLOOOptions
    name = "rloo"

    def trainer(
        self, model: PreTrainedModel, lora: Any, folder: Path, given: Round, seed: int
    ) -> Trainer:
        """See the class."""
        from trl.trainer.rloo_config import RLOOConfig

        from seal_agents.trl.trainers import RoundRLOO

        args = RLOOConfig(
            **self.arguments(folder, given, seed),
            normalize_advantages=self.options.normalize_advantage,
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
"""TRL's metrics that are reported, and their names here."""
