"""Question-answer pairs in a text that a language model wrote."""

from __future__ import annotations

from typing import NamedTuple

from seal_env.edits.question_answers import read_question_answers
from seal_env.grading.squad import normalized

LONGEST_ANSWER = 12
"""Words of an answer, at most: longer ones are no answers that can be compared."""


class Pair(NamedTuple):
    """A question and its answer."""

    question: str
    """The question, on one line."""
    answer: str
    """The answer, on one line, of at most `LONGEST_ANSWER` words."""


def question_pairs(text: str) -> list[Pair]:
    """The question-answer pairs of a text, in its order.

    They are read by `read_question_answers`. Left out are pairs whose answer is empty,
    long, or in the question itself, and questions that were asked before.
    """
    pairs: dict[str, Pair] = {}
    for question, said in read_question_answers(text).pairs:
        answer = said.rstrip(" *_.。")
        words = normalized(answer)
        if not words or not normalized(question) or len(answer.split()) > LONGEST_ANSWER:
            continue
        if f" {words} " not in f" {normalized(question)} ":
            pairs.setdefault(normalized(question), Pair(question, answer))
    return list(pairs.values())
