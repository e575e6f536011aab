"""SQuAD's way of comparing answers (Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1)."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """An answer as SQuAD's evaluation compares it.

    In lower case, without ASCII punctuation, without articles, words with one space between.
    """
    bare = answer.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def token_f1(answer: str, gold: str) -> float:
    """The F1 of two answers' words, as bags, after normalization, 0 to 1.

    If one of the two has no words, it is 1 if neither has any and 0 otherwise, as in the script of
    SQuAD 2.0 (arXiv 1806.03822).
    """
    given, right = normalized(answer).split(), normalized(gold).split()
    if not given or not right:
        return float(given == right)
    common = sum((Counter(given) & Counter(right)).values())
    return 2 * common / (len(given) + len(right))
