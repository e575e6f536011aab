"""Settings of the environment per model, where SEAL's do not fit.

Any module may add presets:
``MODEL_PRESETS["my-org/*"] = ModelPreset(InnerLoopConfig(...))``. Settings of runs and agents per
model are in `seal_agents.presets`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from seal_env.config import EnvConfig, InnerLoopConfig
from seal_env.engine.config import FinetuneConfig, LoraConfig


@dataclass(frozen=True)
class ModelPreset:
    """Settings of a model as learner."""

    inner: InnerLoopConfig = field(default_factory=InnerLoopConfig)
    """Inner loop if `EnvConfig.inner` is None."""
    reward: str = EnvConfig.reward
    """Default reward of ``seal-env train``."""


MODEL_PRESETS: dict[str, ModelPreset] = {
    # With these the passage alone teaches little, so that the kind of self-edit matters.
    "tiny": ModelPreset(InnerLoopConfig(LoraConfig(8, 32.0), FinetuneConfig(5e-3, epochs=5))),
    # Rate and epochs are what a directive says; these are the middling ones without it. A problem
    # has few grids, so accuracy alone has few values.
    "tiny-grids": ModelPreset(
        InnerLoopConfig(
            LoraConfig(16, 32.0, ("all-linear",)), FinetuneConfig(3e-3, epochs=4, batch_size=2)
        ),
        reward="accuracy + 0.3 * log_likelihood",
    ),
    # SEAL's 1e-3 hardly moves a model this small in 4 epochs, and at 8 it begins to overfit
    # (docs/lab-log.md). Plain questions: it learns from plain text.
    "*SmolLM2-135M*": ModelPreset(
        InnerLoopConfig(finetune=FinetuneConfig(3e-3, epochs=4), chat=False)
    ),
}
"""Settings by pattern of model names (`fnmatch`); the last matching pattern is used."""


def model_preset(model: str) -> ModelPreset:
    """Settings of a model, by its name or path."""
    fitting = [preset for name, preset in MODEL_PRESETS.items() if fnmatchcase(model, name)]
    return fitting[-1] if fitting else ModelPreset()
