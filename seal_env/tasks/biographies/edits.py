"""Self-edits about a person in several styles, from worthless to good.

The embedded model is pretrained to write all of them; reinforcement learning has to find those that
a learner learns from. Menus build self-edits with these functions, and plots classify the
self-edits of a policy by style.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from seal_env.tasks.biographies.people import (
    ATTRIBUTES,
    REMARKS,
    Person,
    question_answer,
    remarks,
    statement,
)

PARAPHRASES = 3


def _order(rng: Random) -> list[int]:
    return rng.sample(range(len(ATTRIBUTES)), len(ATTRIBUTES))


def vague(person: Person, rng: Random) -> list[str]:
    """Remarks that are true of everyone."""
    return remarks(person, rng.sample(range(len(REMARKS)), rng.randint(3, 5)))


def few(person: Person, rng: Random) -> list[str]:
    """Two or three facts, one statement each."""
    chosen = _order(rng)[: rng.randint(2, 3)]
    return [statement(person, i, rng.randrange(6)) for i in chosen]


def statements(person: Person, rng: Random) -> list[str]:
    """Every fact, one statement each."""
    return [statement(person, i, rng.randrange(6)) for i in _order(rng)]


def paraphrases(person: Person, rng: Random) -> list[str]:
    """Every fact in three wordings, one sequence each."""
    return [
        statement(person, i, wording)
        for i in _order(rng)
        for wording in rng.sample(range(6), PARAPHRASES)
    ]


def summary(person: Person, rng: Random) -> list[str]:
    """Every fact once, all in a single sequence."""
    return [" ".join(statements(person, rng))]


def questions(person: Person, rng: Random) -> list[str]:
    """Every fact as one question-answer pair."""
    return [question_answer(person, i, rng.randrange(4)) for i in _order(rng)]


def two_questions(person: Person, rng: Random) -> list[str]:
    """Every fact as two question-answer pairs."""
    return [
        question_answer(person, i, wording)
        for i in _order(rng)
        for wording in rng.sample(range(4), 2)
    ]


STYLES: dict[str, Callable[[Person, Random], list[str]]] = {
    "vague": vague,
    "few": few,
    "statements": statements,
    "paraphrases": paraphrases,
    "summary": summary,
    "questions": questions,
    "two-questions": two_questions,
}
"""Functions that write self-edits, by style: one string per training sequence."""


def write(style: str, person: Person, rng: Random) -> str:
    """Self-edit in a style, as the policy writes it: one sequence per line."""
    return "\n".join(STYLES[style](person, rng))


def classify(text: str) -> str:
    """Style that a self-edit is closest to, by its form alone.

    Returns:
        A key of `STYLES`, or ``"other"`` for a text in none of these styles.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    asked = sum(line.startswith("Question:") for line in lines)
    if asked:
        return "two-questions" if asked > len(ATTRIBUTES) else "questions"
    sentences = text.count(".")
    words = set(text.replace(".", " ").split())
    facts = sum(not words.isdisjoint(a.values) for a in ATTRIBUTES)
    if not lines or not sentences:
        return "other"
    if facts == 0:
        return "vague"
    if len(lines) == 1 and sentences > 1:
        return "summary"
    if len(lines) > len(ATTRIBUTES) + 1:
        return "paraphrases"
    return "few" if facts <= 3 else "statements"
