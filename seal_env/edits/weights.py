"""The self-edit language `weights`: lines that say how to change named weights.

A line that begins with one of the verbs below is an instruction, any other is prose and is not
looked at. Upper and lower case are alike::

    line    = [bullet] verb ["."]
    verb    = ("adjust" | "change" | "increase" | "raise") target "by" amount
            | ("decrease" | "reduce" | "lower") target "by" amount
            | "add" amount "to" target  |  "subtract" amount "from" target
            | ("scale" | "multiply") target "by" number
            | "set" target "to" number
    amount  = number ["%"]                    an amount in % scales: "by 5%" is "times 1.05"
    target  = name ["[" row "," column "]"]   one weight; ":" for a whole row or column
            | name ["row" n] ["column" n]     also "row 7 of NAME"
            | "neuron" n "of" "layer" n       the rows of weights into a neuron of the MLP
            | "layer" n ["attention" | "mlp" | name]    also "attention of layer 1"

A name is that of a linear layer, or of a module that holds some: ``model.layers.2.mlp.down_proj``,
``layers.2.mlp`` or, in ``down_proj of layer 2``, any end of it that only one of them has.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from seal_env.checks import check_fields
from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.edits.weight_names import Matrices, Matrix, Refused
from seal_env.engine.changes import Change
from seal_env.engine.deltas import Deltas
from seal_env.engine.learner import Learner
from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Task
from seal_env.updates.weight_changes import WeightChanges

_BY = {
    "adjust": 1,
    "change": 1,
    "increase": 1,
    "raise": 1,
    "decrease": -1,
    "reduce": -1,
    "lower": -1,
}
_FACTOR = ("scale", "multiply")
VERBS = (*_BY, *_FACTOR, "add", "subtract", "set")
"""The words that an instruction begins with."""
_NUMBERED = ("row", "column", "col", "neuron", "layer")
_FILLING = {"of", "in", "the", "and", "weight", "weights", "matrix"}
_BULLET = re.compile(r"(?:[-•‣◦>]|\(?[0-9]{1,3}[.)]) ")
_MARKUP = str.maketrans({"`": None, "*": None, '"': None, "−": "-", "–": "-"})
_BREAKS = re.compile(r"\r\n?|[\n\x0b\x0c\x85\u2028\u2029]")
_BRACKETS = re.compile(r" ?\[([^\[\]]*)\]")
_INTEGER = re.compile(r"-?[0-9]{1,12}")
# Possessive, so that what is no number is known to be none without going back over its digits.
_NUMBER = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:e[+-]?[0-9]++)?")
_NO_NUMBER = re.compile(r"[+-]?(?:inf|infinity|nan)")
_LARGEST = float(torch.finfo(torch.float32).max)
LONGEST_NUMBER = 400
"""Characters of a number; a longer one is none."""


@dataclass(frozen=True)
class WeightsConfig:
    """What a self-edit may change, and how much."""

    editable: str = "*"
    """Which matrices may be changed: a pattern as the shell has them (`*`, `?`, `[2-3]`) for
    their names, of which it may leave out the beginning, e.g. "layers.[2-3].mlp.*"."""
    max_share: float = 0.25
    """Most weights that are touched, as a share of all editable ones."""
    max_change: float = 0.25
    """Largest change of a matrix by the whole self-edit, as a share of the matrix's own norm
    (Frobenius norms, both)."""
    max_instructions: int = 64
    """Most instructions."""
    max_characters: int = 16_384
    """Longest text."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("max_share", "max_change"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UserError(f"weights: {name}={getattr(self, name)} must be more than 0")
        for name in ("max_instructions", "max_characters"):
            if getattr(self, name) < 1:
                raise UserError(f"weights: {name}={getattr(self, name)} must be at least 1")


