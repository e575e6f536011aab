"""Questions and their answers in a text that a language model wrote."""

from __future__ import annotations

from typing import NamedTuple

import regex

_LABEL = r"\W*(?:{names})\s*\d{{0,3}}[^\w:.]{{0,3}}[:.][*_]{{0,3}}\s*"
_QUESTION = regex.compile(_LABEL.format(names="question|q"), regex.IGNORECASE)
_ANSWER = regex.compile(_LABEL.format(names="answer|a"), regex.IGNORECASE)
# From the first space of a run on, or a long one would take quadratic time.
_INLINE = regex.compile(r"(?<!\s)\s++(?=(?:\*\*)?(?:Answer|A)\s*\d{0,3}\s*:)")
_MARKER = regex.compile(r"\s*(?:[-*•]|\(?\d{1,3}[.)])\s+")
_QUESTION_ENDS = ("?", "？", "؟")
_EMPHASIS = " \t*_"


class QuestionAnswers(NamedTuple):
    """What was read of a text."""

    pairs: list[tuple[str, str]]
    """Questions with their answers, each on one line, without labels; none is empty."""
    nothing_else: bool
    """Whether the text holds nothing but these pairs, and further answers to their questions."""


def read_question_answers(text: str) -> QuestionAnswers:
    """Reads the questions of a text with their answers, in its order.

    A question is a line behind "Question 1:" (or "Q:"), or one that ends in a question mark; its
    answer is the next line, with or without "Answer:", or stands in the same line behind "Answer:".
    """
    pairs: list[tuple[str, str]] = []
    asked, label, nothing_else = "", False, True
    for line in _INLINE.sub("\n", text).splitlines():
        bare = line.strip(_EMPHASIS)
        labeled = _QUESTION.match(bare)
        if labeled and labeled.end() == len(bare):  # the question is on the next line
            nothing_else &= not (asked or label)
            asked, label = "", True
        elif not bare:
            continue
        elif labeled or bare.endswith(_QUESTION_ENDS) or (label and not _ANSWER.match(bare)):
            nothing_else &= not asked
            asked, label = _bare(bare, _QUESTION), False
        elif asked and (answer := _bare(bare, _ANSWER)):
            pairs.append((asked, answer))
            asked = ""
        elif not ((asked or pairs) and _ANSWER.match(bare)):
            nothing_else = False
    return QuestionAnswers(pairs, nothing_else and not (asked or label))


def _bare(line: str, label: regex.Pattern[str]) -> str:
    """A line without list marker, label and marks of emphasis."""
    line = _MARKER.sub("", line, count=1) if _MARKER.match(line) else line
    found = label.match(line)
    return line[found.end() if found else 0 :].strip(_EMPHASIS)
