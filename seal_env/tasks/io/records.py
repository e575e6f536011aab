"""Records of problems, from a file (JSON, JSONL, CSV, Parquet) or from Hugging Face datasets.

What they hold is for each task to say; here is what it has in common: where each record stands,
so that every complaint can name the place. Nothing in a file is run or unpickled.
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
"""Where a record stands in its file (``"record 3"``), and the record as it was read."""
KINDS = "JSON, JSONL, CSV, TSV or Parquet"
"""What kinds of file are read."""


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """What was read."""

    found: tuple[T, ...]
    """Problems, or what a task makes them of, in the order of the data."""
    notes: tuple[str, ...] = ()
    """What a user should know of how they were read, one line each."""


@dataclass(frozen=True)
class Format(Generic[T]):
    """What a task reads from its records."""

    noun: str
    """What a file of them holds, in the plural: "passages"."""
    flatten: Callable[[Any], Iterable[Record]]
    """A whole JSON file to records. Raises ValueError with the place where something is wrong."""
    read: Callable[[list[Record]], Loaded[T]]
    """Records to what a task makes of them. A record is whatever JSON has, or a tuple of texts: a
    row of a CSV file, the first of which may be a header. Raises ValueError likewise."""


def load(data: str, form: Format[T]) -> Loaded[T]:
    """Reads all problems of a file or a Hugging Face data set, in their order.

    Args:
        data: A path, or ``hf:NAME`` or ``hf:NAME:SPLIT``; a NAME may name a configuration
            after a slash more than its owner's (``hf:owner/name/config``).
        form: What is read.

    Raises:
        UserError: One line that says what is wrong, where, and what to do.
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
    """Reads a file once for all the environments of a process; again if it has changed."""
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
    except Exception as error:  # the library raises dozens of kinds, from network to parsing
        reason = " ".join(str(error).split())[:200]
        raise refusal(data, f"cannot be loaded ({reason}); check its name") from error
    return _made(data, form, rows)


def _parquet(data: str, path: str) -> list[Record]:
    """The rows of a Parquet file, the form of most data sets on the Hugging Face hub."""
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
    """The problems of some records, or a complaint that names the data."""
    try:
        return form.read(list(records))
    except ValueError as error:
        raise refusal(data, str(error)) from None


def _records(data: str, text: str, form: Format[T]) -> Iterable[Record]:
    """The records of a JSON or JSONL text, each with the place where it stands."""
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
    """Whether the first or the second line is an object of its own, as in JSONL."""
    for line in [line for line in text.split("\n", 20)[:20] if line.strip()][:2]:
        try:
            if isinstance(parse_json(line), dict):
                return True
        except ValueError:
            continue
    return False


def text_field(item: Mapping[str, Any], field: str, place: str, default: str | None = None) -> str:
    """A text field; one without default must not be blank.

    JSON can spell lone surrogates, which no tokenizer takes and no file can hold as UTF-8.

    Raises:
        ValueError: It is missing, blank or no text; says where.
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
    """What a JSON value is, as it reads in an error message."""
    return _KINDS.get(type(value), type(value).__name__)
