"""Whether an answer commits itself, or names the gold answer among rivals.

Recall alone would pay for a list of candidates, and a policy would learn to have its learner
list them. Here an answer is cut into *items* at punctuation, at "and", "or" and "maybe", and
between numbers. A short item beside the gold answer that shares no word with it is a *rival*.
An answer in whole sentences may say more than it was asked; a place may be followed by where
it is ("Chicago, Illinois, United States"); whoever names a rival first has answered with that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from seal_env.grading.reading import SENTENCE_ENDS, Reading, Role, Token, stem

MAX_RIVALS = 2
"""Most rivals in a row beside the gold answer. None may be joined to it by "or", be a number
where the gold answer is one, or, in an answer without sentences, come before it."""

MAX_WORDS = 4
"""Longest rival, in words of content; no longer than the gold answer either, or two words."""

MAX_HEAP, MAX_HEAP_IN_SENTENCE = 3, 7
"""Most other words in a row with the gold answer's that no function word or punctuation parts:
without a sentence around them ("President John Fitzgerald Kennedy") and in one. Each word of
the gold answer beyond the first allows two more."""

LONGEST_ROW = 20
"""Most items on one side of the gold answer's that are looked at, so that time is linear."""

_OR = frozenset(map(stem, "or maybe perhaps possibly either otherwise else versus vs".split()))
_AND = frozenset("and then also plus".split())
_IN_A_LIST = frozenset(",;/|、،؛")
_EXAMPLES_FOLLOW = frozenset((stem("including"), stem("namely")))
_ABOUT_THE_ANSWER = frozenset(("answer", "correct"))


@dataclass
class _Item:
    """What stands between two joints of an answer."""

    joint: str = ""
    """What joins it to the item before: "or", "and", "list", "end" of a sentence, "other"."""
    tokens: list[Token] = field(default_factory=list)
    """Its content."""


def is_hedged(answer: Reading, gold: Reading, question: Reading) -> bool:
    """Whether an answer that holds the gold answer names rivals to it.

    Args:
        answer: The answer.
        gold: The gold answer.
        question: The question, whose words are no rivals, but for those after an "or".
    """
    return _Answer(answer, gold, question).is_hedged()


class _Answer:
    """An answer in items, and which of them are the gold answer's."""

    def __init__(self, answer: Reading, gold: Reading, question: Reading) -> None:
        self.tokens = answer.tokens
        self.gold = gold.content
        self.known = gold.keys.union(*(token.also for token in gold.content))
        self.asked = question.keys | _ABOUT_THE_ANSWER
        self.items = list(_items(answer.tokens))
        self.numeric = all(token.number for token in gold.content)
        self.longest = min(max(2, len(gold.content)), MAX_WORDS)
        self.listed = len(list(_items(gold.tokens)))
        self.own = [self._is_own(item) for item in self.items]
        # An item's tokens without the question's, unless the gold answer has them.
        self.said = [
            [t for t in item.tokens if _in(t, self.known) or not _in(t, self.asked)]
            for item in self.items
        ]
        self.functions = self._functions()

    def _is_own(self, item: _Item) -> bool:
        """Whether an item is the gold answer's. "George II" is not, if that is "George III"."""
        another = any(
            token.role is Role.EXACT and not token.number and not _in(token, self.known)
            for token in item.tokens
        )
        return not another and any(_in(token, self.known) for token in item.tokens)

    def _functions(self) -> int:
        """Number of function words that make it sentences; "the answer is" only leads to it."""
        leading, number = True, 0
        for token in self.tokens:
            leading = leading and (not token.has_content or token.key in self.asked)
            number += token.role is Role.FUNCTION and not leading
        return number

    @cached_property
    def is_bare(self) -> bool:
        """Whether it is a list without sentences, or of sentences that say one item each."""
        one_each = all(item.joint in ("", "end") for item in self.items)
        short = all(len(said) <= self.longest for said in self.said)
        return short and (one_each or self.functions < len(self.items))

    def is_hedged(self) -> bool:
        if self._heap() > self._largest_heap():
            return True
        places = [at for at, own in enumerate(self.own) if own]
        return bool(places) and all(map(self._has_rivals, places))

    def _has_rivals(self, at: int) -> bool:
        """Whether rivals stand beside the item at a place, which is the gold answer's."""
        said = self.said[at] if self.is_bare else self.items[at].tokens
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
        """The items in a row with the one at a place: their joints, and whether they are own."""
        found: list[tuple[str, bool]] = []
        joints = {"or", "and", "list"}
        if self.is_bare:
            # What is in brackets after the gold answer explains it.
            joints |= {"end"} if step > 0 else {"end", "other"}
        other = at + step
        while 0 <= other < len(self.items) and len(found) < LONGEST_ROW:
            joint = self.items[max(other, other - step)].joint
            if joint not in joints or not (self.own[other] or self._is_rival(other, joint)):
                break
            if step < 0 and joint == "other" and self._abbreviates(at, other):
                break
            found.append((joint, self.own[other]))
            other += step
        return found

    def _abbreviates(self, at: int, other: int) -> bool:
        """Whether an item stands for the one before: "carbon dioxide (CO2)", "... (AC)"."""
        first = self.items[at].tokens[0]
        initials = "".join(token.key[0] for token in self.items[other].tokens)
        abbreviation = len(initials) > 1 and first.key.startswith(initials)
        return abbreviation or (first.role is Role.EXACT and not first.number)

    def _is_rival(self, at: int, joint: str) -> bool:
        tokens = self.items[at].tokens
        if len(tokens) > self.longest or self.numeric != all(token.number for token in tokens):
            return False
        if any(_in(token, self.known) for token in tokens):
            return True
        said = self.said[at]
        return joint == "or" or len(said) == len(tokens) or (self.is_bare and bool(said))

    def _heap(self) -> int:
        """Most words in a row with the gold answer's, besides its and the question's."""
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
        allowed = MAX_HEAP_IN_SENTENCE if self.functions else MAX_HEAP
        return allowed + 2 * (len(self.gold) - 1)


def _in(token: Token, keys: frozenset[str]) -> bool:
    return token.key in keys or any(key in keys for key in token.also)


def _items(tokens: Sequence[Token]) -> Iterator[_Item]:
    """Cuts tokens into items; the weaker of two joints in a row does not count."""
    item = _Item()
    order = ("", "other", "end", "list", "and", "or", "examples")
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else None
        joint = _joint(token, before)
        if joint and item.tokens:
            yield item
            item = _Item(joint)
        else:
            item.joint = max(item.joint, joint, key=order.index)
        if (
            token.has_content
            and joint not in ("or", "and", "examples")
            and not _is_marker(tokens, at)
        ):
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
            "list" if token.key in _IN_A_LIST
            else "end" if token.key in SENTENCE_ENDS else "other"
        )  # fmt: skip
    if before is not None and token.number and before.number:
        return "list"
    both_letters = before is not None and len(token.key) == len(before.key) == 1
    return "list" if both_letters and token.has_content else ""


def _is_marker(tokens: Sequence[Token], at: int) -> bool:
    """Whether a number or a letter only counts the items of a list: "1. Paris", "a) Paris"."""
    if at + 2 >= len(tokens) or not (tokens[at].number or len(tokens[at].key) == 1):
        return False
    before = tokens[at - 1].key if at else "\n"
    after = tokens[at + 1].key
    return (after == ")" and before != "(") or (after == "." and before == "\n")
