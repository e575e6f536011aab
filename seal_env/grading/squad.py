"""Comparison of answers as in SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1)."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Answer in the normal form of SQuAD's evaluation.

    The form is lower case, without ASCII punctuation and articles, words separated by one space.
    """
    bare = answer.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def token_f1(answer: str, gold: str) -> float:
    """F1 score of the words of two answers as bags, after normalization, from 0 to 1.

    If an answer has no words, the score is 1 if neither has any and 0 otherwise, as in the script
    of SQuAD 2.0 (arXiv 1806.03822).
    """
    given, right = normalized(answer).split(), normalized(gold).split()
    if not given or not right:
        return float(given == right)
    common = sum((Counter(given) & Counter(right)).values())
    return 2 * common / (len(given) + len(right))
