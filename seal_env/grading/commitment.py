"""Detection of hedged answers, which name the gold answer among rivals.

Recall alone would reward a list of candidates, and a policy would learn to make its learner
list them. Here an answer is split into *items* at punctuation, at "and", "or" and "maybe", and
between numbers. A short item next to the gold answer that shares no word with it is a *rival*.
An answer in whole sentences may say more than the question asks. A place may be followed by its
location ("Chicago, Illinois, United States"). If a rival comes first, the rival is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import regex

from seal_env.grading.denial import DENIED
from seal_env.grading.reading import SENTENCE_ENDS, Reading
from seal_env.grading.tokens import Role, Token, stem

MAX_RIVALS = 2
"""Maximum number of consecutive rivals next to the gold answer. None may be joined to it by "or",
be a number where the gold answer is one, or, in an answer without sentences, precede it."""

MAX_WORDS = 4
"""Maximum length of a rival, in content words; it is also bounded by the length of the gold
answer or two words, whichever is larger."""

MAX_HEAP, MAX_HEAP_IN_SENTENCE = 3, 7
"""Maximum number of other content words in one run with those of the gold answer, where a run
ends at a function word or punctuation: outside a sentence ("President John Fitzgerald Kennedy")
and inside one. Each word of the gold answer beyond the first allows two more."""

LONGEST_ROW = 20
"""Maximum number of items examined on each side of the gold answer, so that time is linear."""

_OR = frozenset(
    map(
        stem,
        "or maybe perhaps possibly either otherwise else alternatively versus vs / | "
        "ou oder или أو या או".split(),
    )
)
_AND = frozenset("and then also plus".split())
# Marks that explain, not list, what stands before them. What "=" leads to is the answer, and an
# em dash may stand for "is".
_EXPLAINS = frozenset("()[]{}<>:")
_AFTER_A_MARKER = frozenset(")].:")
_LATIN = regex.compile(r"\p{Latin}")
_EXAMPLES_FOLLOW = frozenset((stem("including"), stem("namely")))
_ABOUT_THE_ANSWER = frozenset(
    map(
        stem,
        "answer correct might may could would think believe guess likely option candidate "
        "sure certainly well ok okay my opinion view knowledge know".split(),
    )
)


@dataclass
class _Item:
    """Part of an answer between two joints."""

    joint: str = ""
    """Connection to the previous item: "or", "and", "list", "end" (of a sentence), "other"."""
    tokens: list[Token] = field(default_factory=list)
    """Content tokens of the item."""


def is_hedged(answer: Reading, gold: Reading, question: Reading) -> bool:
    """Whether an answer that holds the gold answer names rivals to it.

    Args:
        answer: Answer to examine, which holds the gold answer.
        gold: Gold answer.
        question: Question; its words do not count as rivals, except after an "or".
    """
    return _Answer(answer, gold, question).is_hedged()


class _Answer:
    """Answer split into items, each marked as belonging to the gold answer or not."""

    def __init__(self, answer: Reading, gold: Reading, question: Reading) -> None:
        self.tokens = answer.tokens
        self.gold = gold.content
        self.known = gold.keys.union(*(token.also for token in gold.content))
        self.asked = question.keys | _ABOUT_THE_ANSWER
        self.items = list(_items(answer.tokens))
        self.numeric = all(_is_number(token) for token in gold.content)
        self.has_names = any(t.role is Role.EXACT and not t.number for t in gold.content)
        self.denied = any(token.key.startswith(DENIED) for token in gold.content)
        self.longest = min(max(2, len(gold.content)), MAX_WORDS)
        self.listed = len(list(_items(gold.tokens)))
        self.own = [self._is_own(item) for item in self.items]
        # An item's tokens without the question's, unless the gold answer has them.
        self.said = [
            [t for t in item.tokens if _in(t, self.known) or not _in(t, self.asked)]
            for item in self.items
        ]
        self.functions = self._functions()
        self.is_foreign = _LATIN.search(answer.text) is None and not gold.text.isascii()

    def _is_own(self, item: _Item) -> bool:
        """Whether an item is the gold answer's: "George II" is not, if that is "George III"."""
        another = self.has_names and any(
            token.role is Role.EXACT and not token.number and not _in(token, self.known)
            for token in item.tokens
        )
        return not another and any(_in(token, self.known) for token in item.tokens)

    def _functions(self) -> int:
        """Number of function words in sentences, without a lead-in such as "the answer is"."""
        leading, number = True, 0
        for token in self.tokens:
            leading = leading and (not token.has_content or token.key in self.asked)
            number += token.role is Role.FUNCTION and not leading
        return number

    @cached_property
    def is_bare(self) -> bool:
        """Whether the answer is a list without sentences, or has one item per sentence."""
        one_each = all(item.joint in ("", "end") for item in self.items)
        short = all(len(said) <= self.longest for said in self.said)
        return short and (one_each or self.functions < len(self.items))

    def is_hedged(self) -> bool:
        if self._heap() > self._largest_heap():
            return True
        places = [at for at, own in enumerate(self.own) if own]
        return bool(places) and all(map(self._has_rivals, places))

    def _has_rivals(self, at: int) -> bool:
        """Whether rivals are next to the item at index `at`, which belongs to the gold answer."""
        said = self.said[at] if self.is_bare else self.items[at].tokens
        if self.numeric:  # "the year 1066"
            said = [token for token in said if _is_number(token)]
        before = self._beside(at, -1) if _in(said[0], self.known) else []
        after = self._beside(at, +1) if _in(said[-1], self.known) else []
        beside = [*before[::-1], *after]
        rivals = sum(not own for _, own in beside)
        if rivals < 1 + len(beside) - rivals:
            return False
        if self.listed > 1 and rivals <= self.listed + MAX_RIVALS:
            return False
        if self.numeric or rivals > MAX_RIVALS:
            return True
        joints = [joint for joint, _ in beside]
        if self.is_bare and (set(joints) & {"and", "or", "end"} or not all(o for _, o in before)):
            return True
        # "A, B or C", "A or B or C": not where a list stands beside another clause.
        enumerates = joints[-1] in ("and", "or") and len(set(joints[:-1]) - {"list"}) == 0
        all_or = set(joints) == {"or"}
        return all_or or (enumerates and (joints[-1] == "or" or rivals == MAX_RIVALS))

    def _beside(self, at: int, step: int) -> list[tuple[str, bool]]:
        """Joints of the items in a row with that at `at`, and whether each is the gold answer's."""
        found: list[tuple[str, bool]] = []
        joints = {"or", "and", "list"}
        if self.is_bare:
            # What is in brackets after the gold answer explains it.
            joints |= {"end"} if step > 0 else {"end", "other"}
        if step > 0:
            joints.add("equals")
        other = at
        while 0 <= other + step < len(self.items) and abs(other - at) < LONGEST_ROW:
            other += step
            joint = self.items[max(other, other - step)].joint
            if joint not in joints:
                break
            if not self.own[other] and self._says_nothing(other):
                continue
            if not (self.own[other] or self._is_rival(other, joint, at)):
                break
            if step < 0 and joint == "other" and self._abbreviates(at, other):
                break
            found.append((joint, self.own[other]))
        return found

    def _abbreviates(self, at: int, other: int) -> bool:
        """Whether an item abbreviates the one before: "carbon dioxide (CO2)", "... (AC)"."""
        first = self.items[at].tokens[0]
        initials = "".join(token.key[0] for token in self.items[other].tokens)
        abbreviation = len(initials) > 1 and first.key.startswith(initials)
        return abbreviation or (first.role is Role.EXACT and not first.number)

    def _says_nothing(self, at: int) -> bool:
        """Whether an item names no candidate: "It might also be ...", "not London or Rome"."""
        tokens = self.items[at].tokens
        denies = not self.denied and all(token.key.startswith(DENIED) for token in tokens)
        return denies or all(token.key in _ABOUT_THE_ANSWER for token in tokens)

    def _is_rival(self, at: int, joint: str, own: int) -> bool:
        tokens = [t for t in self.items[at].tokens if t.key not in _ABOUT_THE_ANSWER]
        if len(tokens) > self.longest:
            return False
        words = {token.key for token in tokens if not _is_number(token)} - self.asked
        if self.numeric:  # "1065 or 1066", "the year 1065, the year 1066"
            own_words = {t.key for t in self.items[own].tokens if not _is_number(t)}
            return any(map(_is_number, tokens)) and words <= own_words
        if joint != "or" and all(token.number for token in tokens):
            return False
        if any(_in(token, self.known) for token in tokens):
            return True
        said = self.said[at]
        return joint == "or" or len(said) == len(tokens) or (self.is_bare and bool(said))

    def _heap(self) -> int:
        """Largest number of words, beside the question's, in one run with the gold answer's."""
        most, others, holds = 0, 0, False
        for token in (*self.tokens, Token(Role.BREAK, "")):
            if not token.has_content:
                most = max(most, others if holds else 0)
                others, holds = 0, False
            elif _in(token, self.known):
                holds = True
            else:
                others += not _in(token, self.asked)
        return most

    def _largest_heap(self) -> int:
        # In other scripts function words are not known as such.
        allowed = MAX_HEAP_IN_SENTENCE if self.functions or self.is_foreign else MAX_HEAP
        return allowed + 2 * (len(self.gold) - 1)


