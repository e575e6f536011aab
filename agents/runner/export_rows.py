"""Rows of exported data sets: for TRL's SFTTrainer and DPOTrainer, and whole episodes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from seal_agents.algorithms.rest_em import best
from seal_agents.base import Experience
from seal_agents.run_folder import Record, RunFolder, finite_or_none
from seal_agents.runner.build import parted
from seal_agents.runner.configs import ExportConfig
from seal_agents.runner.experience import experience
from seal_agents.runner.known_problems import known_problems, task_of
from seal_env.config import EnvConfig, default_prompt, make_language, takes_text
from seal_env.edits import EDITS
from seal_env.errors import UserError
from seal_env.prompts import PROMPTS, edit_prompt
from seal_env.rewards import REWARDS
from seal_env.tasks.base import Problem, Task

Rows = dict[str, list[dict[str, Any]]]
"""Rows by split, all with the same columns."""

TRAINERS = {"sft": "SFTTrainer", "dpo": "DPOTrainer"}
"""TRL's trainer that takes a format."""
TURNS = [{"role": "string", "content": "string"}]
"""Type of a text as the turns of a chat."""


class Column(NamedTuple):
    """A column."""

    kind: Any
    """Its type: a name of `datasets.Value`, a list of such, or a mapping of names to such."""
    meaning: str
    """What it has, for the card."""


COLUMNS = {
    "prompt": Column("string", "what the policy was asked"),
    "completion": Column("string", "the self-edit"),
    "chosen": Column("string", "a self-edit"),
    "rejected": Column("string", "one with a lower reward"),
    "chosen_reward": Column("float64", "reward of the chosen self-edit"),
    "rejected_reward": Column("float64", "reward of the rejected self-edit"),
    "problem": Column("string", "id of the problem"),
    "phase": Column("string", "`train` or `evaluate`"),
    "policy": Column("string", "what wrote the self-edit"),
    "round": Column("int64", "round of the training, from 1; 0 in an evaluation"),
    "index": Column("int64", "index in the round"),
    "sample": Column("int64", "index among the problem's self-edits"),
    "step": Column("int64", "step of a stream, from 0; null without streams"),
    "title": Column("string", "title of the problem"),
    "context": Column("string", "context of the problem; null if it is not known"),
    "questions": Column(
        [{"question": "string", "answer": "string"}], "held-out questions with the right answers"
    ),
    "text": Column("string", "the self-edit; null for none"),
    "style": Column("string", "kind of self-edit; null if the task has none"),
    "reward": Column("float64", "reward of the self-edit"),
    "reward_before": Column("float64", "reward of no self-edit"),
    "accuracy": Column("float64", "share of right answers after the update"),
    "accuracy_before": Column("float64", "the same without a self-edit"),
    "log_likelihood": Column("float64", "log-likelihood of the right answers, nats per token"),
    "log_likelihood_before": Column("float64", "the same without a self-edit"),
    "terms": Column({}, "terms of the reward, unweighted"),
    "answers": Column(["string"], "answers after the update"),
    "verdicts": Column(["bool"], "whether they are right"),
    "answers_before": Column(["string"], "answers without a self-edit"),
    "verdicts_before": Column(["bool"], "whether they are right"),
    "error": Column("string", "why the self-edit could not be carried out; empty if it was"),
    "steps": Column("int64", "gradient steps of the update"),
    "tokens": Column("int64", "tokens that the update was trained on, over all epochs"),
    "info": Column("string", "all other fields of the record, as JSON"),
}
"""Columns of all formats."""
_EPISODE = [name for name in list(COLUMNS)[list(COLUMNS).index("problem") :] if name != "info"]


