"""Pieces of a text: words, numbers, names with digits, unspaced runs and breaks.

Splitting into pieces is the grader's first step after `characters.normalize`. A number is
represented by its exact value, so that "0.5", ".50" and "1/2" are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction

import regex

MAX_DIGITS = 40
"""Maximum length in digits of a number read by value; a longer one is compared as written."""
MAX_POWER = 64
"""Largest exponent of a power that is computed; a larger one is compared as written."""

MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)


class Kind(Enum):
    """Type of a piece of text."""

    WORD = auto()
    NUMBER = auto()
    NAME = auto()
    """Letters with digits or signs ("CO2", "C++"): compared exactly, like a number."""
    UNSPACED = auto()
    """Run of one script that is written without spaces."""
    SYMBOL = auto()
    """Sign that is read as a word ("$", "%")."""
    BREAK = auto()
    """Punctuation, after which another item, clause or sentence begins."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Piece of a text."""

    kind: Kind
    text: str
    """Text as written, with its case; for a number, the value."""
    value: Fraction | None = None
    """Exact value of a number of up to `MAX_DIGITS` digits."""
    glued: bool = False
    """Whether the piece follows the previous one without a space."""
    dashed: bool = False
    """Whether the piece is a number joined by a dash to the one before it ("3-1", "1963–64")."""


# Scripts without spaces between words. The long-vowel mark of kana belongs to two scripts.
UNSPACED = (r"\p{Han}", r"\p{Hiragana}ー", r"\p{Katakana}ー", *map(r"\p{{{}}}".format, (
    "Thai", "Lao", "Khmer", "Myanmar")))  # fmt: skip
_RUN = "|".join(f"[{script}]++" for script in UNSPACED)
_LETTER = rf"[\p{{L}}--[{''.join(UNSPACED)}]]"
_INNER = rf"[\p{{L}}\p{{M}}--[{''.join(UNSPACED)}]]"
# Quotation marks and marks of emphasis part nothing.
_QUOTES = r"\"'“”„‟‘’‚«»‹›「」『』*_`"
# Digits in groups: 10,000; 10,00,000 (India); 10 000; 10'000; 1.000.000. One group after a
# point, "1.234", is a decimal fraction, as it is in English.
_GROUPED = (
    r"\d{1,3}(?:,\d{2,3}){0,8},\d{3}(?![\d])|\d{1,3}(?:[ '’]\d{3}){1,8}(?![\d])"
    r"|\d{1,3}(?:\.\d{3}){2,8}(?![\d.])"
)
_PIECE = regex.compile(
    rf"""
    (?P<date>(?<![\d-])(?P<year>[12]\d{{3}})-(?P<month>0\d|1[012])-(?P<day>[0-3]\d)(?![\d-]))
    |(?P<time>(?<![\d:])\d{{1,3}}(?::\d{{1,2}}){{1,2}}(?![\d:]))
    |(?P<fraction>(?<![\d/.,])(?:(?P<whole>\d{{1,4}})[ -])?
        (?P<over>\d{{1,3}})[/⁄](?P<under>[1-9]\d{{0,2}})(?![\d/⁄]))
    |(?P<number>(?<!\d)(?:{_GROUPED})(?:\.\d++)?|\d++(?:\.\d++)*+|(?<![\w.])\.\d++)
        (?:[eE](?P<tens>[+-]?\d{{1,2}})(?![\w.])
        |\ ?[×x*·]\ ?10(?:\^|\*\*)\{{?(?P<times>[-−]?\d{{1,2}})\}}?
        |(?:\^|\*\*)\{{?(?P<power>[-−]?\d{{1,2}})\}}?
        |['’](?=s\b))?
    |(?P<initials>(?<!{_INNER})(?:{_LETTER}\.){{2,}}+(?:{_LETTER}(?!{_INNER}))?
        |(?<!{_INNER})\p{{Lu}}\.(?:\ \p{{Lu}}\.)++)
    |(?P<name>(?<![\d-]|{_INNER})(?:
        (?:{_LETTER}{{1,3}}(?=\d)|\p{{Lu}}{{1,3}}-(?=\d))[\d{_INNER[1:-1]}]++[+]?
        |{_LETTER}{{1,2}}(?:\+\+?|\#|[-−](?=\s*(?:$|[,;.)\]]))))(?![\d\p{{L}}\p{{M}}]))
    |(?P<word>{_LETTER}{_INNER}*+(?:['’&]{_LETTER}{_INNER}*+)*+)
    |(?P<unspaced>{_RUN})
    |(?P<symbol>[\p{{Sc}}%°&])
    |(?P<mark>\n|[^\s\p{{L}}\p{{N}}\p{{M}}{_QUOTES}])
    """,
    flags=regex.V1 | regex.VERBOSE,
)
_CARET = regex.compile(r"(?<=\p{L})\^\{?(?=\d)|(?<=\p{L}\d)\^\{?(?=\d?[+-])")
_LATEX = regex.compile(r"\\[a-z]{2,20}(?=\{)")
_TAG = regex.compile(r"</?[a-z]{1,20}/?>")
_DASHES = "-–—−‐‑‒"
_OPENING = frozenset("([{<>=~≈:;,\"'“‘|/±$£€¥")


