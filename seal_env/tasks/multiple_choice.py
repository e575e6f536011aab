"""Task `multiple-choice`: questions with choices, as MMLU has them (arXiv 2009.03300).

`seal_env.tasks.io.choice_records` says how files and data sets are arranged, and
`seal_env.tasks.io.answer_keys` which choice a key means.

A problem is the questions of one context, or where there is none some questions of one subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from string import ascii_uppercase
from typing import Any, Literal, get_args

from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem, Question
from seal_env.tasks.finite import FiniteTask, Splits, same_text
from seal_env.tasks.io.answer_keys import KEYS, Keys, gold_choices
from seal_env.tasks.io.choice_records import choice_records
from seal_env.tasks.io.records import Format, Loaded, Record, kind, load

Style = Literal["letters", "texts"]


class MultipleChoice(FiniteTask):
    """Questions that are answered by the likeliest of their choices.

    With ``letters``, as MMLU is usually scored, a prompt lists the choices and ends in
    ``Answer:``, and a letter is the answer. With ``texts`` the prompt is the question alone, and
    the answer is the choice whose text has the highest mean log-likelihood per token. Either way
    `log_likelihood` is the right answer's. What a policy reads is the context, or the subject
    where there is none; questions and choices are held out.

    Of choices that are the same, all are right if one is.

    See `seal_env.tasks.finite.Splits` for the splits: the problems of one context, or where there
    is none of one subject, are in one of them, and so are equal questions.

    Args:
        data: A file, or ``hf:NAME`` or ``hf:NAME:SPLIT`` (as ``hf:cais/mmlu/anatomy:test``).
        style: ``letters`` or ``texts``.
        group: Most questions in a problem.
        split_seed: Another seed splits the problems another way.
        keys: How answer keys are read, where the data leave that open; see
            `seal_env.tasks.io.answer_keys`.

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
        keys: Keys = "auto",
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
        if keys not in KEYS:
            raise UserError(f"unknown keys {keys!r}: known: {', '.join(KEYS)}")
        parts = [
            part for topic in load(str(data), _form(keys)).found for part in topic.parts(group)
        ]
        topics = {part.id: part for part in parts}
        super().__init__(
            Splits(
                [part.problem(style) for part in parts],
                "problems",
                split_seed,
                content=lambda problem: topics[problem.id].content(),
                group=lambda problem: "" if problem.context else same_text(problem.title),
                group_noun="subjects",
            )
        )

    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """An answer is right if it is the gold choice, or one that says the same."""
        return [
            answer in question.answers
            for question, answer in zip(problem.questions, answers, strict=True)
        ]

    def question_prompt(self, question: Question) -> str:
        """The question, and its choices if letters are asked for."""
        return question.text


@dataclass(frozen=True)
class _Item:
    """One question."""

    text: str
    choices: tuple[str, ...]
    gold: int
    """Position of the right choice."""

    def question(self, style: Style, subject: str) -> Question:
        """The question as it is put to a learner."""
        right = self.choices[self.gold]
        if style == "texts":
            choices = tuple(dict.fromkeys(self.choices))
            return Question(f"Question: {self.text}\nAnswer:", right, subject, choices)
        letters = tuple(ascii_uppercase[: len(self.choices)])
        lettered = list(zip(letters, self.choices, strict=True))
        listed = "\n".join(f"{letter}. {choice}" for letter, choice in lettered)
        gold = letters[self.gold]
        same = tuple(a for a, choice in lettered if choice == right and a != gold)
        return Question(f"{self.text}\n{listed}\nAnswer:", gold, subject, letters, same)


@dataclass(frozen=True)
class _Topic:
    """The questions of one context or subject, or some of them."""

    id: str
    subject: str
    context: str
    items: tuple[_Item, ...]

    def parts(self, most: int) -> list[_Topic]:
        """The same as topics of at most so many questions."""
        if len(self.items) <= most:
            return [self]
        starts = range(0, len(self.items), most)
        return [
            replace(self, id=f"{self.id}/{number}", items=self.items[start : start + most])
            for number, start in enumerate(starts)
        ]

    def problem(self, style: Style) -> Problem:
        """The problem that a topic is."""
        questions = tuple(item.question(style, self.subject) for item in self.items)
        return Problem(self.id, self.subject, self.context, questions)

    def content(self) -> list[str]:
        """What must not be in two splits: the context, or else each question."""
        if self.context:
            return [same_text(self.context)]
        return [same_text("\n".join((i.text, *sorted(i.choices)))) for i in self.items]


@cache
def _form(keys: Keys) -> Format[_Topic]:
    """What is read, if keys are read in a way."""

    def read(records: list[Record]) -> Loaded[_Topic]:
        return _to_topics(records, keys)

    return Format("questions", _flat, read)


def _flat(whole: Any) -> Iterable[Record]:
    """The records of a whole file: a list of them, or one alone."""
    if isinstance(whole, dict):
        whole = [whole]
    if not isinstance(whole, list):
        raise ValueError(f"holds no list of questions but {kind(whole)}")
    return [(f"record {number}", item) for number, item in enumerate(whole, 1)]


def _to_topics(records: list[Record], keys: Keys) -> Loaded[_Topic]:
    """Checks all records; those of one context or subject belong together."""
    found = choice_records(records)
    if not found:
        raise ValueError("holds no question; give at least one")
    golds = gold_choices([record.keyed for record in found], keys)
    topics: dict[tuple[str, str], dict[_Item, None]] = {}
    for record, gold in zip(found, golds, strict=True):
        item = _Item(record.question, record.keyed.texts, gold)
        topics.setdefault((record.subject, record.context), {})[item] = None  # asked once
    made = []
    for (subject, context), items in topics.items():
        golden = ((item.text, *item.choices, item.gold) for item in items)
        identity = stable_hash(subject, context, *golden)
        made.append(_Topic(f"{identity:016x}", subject, context, tuple(items)))
    return Loaded(tuple(made))
