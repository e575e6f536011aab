"""The folder from which a hub runs a server: OpenEnv's layout, with an environment's settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from seal_env import __version__
from seal_env.checks import build
from seal_env.config import EnvConfig
from seal_env.errors import UserError

SETTINGS = "seal_env.json"
"""File with the environment's settings, fields of `EnvConfig`."""
TEMPLATES = (
    "README.md",
    "openenv.yaml",
    "pyproject.toml",
    "__init__.py",
    "client.py",
    "models.py",
    "server/__init__.py",
    "server/app.py",
    "server/Dockerfile",
)
"""Files of the layout; their templates are in the folder `layout`."""


def write_space(folder: Path, config: EnvConfig, requirement: str | None = None) -> None:
    """Writes the folder that ``openenv validate``, ``build`` and ``push`` take.

    Args:
        folder: New or empty folder.
        config: Settings of the environment.
        requirement: Requirement by which pip finds this package with the extra ``serve``; None for
            this version of it on the package index.

    Raises:
        UserError: The folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already; name a new folder")
    words = {
        "@REQUIREMENT@": requirement or f"seal-env[serve]=={__version__}",
        "@VERSION@": __version__,
        "@TASK@": config.task,
        "@MODEL@": config.model,
    }
    source = files("seal_env.serving") / "layout"
    for name in TEMPLATES:
        text = (source / f"{name}.tpl").read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(word, value)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    settings = json.dumps(asdict(config), indent=1)
    (folder / SETTINGS).write_text(settings + "\n", encoding="utf-8")


def read_settings(folder: str | Path) -> EnvConfig:
    """Settings of a folder of `write_space`.

    Raises:
        UserError: They cannot be read.
    """
    path = Path(folder) / SETTINGS
    try:
        given: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    return build(EnvConfig, given, str(path))