def kinds_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Types of the columns of a row, as in `Column.kind`."""
    kinds = {name: COLUMNS[name].kind for name in row}
    for name in ("prompt", "completion", "chosen", "rejected"):
        if isinstance(row.get(name), list):
            kinds[name] = TURNS
    if "terms" in row:
        kinds["terms"] = dict.fromkeys(row["terms"], "float64")
    return kinds


def rows_of(run: RunFolder, config: ExportConfig) -> tuple[Rows, tuple[str, ...]]:
    """Rows of a run in a format, and notes for the user.

    Raises:
        UserError: There are none, or the prompts of sft and dpo cannot be made again.
    """
    problems, notes = known_problems(run, config.task)
    if config.format == "episodes":
        splits = _episodes(run, problems)
    else:
        if not problems:
            raise UserError(
                f"{run.path}: its prompts cannot be made again, since contexts are not in a run "
                f"folder ({notes[0].partition(': ')[2]}); --task names a task that may be imported"
            )
        splits = {"train": list(_distinct(_examples(run, config, problems)))}
    splits = {split: _clean(rows) for split, rows in splits.items() if rows}
    if not splits:
        raise UserError(f"{run.path}: {_LACKING[config.format]}")
    return splits, notes


_LACKING = {
    "sft": "no self-edit was better than none; nothing to imitate",
    "dpo": "no problem has two self-edits with different rewards; give --samples 2 or more",
    "episodes": "holds no self-edits yet",
}


def prompt_for(settings: Mapping[str, Any], policy: str, default: str = "") -> str:
    """Name of the prompt that a policy of a run was asked with.

    Args:
        settings: The run's settings.
        policy: Name of the policy.
        default: Name of the prompt where nothing else says one.
    """
    named = (parted(policy)[1], str((settings.get("options") or {}).get("prompt")))
    return next((name for name in named if name in PROMPTS), default)


def usual_prompt(run: RunFolder, task: Task) -> str:
    """Name of the prompt for a run's task and language.

    Raises:
        UserError: The language is of a module of its own, or its self-edits are no texts.
    """
    env = run.read_json("config.json")["env"]
    edit = str(env.get("edit", EnvConfig.edit))
    if edit not in EDITS:
        raise UserError(f"{run.path}: language {edit} is not the package's own; give another run")
    language = make_language(EnvConfig(edit=edit, edit_options=env.get("edit_options") or {}))
    if not takes_text(language):
        raise UserError(f"{run.path}: --edit {edit}: its self-edits are vectors, not texts")
    return default_prompt(task, language)


def _examples(
    run: RunFolder, config: ExportConfig, problems: Mapping[str, Problem]
) -> Iterator[dict[str, Any]]:
    settings, task = run.read_json("config.json"), task_of(run, config.task)
    usual = usual_prompt(run, task)
    for group in _groups(run, problems):
        context = task.reads(problems[group[0].group])

        def asked(e: Experience, context: str = context) -> Any:
            name = prompt_for(settings, str(e.info["policy"]), usual)
            text = "".join(edit_prompt(name, "", context, cue=not config.chat))
            return _turn("user", text) if config.chat else text

        def said(e: Experience) -> Any:
            return _turn("assistant", e.text) if config.chat else e.text

        if config.format == "sft":
            for e in best(group, config.keep):
                yield {
                    "prompt": asked(e),
                    "completion": said(e),
                    "reward": float(e.reward),
                    "problem": e.group,
                }
        else:
            for good, bad in _pairs(group, config.keep):
                yield {
                    "prompt": asked(good),
                    "chosen": said(good),
                    "rejected": said(bad),
                    "chosen_reward": float(good.reward),
                    "rejected_reward": float(bad.reward),
                    "problem": good.group,
                }


def _groups(run: RunFolder, problems: Mapping[str, Problem]) -> list[list[Experience]]:
    """Self-edits that are compared with each other: those of a problem in a round.

    Of a training run those of its training: its comparison is held out.
    """
    phase = run.read_json("config.json")["command"]
    groups: dict[tuple[int, str], list[Experience]] = {}
    for record in run.every_record():
        if record["phase"] == phase and record.get("problem") in problems and record.get("text"):
            one = experience({}, _without_own_terms(record))
            groups.setdefault((int(record["round"]), one.group), []).append(one)
    return list(groups.values())


def _without_own_terms(record: Record) -> Record:
    """A record without terms of modules of their own, which ranking it would import."""
    terms = record.get("terms") or {}
    return record | {"terms": {name: value for name, value in terms.items() if name in REWARDS}}


def _pairs(group: Sequence[Experience], count: int) -> Iterator[tuple[Experience, Experience]]:
    """The best self-edits with the worst ones, where the reward tells them apart."""
    ranked = sorted(group, key=lambda e: e.reward, reverse=True)
    good = [e for e in ranked if not e.info["error"]][:count]
    for better, worse in zip(good, ranked[::-1], strict=False):
        if better.reward > worse.reward and better.text != worse.text:
            yield better, worse


def _turn(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def _distinct(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows without those whose texts an earlier one has."""
    seen = set()
    for row in rows:
        key = json.dumps([row.get(name) for name in ("prompt", "completion", "chosen", "rejected")])
        if key not in seen:
            seen.add(key)
            yield row


def _episodes(run: RunFolder, problems: Mapping[str, Problem]) -> Rows:
    """All records; what was evaluated is the split test."""
    records = run.every_record()
    terms = list(dict.fromkeys(name for r in records for name in r.get("terms") or {}))
    splits: Rows = {"train": [], "test": []}
    for record in records:
        split = "train" if record["phase"] == "train" else "test"
        splits[split].append(_episode(record, problems.get(str(record.get("problem"))), terms))
    return splits


def _episode(record: Record, problem: Problem | None, terms: Sequence[str]) -> dict[str, Any]:
    row = {name: record.get(name) for name in _EPISODE}
    row["context"] = problem.context if problem else None
    row["questions"] = (
        [{"question": q.text, "answer": q.answer} for q in problem.questions] if problem else None
    )
    own = record.get("terms") or {}
    del row["terms"]
    if terms:  # Parquet has no structure without fields
        row["terms"] = {name: own.get(name) for name in terms}
    rest = {name: value for name, value in record.items() if name not in COLUMNS}
    return row | {"info": json.dumps(finite_or_none(rest))}


def _clean(value: Any) -> Any:
    """Plain data as Arrow takes them: no lone surrogates, NaN and infinities null."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {_clean(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return finite_or_none(value)
