"""Readers of data files: paths, text, JSON and CSV. No code in a file is executed or unpickled.

Every error is one line that names the file and, if there is one, the location in it. Every reader
takes time proportional to the length of the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from seal_env.errors import UserError, printable

LONGEST_NUMBER = 400
"""Length of the longest number, in characters; a longer one is no float, and slow to parse."""
LONGEST_FIRST_ROW = 100_000
"""Characters of a CSV file from which its delimiter is inferred; fields may have 131,072."""
COMPRESSED = ".gz"
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}


def refusal(data: object, reason: str) -> UserError:
    """Error about some data, in one line whatever its text contains."""
    return UserError(f"--data {printable(str(data), 200)}: {printable(reason, 600)}")


def find_path(data: str, kinds: str) -> Path:
    """Path of an existing file or folder.

    Args:
        data: The path as it was given.
        kinds: Readable kinds of files, for the message: "JSON or JSONL".

    Raises:
        UserError: There is nothing readable at the path.
    """
    try:
        path = Path(data).expanduser()
        if path.is_file() or path.is_dir():
            return path
        leads_nowhere, is_there = path.is_symlink(), path.exists()
    except (OSError, RuntimeError) as error:  # no permission, too long a name, no such user's home
        reason = getattr(error, "strerror", None) or error
        raise refusal(data, f"cannot be read ({reason}); check the path") from error
    except ValueError:  # a zero byte in a name
        leads_nowhere = is_there = False
    if is_there:
        raise refusal(data, f"is neither a file nor a folder; give a {kinds} file")
    if leads_nowhere:
        raise refusal(data, "is a symbolic link that leads nowhere; check the path")
    raise refusal(data, "no such file; check the path")


def kind_of(path: Path) -> str:
    """Kind of a file by its name: its last suffix, except ``.gz``, in lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_text(data: object, path: Path) -> str:
    """Text of a UTF-8 file, which may be compressed (``.gz``).

    Args:
        data: Name of the file in errors.
        path: Path of the file.

    Raises:
        UserError: The file cannot be read, is damaged, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
        if path.suffix.lower() == COMPRESSED:
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refusal(data, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refusal(data, f"is no whole gzip file ({error})") from None
    except OSError as error:
        raise refusal(data, f"cannot be read ({error.strerror or error})") from error


def parse_json(text: str) -> Any:
    """Value of strict JSON.

    Raises:
        ValueError: The text is no JSON, or has what JSON lacks or parsers disagree about: NaN,
            numbers beyond a float's range, repeated keys, very deep nesting.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _float(digits: str) -> float:
    value = float(digits) if len(digits) <= LONGEST_NUMBER else math.inf
    if math.isinf(value):
        raise ValueError(f"a number is too large or too long: {printable(digits, 20)}")
    return value


def _int(digits: str) -> int:
    _float(digits)
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"key {_repeated(key for key, _ in pairs)!r} stands twice in an object")
    return found


def _repeated(names: Iterable[str]) -> str:
    """Most frequent of some names, for a message."""
    return printable(Counter(names).most_common(1)[0][0])


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
)


def csv_rows(data: object, text: str, kind: str) -> list[tuple[str, tuple[str, ...]]]:
    """Rows of a CSV or TSV file, each with the number of its last line; blank ones are omitted.

    The delimiter of a CSV file is the one of comma, semicolon and tab that divides its first row
    into most fields; the first of several.

    Args:
        data: Name of the file in errors.
        text: Content of the file.
        kind: ``.csv`` or ``.tsv``.

    Raises:
        UserError: A row cannot be parsed; the message names the line.
    """
    first = text.lstrip()[:LONGEST_FIRST_ROW].splitlines()[:1]
    delimiter = max(_DELIMITERS[kind], key=lambda d: len(next(csv.reader(first, delimiter=d), ())))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        filled = (tuple(row) for row in reader if any(map(str.strip, row)))
        return [(f"line {reader.line_num}", row) for row in filled]
    except csv.Error as error:
        raise refusal(data, f"line {reader.line_num} is not CSV ({error})") from None


def is_csv(path: Path) -> bool:
    """Whether a file is CSV or TSV by its name."""
    return kind_of(path) in _DELIMITERS


def named_rows(
    rows: Sequence[tuple[str, tuple[str, ...]]], names: Sequence[str]
) -> list[tuple[str, dict[str, str]]]:
    """Records of rows under a header.

    Raises:
        ValueError: A name is repeated in the header, or a row has more or fewer fields.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"line 1: the header has {_repeated(names)!r} twice")
    for place, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{place}: has {len(row)} fields where the header has {len(names)}")
    return [(place, dict(zip(names, row, strict=True))) for place, row in rows]
