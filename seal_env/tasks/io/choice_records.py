"""Records of questions with choices, in the formats of public data sets.

Each format is recognized by its fields. MMLU's, which also suits other data: ``question``,
``choices`` (or ``options``; a list, or ``{"text", "label"}``) and ``answer`` (or ``answerKey``,
``label``); optionally ``context`` and ``subject``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from seal_env.hashing import stable_hash
from seal_env.tasks.io.answer_keys import Keyed, Keys
from seal_env.tasks.io.reading import named_rows, parse_json
from seal_env.tasks.io.records import Record, kind, text_field

MOST_CHOICES = len(ascii_uppercase)
"""Letters of choices."""


@dataclass(frozen=True)
class ChoiceRecord:
    """One question of the data."""

    subject: str
    """Subject; may be empty."""
    context: str
    """Passage that it belongs to; may be empty."""
    question: str
    """The question."""
    keyed: Keyed
    """Choices and the key of the correct one."""


@dataclass(frozen=True)
class Arrangement:
    """Fields of a format, by names in lower case; the first of several that is present is used."""

    told_by: tuple[str, ...] = ()
    """Fields that only this format has."""
    question: tuple[str, ...] = ("question", "question_stem", "query")
    """Fields of the question; names joined by ``+`` are its lines."""
    spread: tuple[str, ...] = ()
    """One field per choice, instead of a list."""
    key: tuple[str, ...] = ("answer_idx", "answer", "answerkey", "label", "answer_index")
    """Field of the key."""
    readings: tuple[Keys, ...] = ()
    """Readings of the keys, see `Keyed`; empty if the format does not decide."""
    shuffled: bool = False
    """Whether the correct choice has a fixed position, so that choices are sorted in an order that
    depends on their texts alone."""


_PLAIN = Arrangement()
# The keys as documented by these data sets: PIQA (arXiv 1911.11641), HellaSwag (1905.07830),
# WinoGrande (1907.10641), COPA, Social IQa (1904.09728), MedMCQA (2203.14371), SciQ (1707.06209).
ARRANGEMENTS = (
    Arrangement(("goal", "sol1", "sol2"), ("goal",), ("sol1", "sol2"), ("label",), ("positions",)),
    Arrangement(("ctx", "endings"), ("ctx",), (), ("label",), ("positions",)),
    Arrangement(
        ("sentence", "option1", "option2"),
        ("sentence",),
        ("option1", "option2"),
        ("answer",),
        ("numbers",),
    ),
    Arrangement(
        ("premise", "choice1", "choice2"),
        ("premise+question", "premise"),
        ("choice1", "choice2"),
        ("label",),
        ("positions",),
    ),
    Arrangement(
        ("answera", "answerb", "answerc"),
        ("question",),
        ("answera", "answerb", "answerc"),
        ("label",),
        ("numbers",),
    ),
    Arrangement(
        ("opa", "opb", "opc", "opd"),
        ("question",),
        ("opa", "opb", "opc", "opd"),
        ("cop",),
        ("positions",),
    ),
    Arrangement(
        ("correct_answer", "distractor1"),
        ("question",),
        ("correct_answer", "distractor1", "distractor2", "distractor3"),
        ("correct_answer",),
        ("texts",),
        shuffled=True,
    ),
)
_CONTEXT = ("context", "passage", "article", "support")
_SUBJECT = ("subject", "title", "category", "subject_name", "activity_label")
_CHOICES = ("choices", "options", "endings")
_SPREAD = re.compile(r"(?:choice|option|opt|ending|answer)?[ _]?([a-z]|[0-9]{1,2})")
_LETTERED: tuple[Keys, ...] = ("labels", "positions", "texts")
"""Readings of keys of choices with letters or labels in the data."""


def choice_records(records: list[Record]) -> list[ChoiceRecord]:
    """All records, with uninterpreted keys.

    Raises:
        ValueError: A record is invalid; the message names location and field.
    """
    return [_read(place, found) for place, found in _named(records)]


def _named(records: list[Record]) -> list[Record]:
    """Rows of a CSV file as records with the names of its header; other records unchanged."""
    if not records or not isinstance(records[0][1], tuple):
        return records
    names = [name.strip().lower() for name in records[0][1]]
    arrangements = (_PLAIN, *ARRANGEMENTS)
    questions = {name for each in arrangements for name in each.question}
    keys = {name for each in arrangements for name in each.key}
    if not (questions & set(names) and keys & set(names)):
        return records
    return [
        (place, {name: text for name, text in row.items() if name and text.strip()})
        for place, row in named_rows(records[1:], names)
    ]


def _read(place: str, found: Any) -> ChoiceRecord:
    """Checks one question."""
    if isinstance(found, tuple | list):
        return _row(place, found)
    if not isinstance(found, Mapping):
        raise ValueError(f"{place} must be an object with question, choices and answer")
    fields = {str(name).lower(): value for name, value in found.items()}
    asked = fields.get("question")
    if isinstance(asked, Mapping):  # ARC's and CommonsenseQA's own files
        fields |= {"question": asked.get("stem"), "choices": asked.get("choices")}
    arrangement = next(
        (each for each in ARRANGEMENTS if all(name in fields for name in each.told_by)), _PLAIN
    )
    return ChoiceRecord(
        subject=_first(fields, _SUBJECT, place).replace("_", " "),
        context=_first(fields, _CONTEXT, place),
        question=_question(fields, arrangement, place),
        keyed=_checked(_choices(fields, arrangement, place), place),
    )


def _row(place: str, row: Sequence[Any]) -> ChoiceRecord:
    """Question of a row of MMLU's own files (question, choices, letter), without empty fields."""
    if len(row) < 4:
        raise ValueError(f"{place}: needs question, choices and answer, has {len(row)} fields")
    lettered = dict(zip(ascii_uppercase, row[1:-1], strict=False))
    if len(lettered) < len(row) - 2:
        raise ValueError(f"{place}: has more than {MOST_CHOICES} choices")
    given = {letter: text for letter, text in lettered.items() if text != ""}
    question = text_field({"question": row[0]}, "question", place).strip()
    choices = _Choices(list(given.values()), row[-1], tuple(given), _LETTERED)
    return ChoiceRecord("", "", question, _checked(choices, place))


