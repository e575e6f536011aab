"""Menu `passage`: ways to repeat a passage, for any task with passages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from seal_env.hashing import stable_hash
from seal_env.menus.base import Choice, Chosen, Menu

_SENTENCE = re.compile(r"(?<=[.!?])[\"'’”)\]]*\s+(?=[\"'‘“(\[]*[A-Z0-9])")
_ENDS = re.compile(r"[.!?:;][\"'’”)\]]*$")
_WORD = re.compile(r"\w+(?:[-'’.,]\w+)*")


def sentences(context: str) -> list[str]:
    """Sentences of a context. A line without a full stop before others is their heading."""
    lines = [line.strip() for line in context.splitlines() if line.strip()]
    if len(lines) > 1 and not _ENDS.search(lines[0]):
        lines = lines[1:]
    return [part.strip() for line in lines for part in _SENTENCE.split(line) if part.strip()]


def cloze(sentence: str, skip: int) -> str:
    """Question for one word of a sentence, which is left out.

    Numbers and names are asked first, then long words, since they are specific to a passage.

    Args:
        sentence: The sentence.
        skip: Number of better words to skip, for several questions per sentence.
    """
    words = list(_WORD.finditer(sentence))
    if not words:
        return sentence
    words.sort(key=lambda w: (-_told(w.group(), w.start()), w.start()))
    word = words[skip % len(words)]
    gap = f"{sentence[: word.start()]}___{sentence[word.end() :]}"
    return f"Question: {gap}\nAnswer: {word.group()}"


def _told(word: str, start: int) -> int:
    if any(letter.isdigit() for letter in word):
        return 100
    return len(word) + (50 if start and word[0].isupper() else 0)


def _alone(some: Sequence[str], again: int) -> list[str]:
    return list(some)


def _pairs(some: Sequence[str], again: int) -> list[str]:
    following = [*some[1:], *some[:1]] if len(some) > 2 else some[1:]
    return [f"{a} {b}" for a, b in zip(some, following, strict=False)] or list(some)


def _together(some: Sequence[str], again: int) -> list[str]:
    return [" ".join(some)]


def _cloze(some: Sequence[str], again: int) -> list[str]:
    return [cloze(sentence, again) for sentence in some]


FORMS: dict[str, Callable[[Sequence[str], int], list[str]]] = {
    "single sentences": _alone,
    "pairs of sentences": _pairs,
    "one text": _together,
    "cloze questions": _cloze,
}
"""Functions from the sentences and the number of earlier repetitions to one string per training
sequence, by form."""
REPEATS = 3


class PassageMenu(Menu):
    """Choices of the form, the part of the passage, and the number of repetitions.

    Each repetition after the first has the sentences in another order, and asks for other words.
    """

    choices = (
        Choice("", tuple(FORMS)),
        Choice("of the passage", ("first half", "second half", "all")),
        Choice("times", tuple(str(n) for n in range(1, REPEATS + 1))),
    )
    features = ("length", "sentences", "sentence length", "capitalised", "digits")

    def describe(self, context: str) -> Sequence[float]:
        """Length and composition of the passage."""
        return describe_text(context)

    def render(self, context: str, chosen: Chosen) -> str:
        """The chosen part in the chosen form, repeated."""
        form, part, times = chosen
        every = sentences(context)
        middle = (len(every) + 1) // 2
        some = (every[:middle], every[middle:] or every[-1:], every)[part]
        write = list(FORMS.values())[form]
        lines: list[str] = []
        for again in range(times + 1):
            order = some if not again else _shuffled(some, context, again)
            lines += write(order, again)
        return "\n".join(lines)


def describe_text(context: str) -> list[float]:
    """Features of a text by `PassageMenu.features`, with absolute values of about 1."""
    words, parts = context.split(), sentences(context)
    count = max(len(words), 1)
    return [
        len(words) / 200,
        len(parts) / 10,
        count / max(len(parts), 1) / 20,
        sum(word[0].isupper() for word in words) / count,
        sum(any(letter.isdigit() for letter in word) for word in words) / count,
    ]


def _shuffled(some: Sequence[str], context: str, again: int) -> list[str]:
    return Random(stable_hash(context, again)).sample(some, len(some))
