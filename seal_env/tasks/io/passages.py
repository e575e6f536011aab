"""Passages with questions, from a file or from Hugging Face datasets.

These formats are recognized by their content:

* SQuAD's own JSON (arXiv 1606.05250, 1806.03822): ``{"data": [{"title", "paragraphs": [{"context",
  "qas": [{"question", "answers": [{"text"}], "is_impossible"}]}]}]}``;
* SEAL's JSON (arXiv 2506.10943): ``[{"title", "context", "questions": [{"question",
  "answer"}]}]``, where a passage may have self-edits, as ``"edits": {NAME: TEXT}`` or
  ``"completions": [{"text": TEXT}]``, which are named ``0``, ``1``, ...;
* either kind of record, one per line (JSONL);
* rows of one question each, as Hugging Face's ``squad``: ``{"title", "context", "question",
  "answers": {"text": [...]}}``; rows with the same context and title are one passage;
* CSV or TSV files of such rows, with a header: ``context``, ``question``, ``answer``, and
  optionally ``title``, ``is_impossible`` and, as JSON, ``answers``.

``passage`` is a synonym of ``context``. Every error names the location in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem, Question
from seal_env.tasks.io.reading import named_rows, parse_json
from seal_env.tasks.io.records import Format, Loaded, Record, kind, load, text_field

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


def load_passages(data: str) -> Loaded[Problem]:
    """All passages of a file or a Hugging Face data set, in their order.

    Raises:
        UserError: The data cannot be read; the message says where and what to do.
    """
    return load(data, Format("passages", _flat, _to_problems))


# ---- records -> problems ------------------------------------------------------------------


def _flat(whole: Any) -> Iterable[Record]:
    """Passages of a whole file: a list, a single passage, or SQuAD's nested form."""
    if isinstance(whole, list):
        return [(f"record {number}", item) for number, item in enumerate(whole, 1)]
    if isinstance(whole, dict) and "data" in whole:
        return _squad_records(whole["data"])
    if isinstance(whole, dict):
        return [("record 1", whole)]
    raise ValueError(f"holds no list of passages but {kind(whole)}")


def _squad_records(articles: Any) -> Iterator[Record]:
    """SQuAD's nested form as one record per paragraph."""
    if not isinstance(articles, list):
        raise ValueError(f"'data' must be a list, not {kind(articles)}")
    for number, article in enumerate(articles, 1):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            raise ValueError(f"article {number} has no list of 'paragraphs'")
        for position, paragraph in enumerate(paragraphs, 1):
            place = f"article {number}, paragraph {position}"
            if not isinstance(paragraph, dict):
                raise ValueError(f"{place} must be an object")
            yield place, {"title": page_name(article.get("title", "")), **paragraph}


def page_name(title: Any) -> Any:
    """Title from Wikipedia's page name, as in SQuAD: "Beyonc%C3%A9_Knowles"."""
    return unquote(title.replace("_", " ")) if isinstance(title, str) else title


@dataclass
class _Annotated:
    """Question under construction from several records."""

    golds: list[str] = field(default_factory=list)
    """Answers, one per annotator."""

    def question(self, text: str) -> Question:
        """The question; the most frequent answer, the first in a tie, is the gold one."""
        gold, *others = (answer for answer, _ in Counter(self.golds).most_common())
        return Question(text, gold, aliases=tuple(others))


def _to_problems(records: list[Record]) -> Loaded[Problem]:
    """Problems of all records, without passages that have no answerable question."""
    problems = []
    asked = unanswerable = 0
    for draft in _drafts(_named(records)):
        problem, without = _problem(draft)
        asked += len(problem.questions)
        unanswerable += without
        if problem.questions:
            problems.append(problem)
    if not problems:
        none = " that has an answer" if unanswerable else ""
        raise ValueError(f"holds no questions{none}; every passage needs at least one")
    notes = (
        (f"{unanswerable} of {asked + unanswerable} questions have no answer and are left out",)
        if unanswerable
        else ()
    )
    return Loaded(tuple(_with_unique_ids(problems)), notes)


def _named(records: list[Record]) -> list[Record]:
    """Rows of a CSV file as records with the names of its header; other records unchanged."""
    if not records or not isinstance(records[0][1], tuple):
        return records
    (place, header), *rows = records
    names = [name.strip().lower() for name in header]
    if "question" not in names or not {"context", "passage"} & set(names):
        raise ValueError(
            f"{place}: the first line of a CSV file names its columns: context, question, answer, "
            f"and perhaps title"
        )
    return [(place, _fields(place, row)) for place, row in named_rows(rows, names)]


