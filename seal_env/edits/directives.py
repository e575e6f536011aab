"""The self-edit language `directives`: how to make training data, and how to train on it.

A directive is a JSON object anywhere in a text, as in SEAL's few-shot experiments (arXiv
2506.10943, section 3.2). `seal_env.edits.directive_model` says what it may hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.edits.directive_model import (
    FIELDS,
    STRATEGIES,
    TOOLS,
    TWICE,
    DirectiveBlock,
    directive_model,
    directive_pattern,
    explain,
    tool_key,
)
from seal_env.edits.training_data import clean
from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Task
from seal_env.updates.finetuning import Finetuning, Training

if TYPE_CHECKING:
    from seal_env.engine.learner import Learner

MOST_CHARACTERS = 65_536
"""Longest part of a text that is read, in characters."""
DEEPEST = 8
"""Objects and lists within each other that are followed; a directive has two."""

# Outside of an object only the beginning of one counts, so that prose may hold quotation marks
# and brackets. A string ends with its line, as in JSON: one that is never closed costs no more
# than its line. Every alternative matches without going back over what it has read.
_START = re.compile(r'\{(?=\s*+["}])')
_STEP = re.compile(r'"(?:[^"\\\n]|\\[^\n])*+("?)|[{}\[\]]')
_CLOSES = {"}": "{", "]": "["}


class Directives(EditLanguage):
    """Reads the first JSON object in a text that has a directive's fields.

    `data_generation` and `training` are required, unless there are `data` or `layers`. Every
    field of a block that is there is required, too.

    Args:
        tools: Names of the tools that there are, each of which `data_generation` then has to
            switch on or off; None for those of the task (see `bind`), or, as long as no task is
            known, for all of `directive_model.TOOLS`, where one that is left out is off.

    Raises:
        UserError: Something among `tools` is no name.
    """

    default_prompt = "directives"

    def __init__(self, tools: Sequence[str] | None = None) -> None:
        for tool in tools or ():
            if not (isinstance(tool, str) and tool.isidentifier()):
                raise UserError(f"directives: tools={tools!r}: {tool!r} is no name of a tool")
        self.tools = TOOLS if tools is None else tuple(dict.fromkeys(tools))
        """The tools that can be asked for."""
        self.given = tools is not None
        """Whether the option `tools` says so, whatever the task."""
        self.required = self.given
        """Whether a directive has to say something of every tool."""
        self.layers: int | None = None
        """How many layers the learner has."""
        self._model = directive_model(self.tools, self.required, self.layers)

    def bind(self, learner: Learner, task: Task | None = None) -> None:
        """Bounds `layers` by the learner's, and the tools by the task's.

        Raises:
            UserError: The option `tools` names one that the task does not have.
        """
        self.layers = int(learner.model.config.get_text_config().num_hidden_layers)
        if task is not None:
            if not self.given:
                self.tools, self.required = tuple(task.tools), True
            for tool in set(self.tools) - set(task.tools):
                known = ", ".join(task.tools) or "none"
                raise UserError(f"directives: tools: the task has no {tool!r}; it has: {known}")
        self._model = directive_model(self.tools, self.required, self.layers)

    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads a text as a directive. Any string is legal; see `EditLanguage.parse`."""
        if not isinstance(action, str):
            return SelfEdit(error=f"directives: a text is wanted, not {type(action).__name__}")
        truncated = len(action) > MOST_CHARACTERS
        try:
            directive = self._validated(_find(action[:MOST_CHARACTERS]))
        except ValidationError as error:
            reason = explain(error, self._model)
        except ValueError as error:
            reason = str(error)
        else:
            return SelfEdit(self._update(directive, problem), truncated)
        return SelfEdit(truncated=truncated, error=f"directives: {reason}")

    def example(self, problem: Problem) -> str:
        """A directive that is right for a problem."""
        if problem.examples:
            return write_directive(self.tools, self.tools[:1], 1e-3, 2)
        training = {"strategy": STRATEGIES[1], "learning_rate": 1e-3, "num_train_epochs": 2}
        return json.dumps({"data": ["A text to learn."], "training": training})

    def pattern(self) -> str:
        """A regular expression of directives for constrained decoding; see `directive_pattern`."""
        return directive_pattern(self.tools)

    def _validated(self, found: dict[str, Any]) -> DirectiveBlock:
        """Raises ValidationError or ValueError."""
        directive = self._model.model_validate(found)
        if directive.data is None and directive.layers is None:
            needed = [*(["data_generation"] if self.tools else []), "training"]
            for name in needed:
                if getattr(directive, name) is None:
                    raise ValueError(f"{name}: is missing, and there is no data and no layers")
        return directive

    def _update(self, directive: DirectiveBlock, problem: Problem) -> Finetuning:
        texts = list(directive.data or ())
        passage = clean(problem.context).strip()
        if passage and not problem.examples:
            # Nothing to generate examples from: a passage, which is learned as SEAL does it.
            texts.append(passage)
        title = clean(problem.title).strip()
        prefix = f"{title}\n" if title else ""
        layers = None if directive.layers is None else tuple(sorted(set(directive.layers)))
        training = Training(layers=layers)
        if directive.training is not None:
            training = Training(
                learning_rate=directive.training.learning_rate,
                epochs=directive.training.num_train_epochs,
                outputs_only=directive.training.strategy == STRATEGIES[0],
                layers=layers,
            )
        sequences = tuple(prefix + text for text in texts)
        return Finetuning(sequences, self._switched_on(directive, problem), training)

    def _switched_on(self, directive: DirectiveBlock, problem: Problem) -> tuple[str, ...] | None:
        """The tools whose examples are learned; see `Finetuning.tools`."""
        switches = directive.data_generation
        if switches is not None:
            return tuple(tool for tool in self.tools if getattr(switches, tool_key(tool)))
        # Where only settings are given, what the problem shows is learned as it is.
        return () if directive.data is None and problem.examples else None


