"""Settings of the inner loop that a search tries, and the space that they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from seal_env.config import InnerLoopConfig
from seal_env.edits import PassagePlace
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.errors import UserError
from seal_env.presets import ModelPreset

if TYPE_CHECKING:
    from optuna import Trial

Targets = Literal["default", "all-linear"]
ALL_LINEAR = ("all-linear",)


@dataclass(frozen=True)
class Candidate:
    """One setting of the inner loop."""

    targets: Targets
    """Adapted modules: PEFT's default for the architecture (q_proj and v_proj), or all linear."""
    rank: int
    """Rank of the adapter."""
    alpha: float
    """Numerator of its factor."""
    learning_rate: float
    """Learning rate of the first step."""
    epochs: int
    """Passes over the data."""
    batch_size: int
    """Sequences per optimizer step."""
    passage: PassagePlace
    """Where the passage itself is trained on."""
    chat: bool | None
    """Whether questions are chat turns."""

    @property
    def name(self) -> str:
        """The settings as one line."""
        where = "passage" if self.passage == "last" else f"passage {self.passage}"
        asked = {True: ", chat", False: ", plain questions", None: ""}[self.chat]
        return (
            f"{self.targets} rank {self.rank} alpha {self.alpha:g}, rate {self.learning_rate:g}, "
            f"epochs {self.epochs}, batch {self.batch_size}, {where}{asked}"
        )

    def inner(self, base: InnerLoopConfig) -> InnerLoopConfig:
        """An inner loop with these settings, and the others of `base`."""
        targets = ALL_LINEAR if self.targets == "all-linear" else ()
        finetune = replace(
            base.finetune,
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=self.batch_size,
        )
        lora = LoraConfig(self.rank, self.alpha, targets)
        return replace(base, lora=lora, finetune=finetune, chat=self.chat)

    @classmethod
    def of(cls, preset: ModelPreset, chat: bool | None) -> Candidate:
        """The settings of a preset; `chat` says what None means in it.

        Raises:
            UserError: Its adapter is on other modules than a search tries.
        """
        lora, finetune = preset.inner.lora, preset.inner.finetune
        if lora.targets not in ((), ALL_LINEAR):
            raise UserError(f"--include: a preset with targets {lora.targets} cannot be tried")
        return cls(
            targets="all-linear" if lora.targets else "default",
            rank=lora.rank,
            alpha=lora.alpha,
            learning_rate=finetune.learning_rate,
            epochs=finetune.epochs,
            batch_size=finetune.batch_size,
            passage=preset.passage,
            chat=chat if preset.inner.chat is None else preset.inner.chat,
        )


@dataclass(frozen=True)
class SearchSpace:
    """Values from which settings are drawn; one value fixes a setting."""

    targets: tuple[Targets, ...] = ("default", "all-linear")
    """Adapted modules: PEFT's default for the architecture, or all linear layers."""
    ranks: tuple[int, ...] = (8, 32)
    """Ranks of the adapter."""
    alpha_ratios: tuple[float, ...] = (2.0,)
    """Values of alpha / rank (SEAL: 2). Adam's steps have the size of the rate whatever the
    factor is, so that a larger factor does about what a larger rate does."""
    learning_rates: tuple[float, float] = (2e-4, 8e-3)
    """Lowest and highest learning rate; drawn evenly by their logarithm, to one digit."""
    epochs: tuple[int, ...] = (2, 4, 8)
    """Passes over the data."""
    batch_sizes: tuple[int, ...] = (1, 4)
    """Sequences per optimizer step."""
    passages: tuple[PassagePlace, ...] = ("last", "none")
    """Where the passage itself is trained on, in the language ``training-data``."""
    chat: tuple[bool, ...] = (True, False)
    """Whether questions are chat turns, for models with a chat template; empty for: if there is
    one."""

    def __post_init__(self) -> None:
        values = (self.targets, self.ranks, self.alpha_ratios, self.epochs, self.batch_sizes)
        if not all((*values, self.passages)):
            raise UserError("--space: each setting needs at least one value")
        low, high = self.learning_rates
        for rank, ratio, rate, epochs, batch in product(
            self.ranks, self.alpha_ratios, (low, high), self.epochs, self.batch_sizes
        ):  # the settings check themselves
            LoraConfig(rank, rank * ratio)
            FinetuneConfig(rate, epochs, batch)
        if not 0 < low <= high:
            raise UserError(
                f"--space.learning-rates {low:g} {high:g}: give the lowest, above 0, first"
            )

    def draw(self, trial: Trial) -> Candidate:
        """The settings of a trial, as its sampler suggests them."""
        low, high = self.learning_rates
        rank = trial.suggest_categorical("rank", self.ranks)
        ratio = trial.suggest_categorical("alpha_ratio", self.alpha_ratios)
        rate = trial.suggest_float("learning_rate", low, high, log=True)
        targets: Any = trial.suggest_categorical("targets", self.targets)
        passage: Any = trial.suggest_categorical("passage", self.passages)
        return Candidate(
            targets=targets,
            rank=rank,
            alpha=rank * ratio,
            learning_rate=float(f"{rate:.0e}"),
            epochs=trial.suggest_categorical("epochs", self.epochs),
            batch_size=trial.suggest_categorical("batch_size", self.batch_sizes),
            passage=passage,
            chat=trial.suggest_categorical("chat", self.chat) if self.chat else None,
        )