def _is_number(token: Token) -> bool:
    """Whether a token is a number or a Roman numeral."""
    return token.number or any(key.isdigit() for key in token.also)


def _in(token: Token, keys: frozenset[str]) -> bool:
    return token.key in keys or any(key in keys for key in token.also)


def _items(tokens: Sequence[Token]) -> Iterator[_Item]:
    """Splits tokens into items; of two consecutive joints the weaker does not count."""
    item = _Item()
    order = ("", "other", "end", "equals", "list", "and", "or", "examples")
    said = (i for i, t in enumerate(tokens) if t.has_content and t.key not in _ABOUT_THE_ANSWER)
    first = next(said, 0)
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else None
        marks = _is_marker(tokens, at, first)
        joint = "and" if marks and at else _joint(token, before)
        if joint and item.tokens:
            yield item
            item = _Item(joint)
        else:
            item.joint = max(item.joint, joint, key=order.index)
        if token.has_content and not marks and joint not in ("or", "and", "examples"):
            item.tokens.append(token)
    if item.tokens:
        yield item


def _joint(token: Token, before: Token | None) -> str:
    if token.key in _OR:
        return "or"
    if token.key in _AND:
        return "and"
    if token.key in _EXAMPLES_FOLLOW:
        return "examples"
    if token.role is Role.BREAK:
        return (
            "end" if token.key in SENTENCE_ENDS
            else "equals" if token.key in ("=", "—")
            else "other" if token.key in _EXPLAINS else "list"
        )  # fmt: skip
    if before is not None and token.number and before.number:
        return "list"
    letters = [each.has_content and len(each.key) == 1 for each in (token, before) if each]
    return "list" if letters == [True, True] else ""


def _is_marker(tokens: Sequence[Token], at: int, first: int) -> bool:
    """Whether a token only enumerates the items: "1. Paris", "(b) Paris", "A: Paris"."""
    if at + 2 >= len(tokens) or tokens[at + 2].role is Role.BREAK:
        return False
    token = tokens[at]
    counts = len(token.key) == 1 or _is_number(token)
    before, after = tokens[at - 1].key if at else "\n", tokens[at + 1].key
    if not counts or after not in _AFTER_A_MARKER:
        return False
    # "1. Paris 2. London": one row, if it begins so.
    in_row = [token.key for token in tokens[first : first + 2]] in (["1", after], ["a", after])
    return after in ")]" or before in SENTENCE_ENDS or in_row
