"""Numbers in words for the grader: "two and a half million" is 2500000, "two thirds" 2/3.

The module reads English cardinals, ordinals and fractions below a quadrillion, in words, digits
or both. An ordinal has the value of its cardinal, so that "the 8th of November" is "8 November".
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from seal_env.grading.pieces import Kind, Piece, number

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
).split()
_CARDINALS = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_WORDS: dict[str, int] = {
    **_CARDINALS,
    **{word: value for value, word in enumerate(_ORDINALS, start=1)},
    **{f"{word[:-1]}ieth": 10 * value for value, word in enumerate(_TENS, start=2)},
}
# A part of a whole: "a third", "two thirds".
_PARTS = {"half": 2, "quarter": 4} | {word: _WORDS[word] for word in _ORDINALS[2:]}
_PARTS_PLURAL = {"halves": 2, "quarters": 4} | {f"{w}s": _WORDS[w] for w in _ORDINALS[2:]}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES |= {"trillion": 10**12, "dozen": 12}
# Attached to digits; a small m is a meter, unless the number is money.
_SUFFIXES = {"k": "thousand", "K": "thousand", "M": "million", "mn": "million", "bn": "billion"}
_SUFFIXES |= {"B": "billion", "tn": "trillion"}
_ENDINGS = frozenset(("st", "nd", "rd", "th"))
_BEFORE_A_SIGN = frozenset(("minus", "negative"))
_BEGINNINGS = frozenset({"a", "an", *_WORDS, *_PARTS, *_SCALES, *_BEFORE_A_SIGN})


def join_numbers(pieces: Sequence[Piece]) -> list[Piece]:
    """Replaces each run of number words and digits with the number that it expresses.

    Args:
        pieces: Pieces of a text, in order.
    """
    return _Joining(pieces).result


class _Joining:
    """Single pass over the pieces of a text; the number being read is held in parts."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.words = [piece.text.casefold() if piece.kind is Kind.WORD else "" for piece in pieces]
        self.result: list[Piece] = []
        self.total = Fraction(0)  # thousands and above that are complete
        self.group: Fraction | None = None  # below the next scale word; None outside a number
        self.first: Piece | None = None  # the open number's first piece
        at = 0
        while at < len(pieces):
            at += self._take(at)
        self._close()

    def _word(self, at: int) -> str:
        return self.words[at] if at < len(self.words) else ""

    def _take(self, at: int) -> int:
        """Consumes one or more pieces, from index `at` on; returns their number."""
        piece, word = self.pieces[at], self.words[at]
        is_open = self.first is not None
        if not is_open and piece.value is None and word not in _BEGINNINGS:
            self.result.append(piece)
            return 1
        if piece.value is not None:
            return self._take_digits(at)
        if is_open and word in _PARTS_PLURAL | _PARTS and self._take_part(at):
            return 1
        if word == "half":
            self._close()
            article = self._word(at + 1) == "a" and self._scales(at + 2)  # "half a million"
            return self._take_lone_part(piece, "half", at + 1 + article) - at
        if word in _WORDS and not (word == "second" and self._follows_one(at)):
            self._take_word(piece, _WORDS[word])
            return 1
        if word in _SCALES:
            self._scale(piece, word)
            return 1
        if is_open and word == "and":
            following = self._word(at + 1)
            if following in _WORDS and (self.total or (self.group or 0) >= 100):
                return 1  # "one hundred and five"
            if following == "a" and self._word(at + 2) in ("half", "quarter"):
                self._open(piece, (self.group or 0) + Fraction(1, _PARTS[self._word(at + 2)]))
                return 3  # "two and a half"
        if is_open and word == "point" and self._word(at + 1) in _UNITS[:10]:
            return self._take_decimals(at)
        self._close()
        if word in ("a", "an") and self._word(at + 1) in _PARTS:
            return self._take_article(at)
        if word in _BEFORE_A_SIGN and self._starts_number(at + 1):
            self.result.append(Piece(Kind.SYMBOL, "-"))
            return 1
        self.result.append(piece)
        return 1

    def _take_digits(self, at: int) -> int:
        piece = self.pieces[at]
        assert piece.value is not None
        self._close()
        following = self.pieces[at + 1] if at + 1 < len(self.pieces) else None
        taken = 1
        scale = self._word(at + 1)
        if following is not None and following.kind is Kind.WORD and following.glued:
            money = bool(self.result) and self.result[-1].text in ("$", "£", "€")
            scale = _SUFFIXES.get(following.text, scale)
            scale = "million" if following.text == "m" and money else scale
            if following.text.casefold() in _ENDINGS:
                taken, scale = 2, self._word(at + 2)
        self._open(piece, piece.value)
        if scale in _SCALES:
            self._scale(piece, scale)
            return taken + 1
        if scale == "and" and self._word(at + taken + 1) == "a":  # "2 and a half"
            return taken
        if scale in _PARTS_PLURAL:
            return taken
        self._close()
        return taken

    def _take_part(self, at: int) -> bool:
        """Denominator of a fraction: "two thirds", "one third"; not "twenty-third"."""
        word, group = self.words[at], self.group
        if self.total or group is None or not 0 < group < 100 or group.denominator > 1:
            return False
        if word in _PARTS_PLURAL:
            under = _PARTS_PLURAL[word]
        elif group == 1 and self.first is not None and self.first.text.casefold() == "one":
            under = _PARTS[word]
        else:
            return False
        self.group = group / under
        self._close()
        return True

    def _take_article(self, at: int) -> int:
        """Reads "a third of it" as a fraction; "a third party" is an ordinal."""
        after = self.pieces[at + 2] if at + 2 < len(self.pieces) else None
        word = self._word(at + 1)
        ends = after is None or after.kind is Kind.BREAK or self._word(at + 2) == "of"
        if ends or word in ("half", "quarter"):
            return self._take_lone_part(self.pieces[at], word, at + 2) - at
        self.result.append(self.pieces[at])
        return 1

    def _take_lone_part(self, piece: Piece, word: str, after: int) -> int:
        """Fraction without a numerator, which may multiply a scale word: "half a million"."""
        self._open(piece, Fraction(1, _PARTS[word]))
        if not self._scales(after):
            self._close()
        return after

    def _take_word(self, piece: Piece, value: int) -> None:
        group = self.group
        if group is not None and 13 <= group <= 19 and 20 <= value <= 90 and not self.total:
            self._open(piece, 100 * group + value)  # a year: "nineteen eighty-four"
            return
        if group is not None and not _continues(group, value):
            self._close()
        self._open(piece, (self.group or 0) + Fraction(value))

    def _follows_one(self, at: int) -> bool:
        """Whether a "second" is a unit of time: "1 second"."""
        return at > 0 and (self.pieces[at - 1].value == 1 or self.words[at - 1] == "one")

    def _take_decimals(self, at: int) -> int:
        """Reads a decimal fraction in words: "three point one four"."""
        taken, digits = 1, ""
        while self._word(at + taken) in _UNITS[:10] and taken <= 16:
            digits += str(_CARDINALS[self._word(at + taken)])
            taken += 1
        self.group = (self.group or 0) + Fraction(int(digits), 10 ** len(digits))
        return taken

    def _scales(self, at: int) -> bool:
        return self._word(at) in _SCALES

    def _starts_number(self, at: int) -> bool:
        return at < len(self.pieces) and (
            self.pieces[at].kind is Kind.NUMBER or self.words[at] in _WORDS
        )

    def _open(self, piece: Piece, group: Fraction) -> None:
        self.first = self.first or piece
        self.group = group

    def _scale(self, piece: Piece, word: str) -> None:
        self.first = self.first or piece
        scaled = (Fraction(1) if self.group is None else self.group) * _SCALES[word]
        if word in ("hundred", "dozen"):
            self.group = scaled
        else:
            self.total, self.group = self.total + scaled, None

    def _close(self) -> None:
        if self.first is not None:
            value = self.total + (self.group or 0)
            if self.result and self.result[-1] == Piece(Kind.SYMBOL, "-"):
                self.result.pop()
                value = -value
            self.result.append(number(value, self.first.glued, self.first.dashed))
        self.total, self.group, self.first = Fraction(0), None, None


def _continues(group: Fraction, value: int) -> bool:
    """Whether a number word continues the number so far: "twenty" + "one", not "two" + "one"."""
    if group and group % 100 == 0:
        return value < 100
    return group % 100 >= 20 and group % 10 == 0 and 0 < value < 10
