"""Rewarded self-edits with their contexts, from run folders and from files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from seal_agents.run_folder import RunFolder
from seal_agents.runner.experience import check_record
from seal_env.errors import UserError, printable, reason
from seal_env.tasks.base import Problem, Task
from seal_env.tasks.io.reading import parse_json


@dataclass(frozen=True)
class Pair:
    """A self-edit and its measured reward."""

    context: str
    """Text that the self-edit was written about."""
    text: str
    """The self-edit."""
    reward: float
    """The measured reward."""
    group: str
    """Id of the self-edits that it is compared with: those of one problem in one round."""
    nothing: float | None = None
    """The reward of no self-edit; None if unknown."""


def recorded_pairs(
    run: RunFolder, agent: str, task: Task, problems: Mapping[int, Sequence[Problem]]
) -> list[Pair]:
    """Self-edits of rounds of training, in the order of their records.

    Args:
        run: The run.
        agent: Name of its agent.
        task: Its task.
        problems: Problems of each round.
    """
    pairs = []
    for round_, some in problems.items():
        contexts = {problem.id: task.reads(problem) for problem in some}
        records = run.records("train", agent, round_)
        for _, record in sorted(records.items()):
            check_record(record)
            if record["text"] is not None and record["problem"] in contexts:
                pairs.append(
                    Pair(
                        context=contexts[record["problem"]],
                        text=record["text"],
                        reward=float(record["reward"]),
                        group=f"{run.path}/{round_}/{record['problem']}",
                        nothing=float(record["reward_before"]),
                    )
                )
    return pairs


def worth_of_nothing(pairs: Sequence[Pair]) -> float:
    """Mean reward of no self-edit; the lowest reward of all if none is known."""
    known = [pair.nothing for pair in pairs if pair.nothing is not None]
    return fmean(known) if known else min(pair.reward for pair in pairs)


def read_pairs(file: Path) -> list[Pair]:
    """Pairs from a JSONL file.

    Each line is an object with ``context``, ``text`` and ``reward``, and perhaps ``group`` (an id;
    the context by default) and ``reward_before``, the reward of no self-edit.

    Raises:
        UserError: The file cannot be read, or a line is no such object.
    """
    shown = printable(str(file), 200)
    try:
        lines = file.expanduser().read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"--pairs {shown}: is not UTF-8 (byte {error.start})") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--pairs {shown}: cannot be read ({reason(error)})") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                pairs.append(_pair(parse_json(line)))
            except (ValueError, KeyError, TypeError) as error:
                what = f"it has no {error}" if isinstance(error, KeyError) else error
                raise UserError(
                    f"--pairs {shown}, line {number}: must be a JSON object with the texts context "
                    f"and text and the number reward ({what})"
                ) from None
    return pairs


def _pair(value: Any) -> Pair:
    if not isinstance(value, Mapping):
        raise TypeError("it is no object")
    context, text = value["context"], value["text"]
    if not isinstance(context, str) or not isinstance(text, str):
        raise TypeError("context or text is no text")
    before = value.get("reward_before")
    return Pair(
        context=context,
        text=text,
        reward=_number(value["reward"]),
        group=str(value.get("group", context)),
        nothing=None if before is None else _number(before),
    )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("a reward is no finite number")
    return float(value)
