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

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Question, stable_hash
from seal_env.tasks.records import Format, Record, kind, load, text_field


def load_problems(data: str) -> tuple[Problem, ...]:
    """Reads all passages of a file or a Hugging Face data set, in their order.

    Raises:
        UserError: One line that says what is wrong, where, and what to do.
    """
    return load(data, Format("passages", _flat, _to_problems))


# ---- records -> problems ------------------------------------------------------------------


def _flat(shown: str, whole: Any) -> Iterable[Record]:
    """The passages of a whole file: a list of them, one alone, or SQuAD's own nesting."""
    if isinstance(whole, list):
        return [(f"record {number}", item) for number, item in enumerate(whole, 1)]
    if isinstance(whole, dict) and "data" in whole:
        return _squad_records(shown, whole["data"])
    if isinstance(whole, dict):
        return [("record 1", whole)]
    raise UserError(f"--data {shown}: holds no list of passages but {kind(whole)}")


def _squad_records(shown: str, articles: Any) -> Iterator[Record]:
    """SQuAD's own nesting, flattened to one record a paragraph."""
    if not isinstance(articles, list):
        raise UserError(f"--data {shown}: 'data' must be a list, not {kind(articles)}")
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
            key = (text_field(item, "context", place), str(item.get("title")))
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
        raise ValueError(f"{place}: 'questions' must be a list, not {kind(entries)}")
    questions: dict[str, Question] = {}
    for number, entry in enumerate(entries, 1):
        question = _read_question(f"{place}, question {number}", entry)
        if question is not None:
            questions.setdefault(question.text, question)  # an annotator's repetition
    title = text_field(item, "title", place, default="")
    context = text_field(item, "context", place)
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
    text = text_field(entry, "question", place)
    if "answer" in entry:
        return Question(text, text_field(entry, "answer", place))
    answers = entry.get("answers")
    if isinstance(answers, dict):  # the columns of a Hugging Face row
        answers = answers.get("text")
    if not isinstance(answers, list):
        raise ValueError(f"{place}: needs an 'answer' or a list of 'answers'")
    golds = [
        text_field(answer if isinstance(answer, dict) else {"text": answer}, "text", place)
        for answer in answers
    ]
    if not golds:
        return None
    # Several annotators answered: what most of them said, the first of them in a tie.
    return Question(text, Counter(golds).most_common(1)[0][0])


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
    """Numbers the repetitions of a passage that occurs several times."""
    seen: Counter[str] = Counter()
    for problem in problems:
        seen[problem.id] += 1
        repetition = seen[problem.id]
        yield problem if repetition == 1 else replace(problem, id=f"{problem.id}-{repetition}")
