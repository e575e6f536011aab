"""Preset files: a `ModelPreset` as JSON, plain data without code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from seal_env.checks import build
from seal_env.errors import UserError, reason
from seal_env.presets.base import ModelPreset

SHIPPED = Path(__file__).parent
"""Folder of the presets that come with the package."""


def shipped_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def read_preset(name: str) -> ModelPreset:
    """A preset by its name among those of the package, or by the path of a file.

    Args:
        name: One of `shipped_names`, or a path.

    Raises:
        UserError: There is no such file, or it holds no preset.
    """
    known = shipped_names()
    path = SHIPPED / f"{name}.json" if name in known else Path(name)
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"preset {name!r}: no such file; give one that seal-env tune wrote, or one of "
            f"{', '.join(known)}"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: no JSON, or no UTF-8
        raise UserError(f"preset {name!r}: cannot be read ({reason(error)})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"preset {name!r}: holds no JSON object; give a file that tune wrote")
    return build(ModelPreset, content, f"preset {name!r}")


def preset_json(preset: ModelPreset) -> str:
    """Content of a preset's file."""
    return json.dumps(asdict(preset), indent=2) + "\n"
