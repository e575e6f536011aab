"""`seal-env export`: a run's self-edits and its policy for other libraries.

The self-edits become a folder that ``datasets.load_dataset`` reads, in the columns that TRL's
trainers expect; the policy becomes an adapter in PEFT's format with a card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from seal_agents.reporting.cards import CARD, dataset_card
from seal_agents.run_folder import RunFolder
from seal_agents.runner.adapter import export_adapter
from seal_agents.runner.configs import ExportConfig
from seal_agents.runner.contents import of_files
from seal_agents.runner.export_rows import COLUMNS, TRAINERS, Rows, kinds_of, rows_of
from seal_agents.runner.folders import write_folder
from seal_agents.runner.hub import check_repo, push
from seal_env.engine.peft_io import CONFIG, WEIGHTS
from seal_env.errors import UserError

ABOUT = {
    "sft": "Self-edits that taught a learner most, with the prompts that asked for them.",
    "dpo": "Pairs of self-edits for the same prompt, of which the first taught a learner more.",
    "episodes": "Self-edits, what a learner answered before and after them, and their rewards.",
}
"""What the rows of each format are."""


_OURS = re.compile(rf"{CARD}|{CONFIG}|{WEIGHTS}|data/(train|test)-[0-9a-f]{{8}}\.parquet")
"""Files of an export."""


def export(config: ExportConfig, overwrite: bool, console: Console) -> Path:
    """Runs `seal-env export`; returns the folder.

    Raises:
        UserError: The run has nothing to export, the folder cannot be written, or it cannot be
            pushed.
    """
    out = config.out or config.run.with_name(f"{config.run.name}-{config.format}")
    if config.push_to_hub is not None:
        check_repo(config.push_to_hub)
    _check_free(out, overwrite)
    run = RunFolder.existing(config.run)
    settings = run.read_json("config.json")
    if settings["command"] not in ("train", "evaluate"):
        raise UserError(
            f"{config.run}: is a run of seal-env {settings['command']}; give one of train or "
            f"evaluate"
        )
    if config.format == "policy":
        write_folder(out, partial(export_adapter, run, config.task, out.name))
    else:
        rows, notes = rows_of(run, config)
        for note in notes:
            console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
        write_folder(out, partial(_write_rows, rows, out.name, settings, config.format))
        counts = ", ".join(f"{len(own):,} rows of {split}" for split, own in rows.items())
        console.print(counts, markup=False, highlight=False)
    console.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)
    if config.push_to_hub is not None:
        kind = "model" if config.format == "policy" else "dataset"
        address = push(out, config.push_to_hub, kind, config.private)
        console.print(f"pushed to {address}", markup=False, highlight=False, soft_wrap=True)
    return out


def _write_rows(
    rows: Rows, name: str, settings: Mapping[str, Any], kind: str, folder: Path
) -> None:
    try:
        from datasets import Dataset, Features, disable_progress_bars
    except ImportError as error:
        raise UserError(
            f"export needs the package datasets ({error}): pip install 'seal-env[datasets]'"
        ) from None
    disable_progress_bars()
    (folder / "data").mkdir()
    first = next(iter(rows.values()))[0]
    features = Features(_features(kinds_of(first)))
    files = {}
    for split, own in rows.items():
        try:
            data = Dataset.from_list(own, features)
        except (TypeError, ValueError) as error:  # a record that somebody changed
            raise UserError(f"episodes.jsonl: cannot be exported ({error})") from error
        file = folder / "data" / f"{split}.parquet"
        data.to_parquet(file)
        # datasets' cache knows a folder by the names of its files, not by their content.
        files[split] = f"data/{split}-{of_files(file)[:8]}.parquet"
        file.rename(folder / files[split])
    columns = {name: COLUMNS[name].meaning for name in first}
    counts = {split: len(own) for split, own in rows.items()}
    trainer = TRAINERS.get(kind, "")
    card = dataset_card(ABOUT[kind], name, settings, counts, files, columns, trainer)
    (folder / CARD).write_bytes(card.encode("utf-8", "replace"))


def _features(kind: Any) -> Any:
    """Types of columns as `datasets.Features` take them."""
    from datasets import Value

    if isinstance(kind, Mapping):
        return {name: _features(inner) for name, inner in kind.items()}
    return [_features(kind[0])] if isinstance(kind, list) else Value(kind)


def _check_free(out: Path, overwrite: bool) -> None:
    """Checks that the new folder replaces nothing but an export that it may replace."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    if not files:
        return
    if CARD not in files or not all(map(_OURS.fullmatch, files)):
        raise UserError(f"--out {out}: exists and is no export; give another folder")
    if not overwrite:
        raise UserError(f"--out {out}: holds an export; give another folder, or --overwrite")
