"""Unicode normalization for the grader: one spelling for texts that read alike, in any script.

Characters that a reader cannot see or may leave out are removed (format characters, Latin
accents, Hebrew and Arabic vowel points). Marks that distinguish words are preserved (the vowel
signs of Indic scripts, the marks of kana, the breve of Cyrillic й), and so is case: "IT" is not
"it".
"""

from __future__ import annotations

import unicodedata

import regex

MAX_MARKS = 30
"""Maximum number of combining marks read per character, the bound of Unicode's Stream-Safe Text
Format (UAX #15): the time of normalization grows with the square of their number."""

# Letters with a stroke or joined, which Unicode does not take apart. Trade marks and ordinal
# signs would become letters under NFKC.
_LETTERS = str.maketrans(
    dict(zip("łŁøØđĐıðÐ", "lLoOdDidD", strict=True))
    | {"æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "þ": "th", "Þ": "Th"}
    | {"٬": ",", "٫": "."}
    | dict.fromkeys("™®©ªº", " ")
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERSCRIPT = regex.compile(r"(?<=[\p{L}\p{N})])[⁰¹²³⁴-⁹⁺⁻]+")
_VULGAR_FRACTION = regex.compile(r"[¼-¾⅐-⅞↉]")
_TOO_MANY_MARKS = regex.compile(rf"(\p{{M}}{{{MAX_MARKS}}})\p{{M}}+")
_INVISIBLE = regex.compile(r"[\p{Cf}\p{Variation_Selector}\u034f\u0640]+")
_ACCENT = regex.compile(r"(?<=[\p{Latin}\p{Greek}])\p{M}+")
_POINTS = regex.compile(
    r"[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0670]+"
    r"|(?<=\p{Cyrillic})[\u0300\u0301]+|(?<=[еЕ])\u0308"
)
_FOREIGN_DIGIT = regex.compile(r"[\p{Nd}--0-9]", flags=regex.V1)


def normalize(text: str) -> str:
    """One spelling for texts that read alike; case is preserved.

    "Curaçao" becomes "Curacao", "10²" "10^2", "CO₂" "CO2", "2½" "2 1⁄2", "٤٢" "42"; letters
    that only look alike (Latin and Cyrillic "a") remain different.
    """
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", _TOO_MANY_MARKS.sub(r"\1", text))
    text = _VULGAR_FRACTION.sub(lambda match: f" {match[0]}", text)
    text = _SUPERSCRIPT.sub(_write_superscript, text)
    text = unicodedata.normalize("NFKC", text.translate(_LETTERS))
    text = unicodedata.normalize("NFD", text)
    text = _POINTS.sub("", _ACCENT.sub("", text))
    text = unicodedata.normalize("NFC", text)
    return _FOREIGN_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)


def _write_superscript(match: regex.Match[str]) -> str:
    """Superscript as plain text: powers of numbers get a caret ("10²"), units do not ("m²")."""
    raised = match[0].translate(_SUPERSCRIPTS)
    of_a_number = match.string[match.start() - 1].isdigit() and raised[-1] not in "+-"
    return f"^{raised}" if of_a_number else raised