class Weights(EditLanguage):
    """Reads a self-edit as changes of named weights; the grammar stands at the top of the file.

    It is all or nothing: a line that is an instruction by its first word and cannot be carried
    out (a missing name, an index out of range, a number that is not finite, a matrix that is not
    editable) makes the whole text an error that names the line. So does what exceeds a bound:
    nothing is cut off, since half an instruction may mean something else.
    """

    def __init__(self, config: WeightsConfig = WeightsConfig()) -> None:
        self.config = config
        self.learner: Learner | None = None
        self.matrices: Matrices | None = None

    def bind(self, learner: Learner, task: Task | None = None) -> None:
        """Learns the names, shapes and norms of a model's matrices.

        Raises:
            UserError: `editable` fits none of them.
        """
        self.matrices = Matrices(learner, self.config.editable)
        self.learner = learner

    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads a text as changes. Any string is legal; see `EditLanguage.parse`."""
        try:
            return SelfEdit(WeightChanges(self._changes(action)))
        except Refused as refused:
            return SelfEdit(error=str(refused))

    def _changes(self, text: Any) -> tuple[Change, ...]:
        config = self.config
        if self.matrices is None or self.learner is None:
            raise Refused("the language has not been told which model it changes")
        if not isinstance(text, str):
            raise Refused(f"a self-edit in this language is a text, not a {type(text).__name__}")
        if len(text) > config.max_characters:
            raise Refused(f"{len(text)} characters: at most {config.max_characters} are allowed")
        lines = [(n, _tidy(line)) for n, line in enumerate(_BREAKS.split(text), start=1)]
        lines = [(n, line) for n, line in lines if line.split(" ", 1)[0] in VERBS]
        if not lines:
            raise Refused("no instruction: no line begins with a verb such as adjust, scale or add")
        if len(lines) > config.max_instructions:
            raise Refused(
                f"{len(lines)} instructions: at most {config.max_instructions} are allowed"
            )
        changes: list[Change] = []
        ends: list[tuple[int, int]] = []  # number of each line, and of changes up to its end
        for number, line in lines:
            try:
                changes += _instruction(line, self.matrices)
            except Refused as refused:
                raise Refused(f"line {number}: {refused}") from None
            ends.append((number, len(changes)))
        self._check_share(changes, ends, self.matrices)
        self._check_size(changes, self.learner, self.matrices)
        return tuple(changes)

    def _check_share(
        self, changes: list[Change], ends: list[tuple[int, int]], matrices: Matrices
    ) -> None:
        """Refuses to touch many weights; says from which line on they are too many."""
        most = self.config.max_share

        def share(count: int) -> float:
            return _touched(changes[:count], matrices) / matrices.size

        if share(len(changes)) > most:
            first = bisect_right(ends, most, key=lambda end: share(end[1]))
            number, count = ends[first]
            raise Refused(
                f"line {number}: {share(count):.3g} of the editable weights would be touched: at "
                f"most {most:g} is allowed"
            )

    def _check_size(self, changes: list[Change], learner: Learner, matrices: Matrices) -> None:
        """Refuses changes that are large beside the matrix."""
        deltas = Deltas.of(learner.model, changes).matrices
        most = self.config.max_change
        for name, delta in deltas.items():
            size, norm = float(torch.linalg.vector_norm(delta.double())), matrices.all[name].norm
            if not size <= most * norm:  # also if it is NaN
                raise Refused(
                    f"{name} would change by {size:.3g}, and its norm is {norm:.3g}: "
                    f"at most {most:g} of it is allowed"
                )


def _tidy(line: str) -> str:
    """A line in lower case, without bullet, markup and closing stop, one space between words."""
    joined = " ".join(line.translate(_MARKUP).lower().split()).replace(" %", "%")
    bullet = _BULLET.match(joined)
    verb, space, rest = (joined[bullet.end() :] if bullet else joined).partition(" ")
    rest = _BRACKETS.sub(lambda m: f"[{m[1].replace(' ', '')}]", rest)
    return f"{verb}{space}{rest}".rstrip(".;,! ")


def _instruction(line: str, matrices: Matrices) -> list[Change]:
    """Reads a tidied line that begins with a verb.

    Raises:
        Refused: It cannot be carried out.
    """
    verb, *words = line.split(" ")
    if verb in ("add", "subtract"):
        preposition = "to" if verb == "add" else "from"
        if len(words) < 3 or words[1] != preposition:
            raise Refused(f"expected '{verb} AMOUNT {preposition} TARGET'")
        written, target, sign = words[0], words[2:], 1 if verb == "add" else -1
    else:
        preposition = "to" if verb == "set" else "by"
        if len(words) < 3 or words[-2] != preposition:
            raise Refused(f"expected '{verb} TARGET {preposition} NUMBER'")
        written, target, sign = words[-1], words[:-2], _BY.get(verb, 1)
    if verb in _BY and written.endswith("%"):
        operation, amount = "scale", 1 + sign * _number(written[:-1]) / 100
    elif verb in _FACTOR:
        operation, amount = "scale", _number(written)
    elif verb == "set":
        operation, amount = "set", _number(written)
    else:
        operation, amount = "add", sign * _number(written)
    place = _place(target, matrices)
    return [Change(m.name, place.row, place.column, operation, amount) for m in place.matrices]


def _number(word: str) -> float:
    """A number that a float32 can hold."""
    if len(word) > LONGEST_NUMBER:
        raise Refused(f"{word[:40]!r}... has {len(word)} characters, too many for a number")
    if _NUMBER.fullmatch(word):
        value = float(word)
    elif _NO_NUMBER.fullmatch(word):
        value = math.inf
    else:
        raise Refused(f"{word[:40]!r} is no number")
    if abs(value) > _LARGEST:
        raise Refused(f"{word[:40]} is not finite as a float32")
    return value


class _Place(NamedTuple):
    """What is changed."""

    matrices: list[Matrix]
    row: int | None
    column: int | None


def _place(words: list[str], matrices: Matrices) -> _Place:
    """Reads a target."""
    numbers, noun = _take_numbers(words)
    row, column = numbers.get("row"), numbers.get("column")
    layer, neuron = numbers.get("layer"), numbers.get("neuron")
    if noun is not None and noun.endswith("]"):
        if row is not None or column is not None:
            raise Refused("row and column are given twice")
        noun, row, column = _take_index(noun)
    noun = (noun or "").removesuffix(".weight") or None
    if neuron is not None:
        if layer is None:
            raise Refused("a neuron needs its layer: neuron 5 of layer 2")
        if noun not in (None, "mlp") or row is not None or column is not None:
            raise Refused("a neuron is named by its number and its layer alone")
        chosen, row = matrices.into_neurons(layer), neuron
    elif noun is None and layer is None:
        raise Refused("no target: name a matrix, a layer or a neuron of a layer")
    else:
        chosen = matrices.find(noun, layer)
        if len(chosen) > 1 and not (row is None and column is None):
            raise Refused(f"a row or column of which matrix? {len(chosen)} are meant: name one")
    for matrix in chosen:
        if not matrix.editable:
            raise Refused(f"{matrix.name} may not be changed: only {matrices.pattern!r} may")
        for what, index, size in (("row", row, matrix.outputs), ("column", column, matrix.inputs)):
            if index is not None and not 0 <= index < size:
                raise Refused(f"{matrix.name} has no {what} {index}: they go from 0 to {size - 1}")
    return _Place(chosen, row, column)


def _take_numbers(words: list[str]) -> tuple[dict[str, int], str | None]:
    """What is numbered in a target (row, column, neuron, layer), and the name in it, if any."""
    numbers: dict[str, int] = {}
    nouns = []
    rest = iter(word.strip(",").removesuffix("'s").removesuffix("’s") for word in words)
    for word in rest:
        if word in _NUMBERED:
            word = "column" if word == "col" else word
            number = next(rest, "")
            if word in numbers or not _INTEGER.fullmatch(number):
                raise Refused(f"expected one whole number after {word!r}")
            numbers[word] = int(number)
        elif word and word not in _FILLING:
            nouns.append(word)
    if len(nouns) > 1:
        raise Refused(f"what is {' '.join(nouns)[:60]!r}? expected one name")
    return numbers, nouns[0] if nouns else None


def _take_index(noun: str) -> tuple[str, int | None, int | None]:
    """A name with an index in brackets: the name, the row and the column."""
    name, _, inside = noun[:-1].partition("[")
    entries = inside.split(",")
    if len(entries) > 2 or not all(e == ":" or _INTEGER.fullmatch(e) for e in entries):
        raise Refused(f"[{inside[:40]}] is no index: expected [row, column], with ':' for all")
    row, column, *_ = [None if e == ":" else int(e) for e in entries] + [None]
    return name, row, column


def _touched(changes: Sequence[Change], matrices: Matrices) -> int:
    """How many weights some changes touch, each counted once."""
    places: dict[str, set[tuple[int | None, int | None]]] = {}
    for change in changes:
        places.setdefault(change.name, set()).add((change.row, change.column))
    return sum(_within(matrices.all[name], some) for name, some in places.items())


def _within(matrix: Matrix, places: set[tuple[int | None, int | None]]) -> int:
    """How many weights of a matrix some rows, columns and single places have together."""
    if (None, None) in places:
        return matrix.size
    rows = {row for row, column in places if column is None}
    columns = {column for row, column in places if row is None}
    whole = len(rows) * matrix.inputs + (matrix.outputs - len(rows)) * len(columns)
    single = sum(
        row is not None and column is not None and row not in rows and column not in columns
        for row, column in places
    )
    return whole + single