def write_directive(
    tools: Sequence[str],
    on: Collection[str],
    learning_rate: float,
    epochs: int,
    strategy: str = STRATEGIES[0],
) -> str:
    """A directive as text, in one line: the form in which menus and examples write it.

    Args:
        tools: The tools that it says something of, in this order.
        on: Those that are switched on.
        learning_rate: Highest learning rate.
        epochs: Passes over the data.
        strategy: One of `directive_model.STRATEGIES`.
    """
    training = {"strategy": strategy, "learning_rate": learning_rate, "num_train_epochs": epochs}
    switches = {tool_key(tool): tool in on for tool in tools}
    return json.dumps({"data_generation": switches, "training": training})


def _find(text: str) -> dict[str, Any]:
    """The first object of a text that has a directive's fields.

    Raises:
        ValueError: There is none; the reason in one line.
    """
    failure: str | None = None
    for start, stop in sorted(_objects(text)):
        try:
            return dict(_DECODER.decode(text[start:stop]))
        except json.JSONDecodeError as error:
            failure = failure or f"not JSON at character {start + error.pos}: {error.msg}"
    if failure is None and _START.search(text):
        failure = f"no closed JSON object that has any of {', '.join(FIELDS)}"
    raise ValueError(failure or "no JSON object in the text")


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Where the closed objects are that mention a directive's fields themselves, by their ends.

    Reads the text once. What opens and never closes, or closes what was not opened, is dropped.
    """
    opened: list[tuple[int, str]] = []
    named: list[bool] = []
    position = 0
    while found := (_STEP if opened else _START).search(text, position):
        token, position = found[0], found.end()
        if token in "{[":
            opened.append((found.start(), token))
            named.append(False)
            broken = len(opened) > DEEPEST
        elif token in _CLOSES:
            start, bracket = opened.pop()
            broken = bracket != _CLOSES[token]
            if named.pop() and not broken:
                yield start, position
        else:
            named[-1] |= token[1:-1] in FIELDS
            broken = not found[1]
        if broken:
            opened, named = [], []


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a key that was given twice stands out."""
    read: dict[str, Any] = {}
    for key, value in pairs:
        name = key.encode("utf-8", "replace").decode("utf-8")
        read[name] = TWICE if name in read else value
    return read


def _integer(digits: str) -> int | float:
    """A number without a fraction; one of very many digits as a float, which is quick."""
    return int(digits) if len(digits) < 20 else float(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_integer)
