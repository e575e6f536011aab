"""Settings of the environment per model, where SEAL's do not fit.

A model is recognized by its architecture and size, whatever its file is called. The presets of real
models are files in this folder, of the kind that ``seal-env tune`` writes; ``--preset`` takes
another file, or one of them by name. Any module may add presets by name or path:
``MODEL_PRESETS["my-org/*"] = ModelPreset(InnerLoopConfig(...))``. Settings of runs and agents per
model are in `seal_agents.presets`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from seal_env.config import InnerLoopConfig
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.engine.shapes import REAL, ModelShape, read_shape
from seal_env.presets.base import ModelPreset
from seal_env.presets.files import read_preset, shipped_names

__all__ = ["DENSE", "MODEL_PRESETS", "ModelPreset", "model_preset", "read_preset", "shipped_names"]

DENSE = "accuracy + log_likelihood - shift"
"""Reward of real models: accuracy alone ranks the self-edits of a passage by the adapter seed, and
half of its best ones are ties; a likelihood also rises with what ruins the model
(docs/rewards.md)."""
SMALL = "small"
"""Preset of small models that no other preset is for."""
SMALL_PARAMETERS = (REAL, 1_500_000_000)
"""Range of `ModelShape.parameters` of small models."""

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
}
"""Settings by pattern of model names (`fnmatch`); the last matching pattern is used."""


def model_preset(model: str, shape: ModelShape | None = None) -> ModelPreset:
    """Settings of a model, by its name or path, else by its architecture and size.

    Args:
        model: Name or path.
        shape: Its shape, if it is known; None to read it from the model's config.
    """
    fitting = [preset for name, preset in MODEL_PRESETS.items() if fnmatchcase(model, name)]
    if fitting:
        return fitting[-1]
    shape = shape or read_shape(model)
    if shape is None:
        return ModelPreset()
    for preset in map(read_preset, shipped_names()):
        if preset.shape == shape:
            return preset
    least, most = SMALL_PARAMETERS
    if shape.parameters > most:
        return ModelPreset(reward=DENSE)
    return read_preset(SMALL) if least <= shape.parameters else ModelPreset()
