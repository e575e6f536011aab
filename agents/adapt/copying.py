"""How many of the answers that a policy wrote are words of their passage."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import regex

from seal_env.tasks.base import Generated, Problem

_WORD = regex.compile(r"\w+")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")


def copied_answers(
    sequences: Sequence[tuple[str | Generated, ...]], problems: Sequence[Problem]
) -> dict[str, int]:
    """How many questions with answers were written, and how many answers the passages' words are.

    A writer that is too small invents its answers. Only questions that are trained on as questions
    (``--pairs asked``) are counted.
    """
    count = copied = 0
    for own, problem in zip(sequences, problems, strict=True):
        passage = _words(f"{problem.title} {problem.context}")
        answers = [_words(one.answer) for one in own if isinstance(one, Generated)]
        count += len(answers)
        copied += sum(_holds(passage, answer) for answer in answers)
    return {"questions": count, "copied": copied}


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(unicodedata.normalize('NFKC', text).casefold()))} "


def _holds(passage: str, answer: str) -> bool:
    # Where words are not spaced, they begin and end anywhere in a run of characters.
    return (answer.strip() if _UNSPACED.search(answer) else answer) in passage