def pieces(text: str) -> Iterator[Piece]:
    """Pieces of a normalized text, in order.

    Args:
        text: Text as returned by `characters.normalize`.
    """
    text = _CARET.sub("", _LATEX.sub("", _TAG.sub("\n", text)))  # "m^2" is "m2", as "m²" is
    dash = ""  # a dash just read that may be a sign, a range or a hyphen
    end = -1  # of the piece before
    before: Piece | None = None
    for match in _PIECE.finditer(text):
        group = match.lastgroup or ""
        start = match.start()
        if group == "mark":
            if match[0] in _DASHES:
                if dash:  # the second of two: "-5 – -3"
                    yield Piece(Kind.BREAK, dash)
                dash, dash_start, dash_after = match[0], start, end
                continue
            before = Piece(Kind.BREAK, match[0], glued=start == end)
            yield before
            dash, end = "", match.end()
            continue
        glued, dashed, negative = start == end, False, False
        if dash:
            glued = False
            attached = dash_start + 1 == start
            after_number = before is not None and before.kind is Kind.NUMBER
            if after_number and (dash_after == dash_start or not attached or dash == "–"):
                dashed = True
            elif attached and _is_sign(text, dash_start, match):
                negative = True
            elif not (attached and dash_after == dash_start):  # " - ": not a hyphen
                yield Piece(Kind.BREAK, dash)
            dash = ""
        for piece in _read(match, negative, glued, dashed, before):
            yield piece
            before = piece
        end = match.end()


def _is_sign(text: str, at: int, match: regex.Match[str]) -> bool:
    """Whether the dash at an index is the sign of the number that follows it."""
    is_number = match["number"] is not None or match["fraction"] is not None
    return is_number and (at == 0 or text[at - 1].isspace() or text[at - 1] in _OPENING)


def _read(
    match: regex.Match[str], negative: bool, glued: bool, dashed: bool, before: Piece | None
) -> Iterator[Piece]:
    """Pieces of one match: several for an abbreviated date or range."""
    text = match[0]
    if match["date"] is not None:
        month = int(match["month"])
        if 1 <= month <= 12:
            yield number(Fraction(int(match["day"])))
            yield Piece(Kind.WORD, MONTHS[month - 1])
            yield number(Fraction(int(match["year"])))
    elif match["time"] is not None:
        yield from _read_time(text, glued)
    elif match["fraction"] is not None:
        over, under = int(match["over"]), int(match["under"])
        whole = int(match["whole"] or 0)
        if over == under or (match["whole"] and over > under):  # 50/50; "May 15 24/7"
            if match["whole"]:
                yield number(Fraction(whole), glued, dashed)
            yield number(Fraction(over))
            yield number(Fraction(under))
        else:
            value = whole + Fraction(over, under)
            yield number(-value if negative else value, glued, dashed)
    elif match["number"] is not None:
        yield from _read_number(match, negative, glued, dashed, before)
    elif match["initials"] is not None:
        yield Piece(Kind.WORD, text.replace(".", "").replace(" ", ""), glued=glued)
    elif match["name"] is not None:
        inner, last = text[:-1].replace("-", ""), text[-1].replace("−", "-")
        yield Piece(Kind.NAME, inner + last, glued=glued)
    else:
        kind = (
            Kind.WORD if match["word"] is not None
            else Kind.UNSPACED if match["unspaced"] is not None else Kind.SYMBOL
        )  # fmt: skip
        yield Piece(kind, text, glued=glued)


def number(value: Fraction, glued: bool = False, dashed: bool = False) -> Piece:
    """Number piece with the given value."""
    return Piece(Kind.NUMBER, str(value), value, glued, dashed)


def _read_time(text: str, glued: bool) -> Iterator[Piece]:
    """Time of day on the 12-hour clock ("17:30" is "5:30 pm"); a ratio is unchanged."""
    parts = text.split(":")
    hour = int(parts[0])
    if len(parts) != 2 or len(parts[1]) != 2 or hour > 23 or int(parts[1]) > 59:
        yield Piece(Kind.NAME, text, glued=glued)
        return
    written = hour % 12 or 12
    if parts[1] == "00":
        yield number(Fraction(written), glued)
    else:
        yield Piece(Kind.NAME, f"{written}:{parts[1]}", glued=glued)
    if hour > 12 or hour == 0:
        yield Piece(Kind.WORD, "pm" if hour else "am")


def _read_number(
    match: regex.Match[str], negative: bool, glued: bool, dashed: bool, before: Piece | None
) -> Iterator[Piece]:
    written = match["number"]
    parts = written.split(".")
    if len(parts) > 2:
        if all(len(part) == 3 for part in parts[1:]) and 1 <= len(parts[0]) <= 3:
            written = "".join(parts)  # 1.000.000
        elif len(parts) == 3 and len(parts[2]) == 4 and max(map(len, parts[:2])) <= 2:
            for part in parts:  # 8.11.2010
                yield number(Fraction(int(part)))
            return
        else:  # a version or an address
            yield Piece(Kind.NAME, written, glued=glued)
            return
    digits = "".join(char for char in written if char.isdigit() or char == ".")
    if len(digits) > MAX_DIGITS:
        text = ("-" if negative else "") + digits.lstrip("0").rstrip(".")
        yield Piece(Kind.NUMBER, text, None, glued, dashed)
        return
    value = Fraction(digits)
    exponent = match["tens"] or match["times"]
    if exponent:
        value *= Fraction(10) ** int(exponent.replace("−", "-"))
    elif match["power"] and value:
        power = int(match["power"].replace("−", "-"))
        if abs(power) > MAX_POWER or len(digits) > 6:
            yield Piece(Kind.NAME, f"{digits}^{power}", glued=glued)
            return
        value **= power
    if dashed and before is not None and before.value is not None and len(digits) == 2:
        # "1963–64" is "1963–1964".
        century, start = divmod(before.value, 100)
        if 10 <= century <= 20 and start < value and value.denominator == 1:
            value += 100 * int(century)
    yield number(-value if negative else value, glued, dashed)
