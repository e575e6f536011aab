"""Salient spans of a passage: the numbers, names and content words of its sentences.

REALM masks salient spans, named entities and dates, since predicting them takes knowledge of the
world and not of the language (Guu et al. 2020, arXiv 2002.08909, section 3.4). Here they are found
by their form, so that no tagger is needed and any language will do. Scripts without spaces mark no
words; their spans are runs of up to 4 characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import NamedTuple

import regex

from seal_env.grading.pieces import UNSPACED
from seal_env.grading.reading import FUNCTION_WORDS

MOST_CHARACTERS = 65_536
"""Beginning of a passage that is read, in characters."""
COPIED, LONGEST = 3, 48
"""Words before a span that make it a copy of the passage, and their characters at most."""

# The point after an initial or in a number ends no sentence.
_SENTENCE = regex.compile(
    r"(?:[^.!?…。！？।\n]|[.!?…](?!\s|$)|(?<=\b\p{Lu})\.)*(?:[.!?…]+|[。！？।]+)?"
)
_LETTER = rf"[[\p{{L}}\p{{M}}]--[{''.join(UNSPACED)}]]"
_WORD = rf"(?:{_LETTER}|[\p{{N}}'’-])"
_NAME = rf"\p{{Lu}}(?:{_WORD}|\.(?=\p{{Lu}}))*+"
_CANDIDATE = regex.compile(
    rf"(?P<number>\p{{Sc}}?\p{{N}}(?:{_WORD}|[.,:/](?=\p{{N}}))*+[%°]?)"
    rf"|(?P<name>{_NAME}(?:\ {_NAME})*+)"
    rf"|(?P<word>{_LETTER}{_WORD}*+)"
    rf"|(?P<run>{'|'.join(f'[{script}]{{2,4}}' for script in UNSPACED)})",
    regex.V1,
)


class Span(NamedTuple):
    """Part of a sentence."""

    before: str
    """The sentence up to the span, without the white space at its end; not empty."""
    text: str
    """The span, with the white space before it."""

    def copies(self) -> re.Pattern[str]:
        """Pattern of the span (group ``masked``) behind the last words that are before it here."""
        before = r"\s+".join(map(re.escape, self.before[-LONGEST:].split()[-COPIED:]))
        span = r"\s+".join(map(re.escape, self.text.split()))
        return re.compile(rf"{before}(?P<masked>\s*{span})(?!\w)", re.IGNORECASE)


class _Candidate(NamedTuple):
    """A span by its indices in the passage."""

    sentence: int
    start: int
    stop: int
    salient: bool
    """Whether it is a number or a name."""


def salient_spans(passage: str, title: str, most: int) -> tuple[Span, ...]:
    """Spans of a passage, in its order.

    A span is a number, a name, or the last content word of its sentence. It is not at the
    beginning of the sentence, not said before in it, and no part of the title. The end of a
    sentence is usually what is new, and most of the sentence says what is asked for. So the
    last name or number of a sentence comes first, and its last word after them; the first choices
    of all sentences come before the second choice of any.

    Args:
        passage: Any text.
        title: What the passage is about, and what stands before each beginning of a sentence.
        most: Largest number of spans.
    """
    text = passage[:MOST_CHARACTERS]
    known = {word.casefold() for word in title.split()}
    sentences = [_ranked(list(_candidates(text, *s, known))) for s in _sentences(text)]
    turns = chain.from_iterable(zip_longest(*sentences))
    chosen = sorted(islice((c for c in turns if c is not None), most))
    spans = (_span(text, candidate) for candidate in chosen)
    return tuple(dict.fromkeys(spans))


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of the sentences of a text, without surrounding white space."""
    for match in _SENTENCE.finditer(text):
        sentence = match[0]
        start = match.start() + len(sentence) - len(sentence.lstrip())
        if sentence.strip():
            yield start, match.start() + len(sentence.rstrip())


def _candidates(text: str, start: int, stop: int, known: set[str]) -> Iterator[_Candidate]:
    """Spans of one sentence."""
    said: set[str] = set()
    for match in _CANDIDATE.finditer(text, start, stop):
        words = match[0].casefold().split()
        begin = match.start()
        while words and words[0] in FUNCTION_WORDS:  # "The Hague" is a name, "The" is none
            begin += len(words.pop(0)) + 1
        new = not said.union(known).issuperset(words)
        said.update(words)
        if new and text[start:begin].strip():
            yield _Candidate(start, begin, match.end(), match.lastgroup in ("number", "name"))


def _ranked(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The salient candidates of a sentence, then its last word, if it is behind all of them."""
    salient = [one for one in reversed(candidates) if one.salient]
    words = [one for one in candidates[-1:] if not one.salient]
    return salient + words


def _span(text: str, candidate: _Candidate) -> Span:
    before = text[candidate.sentence : candidate.start]
    bare = before.rstrip()
    return Span(bare, before[len(bare) :] + text[candidate.start : candidate.stop])
