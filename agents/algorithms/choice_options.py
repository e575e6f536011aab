"""Options of the policy that chooses from a menu: plain data, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from seal_agents.base import AgentOptions
from seal_env.errors import UserError


@dataclass(frozen=True)
class PPOChoicesOptions(AgentOptions):
    """Options of PPO on choices; the names are stable-baselines3's."""

    menu: str | None = None
    """The menu: a name in `seal_env.wrappers.MENUS`, or "package.module:Name"; None for the menu of
    the self-edit language or the task."""
    learning_rate: float = 3e-3
    """Adam's learning rate, constant over the run."""
    n_epochs: int = 10
    """Passes over the self-edits of a round."""
    batch_size: int = 64
    """Self-edits per optimizer step."""
    clip_range: float = 0.2
    """Clip range of the probability ratio: 1 - clip_range to 1 + clip_range."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Maximum norm of the gradient; longer gradients are scaled down to it."""
    target_kl: float | None = None
    """KL divergence (nats) that stops a round's update early, at 1.5 times this; None for no
    limit."""
    width: int = 64
    """Units per hidden layer; the policy and the value function have two layers each."""
    read_state: bool = True
    """Whether the policy observes the learner's state beside the menu's features of the context."""

    def __post_init__(self) -> None:
        if min(self.n_epochs, self.width) < 1 or self.batch_size < 2:
            raise UserError("ppo-choices: n_epochs and width start at 1, batch_size at 2")
        for name in ("learning_rate", "clip_range", "max_grad_norm", "target_kl"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"ppo-choices: {name} {value} must be finite and above 0")
        for name in ("ent_coef", "vf_coef"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"ppo-choices: {name} must be finite and not < 0")


@dataclass(frozen=True)
class Imitation:
    """Options of behavioral cloning of choices."""

    learning_rate: float = 1e-3
    """Adam's learning rate."""
    n_epochs: int = 200
    """Passes over all choices, one optimizer step each; the policy of the pass with the lowest
    validation loss is kept."""
    held_back: int = 5
    """One in this many problems is held back for validation."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf") or self.n_epochs < 1 or self.held_back < 2:
            raise UserError(
                "imitation: learning_rate must be finite and above 0, n_epochs at least 1, "
                "held_back at least 2"
            )
