"""`UserError`, the one exception for a person, and the formatting of its message.

Every mistake of a user (in a file, a name, a setting) ends in a `UserError` whose message is a
single line: what was wrong, where, and what to do. The command line prints that line and exits with
status 2; library users catch it like any `ValueError`.
"""

from __future__ import annotations

import re
import unicodedata

MAX_LINE = 2000
"""Length of the longest message, in characters; a longer one loses its middle."""

MAX_MARKS = 4
"""Number of combining marks per letter that are shown without escaping."""

_LINE_BREAK = re.compile(r"\s*[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]\s*|\t")


class UserError(ValueError):
    """An input of the user cannot be used. The message says what, where, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str, most: int = MAX_LINE) -> str:
    """Any text as one line that is safe to print.

    Messages quote users, files and servers. Control characters, overrides of the
    writing direction and lone surrogates are escaped, and so are combining marks that would
    join what stands before them.

    Args:
        text: Any text.
        most: Bound on the characters; beginning and end are shown.
    """
    half = most // 2
    if len(text) > 4 * most:  # escaping makes nothing shorter, so that the rest does not fit
        text = text[: 2 * most] + text[-2 * most :]
    line = _escape(_LINE_BREAK.sub(" ", text.strip()))
    return line if len(line) <= most else f"{line[: half - 3]} … {line[len(line) - half :]}"


def printable(text: str, most: int = 60) -> str:
    """Any text as one short line, with line breaks visible.

    Args:
        text: Any text.
        most: Bound on the characters; the rest is omitted.
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
    """Reason why a file could not be read or written, in the system's words if there are any."""
    return str(getattr(error, "strerror", None) or error)


def first_line(error: Exception) -> str:
    """First line of an exception's message, with its type where the line says little."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return told[:240] if " " in told else f"{type(error).__name__} {told}".rstrip()
