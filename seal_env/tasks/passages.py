"""Reading passages with questions, from a file or from Hugging Face datasets.

Four arrangements of the same data are understood, whatever the file is called:

* SQuAD's own JSON (arXiv 1606.05250): ``{"data": [{"title", "paragraphs": [{"context",
  "qas": [{"question", "answers": [{"text"}]}]}]}]}``;
* SEAL's JSON (arXiv 2506.10943): ``[{"title", "context", "questions": [{"question",
  "answer"}]}]``, where a passage may bring self-edits, as ``"edits": {NAME: TEXT}`` or
  ``"completions": [{"text": TEXT}]``, which are named ``0``, ``1``, ...;
* either kind of record, one a line (JSONL);
* rows of one question each, as Hugging Face's ``squad``: ``{"title", "context", "question",
  "answers": {"text": [...]}}``; rows with the same context are one passage.

Nothing in a file is run or unpickled, and every complaint names the place in the file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Question, stable_hash

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

Record = tuple[str, Any]
"""Where a passage stands in its file (``"record 3"``), and the passage as it was read."""


def load_problems(data: str) -> tuple[Problem, ...]:
    """Reads all passages of a file or a Hugging Face data set, in their order.

    Raises:
        UserError: One line that says what is wrong, where, and what to do.
    """
    if data.startswith("hf:"):
        return _hub_problems(data)
    try:
        path = Path(data).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # no permission, no such user's home
        raise UserError(f"--data {data}: cannot be read ({error})") from error
    if is_folder:
        raise UserError(f"--data {data}: is a folder; give a JSON or JSONL file")
    if not is_file:
        raise UserError(f"--data {data}: no such file; check the path")
    stat = path.stat()
    return _file_problems(str(path.resolve()), data, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _file_problems(path: str, shown: str, mtime_ns: int, size: int) -> tuple[Problem, ...]:
    """Reads a file once for all the environments of a process; again if it has changed."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"--data {shown}: is not UTF-8 text (byte {error.start}); give a JSON or JSONL file"
        ) from None
    except OSError as error:
        raise UserError(f"--data {shown}: cannot be read ({error.strerror})") from error
    return _to_problems(shown, _records(shown, text))


@lru_cache(maxsize=4)
def _hub_problems(data: str) -> tuple[Problem, ...]:
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"--data {data}: needs the datasets library; run pip install 'seal-env[datasets]'"
        ) from None
    name, _, split = data.removeprefix("hf:").partition(":")
    try:
        rows = [dict(row) for row in datasets.load_dataset(name, split=split or "train")]
    except Exception as error:  # the library raises dozens of kinds, from network to parsing
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--data {data}: cannot be loaded ({reason}); check its name") from error
    return _to_problems(data, ((f"row {number}", row) for number, row in enumerate(rows, 1)))


# ---- text -> records ----------------------------------------------------------------------


def _records(shown: str, text: str) -> list[Record]:
    """The passages of a JSON or JSONL text, each with the place where it stands."""
    if not text.strip():
        raise UserError(f"--data {shown}: is empty; give a JSON or JSONL file of passages")
    try:
        whole = _parse(text)
    except ValueError as error:
        if not _looks_like_lines(text):
            raise UserError(f"--data {shown}: is not JSON ({error})") from None
        return _line_records(shown, text)
    if isinstance(whole, list):
        return [(f"record {number}", item) for number, item in enumerate(whole, 1)]
    if isinstance(whole, dict) and "data" in whole:
        return list(_squad_records(shown, whole["data"]))
    if isinstance(whole, dict):
        return [("record 1", whole)]
    raise UserError(f"--data {shown}: holds no list of passages but {_kind(whole)}")


def _line_records(shown: str, text: str) -> list[Record]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append((f"line {number}", _parse(line)))
            except ValueError as error:
                raise UserError(f"--data {shown}: line {number} is not JSON ({error})") from None
    return records


def _looks_like_lines(text: str) -> bool:
    """Whether the first or the second line is an object of its own, as in JSONL."""
    for line in [line for line in text.split("\n", 20)[:20] if line.strip()][:2]:
        try:
            if isinstance(_parse(line), dict):
                return True
        except ValueError:
            continue
    return False


def _parse(text: str) -> Any:
    """Parses strict JSON.

    Raises:
        ValueError: In one line; also for NaN, which is not JSON, and for hopeless nesting.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON value")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _squad_records(shown: str, articles: Any) -> Iterator[Record]:
    """SQuAD's own nesting, flattened to one record a paragraph."""
    if not isinstance(articles, list):
        raise UserError(f"--data {shown}: 'data' must be a list, not {_kind(articles)}")
    for number, article in enumerate(articles, 1):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            raise UserError(f"--data {shown}: article {number} has no list of 'paragraphs'")
        for position, paragraph in enumerate(paragraphs, 1):
            place = f"article {number}, paragraph {position}"
            if not isinstance(paragraph, dict):
                raise UserError(f"--data {shown}: {place} must be an object")
            yield place, {"title": _page_name(article.get("title", "")), **paragraph}


