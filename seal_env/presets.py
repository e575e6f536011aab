"""Inner-loop settings that were found to suit a model; where none were, SEAL's own."""

from __future__ import annotations

from fnmatch import fnmatch

from seal_env.config import InnerLoopConfig
from seal_env.engine.config import FinetuneConfig, LoraConfig

RECIPES = {
    # The passage alone teaches a little, so that the kind of self-edit matters.
    "tiny": InnerLoopConfig(LoraConfig(8, 32.0), FinetuneConfig(5e-3, epochs=5)),
    # Rate and epochs are what a directive says; these are the middling ones without it.
    "tiny-grids": InnerLoopConfig(
        LoraConfig(16, 32.0, ("all-linear",)), FinetuneConfig(3e-3, epochs=4, batch_size=2)
    ),
    # SEAL's 1e-3 hardly moves a model this small in 4 epochs, and at 8 it begins to overfit
    # (docs/lab-log.md). Plain questions: it learns from plain text.
    "*SmolLM2-135M*": InnerLoopConfig(finetune=FinetuneConfig(3e-3, epochs=4), chat=False),
}
"""Pattern of model names to settings; the first that fits counts."""


def recipe(model: str) -> InnerLoopConfig:
    """The settings for a model."""
    fitting = (config for pattern, config in RECIPES.items() if fnmatch(model, pattern))
    return next(fitting, InnerLoopConfig())
