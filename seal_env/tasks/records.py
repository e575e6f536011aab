"""Records of problems, from a file (JSON, JSONL, CSV) or from Hugging Face datasets.

What they hold is for each task to say; here is what it has in common: where each record stands,
so that every complaint can name the place. Nothing in a file is run or unpickled.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from seal_env.errors import UserError
from seal_env.tasks.base import Problem

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

Record = tuple[str, Any]
"""Where a record stands in its file (``"record 3"``), and the record as it was read."""


@dataclass(frozen=True)
class Format:
    """What a task reads from its records."""

    noun: str
    """What a file of them holds, in the plural: "passages"."""
    flatten: Callable[[str, Any], Iterable[Record]]
    """Name of the data and a whole JSON file to records."""
    problems: Callable[[str, Iterable[Record]], tuple[Problem, ...]]
    """Name of the data and its records to problems."""
    csv: bool = False
    """Whether there may be rows of a CSV file among them, as lists of texts."""


def load(data: str, form: Format) -> tuple[Problem, ...]:
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
    kinds = "JSON, JSONL or CSV" if form.csv else "JSON or JSONL"
    try:
        path = Path(data).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # no permission, no such user's home
        raise UserError(f"--data {data}: cannot be read ({error})") from error
    if is_folder:
        raise UserError(f"--data {data}: is a folder; give a {kinds} file")
    if not is_file:
        raise UserError(f"--data {data}: no such file; check the path")
    stat = path.stat()
    return _file_problems(str(path.resolve()), data, form, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _file_problems(
    path: str, shown: str, form: Format, mtime_ns: int, size: int
) -> tuple[Problem, ...]:
    """Reads a file once for all the environments of a process; again if it has changed."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"--data {shown}: is not UTF-8 text (byte {error.start}); give a JSON or JSONL file"
        ) from None
    except OSError as error:
        raise UserError(f"--data {shown}: cannot be read ({error.strerror})") from error
    if not text.strip():
        raise UserError(f"--data {shown}: is empty; give a JSON or JSONL file of {form.noun}")
    if form.csv and Path(path).suffix.lower() in (".csv", ".tsv"):
        return form.problems(shown, _rows(shown, text, Path(path).suffix.lower()))
    return form.problems(shown, _records(shown, text, form))


@lru_cache(maxsize=4)
def _hub_problems(data: str, form: Format) -> tuple[Problem, ...]:
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"--data {data}: needs the datasets library; run pip install 'seal-env[datasets]'"
        ) from None
    name, _, split = data.removeprefix("hf:").partition(":")
    owner_and_name, config = name, None
    if name.count("/") > 1:
        owner_and_name, _, config = name.rpartition("/")
    try:
        found = datasets.load_dataset(owner_and_name, config, split=split or "train")
        rows = [dict(row) for row in found]
    except Exception as error:  # the library raises dozens of kinds, from network to parsing
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--data {data}: cannot be loaded ({reason}); check its name") from error
    return form.problems(data, ((f"row {number}", row) for number, row in enumerate(rows, 1)))


def _rows(shown: str, text: str, suffix: str) -> list[Record]:
    """The rows of a CSV file, each a list of texts."""
    try:
        reader = csv.reader(
            io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",", strict=True
        )
        return [(f"line {reader.line_num}", row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f"--data {shown}: line {reader.line_num} is not CSV ({error})") from None


def _records(shown: str, text: str, form: Format) -> Iterable[Record]:
    """The records of a JSON or JSONL text, each with the place where it stands."""
    try:
        whole = _parse(text)
    except ValueError as error:
        if not _looks_like_lines(text):
            raise UserError(f"--data {shown}: is not JSON ({error})") from None
        return _line_records(shown, text)
    return form.flatten(shown, whole)


def _line_records(shown: str, text: str) -> list[Record]:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                records.append((f"line {number}", _parse(line)))
            except ValueError as error:
                raise UserError(f"--data {shown}: line {number} is not JSON ({error})") from None
    return records


def _looks_like_lines(text: str) -> bool:
    """Whether the first or the second line is an object of its own, as in JSONL."""
    for line in [line for line in text.split("\n", 20)[:20] if line.strip()][:2]:
        try:
            if isinstance(_parse(line), dict):
                return True
        except ValueError:
            continue
    return False


def _parse(text: str) -> Any:
    """Parses strict JSON.

    Raises:
        ValueError: In one line; also for NaN, which is not JSON, and for hopeless nesting.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON value")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


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