def _page_name(title: Any) -> Any:
    """SQuAD's titles are Wikipedia's page names: "Beyonc%C3%A9_Knowles"."""
    return unquote(title.replace("_", " ")) if isinstance(title, str) else title


# ---- records -> problems ------------------------------------------------------------------


def _to_problems(shown: str, records: Iterable[Record]) -> tuple[Problem, ...]:
    """Checks all records; a passage without an answerable question is left out."""
    try:
        drafts = [_read_record(place, item) for place, item in _grouped(records)]
    except ValueError as error:
        raise UserError(f"--data {shown}: {error}") from None
    problems = [draft for draft in drafts if draft.questions]
    if not problems:
        raise UserError(f"--data {shown}: holds no questions; every passage needs at least one")
    return tuple(_with_unique_ids(problems))


def _grouped(records: Iterable[Record]) -> Iterator[Record]:
    """Joins rows of one question each into passages; passages pass unchanged."""
    passages: dict[Any, Record] = {}
    for position, (place, item) in enumerate(records):
        if isinstance(item, dict) and "question" in item and "questions" not in item:
            key = (_text(item, "context", place), str(item.get("title")))
            draft = {**item, "title": _page_name(item.get("title", "")), "questions": []}
            _, passage = passages.setdefault(key, (place, draft))
            passage["questions"].append(item)
        else:
            passages[position] = (place, item)
    yield from passages.values()


def _read_record(place: str, item: Any) -> Problem:
    """Checks one passage.

    Raises:
        ValueError: Says where and which field.
    """
    if not isinstance(item, dict):
        raise ValueError(f"{place} must be an object with title, context and questions")
    field = "questions" if "questions" in item else "qas"
    entries = item.get(field)
    if not isinstance(entries, list):
        raise ValueError(f"{place}: 'questions' must be a list, not {_kind(entries)}")
    questions: dict[str, Question] = {}
    for number, entry in enumerate(entries, 1):
        question = _read_question(f"{place}, question {number}", entry)
        if question is not None:
            questions.setdefault(question.text, question)  # an annotator's repetition
    title = _text(item, "title", place, default="")
    context = _text(item, "context", place)
    identity = stable_hash(title, context, *((q.text, q.answer) for q in questions.values()))
    return Problem(
        id=f"{identity:016x}",
        title=title,
        context=context,
        questions=tuple(questions.values()),
        edits=_read_edits(place, item),
    )


def _read_question(place: str, entry: Any) -> Question | None:
    """One question; None if the data says that it has no answer (SQuAD 2.0)."""
    if not isinstance(entry, dict):
        raise ValueError(f"{place} must be an object with question and answer")
    text = _text(entry, "question", place)
    if "answer" in entry:
        return Question(text, _text(entry, "answer", place))
    answers = entry.get("answers")
    if isinstance(answers, dict):  # the columns of a Hugging Face row
        answers = answers.get("text")
    if not isinstance(answers, list):
        raise ValueError(f"{place}: needs an 'answer' or a list of 'answers'")
    golds = [
        _text(answer if isinstance(answer, dict) else {"text": answer}, "text", place)
        for answer in answers
    ]
    if not golds:
        return None
    # Several annotators answered: what most of them said, the first of them in a tie.
    return Question(text, Counter(golds).most_common(1)[0][0])


def _read_edits(place: str, item: Mapping[str, Any]) -> dict[str, str]:
    edits = item.get("edits") or {}
    if not isinstance(edits, dict):
        raise ValueError(f"{place}: 'edits' must map names to texts, not be {_kind(edits)}")
    named = {name: _text(edits, name, f"{place}, edits", default="") for name in edits}
    completions = item.get("completions") or []
    if not isinstance(completions, list):
        raise ValueError(f"{place}: 'completions' must be a list, not {_kind(completions)}")
    for number, completion in enumerate(completions):
        entry = completion if isinstance(completion, dict) else {"text": completion}
        where = f"{place}, completion {number}"
        named.setdefault(str(number), _text(entry, "text", where, default=""))
    return named


def _text(item: Mapping[str, Any], field: str, place: str, default: str | None = None) -> str:
    """A text field; one without default must not be blank.

    JSON can spell lone surrogates, which no tokenizer takes and no file can hold as UTF-8.
    """
    value = item.get(field, default)
    if not isinstance(value, str):
        raise ValueError(f"{place}: {field!r} must be text, not {_kind(value)}")
    if default is None and not value.strip():
        raise ValueError(f"{place}: {field!r} is empty")
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)


def _with_unique_ids(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Numbers the repetitions of a passage that occurs several times."""
    seen: Counter[str] = Counter()
    for problem in problems:
        seen[problem.id] += 1
        repetition = seen[problem.id]
        yield problem if repetition == 1 else replace(problem, id=f"{problem.id}-{repetition}")


# What a JSON value is, in a reader's words.
_KINDS = {
    type(None): "missing",
    bool: "true or false",
    str: "text",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)
