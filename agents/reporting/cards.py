"""Cards for a hub: of a data set of self-edits, and of a trained policy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import (
    DatasetCard,
    DatasetCardData,
    EvalResult,
    ModelCard,
    ModelCardData,
)

from seal_env import __version__
from seal_env.engine.checkpoints import EMBEDDED

CARD = "README.md"
"""File of a card."""
TAGS = ["seal-env", "self-edits", "reinforcement-learning"]
"""Tags of both kinds."""
_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""A model's name on a hub."""


def dataset_card(
    about: str,
    name: str,
    config: Mapping[str, Any],
    splits: Mapping[str, int],
    paths: Mapping[str, str],
    columns: Mapping[str, str],
    trainer: str = "",
) -> str:
    """The card of exported self-edits.

    Args:
        about: One sentence on what the rows are.
        name: Name of the folder.
        config: The run's settings.
        splits: Numbers of rows by split.
        paths: Files by split.
        columns: What each column has.
        trainer: TRL's trainer for it; "" for none.
    """
    data = DatasetCardData(
        pretty_name=name,
        tags=TAGS,
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": path} for split, path in paths.items()],
            }
        ],
    )
    facts = {"rows": ", ".join(f"{split}: {count:,}" for split, count in splits.items())}
    return _rendered(
        DatasetCard,
        data,
        "dataset_card.md",
        title=name,
        about=about,
        facts=facts | facts_of(config),
        columns=columns,
        trainer=trainer,
        place=name,
    )


def policy_card(
    name: str, config: Mapping[str, Any], summary: Mapping[str, Any], prompt: str
) -> str:
    """The card of a trained policy.

    Args:
        name: Name of the adapter.
        config: The run's settings.
        summary: The run's ``summary.json``.
        prompt: Prompt that the policy continues.
    """
    model, task = str(config["env"]["model"]), str(config["env"]["task"])
    on_hub = model not in EMBEDDED and _HUB.fullmatch(model) and not Path(model).exists()
    trained = (summary.get("rows") or {}).get("trained")
    data = ModelCardData(
        model_name=name,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=TAGS,
        base_model=model if on_hub else None,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=task,
                dataset_name=f"{task}, split test",
                metric_type="accuracy",
                metric_value=round(trained["accuracy"], 4),
                metric_name="accuracy after one self-edit",
            )
        ]
        if trained
        else None,
    )
    return _rendered(
        ModelCard,
        data,
        "policy_card.md",
        title=name,
        facts=facts_of(config),
        rows=_rows(summary),
        compared=f"Accuracy on held-out problems of `{_cell(task)}` after one self-edit each",
        load=_loading(model),
        prompt=prompt.strip("\n"),
        chat=model not in EMBEDDED,
        place=name,
    )


def facts_of(config: Mapping[str, Any]) -> dict[str, str]:
    """What a run's settings say of where its self-edits come from, without paths."""
    env = config["env"]
    facts = {
        "model": f"`{public_name(str(env['model']))}`",
        "task": f"`{env['task']}`, split `{env.get('split', '')}`",
        "self-edit language": f"`{env.get('edit', '')}`",
        "reward": f"`{env.get('reward', '')}`",
        "agent": f"`{config['agent']}`" if "agent" in config else "",
        "rounds": str(config.get("rounds", "")),
        "problems per round": str(config["problems"]) if "rounds" in config else "",
        "self-edits per problem": str(config.get("samples", "")),
        "learner": {
            "follow": "the policy's model after each round",
            "fixed": "the untrained model",
        }.get(str(config.get("learner")), ""),
        "seed": str(config.get("seed", "")),
    }
    return {name: _cell(value) for name, value in facts.items() if value}


def public_name(model: str) -> str:
    """A model's name on a hub or in this package; of a path, which concerns nobody, the end."""
    return model if _HUB.fullmatch(model) else PurePath(model).name


def _rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """The comparison as lines of cells, the first with the names of the columns."""
    rows: Mapping[str, Any] = summary.get("rows") or {}
    if not rows:
        return []
    other = "base" if "base" in rows else next(iter(rows))
    table = [["policy", "problems", "accuracy", f"accuracy − `{_cell(other)}`", "log-likelihood"]]
    for name, row in rows.items():
        gap = (summary.get("differences") or {}).get(f"{name} - {other}")
        table.append(
            [
                f"`{_cell(name)}`",
                str(row["problems"]),
                _interval(row["accuracy"], row["ci"]),
                _interval(gap["mean"], gap["ci"], "+") if gap else "",
                f"{row['log_likelihood']:.2f}",
            ]
        )
    return table


def _interval(mean: float, ends: Sequence[float], sign: str = "-") -> str:
    return f"{mean:{sign}.3f} [{ends[0]:{sign}.2f}, {ends[1]:{sign}.2f}]"


def _loading(model: str) -> str:
    """Lines of Python that load the base model."""
    if model in EMBEDDED:
        source = f'EMBEDDED["{model}"]'
        first = "from seal_env.engine.checkpoints import EMBEDDED\n\n"
    else:
        name = public_name(model)
        source = f'"folder/of/it", gguf_file="{name}"' if name.endswith(".gguf") else f'"{name}"'
        first = "\n"
    return f"{first}model = AutoModelForCausalLM.from_pretrained({source})"


def _cell(text: str) -> str:
    """A text within a cell of a table in Markdown."""
    return " ".join(text.split()).replace("|", "\\|")


def _rendered(kind: Any, data: Any, template: str, **words: Any) -> str:
    source = files("seal_agents.reporting") / "layout" / template
    card = kind.from_template(
        data, template_str=source.read_text("utf-8"), version=__version__, **words
    )
    return f"{str(card).rstrip()}\n"
