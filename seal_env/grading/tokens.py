"""Tokens of the grader, and the stems by which words are compared."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

import snowballstemmer

_stemmer = snowballstemmer.stemmer("english")
_stemmer_lock = threading.Lock()  # the stemmer keeps the word it works on in itself


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Word without its grammatical ending: "released" and "release" have one stem."""
    with _stemmer_lock:
        return str(_stemmer.stemWord(word))


class Role(Enum):
    """Role of a token in its text."""

    CONTENT = auto()
    EXACT = auto()
    """Content that is compared exactly: a number, a formula, a numeral, the A of "vitamin A"."""
    RUN = auto()
    """Content in a script without spaces."""
    FUNCTION = auto()
    BREAK = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """Word, number or break, in the form in which it is compared."""

    role: Role
    key: str
    """Comparison key: the stem of a word, the value of a number."""
    also: tuple[str, ...] = ()
    """Keys of alternative readings: "III" is 3, "50 percent" is 1/2."""
    unit: str = ""
    """Unit of a number, if stated."""
    number: bool = False
    """Whether the token is a number in digits or words; Roman numerals do not count."""
    adverb: bool = False
    """Whether the word ends in -ly, as adverbs do (and July)."""
    initial: bool = False
    """Whether the token is the initial of a name: the H of "Arthur H. Compton"."""
    month: bool = False
    """Whether the token is the month of a date."""
    dashed: bool = False
    """Whether the token is a number joined by a dash to the number before it."""

    @property
    def has_content(self) -> bool:
        """Whether the token carries content; function words and breaks do not."""
        return self.role in (Role.CONTENT, Role.EXACT, Role.RUN)
