"""Records of problems, from a file (JSON, JSONL, CSV, Parquet) or from Hugging Face datasets.

Each task interprets its records; this module provides their locations, so that every error can name
one. No code in a file is executed or unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from seal_env.tasks.io.reading import (
    csv_rows,
    find_path,
    is_csv,
    kind_of,
    parse_json,
    read_text,
    refusal,
)

T = TypeVar("T")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NEEDS_DATASETS = "needs the library {}; run pip install 'seal-env[datasets]'"

Record = tuple[str, Any]
"""Location of a record in its file (``"record 3"``), and the record."""
KINDS = "JSON, JSONL, CSV, TSV or Parquet"
"""Readable kinds of files, for messages."""


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """Result of a reader."""

    found: tuple[T, ...]
    """Problems or their precursors, in the order of the data."""
    notes: tuple[str, ...] = ()
    """Remarks on the reading, one line each."""


@dataclass(frozen=True)
class Format(Generic[T]):
    """Reader of a task's records."""

    noun: str
    """Name of the records in the plural, e.g. "passages"."""
    flatten: Callable[[Any], Iterable[Record]]
    """Function from a whole JSON file to records. Raises ValueError with a location."""
    read: Callable[[list[Record]], Loaded[T]]
    """Function from records to a task's items. A record is a JSON value, or a tuple of texts for a
    row of a CSV file, the first of which may be a header. Raises ValueError with a location."""


def load(data: str, form: Format[T]) -> Loaded[T]:
    """All problems of a file or a Hugging Face data set, in their order.

    Args:
        data: A path, or ``hf:NAME`` or ``hf:NAME:SPLIT``; a NAME may include a configuration
            (``hf:owner/name/config``).
        form: Reader of the records.

    Raises:
        UserError: The data cannot be read; the message says where and what to do.
    """
    if data.startswith("hf:"):
        return _hub_problems(data, form)
    path = find_path(data, KINDS)
    if path.is_dir():
        raise refusal(data, f"is a folder; give a {KINDS} file")
    stat = path.stat()
    return _file_problems(str(path.resolve()), data, form, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _file_problems(path: str, data: str, form: Format[T], mtime_ns: int, size: int) -> Loaded[T]:
    """Result of a file, read once per process and again after a change."""
    file = Path(path)
    if kind_of(file) == ".parquet":
        return _made(data, form, _parquet(data, path))
    text = read_text(data, file)
    if not text.strip():
        raise refusal(data, f"is empty; give a {KINDS} file of {form.noun}")
    if is_csv(file):
        return _made(data, form, csv_rows(data, text, kind_of(file)))
    return _made(data, form, _records(data, text, form))


@lru_cache(maxsize=4)
def _hub_problems(data: str, form: Format[T]) -> Loaded[T]:
    name, _, split = data.removeprefix("hf:").partition(":")
    owner_and_name, config = name, None
    if name.count("/") > 1:
        owner_and_name, _, config = name.rpartition("/")
    try:
        import datasets
    except ImportError:
        raise refusal(data, _NEEDS_DATASETS.format("datasets")) from None
    try:
        found = datasets.load_dataset(owner_and_name, config, split=split or "train")
        rows = [(f"row {number}", dict(row)) for number, row in enumerate(found, 1)]
    except Exception as error:  # the library raises many types, from network to parsing
        reason = " ".join(str(error).split())[:200]
        raise refusal(data, f"cannot be loaded ({reason}); check its name") from error
    return _made(data, form, rows)


def _parquet(data: str, path: str) -> list[Record]:
    """Rows of a Parquet file, the format of most data sets on the Hugging Face hub."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise refusal(data, _NEEDS_DATASETS.format("pyarrow")) from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        raise refusal(data, f"cannot be read as Parquet ({error})") from error
    return [(f"row {number}", row) for number, row in enumerate(rows, 1)]


def _made(data: str, form: Format[T], records: Iterable[Record]) -> Loaded[T]:
    """Result of some records; errors name the data."""
    try:
        return form.read(list(records))
    except ValueError as error:
        raise refusal(data, str(error)) from None


def _records(data: str, text: str, form: Format[T]) -> Iterable[Record]:
    """Records of a JSON or JSONL text, each with its location."""
    try:
        whole = parse_json(text)
    except ValueError as error:
        if not _looks_like_lines(text):
            hint = "" if text.lstrip()[:1] in "[{" else "; a CSV file has a name that ends in .csv"
            raise refusal(data, f"is not JSON ({error}){hint}") from None
        return _line_records(data, text)
    try:
        return list(form.flatten(whole))
    except ValueError as error:
        raise refusal(data, str(error)) from None


def _line_records(data: str, text: str) -> list[Record]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append((f"line {number}", parse_json(line)))
            except ValueError as error:
                raise refusal(data, f"line {number} is not JSON ({error})") from None
    return records


def _looks_like_lines(text: str) -> bool:
    """Whether the first or the second line is a complete object, as in JSONL."""
    for line in [line for line in text.split("\n", 20)[:20] if line.strip()][:2]:
        try:
            if isinstance(parse_json(line), dict):
                return True
        except ValueError:
            continue
    return False


def text_field(item: Mapping[str, Any], field: str, place: str, default: str | None = None) -> str:
    """Value of a text field, which must not be blank if it has no default.

    JSON can contain lone surrogates, which neither tokenizers nor UTF-8 can represent.

    Raises:
        ValueError: The field is missing, blank or no text; the message names the location.
    """
    value = item.get(field, default)
    if not isinstance(value, str):
        raise ValueError(f"{place}: {field!r} must be text, not {kind(value)}")
    if default is None and not value.strip():
        raise ValueError(f"{place}: {field!r} is empty")
    return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)


# What a JSON value is, in a reader's words.
_KINDS = {
    type(None): "missing",
    bool: "true or false",
    str: "text",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def kind(value: Any) -> str:
    """Type of a JSON value in words, for messages."""
    return _KINDS.get(type(value), type(value).__name__)