def _fields(place: str, row: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a CSV file's row; those that are no text are JSON."""
    fields: dict[str, Any] = {name: value for name, value in row.items() if name}
    if "answers" in fields:
        try:
            fields["answers"] = parse_json(fields["answers"] or "[]")
        except ValueError as error:
            raise ValueError(
                f"{place}: 'answers' is not JSON ({error}); a column 'answer' holds plain text"
            ) from None
    return fields


@dataclass
class _Draft:
    """Passage of the data."""

    place: str
    """Location of its beginning."""
    item: dict[str, Any]
    """Its fields; in data of one question per row also those of its first question."""
    entries: list[Record]
    """Its questions, each with its location."""


def _drafts(records: Iterable[Record]) -> Iterable[_Draft]:
    """Passages, with rows of one question each joined.

    Raises:
        ValueError: A record is invalid; the message names location and field.
    """
    drafts: dict[Any, _Draft] = {}
    for position, (place, item) in enumerate(records):
        if not isinstance(item, dict):
            raise ValueError(f"{place} must be an object with title, context and questions")
        if "passage" in item:
            item = {"context": item["passage"], **item}
        if "question" in item and "questions" not in item:
            key = (text_field(item, "context", place), str(item.get("title")))
            item = {**item, "title": page_name(item.get("title", ""))}
            drafts.setdefault(key, _Draft(place, item, [])).entries.append((place, item))
            continue
        entries = item["questions"] if "questions" in item else item.get("qas")
        if not isinstance(entries, list):
            raise ValueError(f"{place}: 'questions' must be a list, not {kind(entries)}")
        numbered = [(f"{place}, question {n}", entry) for n, entry in enumerate(entries, 1)]
        drafts[position] = _Draft(place, item, numbered)
    return drafts.values()


def _problem(draft: _Draft) -> tuple[Problem, int]:
    """Problem of one passage, and the number of its questions without an answer.

    Raises:
        ValueError: The passage is invalid; the message names location and field.
    """
    place, item = draft.place, draft.item
    asked: dict[str, _Annotated] = {}  # repeated questions are asked once
    for where, entry in draft.entries:
        text, golds = _read_question(where, entry)
        asked.setdefault(text, _Annotated()).golds.extend(golds)
    questions = tuple(some.question(text) for text, some in asked.items() if some.golds)
    title = text_field(item, "title", place, default="")
    context = text_field(item, "context", place)
    identity = stable_hash(title, context, *((q.text, *q.answers) for q in questions))
    problem = Problem(f"{identity:016x}", title, context, questions, _read_edits(place, item))
    return problem, len(asked) - len(questions)


def _read_question(place: str, entry: Any) -> tuple[str, list[str]]:
    """Question and its gold answers, none for an unanswerable question (SQuAD 2.0).

    An unanswerable question may have ``plausible_answers``, which are wrong, or a blank answer.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{place} must be an object with question and answer")
    text = text_field(entry, "question", place)
    if _is_impossible(place, entry.get("is_impossible")):
        return text, []
    if "answer" in entry:
        return text, [text_field(entry, "answer", place)]
    answers = entry.get("answers")
    if isinstance(answers, dict):  # the columns of a Hugging Face row
        answers = answers.get("text")
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, list):
        raise ValueError(f"{place}: needs an 'answer' or a list of 'answers'")
    found = [
        text_field(answer if isinstance(answer, dict) else {"text": answer}, "text", place, "")
        for answer in answers
    ]
    return text, [answer for answer in found if answer.strip()]


def _is_impossible(place: str, value: Any) -> bool:
    """Whether a question is marked as unanswerable, in CSV files by a word."""
    word = str("" if value is None else value).strip().lower()
    if not isinstance(value, str | bool | int | None) or word not in _TRUE + _FALSE:
        raise ValueError(f"{place}: 'is_impossible' must be true or false, not {kind(value)}")
    return word in _TRUE


def _read_edits(place: str, item: Mapping[str, Any]) -> dict[str, str]:
    edits = item.get("edits") or {}
    if not isinstance(edits, dict):
        raise ValueError(f"{place}: 'edits' must map names to texts, not be {kind(edits)}")
    named = {name: text_field(edits, name, f"{place}, edits", default="") for name in edits}
    completions = item.get("completions") or []
    if not isinstance(completions, list):
        raise ValueError(f"{place}: 'completions' must be a list, not {kind(completions)}")
    for number, completion in enumerate(completions):
        entry = completion if isinstance(completion, dict) else {"text": completion}
        where = f"{place}, completion {number}"
        named.setdefault(str(number), text_field(entry, "text", where, default=""))
    return named


def _with_unique_ids(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Ids of passages, with a number for the repetitions of equal ones."""
    seen: Counter[str] = Counter()
    for problem in problems:
        seen[problem.id] += 1
        repetition = seen[problem.id]
        yield problem if repetition == 1 else replace(problem, id=f"{problem.id}-{repetition}")
