"""The offline grader: is a free-form answer right, given the gold answer? No model, no network.

SEAL asks GPT-4.1 for a verdict on every answer (arXiv 2506.10943, appendix B). This grader
stands in for it at some tens of thousands of verdicts a second. It reduces both texts to
their content (see `content_words`) and asks how much of the gold answer's content the answer
holds. ``python -m benchmarks.grader`` measures how far it agrees with a file of verdicts.

Every rule below is one of language, not of a data set: there is no list of entities,
synonyms or exceptions, so what is right only by paraphrase is graded wrong.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import snowballstemmer

MAX_CHARACTERS = 20_000
"""Longest part of a text that is read; an answer is a line, so this only bounds the time."""

RECALL = 0.6
"""Share of the gold answer's content that an answer must hold. Three words in five, two in
three: an answer in other words still counts. One in two does not: with names and dates half
is usually somebody else and another year."""

SHORT_ANSWER_RECALL = 0.5
"""The same for an answer that says nothing besides the gold answer's words: it is short, not
evasive, and has no room to be wrong elsewhere ("Faith" for "Faith alone")."""

# Function words carry no content, and a short answer leaves them out or changes them ("in the
# epidermis", "of the epidermis"). The closed classes of English: articles, the commonest
# prepositions, the coordinating conjunctions, forms of "to be", personal pronouns. "percent"
# is among them because its sign is punctuation: "61%" and "61 percent" must be the same.
_FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with as and or is was are were be been being "
    "it its this that these those he him his she her hers they them their percent".split()
)

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINAL_UNITS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
    "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
).split()
# Ordinals have their cardinal's value, so that "the 8th of November" is "8 November".
_NUMBER_WORDS: dict[str, int] = {
    **{word: value for value, word in enumerate(_UNITS)},
    **{word: value for value, word in enumerate(_ORDINAL_UNITS, start=1)},
    **{f"{word}s": value for value, word in enumerate(_ORDINAL_UNITS, start=1) if value > 2},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
    **{f"{word[:-1]}ieth": 10 * value for value, word in enumerate(_TENS, start=2)},
}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_SCALES["trillion"] = 10**12

_DOTTED_INITIALS = re.compile(r"\b(?:[^\W\d_]\.){2,}")
_THOUSANDS_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_POSSESSIVE = re.compile(r"['’`]s\b|['’`]")
_NUMBER_ENDING = re.compile(r"(?<=\d)(?:st|nd|rd|th|s)\b")
# A number, one character of a script that is written without spaces, or a run of letters.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"\d+(?:\.\d+)?|[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+")

_stemmer = snowballstemmer.stemmer("english")
_stemmer_lock = threading.Lock()  # the stemmer keeps the word it works on in itself


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """Endings carry grammar: "released" and "release", "volcanoes" and "volcano"."""
    with _stemmer_lock:
        return str(_stemmer.stemWord(word))


def words(text: str) -> list[str]:
    """Splits a text into lower-case words and numbers without accents or punctuation.

    "U.S." becomes "us", "Tesla's" "tesla", "10,000" "10000", "21st" and "1980s" lose their
    endings. Hyphens and dashes separate: "1963–64" is two numbers.
    """
    text = unicodedata.normalize("NFKD", text[:MAX_CHARACTERS]).casefold()
    text = "".join(char for char in text if not unicodedata.combining(char))
    text = unicodedata.normalize("NFC", text)
    text = _DOTTED_INITIALS.sub(lambda match: match.group().replace(".", ""), text)
    text = _THOUSANDS_COMMA.sub("", text)
    text = _POSSESSIVE.sub("", text)
    text = _NUMBER_ENDING.sub("", text)
    return _WORD.findall(text)


def number_words_to_digits(tokens: list[str]) -> list[str]:
    """Writes every number in one way: "twenty-one" and "21", "1.5 million" and "1500000".

    English cardinals and ordinals below a quadrillion, in words, digits or both.

    Args:
        tokens: Lower-case words, as `words` returns them.

    Returns:
        The tokens with each run of number words replaced by one number in digits.
    """
    result: list[str] = []
    total: float = 0  # thousands and above that are complete
    group: float | None = None  # the part below the next scale word; None outside a number

    def close() -> None:
        nonlocal total, group
        if group is not None or total:
            result.append(_format_number(total + (group or 0)))
        total, group = 0, None

    for position, token in enumerate(tokens):
        following = tokens[position + 1] if position + 1 < len(tokens) else ""
        if token in _NUMBER_WORDS:
            value = _NUMBER_WORDS[token]
            if group is not None and not _continues(group, value):
                close()
            group = (group or 0) + value
        elif token in _SCALES:
            scaled = (1 if group is None else group) * _SCALES[token]
            if token == "hundred":
                group = scaled
            else:
                total, group = total + scaled, None
        elif token[0].isdecimal():
            close()
            # Ten to the fifteenth is where a float stops holding every whole number.
            if len(token) > 15 or not token.isascii():
                result.append(token)
            elif following in _SCALES:
                group = float(token)
            else:
                result.append(_format_number(float(token)))
        elif token == "and" and following in _NUMBER_WORDS and (total or (group or 0) >= 100):
            continue  # "one hundred and five"
        else:
            close()
            result.append(token)
    close()
    return result


def _continues(group: float, value: int) -> bool:
    """Whether a number word goes on with the number so far: "twenty" + "one", not "two" + "one"."""
    if group and group % 100 == 0:
        return value < 100
    return group % 100 >= 20 and group % 10 == 0 and 0 < value < 10


def _format_number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0").rstrip(".")


def content_words(text: str, keep_function_words: bool = False) -> list[str]:
    """The words of a text that carry its content: numbers in digits, the rest stemmed.

    Args:
        text: Any text.
        keep_function_words: Keeps articles, prepositions, pronouns and the like.
    """
    # Numbers first: "one hundred and five" is put together across its "and".
    tokens = number_words_to_digits(words(text))
    if not keep_function_words:
        tokens = [token for token in tokens if token not in _FUNCTION_WORDS]
    return [_stem(token) for token in tokens]


def grade_answer(gold: str | Sequence[str], answer: str, question: str = "") -> bool:
    """Whether an answer is right.

    Args:
        gold: The gold answer, or several of which any will do, as several annotators gave
            them. An empty one is an error in the data and matches nothing.
        answer: What the learner said. An empty answer is wrong.
        question: The question, if known: its words in the gold answer need not be repeated.
    """
    golds = (gold,) if isinstance(gold, str) else gold
    return any(_matches(each, answer, question) for each in golds)


def _matches(gold: str, answer: str, question: str) -> bool:
    """Whether an answer is right by one gold answer."""
    if not gold.strip() or not answer.strip():
        return False
    gold_words, answer_words = content_words(gold), set(content_words(answer))
    if not gold_words:  # made of function words alone: the letter "A", the band "Them"
        gold_words, answer_words = content_words(gold, True), set(content_words(answer, True))
    if not gold_words:  # no words at all, as in "+": only the same text will do
        return gold.strip() == answer.strip()
    question_words = set(content_words(question))

    # What the question already says is no part of the answer to it ("which river?" "the
    # Chagres river"); unless that is all there is ("tea or coffee?").
    asked = [word for word in gold_words if word not in question_words] or gold_words
    # A number has no synonyms, and a date that differs in the day alone is another date.
    if any(word[0].isdecimal() and word not in answer_words for word in asked):
        return False
    recall = sum(word in answer_words for word in asked) / len(asked)
    added = answer_words - question_words
    says_nothing_else = bool(added) and added <= set(gold_words)
    return recall >= (SHORT_ANSWER_RECALL if says_nothing_else else RECALL)
