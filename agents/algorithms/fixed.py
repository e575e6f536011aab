"""Baselines without a model: no self-edit, the empty one, a file's, or the data's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from seal_agents.base import Agent, AgentContext, Observation
from seal_env.config import make_task
from seal_env.errors import UserError, reason


class Nothing(Agent):
    """`none`: leaves the learner as it is (SEAL's "no adaptation")."""

    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[str | None]:
        """None for every observation."""
        return [None] * len(observations)


class Passage(Agent):
    """`passage`: an empty self-edit, so the learner trains on the passage alone."""

    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[str | None]:
        """An empty text for every observation."""
        return [""] * len(observations)


class Always(Agent):
    """`always:FILE`: the same self-edit for every problem, the text of a file."""

    takes = "FILE"

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        if not context.argument:
            raise UserError("policy 'always': say what, as in always:FILE")
        try:
            self._text = Path(context.argument).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            name = f"always:{context.argument}"
            raise UserError(f"policy {name!r}: cannot read the file ({reason(error)})") from error

    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[str | None]:
        """The text, for every observation."""
        return [self._text] * len(observations)


class Edits(Agent):
    """`edits:NAME`: self-edits that came with the data, written by whoever is called NAME.

    `edits:FILE.jsonl` reads them from a file instead, one object a line with the fields
    ``context`` (with or without a line above it that has the title) and ``text``.
    """

    takes = "NAME"

    def __init__(self, context: AgentContext) -> None:
        super().__init__(context)
        self.source = context.argument
        if not self.source:
            raise UserError("policy 'edits': say whose, as in edits:gpt4_1 or edits:FILE.jsonl")
        self._texts = (
            _from_file(Path(self.source))
            if self.source.endswith(".jsonl")
            else _from_task(context, self.source)
        )

    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[str | None]:
        """The text that is on file for each observation's context."""
        texts: list[str | None] = []
        for observation in observations:
            context = str(observation["context"])
            found = self._texts.get(context, self._texts.get(context.partition("\n")[2]))
            if found is None:
                start = " ".join(context.split())[:60]
                raise UserError(f"policy 'edits:{self.source}': has no self-edit for {start!r}...")
            texts.append(found)
        return texts


def _from_task(context: AgentContext, name: str) -> dict[str, str]:
    env = context.env
    task = make_task(env.task, env.data, env.task_options)
    size = task.size("all") if task.size("train") is not None else None
    if size is None:
        raise UserError(f"policy 'edits:{name}': task {env.task!r} comes without self-edits")
    texts: dict[str, str] = {}
    known: set[str] = set()
    for index in range(size):
        problem = task.problem("all", index)
        known |= set(problem.edits)
        if name in problem.edits:
            texts[task.reads(problem)] = problem.edits[name]
    if not texts:
        there = ", ".join(sorted(known)) or "none"
        raise UserError(
            f"policy 'edits:{name}': the data has no self-edits by {name!r}; by: {there}"
        )
    return texts


def _from_file(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    try:
        # Not splitlines: a text in JSON may hold other line breaks than the file's own.
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"policy 'edits:{path}': cannot read the file ({reason(error)})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            context, text = record["context"], record["text"]
        except (ValueError, KeyError, TypeError):
            context = text = None
        if not isinstance(context, str) or not isinstance(text, str):
            raise UserError(
                f"policy 'edits:{path}', line {number}: need an object with the texts 'context' "
                f"and 'text'"
            )
        texts[context] = text
    if not texts:
        raise UserError(f"policy 'edits:{path}': the file holds no self-edits")
    return texts
