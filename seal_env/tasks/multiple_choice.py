"""Task `multiple-choice`: questions with choices, as MMLU has them (arXiv 2009.03300).

`seal_env.tasks.io.choice_records` describes the formats of files and data sets, and
`seal_env.tasks.io.answer_keys` the interpretation of answer keys.

A problem consists of the questions of one context or, without contexts, of some questions of one
subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from string import ascii_uppercase
from typing import Any, Literal, get_args

from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Generated, Problem, Question
from seal_env.tasks.finite import FiniteTask, Splits, same_text
from seal_env.tasks.io.answer_keys import KEYS, Keys, gold_choices
from seal_env.tasks.io.choice_records import choice_records
from seal_env.tasks.io.records import Format, Loaded, Record, kind, load

Style = Literal["letters", "texts"]


class MultipleChoice(FiniteTask):
    """Questions that are answered by the most likely of their choices.

    With ``letters``, as MMLU is usually scored, a prompt lists the choices and ends in
    ``Answer:``, and a letter is the answer. With ``texts`` the prompt is the question alone, and
    the answer is the choice whose text has the highest mean log-likelihood per token. In both,
    `log_likelihood` is that of the correct answer. A policy reads the context or, without one, the
    subject; questions and choices are held out.

    Of equal choices, all are correct if one is.

    The problems of one context or, without contexts, of one subject are in one split, and so are
    equal questions; see `seal_env.tasks.finite.Splits`.

    Args:
        data: A file, or ``hf:NAME`` or ``hf:NAME:SPLIT`` (as ``hf:cais/mmlu/anatomy:test``).
        style: ``letters`` or ``texts``.
        group: Questions per problem, at most.
        split_seed: Seed of the splits.
        keys: Interpretation of answer keys, if the data leave it open; see
            `seal_env.tasks.io.answer_keys`.

    Raises:
        UserError: The data cannot be read, or a setting is invalid.
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
        """Whether each answer is the gold choice or an equal one."""
        return [
            answer in question.answers
            for question, answer in zip(problem.questions, answers, strict=True)
        ]

    def question_prompt(self, question: Question) -> str:
        """The question, with its choices in the style ``letters``."""
        return question.text

    def asked(self, question: str, answer: str) -> Generated:
        """A question that a policy wrote, in the form of one without choices."""
        return Generated(_bare_prompt(question), self.answer_prefix + answer)


def _bare_prompt(question: str) -> str:
    return f"Question: {question}\nAnswer:"


@dataclass(frozen=True)
class _Item:
    """One question."""

    text: str
    choices: tuple[str, ...]
    gold: int
    """Index of the correct choice."""

    def question(self, style: Style, subject: str) -> Question:
        """The question in a problem."""
        right = self.choices[self.gold]
        if style == "texts":
            choices = tuple(dict.fromkeys(self.choices))
            return Question(_bare_prompt(self.text), right, subject, choices)
        letters = tuple(ascii_uppercase[: len(self.choices)])
        lettered = list(zip(letters, self.choices, strict=True))
        listed = "\n".join(f"{letter}. {choice}" for letter, choice in lettered)
        gold = letters[self.gold]
        same = tuple(a for a, choice in lettered if choice == right and a != gold)
        return Question(f"{self.text}\n{listed}\nAnswer:", gold, subject, letters, same)


@dataclass(frozen=True)
class _Topic:
    """Questions of one context or subject."""

    id: str
    subject: str
    context: str
    items: tuple[_Item, ...]

    def parts(self, most: int) -> list[_Topic]:
        """Topics of at most `size` questions each."""
        if len(self.items) <= most:
            return [self]
        starts = range(0, len(self.items), most)
        return [
            replace(self, id=f"{self.id}/{number}", items=self.items[start : start + most])
            for number, start in enumerate(starts)
        ]

    def problem(self, style: Style) -> Problem:
        """Problem of a topic."""
        questions = tuple(item.question(style, self.subject) for item in self.items)
        return Problem(self.id, self.subject, self.context, questions)

    def content(self) -> list[str]:
        """Texts that must not be in two splits: the context, or else each question."""
        if self.context:
            return [same_text(self.context)]
        return [same_text("\n".join((i.text, *sorted(i.choices)))) for i in self.items]


@cache
def _form(keys: Keys) -> Format[_Topic]:
    """Format of the records, under an interpretation of keys."""

    def read(records: list[Record]) -> Loaded[_Topic]:
        return _to_topics(records, keys)

    return Format("questions", _flat, read)


def _flat(whole: Any) -> Iterable[Record]:
    """Records of a whole file: a list of them, or a single one."""
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
