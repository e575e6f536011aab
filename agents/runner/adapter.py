"""The adapter of a trained policy: in its run folder, and exported, each with a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seal_agents.policies.options import ADAPTER
from seal_agents.reporting.cards import CARD, policy_card, public_name
from seal_agents.run_folder import RunFolder
from seal_agents.runner.export_rows import prompt_for, usual_prompt
from seal_agents.runner.known_problems import task_of
from seal_env.engine.peft_io import CONFIG, WEIGHTS
from seal_env.errors import UserError
from seal_env.prompts import PROMPTS


def write_adapter(run: RunFolder, checkpoint: Path, summary: Mapping[str, Any], usual: str) -> None:
    """Writes the adapter of a run's last checkpoint to the run folder, with a card.

    Args:
        run: The run.
        checkpoint: The checkpoint; nothing is written if it has no adapter.
        summary: Content of ``summary.json``.
        usual: Name of the prompt for the run's task and language.
    """
    if not (checkpoint / ADAPTER).is_dir():
        return
    for file in sorted((checkpoint / ADAPTER).iterdir()):
        run.write_bytes(f"{ADAPTER}/{file.name}", file.read_bytes())
    card = _card(run, summary, run.path.name, usual)
    run.write_bytes(f"{ADAPTER}/{CARD}", card.encode("utf-8", "replace"))


def export_adapter(run: RunFolder, trusted: str | None, name: str, folder: Path) -> None:
    """Writes the adapter of a finished run to an empty folder, with a card and without paths.

    Args:
        run: The run.
        trusted: Task of a module of its own that may be imported; None for no such task.
        name: Name of the adapter.
        folder: The folder.

    Raises:
        UserError: The run has no adapter.
    """
    source = run.path / ADAPTER
    if not (source / WEIGHTS).is_file() or not (source / CONFIG).is_file():
        raise UserError(
            f"{source}: no adapter here; the run is not finished, or its agent is no language model"
        )
    (folder / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes())
    described = run.read_json(f"{ADAPTER}/{CONFIG}")
    if base := described.get("base_model_name_or_path"):
        described["base_model_name_or_path"] = public_name(str(base))
    (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n", "utf-8")
    try:
        usual = usual_prompt(run, task_of(run, trusted))
    except UserError:  # a task or a language of a module of its own
        usual = ""
    card = _card(run, run.read_results("summary.json") or {}, name, usual)
    (folder / CARD).write_bytes(card.encode("utf-8", "replace"))


def _card(run: RunFolder, summary: Mapping[str, Any], name: str, usual: str) -> str:
    settings = run.read_json("config.json")
    prompt = PROMPTS.get(prompt_for(settings, str(settings.get("agent")), usual), "")
    return policy_card(name, settings, summary, prompt)
