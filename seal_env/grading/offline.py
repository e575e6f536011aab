"""The offline grader: is a free-form answer right, given the gold answer? No model, no network.

SEAL asks GPT-4.1 for a verdict on every answer (arXiv 2506.10943, appendix B). This grader
stands in for it at some thousands of verdicts a second. It reads both texts as tokens of
content (`seal_env.grading.reading`) and asks how much of the gold answer's content the answer
holds, and whether the answer commits to it (`seal_env.grading.commitment`).
``python -m benchmarks.grader`` measures how far it agrees with a file of verdicts.

What is right only by paraphrase is graded wrong.
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
"""Share of the gold answer's content that an answer must hold. Three words in five, two in
three: an answer in other words still counts. One in two does not: with names and dates half
is usually somebody else and another year."""

SHORT_ANSWER_RECALL = 0.5
"""The same for an answer that says nothing besides the gold answer's words: it is short, not
evasive, and has no room to be wrong elsewhere ("Faith" for "Faith alone")."""

_YEARS = {"decade": 10, "century": 100}
_VERDICTS = frozenset(("yes", "no"))


def grade_answer(gold: str | Sequence[str], answer: str, question: str = "") -> bool:
    """Whether an answer is right.

    Args:
        gold: The gold answer, or several of which any will do, as several annotators gave
            them. An empty one is an error in the data and matches nothing.
        answer: What the learner said. An empty answer is wrong.
        question: The question, if known: its words in the gold answer need not be repeated.
    """
    golds = [each for each in ([gold] if isinstance(gold, str) else gold) if each.strip()]
    if not golds or not answer.strip():
        return False
    if answer.strip() in map(str.strip, golds):
        return True  # also what has no words, as "+"
    given, asked = read(answer), _read_again(question[:MAX_CHARACTERS])
    return any(_matches(_read_again(each[:MAX_CHARACTERS]), given, asked) for each in golds)


_read_again = lru_cache(maxsize=512)(read)
"""Gold answers and questions come again with every answer to them."""


def _matches(gold: Reading, answer: Reading, question: Reading) -> bool:
    """Whether an answer is right by one gold answer."""
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
    """Whether an answer says what a token of the gold answer says."""
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
    """Whether one sentence holds half of what is asked; scattered words are no statement.

    Of a gold answer that lists several things each may have its own.
    """
    lists = any(token.role is Role.BREAK or token.key in ("and", "or") for token in gold.tokens)
    if lists or len(asked) == 1 or len(sentences := answer.sentences()) == 1:
        return True
    return any(2 * sum(_holds(part, token) for token in asked) >= len(asked) for part in sentences)


def _spells_out(answer: Reading, token: Token, gold: Reading) -> bool:
    """Whether an answer has the name of which the gold answer has the initial, in its place."""
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
    """Whether an answer denies a word that the gold answer affirms, or the reverse."""
    if gold.keys & _VERDICTS and answer.keys >= _VERDICTS:
        return True  # "yes and no"
    for token in gold.content:
        denied = token.key.startswith(DENIED)
        opposite = token.key.removeprefix(DENIED) if denied else DENIED + token.key
        if opposite in answer.by_key and not _holds(answer, token):
            return True
    return False


def _is_another_date(answer: Reading, gold: Reading, question: Reading) -> bool:
    """Whether an answer names another month or era: years are after Christ unless said."""
    months = {token.key for token in gold.content if token.month}
    others = {token.key for token in answer.content if token.month}
    if months and others and not months & answer.keys:
        return True
    eras = [any(token.unit == "bc" for token in each.content) for each in (answer, gold, question)]
    return eras == [True, False, False] and "bc" not in question.keys


def _keeps_order(answer: Reading, gold: Reading) -> bool:
    """Whether numbers that a dash joins ("3–1", "1963–64") come in the same order."""
    numbers = [token.key for token in answer.content if token.number]
    follows = set(pairwise(numbers))
    pairs = pairwise(token for token in gold.content if token.number)
    return all((a.key, b.key) in follows for a, b in pairs if b.dashed)
