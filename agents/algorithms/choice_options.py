"""Settings of the small policy that chooses from a menu: plain data, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass

from seal_agents.base import AgentOptions
from seal_env.errors import UserError


@dataclass(frozen=True)
class PPOChoicesOptions(AgentOptions):
    """Settings of PPO on choices; the names are stable-baselines3's."""

    menu: str | None = None
    """What to choose from: a name in `seal_env.wrappers.MENUS`, or "package.module:Name"; None for
    what goes with the self-edit language or the task."""
    learning_rate: float = 3e-3
    """Of Adam."""
    n_epochs: int = 10
    """Passes over a round's self-edits."""
    batch_size: int = 64
    """Self-edits in a step of Adam."""
    clip_range: float = 0.2
    """How far the ratio of new to old probability may pay off."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradient clipping."""
    target_kl: float | None = None
    """Ends a round's passes where the policy has moved further than 1.5 times this; None for no
    such end."""
    width: int = 64
    """Width of the two hidden layers, of the policy as of the value function."""
    read_state: bool = True
    """Whether it reads the learner's state, or only what the menu says of the context."""

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
    """How the small policy learns what was chosen."""

    learning_rate: float = 1e-3
    """Of Adam."""
    n_epochs: int = 200
    """Passes, each one step over all; the policy of the best one is kept."""
    held_back: int = 5
    """One in so many problems is not learned from, and says which pass was the best."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf") or self.n_epochs < 1 or self.held_back < 2:
            raise UserError(
                "imitation: learning_rate must be finite and above 0, n_epochs at least 1, "
                "held_back at least 2"
            )
