"""The one exception that is written for a person, and the words of others for its message.

Everything a user can get wrong (a file, a name, a setting) ends in a `UserError` whose
message is a single line: what was wrong, where, and what to do. The command line prints
that line and exits with status 2; library users catch it like any `ValueError`.
"""

from __future__ import annotations

import re
import unicodedata

MAX_LINE = 2000
"""Longest message, in characters; of a longer one the middle is left out."""

MAX_MARKS = 4
"""Most combining marks in a row on a letter that are shown as they are."""

_LINE_BREAK = re.compile(r"\s*[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]\s*|\t")


class UserError(ValueError):
    """Something the user gave cannot be used. The message says what, where, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str, most: int = MAX_LINE) -> str:
    """A text as one line that a terminal shows as it is, whatever is in it.

    Messages quote what users, files and servers gave. Control characters, overrides of the
    writing direction and lone surrogates are escaped, and so are combining marks that would
    join what stands before them.

    Args:
        text: Any text.
        most: Most characters; the beginning says what was wrong, the end what to do.
    """
    half = most // 2
    if len(text) > 4 * most:  # escaping makes nothing shorter, so the rest cannot be shown
        text = text[: 2 * most] + text[-2 * most :]
    line = _escape(_LINE_BREAK.sub(" ", text.strip()))
    return line if len(line) <= most else f"{line[: half - 3]} … {line[len(line) - half :]}"


def printable(text: str, most: int = 60) -> str:
    """A text as one short line that shows what it holds, line breaks included.

    Args:
        text: Any text.
        most: Most characters; the rest is left out.
    """
    shown = _escape(text[: most + 1])
    return shown if len(text) <= most else f"{shown[:most]}..."


def _escape(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    result: list[str] = []
    marks = MAX_MARKS  # as many as none, at the beginning
    for char in text:
        is_mark = unicodedata.category(char).startswith("M")
        marks = marks + 1 if is_mark else 0 if char.isalpha() else MAX_MARKS
        shown = char.isprintable() and (not is_mark or marks <= MAX_MARKS)
        result.append(char if shown else ascii(char)[1:-1])
    return "".join(result)


def reason(error: Exception) -> str:
    """Why something could not be read or written, in the system's words where there are some."""
    return str(getattr(error, "strerror", None) or error)
