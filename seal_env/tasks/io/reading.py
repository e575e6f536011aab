"""Reading files of data: paths, text, JSON and CSV. Nothing in a file is run or unpickled.

Whatever is wrong with a file ends in one line that names the file and, where there is one, the
place in it. Every reader takes time in proportion to the length of what it reads.
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
"""Characters of a number; a larger one is no float, and reading it takes time."""
LONGEST_FIRST_ROW = 100_000
"""Characters of a CSV file by which its delimiter is told; fields of 131,072 are read."""
COMPRESSED = ".gz"
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}


def refusal(data: object, reason: str) -> UserError:
    """The complaint about some data, in one line whatever is in it."""
    return UserError(f"--data {printable(str(data), 200)}: {printable(reason, 600)}")


def find_path(data: str, kinds: str) -> Path:
    """The path of a file or a folder that is there.

    Args:
        data: The path as it was given.
        kinds: What kinds of file are read, for the message: "JSON or JSONL".

    Raises:
        UserError: Nothing that can be read is there.
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
    """What kind of file it is by its name: its last suffix but ``.gz``, in lower case."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_text(data: object, path: Path) -> str:
    """The text of a UTF-8 file, which may be compressed (``.gz``).

    Args:
        data: What the file is called in a complaint.
        path: The file.

    Raises:
        UserError: It cannot be read, is damaged, or is not UTF-8.
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
    """Parses strict JSON.

    Raises:
        ValueError: In one line; also for what JSON does not have or readers disagree about: NaN,
            numbers beyond a float's range, a key twice in an object, hopeless nesting.
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
    """The commonest of some names, to be shown."""
    return printable(Counter(names).most_common(1)[0][0])


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
)


def csv_rows(data: object, text: str, kind: str) -> list[tuple[str, tuple[str, ...]]]:
    """The rows of a CSV or TSV file with the line that each ends in; blank ones are left out.

    The delimiter of a CSV file is the one of comma, semicolon and tab that parts its first row in
    most fields; of several the first.

    Args:
        data: What the file is called in a complaint.
        text: What it holds.
        kind: ``.csv`` or ``.tsv``.

    Raises:
        UserError: Names the line.
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
    """Rows under a header, as records.

    Raises:
        ValueError: A name stands twice in the header, or a row has more or fewer fields.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"line 1: the header has {_repeated(names)!r} twice")
    for place, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{place}: has {len(row)} fields where the header has {len(names)}")
    return [(place, dict(zip(names, row, strict=True))) for place, row in rows]
