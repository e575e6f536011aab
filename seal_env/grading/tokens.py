"""The tokens that the grader reads a text as, and the stems that words are compared by."""

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
    """Endings carry grammar: "released" and "release", "volcanoes" and "volcano"."""
    with _stemmer_lock:
        return str(_stemmer.stemWord(word))


class Role(Enum):
    """What a token does in its text."""

    CONTENT = auto()
    EXACT = auto()
    """Content without synonyms: a number, a formula, a numeral, the A of "vitamin A"."""
    RUN = auto()
    """Content in a script without spaces."""
    FUNCTION = auto()
    BREAK = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number or a break, in the form in which it is compared."""

    role: Role
    key: str
    """What it is compared by: the stem of a word, the value of a number."""
    also: tuple[str, ...] = ()
    """Other readings: "III" is 3, "50 percent" is 1/2."""
    unit: str = ""
    """Of a number: what it counts, where it is said."""
    number: bool = False
    """Whether it is one in digits or words; Roman numerals are not."""
    adverb: bool = False
    """Whether it ends in -ly, as adverbs do (and July)."""
    initial: bool = False
    """Whether it is the first letter of a name: the H of "Arthur H. Compton"."""
    month: bool = False
    """Whether it is the month of a date."""
    dashed: bool = False
    """Of a number: whether a dash joins it to the number before."""

    @property
    def has_content(self) -> bool:
        """Whether it says something, as function words and breaks do not."""
        return self.role in (Role.CONTENT, Role.EXACT, Role.RUN)
