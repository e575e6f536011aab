"""Conversion of a text to tokens that carry its content, for the grader.

Every rule is a rule of the language, not of a data set: there is no list of entities, synonyms
or exceptions. The lists below are closed classes: function words and suffixes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import regex

from seal_env.grading.characters import normalize
from seal_env.grading.denial import DENY_TOGETHER, NEGATORS, affirmed, deny
from seal_env.grading.numbers import join_numbers
from seal_env.grading.pieces import MONTHS, Kind, Piece, pieces
from seal_env.grading.tokens import Role, Token, stem
from seal_env.grading.units import MERE_SIGNS, NEED_A_DEGREE, UNITS

MAX_CHARACTERS = 10_000
"""Maximum length of the text that is read; answers are one line, so this only bounds the time."""

# Function words carry no content, and a short answer leaves them out or changes them ("in the
# epidermis", "of the epidermis"): articles, the commonest prepositions, the coordinating
# conjunctions, forms of "to be", personal pronouns.
FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with as and or is was are were be been being "
    "it its this that these those he him his she her hers they them their i".split()
)
SENTENCE_ENDS = frozenset(".!?。।\n")
# Hiragana that follow a word to say what it does in the sentence, and copulas.
_PARTICLES = frozenset("は が を に の で と も や か へ だ です ます でした".split())

_MONTHS = frozenset(MONTHS)
# Abbreviations that end in a full stop, which ends no sentence then.
_ABBREVIATIONS = {"mt": "mount", "st": "saint", "dr": "doctor", "jr": "junior", "sr": "senior"}
_ABBREVIATIONS |= {"mr": "mister", "mrs": "missus", "prof": "professor", "gen": "general"}
_ABBREVIATIONS |= {month[:3]: month for month in MONTHS} | {"sept": "september"}
_CONTRACTED = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
_NO_APOSTROPHE = frozenset(
    f"{verb}nt" for verb in "is was are were do does did has have had could would should".split()
)
_ROMAN = regex.compile("(?=.)M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}

# What Korean appends to a word to say what it does in the sentence, and copulas.
_JOSA = regex.compile(
    r"(?<=\p{Hangul}{2})(?:은|는|이|가|을|를|의|에|에서|와|과|도|로|으로"
    r"|이다|다|이고|입니다|이에요|예요|이었다|였다)$"
)


@dataclass(frozen=True)
class Reading:
    """Text as the grader reads it."""

    text: str
    """Normalized text in lower case."""
    tokens: tuple[Token, ...]
    has_capitals: bool = field(default=True)

    @cached_property
    def content(self) -> list[Token]:
        """Tokens that carry content."""
        return [token for token in self.tokens if token.has_content]

    @cached_property
    def keys(self) -> frozenset[str]:
        """Comparison keys of the content."""
        return frozenset(token.key for token in self.content)

    @cached_property
    def by_key(self) -> dict[str, list[Token]]:
        """Content tokens by comparison key, alternative readings included."""
        found: dict[str, list[Token]] = {}
        for token in self.content:
            for key in (token.key, *token.also):
                found.setdefault(key, []).append(token)
        return found

    @cached_property
    def function_keys(self) -> frozenset[str]:
        """Function words of the text."""
        return frozenset(token.key for token in self.tokens if token.role is Role.FUNCTION)

    def sentences(self) -> list[Reading]:
        """Sentences and lines of the text, each as a reading."""
        ends = [at for at, token in enumerate(self.tokens) if token.key in SENTENCE_ENDS]
        starts = [0, *(end + 1 for end in ends)]
        spans = zip(starts, [*ends, len(self.tokens)], strict=True)
        return [replace(self, tokens=self.tokens[a:b]) for a, b in spans if a < b]


def read(text: str) -> Reading:
    """Reads a text.

    Args:
        text: Any text, of which the first `MAX_CHARACTERS` characters are read.
    """
    written = normalize(text[:MAX_CHARACTERS])[:MAX_CHARACTERS]
    parts = join_numbers(list(pieces(written)))
    shouts = written.upper() == written
    tokens = tuple(deny(_Reader(parts, shouts).tokens()))
    return Reading(written.casefold(), tokens, written.casefold() != written)


class _Reader:
    """Converter of pieces to tokens, by the form and the neighbors of each piece."""

    def __init__(self, parts: Sequence[Piece], shouts: bool) -> None:
        self.parts = parts
        self.shouts = shouts
        """Whether the whole text is in capitals, which then carry no information."""

    def tokens(self) -> Iterator[Token]:
        at = 0
        while at < len(self.parts):
            part = self.parts[at]
            if part.kind is Kind.NUMBER:
                after, unit = self._unit(at)
                yield _number(part, unit)
                if unit and unit not in MERE_SIGNS:
                    yield Token(Role.CONTENT, stem(unit))
                at = after
                continue
            if part.kind is Kind.WORD:
                yield from self._word(at)
            elif part.kind is Kind.NAME:
                yield Token(Role.EXACT, part.text.casefold(), number=part.text[0].isdigit())
            elif part.kind is Kind.UNSPACED:
                role = Role.FUNCTION if part.text in _PARTICLES else Role.RUN
                yield Token(role, part.text)
            elif part.text == "." and self._ends_abbreviation(at):
                pass
            elif part.kind is Kind.BREAK:
                yield Token(Role.BREAK, part.text)
            elif part.text == "&":
                yield Token(Role.FUNCTION, "and")
            at += 1

    def _at(self, at: int) -> Piece | None:
        return self.parts[at] if 0 <= at < len(self.parts) else None

    def _unit(self, at: int) -> tuple[int, str]:
        """Index after a number and its unit, and the name of the unit; empty if there is none."""
        before = self._at(at - 1)
        if before is not None and before.text.casefold() in ("$", "£", "€", "¥", "₹", "ad"):
            return at + 1, UNITS[before.text.casefold()]
        after = at + 1
        part = self._at(after)
        degrees = part is not None and part.text.casefold() in ("°", "degree", "degrees")
        if degrees:
            after += 1
            part = self._at(after)
        if part is None or part.kind not in (Kind.WORD, Kind.SYMBOL):
            return at + 1, ""
        word = part.text.casefold()
        value = self.parts[at].value
        if word == "s" and part.glued and value is not None and value >= 100 and value % 10 == 0:
            return after + 1, "century" if value % 100 == 0 else "decade"  # "the 1980s"
        per_cent = self._at(after + 1)
        if word == "per" and per_cent is not None and per_cent.text.casefold() == "cent":
            return after + 2, "percent"
        if word not in UNITS or (word in NEED_A_DEGREE and not degrees):
            return at + 1, ""
        return after + 1, UNITS[word]

    def _word(self, at: int) -> Iterator[Token]:
        text = self.parts[at].text
        word = text.casefold().replace("’", "'").replace("&", "")
        if word.endswith("n't") or word in _NO_APOSTROPHE:
            verb = word.removesuffix("t").removesuffix("'").removesuffix("n")
            yield self._auxiliary(_CONTRACTED.get(verb, verb))
            yield Token(Role.FUNCTION, "not")
            return
        before = self._at(at - 1)
        if before is not None and (before.text.casefold(), word) in DENY_TOGETHER:
            yield Token(Role.FUNCTION, "not")
            return
        if word == "cannot":
            yield self._auxiliary("can")
            yield Token(Role.FUNCTION, "not")
            return
        if "'" in word:
            stem_part, _, ending = word.rpartition("'")
            word = stem_part if ending in ("s", "re", "ve", "ll", "d", "m") else word
            word = word.replace("'", "")
        if len(word) == 1 and text.isascii():
            yield self._letter(at, text, word)
            return
        if token := self._numeral(text, word):
            yield token
            return
        if word in FUNCTION_WORDS or word in NEGATORS:
            if text.isupper() and not self.shouts and word in FUNCTION_WORDS:
                yield Token(Role.CONTENT, word)  # an acronym: "IT"
            elif word == "no" and self._is_numero(at):
                return
            else:
                yield Token(Role.FUNCTION, word)
            return
        also = affirmed(word)
        after = self._at(at + 1)
        if (bare := _JOSA.sub("", word)) != word and not (after and after.text.startswith("아니")):
            also = (bare,)
        if word in _ABBREVIATIONS and text[0].isupper():
            word, also = _ABBREVIATIONS[word], (stem(word),)
        month = word in _MONTHS and (self._is_number(at - 1) or self._is_number(at + 1))
        adverb = word.endswith("ly") and not month
        yield Token(Role.CONTENT, stem(word), also, adverb=adverb, month=month)

    def _auxiliary(self, verb: str) -> Token:
        return Token(Role.FUNCTION if verb in FUNCTION_WORDS else Role.CONTENT, stem(verb))

    def _letter(self, at: int, text: str, word: str) -> Token:
        """Token of a single letter: an article, a pronoun, an initial, a numeral or a name."""
        before, after = self._at(at - 1), self._at(at + 1)
        follows_word = before is not None and before.kind is Kind.WORD
        goes_on = after is not None and after.kind is not Kind.BREAK
        follows_name = before is not None and follows_word and before.text[0].isupper()
        if text in ("a", "i") and (goes_on or (text == "i" and not follows_word)):
            return Token(Role.FUNCTION, word)
        if text == "I" and goes_on and not follows_name:
            return Token(Role.FUNCTION, word)
        joined = after is not None and (
            after.text.casefold() in ("and", "or", "&")
            or (len(after.text) == 1 and after.text.isupper())
        )
        capitals_follow = after is not None and after.text[:1].isupper() and goes_on
        if text == "A" and goes_on and not joined and (not follows_word or capitals_follow):
            return Token(Role.FUNCTION, word)
        dotted = after is not None and after.text == "." and self._at(at + 2) is not None
        if dotted and text.isupper():
            return Token(Role.FUNCTION if text == "A" else Role.CONTENT, word, initial=True)
        value = _roman(text) if follows_name or word == "i" else ""
        also = (value,) if value else ()
        if follows_word and not capitals_follow:
            return Token(Role.EXACT, word, also)
        return Token(Role.CONTENT, word, also)

    def _numeral(self, text: str, word: str) -> Token | None:
        """Token of a Roman numeral. One of I, V and X alone is unambiguous; "MIX" may be a word."""
        if not text.isascii() or not (text.isupper() or text.islower()):
            return None
        plain = set(word) <= set("ivx")
        value = _roman(text) if plain or text.isupper() else ""
        if not value:
            return None
        return Token(Role.EXACT if plain else Role.CONTENT, stem(word), (value,))

    def _is_number(self, at: int) -> bool:
        """Whether a number is at an index, or follows a period there ("Sept. 4")."""
        part = self._at(at)
        if part is not None and part.text == ".":
            part = self._at(at + 1)
        return part is not None and part.kind is Kind.NUMBER

    def _ends_abbreviation(self, at: int) -> bool:
        before = self._at(at - 1)
        goes_on = self._at(at + 1) is not None and self.parts[at].glued
        return goes_on and before is not None and before.text.casefold() in _ABBREVIATIONS

    def _is_numero(self, at: int) -> bool:
        """Whether a "no" abbreviates "number": "No. 5"."""
        after = self._at(at + 1)
        if after is not None and after.text == ".":
            after = self._at(at + 2)
        return after is not None and after.kind is Kind.NUMBER and after.value is not None


def _number(part: Piece, unit: str) -> Token:
    also: tuple[str, ...] = ()
    if unit == "percent" and part.value is not None:
        also = (str(part.value / 100),)
    return Token(Role.EXACT, part.text, also, unit, number=True, dashed=part.dashed)


def _roman(text: str) -> str:
    """Value of a Roman numeral in digits; empty if the text is not one."""
    if not _ROMAN.fullmatch(text.upper()):
        return ""
    values = [_ROMAN_DIGITS[char] for char in text.upper()]
    following = [*values[1:], 0]
    return str(sum(-a if a < b else a for a, b in zip(values, following, strict=True)))
