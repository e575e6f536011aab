"""Offline grader of free-form answers against gold answers, without a model or a network.

SEAL requests a verdict on every answer from GPT-4.1 (arXiv 2506.10943, appendix B). This grader
replaces it at several thousand verdicts per second. It reads both texts as content tokens
(`seal_env.grading.reading`), measures which share of the gold answer's content the answer holds,
and checks that the answer commits to it (`seal_env.grading.commitment`).
``python -m benchmarks.grader`` measures the agreement with a file of verdicts.

An answer that is right only by paraphrase is graded as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from seal_env.grading import unspaced
from seal_env.grading.commitment import is_hedged
from seal_env.grading.denial import DENIED
from seal_env.grading.reading import MAX_CHARACTERS, Reading, read
from seal_env.grading.tokens import Role, Token

RECALL = 0.6
"""Minimum share of the gold answer's content in an answer. Three words of five or two of three
allow for other wordings. One of two is too few: half of a name or a date is usually another
person or another year."""

SHORT_ANSWER_RECALL = 0.5
"""Minimum share for an answer that has no words besides the gold answer's: it is short, not
evasive, and cannot be wrong elsewhere ("Faith" for "Faith alone")."""

_YEARS = {"decade": 10, "century": 100}
_VERDICTS = frozenset(("yes", "no"))


def grade_answer(gold: str | Sequence[str], answer: str, question: str = "") -> bool:
    """Whether an answer is right.

    Args:
        gold: Gold answer, or several of which any one suffices, as given by several
            annotators. An empty one is an error in the data and matches nothing.
        answer: Answer of the learner. An empty answer is wrong.
        question: Question, if known: an answer need not repeat its words.
    """
    golds = [each for each in ([gold] if isinstance(gold, str) else gold) if each.strip()]
    if not golds or not answer.strip():
        return False
    if answer.strip() in map(str.strip, golds):
        return True  # also what has no words, as "+"
    given, asked = read(answer), _read_again(question[:MAX_CHARACTERS])
    return any(_matches(_read_again(each[:MAX_CHARACTERS]), given, asked) for each in golds)


_read_again = lru_cache(maxsize=512)(read)
"""Cached reading of gold answers and questions, which recur with every answer to them."""


def _matches(gold: Reading, answer: Reading, question: Reading) -> bool:
    """Whether an answer is right according to one gold answer."""
    if not gold.content:  # function words alone: the band "Them"
        functions = gold.function_keys
        return bool(functions) and functions <= answer.function_keys | answer.keys
    # What the question already says is no part of the answer to it ("which river?" "the
    # Chagres river"); unless that is all there is ("tea or coffee?").
    asked = [token for token in gold.content if token.key not in question.keys] or gold.content
    held = [_holds(answer, token) or _spells_out(answer, token, gold) for token in asked]
    # A number has no synonyms, and a date that differs in the day alone is another date.
    if any(
        token.role is Role.EXACT and not found for token, found in zip(asked, held, strict=True)
    ):
        return False
    if (
        _contradicts(answer, gold)
        or _is_another_date(answer, gold, question)
        or not _keeps_order(answer, gold)
    ):
        return False
    added = answer.keys - question.keys
    says_nothing_else = bool(added) and added <= gold.keys
    if sum(held) / len(held) < (SHORT_ANSWER_RECALL if says_nothing_else else RECALL):
        return False
    return _says_together(answer, asked, gold) and not is_hedged(answer, gold, question)


def _holds(answer: Reading, token: Token) -> bool:
    """Whether an answer contains the content of one token of the gold answer."""
    if token.role is Role.RUN:
        return unspaced.holds(answer.text, token.key)
    for key in (token.key, *token.also):
        for other in answer.by_key.get(key, ()):
            if not token.unit or not other.unit or token.unit == other.unit:
                return True
    if token.unit in _YEARS:  # a year of the 1970s
        start = int(token.key)
        return any(
            other.number
            and other.key.isdigit()
            and 0 <= int(other.key) - start < _YEARS[token.unit]
            for other in answer.content
        )
    # Someone who writes no capitals writes acronyms so, too.
    return not answer.has_capitals and len(token.key) > 1 and token.key in answer.function_keys


def _says_together(answer: Reading, asked: Sequence[Token], gold: Reading) -> bool:
    """Whether one sentence holds half of the required content; scattered words are no statement.

    If the gold answer is a list, each of its items may have its own sentence.
    """
    lists = any(token.role is Role.BREAK or token.key in ("and", "or") for token in gold.tokens)
    if lists or len(asked) == 1 or len(sentences := answer.sentences()) == 1:
        return True
    return any(2 * sum(_holds(part, token) for token in asked) >= len(asked) for part in sentences)


def _spells_out(answer: Reading, token: Token, gold: Reading) -> bool:
    """Whether an answer spells out, at the same position, an initial of the gold answer."""
    if not token.initial:
        return False
    keys = [other.key for other in gold.content]
    at = keys.index(token.key)
    triples = zip(answer.content, answer.content[1:], answer.content[2:], strict=False)
    return any(
        [first.key, last.key] == [*keys[at - 1 : at], *keys[at + 1 : at + 2]]
        and middle.key.startswith(token.key)
        for first, middle, last in triples
    )


def _contradicts(answer: Reading, gold: Reading) -> bool:
    """Whether an answer denies a word that the gold answer affirms, or vice versa."""
    if gold.keys & _VERDICTS and answer.keys >= _VERDICTS:
        return True  # "yes and no"
    for token in gold.content:
        denied = token.key.startswith(DENIED)
        opposite = token.key.removeprefix(DENIED) if denied else DENIED + token.key
        if opposite in answer.by_key and not _holds(answer, token):
            return True
    return False


def _is_another_date(answer: Reading, gold: Reading, question: Reading) -> bool:
    """Whether an answer names another month or era; years are AD unless stated otherwise."""
    months = {token.key for token in gold.content if token.month}
    others = {token.key for token in answer.content if token.month}
    if months and others and not months & answer.keys:
        return True
    eras = [any(token.unit == "bc" for token in each.content) for each in (answer, gold, question)]
    return eras == [True, False, False] and "bc" not in question.keys


def _keeps_order(answer: Reading, gold: Reading) -> bool:
    """Whether numbers joined by a dash ("3–1", "1963–64") are in the same order."""
    numbers = [token.key for token in answer.content if token.number]
    follows = set(pairwise(numbers))
    pairs = pairwise(token for token in gold.content if token.number)
    return all((a.key, b.key) in follows for a, b in pairs if b.dashed)
