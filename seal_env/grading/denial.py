"""Negation in a text: "not allowed", "anything but Paris", "London rather than Paris".

A negator denies the next content word, and the key of that word is marked, so that "allowed" and
"not allowed" are different words to the grader. Negators of other languages that precede the
denied word are recognized, too, unless they are English words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from seal_env.grading.tokens import Role, Token, stem

NEGATORS = frozenset(
    "not never no without neither nor except excluding nicht kein keine не ليس ليست לא".split()
)
# Words that deny together: "London rather than Paris", "anything but Paris".
DENY_TOGETHER = frozenset(
    [("rather", "than"), ("other", "than"), ("instead", "of")]
    + [(every, "but") for every in ("anything", "everything", "anyone", "everyone")]
)
DENIED = "¬"
"""Prefix of the key of a denied token."""
_DENYING_PREFIXES = ("un", "in", "im", "il", "ir", "non", "dis")
# "Not only", "no fewer than", "not until 1990", "not because of": what follows is not denied.
_UNDENIED = frozenset(
    map(
        stem,
        "only just merely simply fewer less more later earlier until till because since but "
        "before after if to".split(),
    )
)
# Between a negator and what it denies: "has not yet been", "was not found guilty".
_PASSED_OVER = frozenset(
    map(
        stem,
        "yet ever even be been have has had do does did any longer always currently "
        "find found consider deem declare believe think call".split(),
    )
)


def affirmed(word: str) -> tuple[str, ...]:
    """Readings of a word as a denial by its prefix: "unmarried" is also "not married"."""
    return tuple(
        DENIED + stem(word[len(prefix) :])
        for prefix in _DENYING_PREFIXES
        if word.startswith(prefix) and len(word) > len(prefix) + 3
    )


def deny(tokens: Iterator[Token]) -> Iterator[Token]:
    """Marks the next content word after a negator as denied. "Not allowed" is one token.

    A negator with nothing to deny, such as the answer "no", is itself a content word.
    """
    negator, used, denied_before = "", False, ""
    for token in tokens:
        if denied_before and token.key in ("or", "nor"):  # "not London or Rome"
            negator, used = denied_before, True
            denied_before = ""
            yield token
            continue
        denied_before = ""
        if token.role is Role.FUNCTION and token.key in NEGATORS:
            negator, used = negator or token.key, False
            yield token
        elif not negator or token.key in _UNDENIED:
            negator = ""
            yield token
        elif token.role is Role.BREAK or (token.key in ("and", "or") and negator == "no"):
            if not used:
                yield Token(Role.EXACT, negator)  # "no, never"; "yes, no or both"
            negator = ""
            yield token
        elif not token.has_content or token.key in _PASSED_OVER:
            yield token
        else:
            denied = tuple(DENIED + key for key in token.also)
            yield replace(token, key=DENIED + token.key, also=denied)
            denied_before = negator
            negator, used = (negator, True) if token.adverb else ("", False)
    if negator and not used:
        yield Token(Role.EXACT, negator)
