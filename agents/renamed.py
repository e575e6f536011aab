"""Names and values of settings, and names of files, in earlier versions: old runs, old flags.

A run folder keeps the settings of its run by name (``config.json``). Whatever reads them compares
them with settings of today through `updated`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

RENAMED: Mapping[str, tuple[str, ...]] = {
    "batch": ("generation_batch_size",),
    "clip": ("clip_range", "max_grad_norm"),
    "clip_norm": ("max_grad_norm",),
    "distil": ("distill",),
    "epochs": ("n_epochs",),
    "iterations": ("n_epochs",),
    "kl": ("kl_coef",),
    "micro_batch": ("per_device_train_batch_size",),
    "minibatch": ("batch_size",),
    "minibatches": ("num_mini_batches",),
    "normalise": ("normalize_advantage",),
    "normalize": ("normalize_advantage",),
    "parallel": ("num_envs",),
    "ratio": ("importance_sampling_level",),
    "scale": ("scale_rewards",),
}
"""Earlier name of a field to its names since; the first that a class of settings has is meant."""

ADDED: Mapping[str, Any] = {"pairs": "text", "env.edit_options.config.pairs": "text"}
"""Name of a setting of a run that there was not always to what was done without it."""

FILES: Mapping[str, str] = {
    "optimizer.json": "optimiser.json",
    "optimizer.safetensors": "optimiser.safetensors",
}
"""File of a checkpoint to its earlier name."""


def existing_file(path: Path) -> Path:
    """A file of a checkpoint, under its earlier name if it has that one."""
    earlier = path.with_name(FILES.get(path.name, path.name))
    return path if path.exists() or not earlier.exists() else earlier


def current_name(name: str, known: Container[str]) -> str:
    """The name of today of a setting; the name itself where it is known or was never renamed.

    Args:
        name: The name of a field, then or now.
        known: The names that its class of settings has now.
    """
    return next((one for one in (name, *RENAMED.get(name, ())) if one in known), name)


def updated(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of an earlier version under the names of today.

    Args:
        then: Settings as `dataclasses.asdict` made them, by whatever version.
        now: Settings of the same classes, as it makes them now; their values are not looked at.
    """
    renamed: dict[str, Any] = {}
    for old, value in then.items():
        name = current_name(old, now)
        inner = now.get(name)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            value = updated(value, inner)
        renamed[name] = value
    return renamed
