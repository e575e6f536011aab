"""Verdict of a judge's reply: yes or no, or a grade, whatever reasoning surrounds it."""

from __future__ import annotations

import re

EDGE = 200
"""Number of characters at each end of a reply that are searched for a bare yes or no."""

# Models mark what they think before they answer in one of these ways. What is not closed was
# cut off before the answer.
_THOUGHT = re.compile(
    r"(?:<|◁|\[)/?(think|thinking|thought|reasoning|reflection|analysis)(?:>|▷|\])", re.IGNORECASE
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)\s*(?:<\|message\|>)?")
_CONTROL = re.compile(r"<\|[^|<>]{0,40}\|>")
_TAG = re.compile(r"</?\w{1,20}>")
_MARKS = re.compile(r"\\(?:boxed|text|textbf|mathrm)\b|[*`#>{}\[\]$\"'“”‘’]|(?<![a-z])_|_(?![a-z])")
_SAID = r"(yes|no|true|false|correct|incorrect|right|wrong)"
_NAMED = re.compile(
    r"\b(?:final[ _]?|the )?(?:answer|verdict|judgment|judgement|grade|result|decision|conclusion|"
    rf"is[ _]correct|is[ _]right|correct|right)\b\s*(?:is|:|=)+\s*{_SAID}\s*(?=$|[\n.,;:!)])",
    re.IGNORECASE,
)
_FIRST = re.compile(r"\W*(yes|no)\s*(?=$|[\n.,;:!)(–—-])", re.IGNORECASE)
_LAST = re.compile(
    r"(?:^|[\n.:;!,]|\b(?:so|therefore|thus|hence|is)\b)\s*\W*(yes|no)\W*$", re.IGNORECASE
)
_GRADE = r"([1-5])(?:\s*/\s*5|\s+(?:out )?of 5)?(?![\w/]|\.\d|,\d)"
_GRADE_NAMED = re.compile(
    rf"\b(?:grade|score|rating|verdict|answer)\b\s*(?:is|:|=)+\s*{_GRADE}", re.IGNORECASE
)
_GRADE_FIRST = re.compile(rf"\W*{_GRADE}")
_GRADE_LAST = re.compile(rf"(?:^|[\n:])\s*{_GRADE}\W*$")
_YES = frozenset(("yes", "true", "correct", "right"))


def read_verdict(reply: str) -> bool | None:
    """Verdict of a reply, or None if it has none.

    A verdict is a yes or no that begins the reply, ends it, or is named as the answer, after
    the model's reasoning is removed. A reply that says both has no verdict.

    Args:
        reply: Text from the judge, such as "yes", "<think>...</think> **No.**",
            '{"correct": true}' or "Verdict: no, since ...".
    """
    text = _without_thoughts(reply)
    if text is None:
        return None
    text = _MARKS.sub("", _TAG.sub("\n", _CONTROL.sub(" ", text))).strip()
    found = {match.lower() in _YES for match in _NAMED.findall(text)}
    for pattern in (_FIRST.match(text[:EDGE]), _LAST.search(text[-EDGE:])):
        if pattern is not None:
            found.add(pattern[1].lower() in _YES)
    return found.pop() if len(found) == 1 else None


def read_grade(reply: str) -> int | None:
    """Grade of a reply, 1 to 5, or None if it has none.

    A grade is a digit that begins the reply, ends it, or is named as the grade, after the model's
    reasoning is removed. A reply with several grades has none.

    Args:
        reply: Text from the judge, such as "4", "Grade: **4**" or "4/5, since ...".
    """
    text = _without_thoughts(reply)
    if text is None:
        return None
    text = _MARKS.sub("", _TAG.sub("\n", _CONTROL.sub(" ", text))).strip()
    found = set(_GRADE_NAMED.findall(text))
    for pattern in (_GRADE_FIRST.match(text[:EDGE]), _GRADE_LAST.search(text[-EDGE:])):
        if pattern is not None:
            found.add(pattern[1])
    return int(found.pop()) if len(found) == 1 else None


def _without_thoughts(reply: str) -> str | None:
    """Text after the last block of reasoning; None if the reply ends within one."""
    channels = list(_CHANNEL.finditer(reply))
    if channels:
        return reply[channels[-1].end() :] if channels[-1][1].lower() == "final" else None
    thoughts = list(_THOUGHT.finditer(reply))
    if not thoughts:
        return reply
    return reply[thoughts[-1].end() :] if "/" in thoughts[-1][0] else None