def _question(fields: Mapping[str, Any], arrangement: Arrangement, place: str) -> str:
    for names in arrangement.question:
        if all(name in fields for name in names.split("+")):
            lines = (text_field(fields, name, place).strip() for name in names.split("+"))
            return "\n".join(lines)
    return text_field(fields, arrangement.question[0], place)


def _first(fields: Mapping[str, Any], names: tuple[str, ...], place: str) -> str:
    """First non-empty value of several fields; empty if there is none."""
    name = next((name for name in names if fields.get(name)), names[0])
    return text_field(fields, name, place, default="").strip() if fields.get(name) else ""


@dataclass(frozen=True)
class _Choices:
    """Choices and key of a record."""

    texts: Any
    key: Any
    labels: Any = ()
    readings: tuple[Keys, ...] = ()
    shuffled: bool = False


def _choices(fields: Mapping[str, Any], arrangement: Arrangement, place: str) -> _Choices:
    """Choices and key in the fields of a format."""
    name = next((name for name in arrangement.key if name in fields), "")
    key, readings = fields.get(name), arrangement.readings
    if arrangement.spread:
        texts = [fields[name] for name in arrangement.spread if name in fields]
        return _Choices(texts, key, (), readings, arrangement.shuffled)
    if "mc1_targets" in fields:  # TruthfulQA (arXiv 2109.07958)
        return _truthful(fields["mc1_targets"], place)
    given = next((fields[name] for name in _CHOICES if name in fields), None)
    if given is None and str(key).strip().lower() in ("true", "false"):  # BoolQ (1905.10044)
        return _Choices(["yes", "no"], "yes" if str(key).strip().lower() == "true" else "no")
    if given is None:
        spread = {m[1]: fields[name] for name in fields if (m := _SPREAD.fullmatch(name))}
        lettered = all(label.isalpha() for label in spread)
        return _Choices(
            list(spread.values()), key, tuple(spread), _LETTERED if lettered else readings
        )
    if isinstance(given, str):  # a field of a CSV file
        try:
            given = parse_json(given)
        except ValueError as error:
            raise ValueError(f"{place}: 'choices' is not a JSON list ({error})") from None
    if isinstance(given, Mapping) and "text" not in given:  # MedQA (2009.13081): {"A": ..., ...}
        return _Choices(list(given.values()), key, tuple(given), readings or _LETTERED)
    if isinstance(given, Mapping):
        return _Choices(given.get("text"), key, given.get("label", ()), readings or _LETTERED)
    if isinstance(given, list) and given and all(isinstance(one, Mapping) for one in given):
        texts, labels = ([one.get(part) for one in given] for part in ("text", "label"))
        return _Choices(texts, key, labels, readings or _LETTERED)
    # ARC's "answerKey" is a label, and without labels a digit would not say which.
    return _Choices(given, key, (), ("labels",) if name == "answerkey" else readings)


def _truthful(targets: Any, place: str) -> _Choices:
    """``{"choices": [...], "labels": [1, 0, ...]}``, or in the original ``{CHOICE: 1, ...}``."""
    if isinstance(targets, Mapping) and isinstance(targets.get("choices"), list):
        texts, marks = targets["choices"], targets.get("labels")
    elif isinstance(targets, Mapping):
        texts, marks = list(targets), list(targets.values())
    else:
        raise ValueError(f"{place}: 'mc1_targets' must be an object, not {kind(targets)}")
    if not isinstance(marks, list) or len(marks) != len(texts) or marks.count(1) != 1:
        raise ValueError(f"{place}: 'mc1_targets' must mark one choice with 1, all others with 0")
    return _Choices(texts, texts[marks.index(1)], (), ("texts",), shuffled=True)


def _checked(found: _Choices, place: str) -> Keyed:
    """Checks a list of choices."""
    if not isinstance(found.texts, list) or not 2 <= len(found.texts) <= MOST_CHOICES:
        raise ValueError(f"{place}: 'choices' must be a list of 2 to {MOST_CHOICES} texts")
    texts = [
        text_field({"choice": text}, "choice", f"{place}, choice {number}").strip()
        for number, text in enumerate(found.texts, 1)
    ]
    if len(set(texts)) == 1:
        raise ValueError(f"{place}: all 'choices' are the same")
    labels = found.labels
    if not isinstance(labels, list | tuple) or len(labels) not in (0, len(texts)):
        raise ValueError(f"{place}: there must be a label for each choice")
    named = tuple(str(label).strip() for label in labels)
    if len(set(named)) < len(named):
        raise ValueError(f"{place}: two choices have the same label")
    key = found.key.strip() if isinstance(found.key, str) else found.key
    if found.shuffled:
        texts.sort(key=stable_hash)
    return Keyed(place, tuple(texts), key, named, found.readings)
