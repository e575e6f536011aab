"""Inner-loop settings that were found to suit a model; where none were, SEAL's own."""

from __future__ import annotations

from seal_env.adapters import LoraConfig
from seal_env.finetune import FinetuneConfig
from seal_env.inner_loop import InnerLoopConfig

RECIPES = {
    # The passage alone teaches a little, so that the kind of self-edit matters.
    "tiny": InnerLoopConfig(LoraConfig(8, 32.0), FinetuneConfig(5e-3, epochs=5)),
}
"""Model name to settings."""


def recipe(model: str) -> InnerLoopConfig:
    """The settings for a model."""
    return RECIPES.get(model, InnerLoopConfig())
