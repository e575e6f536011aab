"""Task `multiple-choice`: questions with choices, as MMLU has them (arXiv 2009.03300).

Understood are CSV files (question, choices, letter of the right one; with a header or without),
JSON and JSONL files and Hugging Face data sets of records ``{"question", "choices", "answer"}``,
where an answer is a position from 0 on, a letter, or the choice's own text. A record may also have
a ``context`` (a passage that the questions are about) and a ``subject`` or ``title``.

A problem is the questions of one context, or where there is none some questions of one subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any, Literal, get_args

from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Question, stable_hash
from seal_env.tasks.finite import FiniteTask
from seal_env.tasks.records import Format, Record, kind, load, text_field

Style = Literal["letters", "texts"]

MOST_CHOICES = len(ascii_uppercase)
"""Choices that have a letter."""


@dataclass(frozen=True)
class _Item:
    """One question."""

    subject: str
    context: str
    question: str
    choices: tuple[str, ...]
    gold: int


class MultipleChoice(FiniteTask):
    """Questions that are answered by the likeliest of their choices.

    With ``letters``, as MMLU is usually scored, a prompt lists the choices and ends in
    ``Answer:``, and a letter is the answer. With ``texts`` the prompt is the question alone, and
    the answer is the choice whose text has the highest mean log-likelihood per token. Either way
    `log_likelihood` is the right answer's. What a policy reads is the context, or the subject
    where there is none; questions and choices are held out.

    See `FiniteTask` for the splits. Contexts (or subjects' groups of questions) that agree fall
    into the same one.

    Args:
        data: A file, or ``hf:NAME`` or ``hf:NAME:SPLIT`` (as ``hf:cais/mmlu/anatomy:test``).
        style: ``letters`` or ``texts``.
        group: Most questions in a problem.
        split_seed: Another seed splits the problems another way.

    Raises:
        UserError: The data cannot be read, or a setting makes no sense.
    """

    default_prompt = "implications"
    answer_prefix = " "
    answer_tokens = 1

    def __init__(
        self,
        data: str | None = None,
        style: Style = "letters",
        group: int = 10,
        split_seed: int = 0,
    ) -> None:
        if style not in get_args(Style):
            raise UserError(f"unknown style {style!r}: known: {', '.join(get_args(Style))}")
        if group < 1:
            raise UserError(f"group {group}: a problem has at least 1 question")
        if not data:
            raise UserError(
                "the task multiple-choice reads its questions from a file: give --data FILE (CSV, "
                "JSON or JSONL as MMLU arranges them) or --data hf:NAME for a Hugging Face data set"
            )
        problems = load(str(data), Format("questions", _flat, _to_problems, csv=True))
        super().__init__(
            [part for problem in problems for part in _parts(problem, style, group)],
            "problems",
            split_seed,
            lambda problem: problem.context or problem.id,
        )

    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """An answer is right if it is the gold choice."""
        return [
            answer == question.answer
            for question, answer in zip(problem.questions, answers, strict=True)
        ]

    def question_prompt(self, question: Question) -> str:
        """The question, and its choices if letters are asked for."""
        return question.text


def _parts(problem: Problem, style: Style, group: int) -> list[Problem]:
    """A subject's or a context's questions as problems of at most so many."""
    questions = [_worded(question, style) for question in problem.questions]
    cut = [tuple(questions[i : i + group]) for i in range(0, len(questions), group)]
    if len(cut) == 1:
        return [replace(problem, questions=cut[0])]
    return [replace(problem, id=f"{problem.id}/{i}", questions=q) for i, q in enumerate(cut)]


def _worded(question: Question, style: Style) -> Question:
    if style == "texts":
        return replace(question, text=f"Question: {question.text}\nAnswer:")
    letters = tuple(ascii_uppercase[: len(question.choices)])
    listed = "\n".join(f"{a}. {text}" for a, text in zip(letters, question.choices, strict=True))
    gold = letters[question.choices.index(question.answer)]
    return Question(f"{question.text}\n{listed}\nAnswer:", gold, question.subject, letters)


def _flat(shown: str, whole: Any) -> Iterable[Record]:
    """The records of a whole file: a list of them, or one alone."""
    if isinstance(whole, dict):
        whole = [whole]
    if not isinstance(whole, list):
        raise UserError(f"--data {shown}: holds no list of questions but {kind(whole)}")
    return [(f"record {number}", item) for number, item in enumerate(whole, 1)]


def _to_problems(shown: str, records: Iterable[Record]) -> tuple[Problem, ...]:
    """Checks all records; those of one context or subject are one problem."""
    try:
        items = [_item(place, found) for place, found in _without_header(list(records))]
    except ValueError as error:
        raise UserError(f"--data {shown}: {error}") from None
    if not items:
        raise UserError(f"--data {shown}: holds no question; give at least one")
    groups: dict[tuple[str, str], list[_Item]] = {}
    for item in items:
        groups.setdefault((item.subject, item.context), []).append(item)
    problems = []
    for (subject, context), some in groups.items():
        asked = (Question(i.question, i.choices[i.gold], subject, i.choices) for i in some)
        questions = tuple(dict.fromkeys(asked))  # what is there twice is asked once
        identity = stable_hash(subject, context, *((q.text, q.answer) for q in questions))
        problems.append(Problem(f"{identity:016x}", subject, context, questions))
    return tuple(problems)


def _without_header(records: list[Record]) -> list[Record]:
    """Rows of a CSV file with a header become records with its names; others stay."""
    if not records or not isinstance(records[0][1], list):
        return records
    names = [name.strip().lower() for name in records[0][1]]
    if not {"question", "answer"} <= set(names):
        return records
    named = []
    for place, row in records[1:]:
        if len(row) != len(names):
            raise ValueError(f"{place}: has {len(row)} fields where the header has {len(names)}")
        fields = dict(zip(names, row, strict=True))
        letters = [name for name in names if len(name) == 1 and name.upper() in ascii_uppercase]
        fields["choices"] = [fields[name] for name in letters if fields[name].strip()]
        named.append((place, fields))
    return named


def _item(place: str, found: Any) -> _Item:
    """Checks one question.

    Raises:
        ValueError: Says where and which field.
    """
    if isinstance(found, list):  # a row of MMLU's own files: question, choices, letter
        if len(found) < 4:
            raise ValueError(
                f"{place}: needs question, choices and answer, has {len(found)} fields"
            )
        found = {"question": found[0], "choices": found[1:-1], "answer": found[-1]}
    if not isinstance(found, Mapping):
        raise ValueError(f"{place} must be an object with question, choices and answer")
    choices = found.get("choices")
    if isinstance(choices, Mapping):  # as some data sets have it: {"text": [...], "label": [...]}
        choices = choices.get("text")
    if not isinstance(choices, list) or not 2 <= len(choices) <= MOST_CHOICES:
        raise ValueError(f"{place}: 'choices' must be a list of 2 to {MOST_CHOICES} texts")
    texts = tuple(
        text_field({"choice": text}, "choice", f"{place}, choice {number}").strip()
        for number, text in enumerate(choices, 1)
    )
    if len(set(texts)) < len(texts):
        raise ValueError(f"{place}: two of the 'choices' are the same")
    field = "subject" if found.get("subject") else "title"
    return _Item(
        subject=text_field(found, field, place, default="").replace("_", " ").strip(),
        context=text_field(found, "context", place, default="").strip(),
        question=text_field(found, "question", place).strip(),
        choices=texts,
        gold=_gold(found.get("answer", found.get("answerKey")), texts, place),
    )


def _gold(answer: Any, choices: tuple[str, ...], place: str) -> int:
    """Position of the right choice: given as such, as a letter, or as its text."""
    if isinstance(answer, str):
        text = answer.strip()
        if text in choices:
            return choices.index(text)
        if text.isdecimal():
            answer = int(text)
        elif len(text) == 1 and text.upper() in ascii_uppercase:
            answer = ascii_uppercase.index(text.upper())
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise ValueError(
            f"{place}: 'answer' must be a position from 0 to {len(choices) - 1}, a letter or a "
            f"choice, not {str(answer)[:40]!r}"
        )
    return answer
