"""`ModelPreset`: settings of the environment that suit a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from seal_env.checks import check_fields
from seal_env.config import EnvConfig, InnerLoopConfig
from seal_env.edits import PassagePlace
from seal_env.engine.shapes import ModelShape
from seal_env.rewards import parse_reward


@dataclass(frozen=True)
class ModelPreset:
    """Settings of a model as learner."""

    inner: InnerLoopConfig = field(default_factory=InnerLoopConfig)
    """Inner loop if `EnvConfig.inner` is None."""
    reward: str = EnvConfig.reward
    """Default reward of ``seal-env train``."""
    passage: PassagePlace = "last"
    """Where the language ``training-data`` puts the passage on the command line, by default."""
    shape: ModelShape | None = None
    """Architecture and size of the models that it is for; None if others say that."""
    source: str = ""
    """Where the settings come from, such as the command that found them."""

    def __post_init__(self) -> None:
        check_fields(self)
        parse_reward(self.reward)
