"""Questions made from a passage itself: how do its sentences end?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seal_env.tasks.base import Question

LONG_SENTENCE, ANSWER_WORDS = 8, 3
"""Words of the shortest sentence that is asked about, and words of an answer."""


def sentence_ends(passage: str) -> Iterator[Question]:
    """Questions made of sentences of a passage without their last words.

    They need no labels (a cloze test, Taylor 1953).
    """
    for sentence in re.split(r"(?<=[.!?])\s+", passage):
        words = sentence.split()
        if len(words) >= LONG_SENTENCE:
            asked = " ".join(words[:-ANSWER_WORDS])
            answer = " ".join(words[-ANSWER_WORDS:]).rstrip(".!?\"')]")
            if answer:
                yield Question(f"How does this sentence end: {asked} ...", answer)
