"""Question-answer pairs in a text that a language model wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import regex

from seal_env.grading.squad import normalized

LONGEST_ANSWER = 12
"""Words of an answer, at most: longer ones are no answers that can be compared."""

_LABEL = r"\W*(?:{names})\s*\d{{0,3}}\W{{0,3}}[:.]\W{{0,3}}\s*"
_QUESTION = regex.compile(_LABEL.format(names="question|q"), regex.IGNORECASE)
_ANSWER = regex.compile(_LABEL.format(names="answer|a"), regex.IGNORECASE)
_INLINE = regex.compile(r"\s+(?=(?:\*\*)?(?:Answer|A)\s*\d{0,3}\s*:)")
_MARKER = regex.compile(r"\s*(?:[-*•]|\(?\d{1,3}[.)])\s+")
_QUESTION_ENDS = ("?", "？", "؟")


class Pair(NamedTuple):
    """A question and its answer."""

    question: str
    """The question, on one line."""
    answer: str
    """The answer, on one line, of at most `LONGEST_ANSWER` words."""


def question_pairs(text: str) -> list[Pair]:
    """The question-answer pairs of a text, in its order.

    A question is a line behind "Question 1:" (or "Q:"), or one that ends in a question mark; its
    answer is the next line, with or without "Answer:". Left out are pairs whose answer is empty,
    long, or in the question itself, and questions that were asked before.
    """
    pairs: dict[str, Pair] = {}
    for asked, said in _neighbors(text):
        question, answer = _bare(asked, _QUESTION), _bare(said, _ANSWER).rstrip(" *_.。")
        words = normalized(answer)
        if not words or not normalized(question) or len(answer.split()) > LONGEST_ANSWER:
            continue
        if f" {words} " not in f" {normalized(question)} ":
            pairs.setdefault(normalized(question), Pair(question, answer))
    return list(pairs.values())


def _neighbors(text: str) -> Iterator[tuple[str, str]]:
    """Each line that is a question, with the line after it that is none."""
    asked = None
    for line in _INLINE.sub("\n", text).splitlines():
        bare = line.strip(" \t*_")
        labeled = _QUESTION.match(bare)
        if labeled and labeled.end() == len(bare):  # the question is on the next line
            asked = None
        elif labeled or bare.endswith(_QUESTION_ENDS):
            asked = bare
        elif asked is not None and _bare(bare, _ANSWER):
            yield asked, bare
            asked = None


def _bare(line: str, label: regex.Pattern[str]) -> str:
    """A line without list marker, label and marks of emphasis."""
    line = _MARKER.sub("", line, count=1) if _MARKER.match(line) else line
    found = label.match(line)
    return line[found.end() if found else 0 :].strip(" \t*_")
