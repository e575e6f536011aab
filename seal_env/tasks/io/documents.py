"""Documents of one's own: the files of a folder, and passages that they are cut into.

A file that cannot be read is left out, with one line that says why; so are files of other kinds,
hidden ones, and files whose text another one has. Ids are paths and numbers: ``notes/bees.md#3``.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from seal_env.errors import UserError, printable, reason
from seal_env.tasks.finite import same_text
from seal_env.tasks.io.document_text import READERS, Block, Unreadable
from seal_env.tasks.io.reading import find_path, refusal

KINDS = ".txt, .md, .html or .pdf"
"""Readable kinds of files, for messages."""
MOST_BYTES = 1 << 26
"""Size of the largest file that is read."""
MOST_NOTES = 20
"""Number of files that are named one by one as left out."""
CHARACTERS_PER_WORD = 7
"""Characters that count as a word at most, for scripts without spaces and for long codes."""
SMALL = 4
"""Sections of less than a passage divided by this are put together with their neighbors."""
_SENTENCE = re.compile(r"(?<=[.!?…][\"'”’)])\s+|(?<=[.!?…])\s+|(?<=[。！？])|\n+")


class Document(NamedTuple):
    """Text of one file."""

    name: str
    """Path below the folder that was given, with ``/``."""
    title: str
    """Title, by the file's first heading, its metadata or its name."""
    blocks: tuple[Block, ...]
    """Headings and paragraphs."""


class Passage(NamedTuple):
    """Part of a document."""

    id: str
    """The document's name and a number from 1."""
    document: str
    """The document's name."""
    title: str
    """Titles of the document and of the section."""
    text: str
    """Paragraphs, with empty lines between them."""


@dataclass(frozen=True)
class Documents:
    """Result of reading a file or a folder."""

    documents: tuple[Document, ...]
    """The documents, by name."""
    notes: tuple[str, ...]
    """Remarks, one line each: what was left out and why."""


def read_documents(data: str) -> Documents:
    """All documents of a file or a folder.

    Raises:
        UserError: There is nothing there, or nothing of it can be read.
    """
    path = find_path(data, KINDS)
    if path.is_file() and path.suffix.lower() not in READERS:
        raise refusal(data, f"is of another kind; give a {KINDS} file, or a folder of them")
    names, notes = _found(path)
    documents: list[Document] = []
    known: dict[str, str] = {}
    for name, file in names:
        try:
            document, note = _read(name, file)
        except Unreadable as error:
            notes.append(f"left out {printable(name, 200)}: {error}")
            continue
        content = same_text(" ".join(block.text for block in document.blocks))
        if content in known:
            notes.append(f"left out {printable(name, 200)}: has the text of {known[content]}")
            continue
        known[content] = printable(name, 200)
        documents.append(document)
        notes += [f"{printable(name, 200)} {note}"] if note else []
    if not documents:
        why = f": {notes[0]}" if notes else f"; put {KINDS} files there"
        raise refusal(data, f"holds no document that can be read{why}")
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES:] = [f"and {len(notes) - MOST_NOTES} more remarks of this kind"]
    return Documents(tuple(documents), tuple(notes))


def _found(path: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """Readable kinds of files below a path by their names, and remarks on the others."""
    if path.is_file():
        return [(path.name, path)], []
    found: list[tuple[str, Path]] = []
    others: Counter[str] = Counter()
    notes: list[str] = []
    for file in _walk(path, notes):
        if file.suffix.lower() in READERS:
            found.append((file.relative_to(path).as_posix(), file))
        else:
            others[file.suffix.lower() or "without an ending"] += 1
    if others:
        files = "1 file" if others.total() == 1 else f"{others.total()} files"
        kinds = ", ".join(printable(kind, 20) for kind, _ in others.most_common(5))
        notes.append(f"left out {files} of other kinds ({kinds}): read are {KINDS}")
    return sorted(found), notes


def _walk(root: Path, notes: list[str]) -> Iterator[Path]:
    """Files below a folder, through links, each folder once; hidden ones are not looked at."""

    def failed(error: OSError) -> None:
        notes.append(f"left out {printable(str(error.filename), 200)}: {reason(error)}")

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=failed, followlinks=True):
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in seen:
            name = printable(os.path.relpath(folder, root), 200)
            notes.append(f"left out {name}: is a link to a folder that was read already")
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _read(name: str, file: Path) -> tuple[Document, str]:
    """A document, and a remark on its reading."""
    try:
        if not file.is_file():
            raise Unreadable("is no file, or a link that leads nowhere")
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise Unreadable(f"has {size >> 20} MiB; at most {MOST_BYTES >> 20} are read: split it")
        content = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be read ({reason(error)})") from error
    if not content.strip():
        raise Unreadable("is empty")
    try:
        title, blocks, note = READERS[file.suffix.lower()](content)
    except UserError as error:
        raise UserError(f"{printable(name, 200)}: {error}") from error
    if not any(re.search(r"\w", block.text) for block in blocks):
        raise Unreadable("holds no text")
    first = blocks[0]
    title = (first.text if first.level == 1 else "") or title or _spoken(file.stem)
    return Document(name, " ".join(title.split()), tuple(blocks)), note


def _spoken(stem: str) -> str:
    return re.sub(r"[_-]+", " ", stem).strip() or stem


class _Section(NamedTuple):
    """Paragraphs under one heading."""

    heading: str
    paragraphs: list[str]


def cut(document: Document, words: int) -> list[Passage]:
    """Passages of a document: cut at headings, then at paragraphs, then at sentences.

    Parts of one section are of about equal length. Small sections are put together, with their
    headings in the text.

    Args:
        document: The document.
        words: Number of words of the longest passage.
    """
    found = [
        (_title(document.title, section.heading), text)
        for section in _put_together(_sections(document), words)
        for text in _packed(section.paragraphs, words)
    ]
    return [
        Passage(f"{document.name}#{number}", document.name, title, text)
        for number, (title, text) in enumerate(found, 1)
    ]


def size_of(text: str) -> int:
    """Length in words, at least one per `CHARACTERS_PER_WORD` characters."""
    return max(len(text.split()), -(-len(text) // CHARACTERS_PER_WORD))


def _title(document: str, heading: str) -> str:
    return f"{document}, {heading}" if heading and heading != document else document


def _sections(document: Document) -> list[_Section]:
    """Sections of a document, each with the headings of its two lowest levels."""
    sections: list[_Section] = []
    above: list[Block] = []
    for block in (*document.blocks, Block("", 1)):
        if not block.level:
            if not sections or sections[-1].heading != _heading(above, document.title):
                sections.append(_Section(_heading(above, document.title), []))
            sections[-1].paragraphs.append(block.text)
            bare = False
            continue
        # A heading without a text of its own is a text itself, unless it is the title.
        if above and bare and block.level <= above[-1].level and above[-1].text != document.title:
            sections.append(_Section(_heading(above[:-1], document.title), [above[-1].text]))
        while above and above[-1].level >= block.level:
            above.pop()
        above.append(block)
        bare = True
    return sections


def _heading(above: Sequence[Block], title: str) -> str:
    return ", ".join(" ".join(b.text.split()) for b in above if b.text != title and b.text)


def _put_together(sections: Sequence[_Section], words: int) -> list[_Section]:
    """Sections, small ones together with the next."""
    together: list[_Section] = []
    for section in sections:
        if together:
            last = sum(map(size_of, together[-1].paragraphs))
            new = sum(map(size_of, section.paragraphs))
            if min(last, new) * SMALL < words and last + new <= words:
                heading, (first, *others) = section
                told = f"{heading}\n{first}" if heading != together[-1].heading else first
                together[-1].paragraphs.extend((told, *others))
                continue
        together.append(_Section(section.heading, list(section.paragraphs)))
    return together


def _packed(paragraphs: Sequence[str], words: int) -> Iterator[str]:
    """Texts of at most so many words, of about equal length."""
    parts = [part for paragraph in paragraphs for part in _parts(paragraph, words)]
    total = sum(size_of(text) for _, text in parts)
    target = total / -(-total // words)
    packed, count = "", 0
    for separator, text in parts:
        size = size_of(text)
        if packed and (count + size > words or count + size / 2 > target):
            yield packed
            packed, count = "", 0
        packed = f"{packed}{separator}{text}" if packed else text
        count += size
    yield packed


def _parts(paragraph: str, words: int) -> Iterator[tuple[str, str]]:
    """A paragraph, or its sentences if it is too long; each with the separator before it."""
    separator = "\n\n"
    pieces = [paragraph] if size_of(paragraph) <= words else _SENTENCE.split(paragraph)
    for piece in filter(None, map(str.strip, pieces)):
        for part in _hard(piece, words):
            yield separator, part
            separator = " "


def _hard(sentence: str, words: int) -> Iterator[str]:
    """A sentence, cut between words, or within a word, if it is longer than a passage."""
    if size_of(sentence) <= words:
        yield sentence
        return
    part: list[str] = []
    count = 0
    for word in sentence.split():
        for start in range(0, len(word), words * CHARACTERS_PER_WORD):
            piece = word[start : start + words * CHARACTERS_PER_WORD]
            if part and count + size_of(piece) > words:
                yield " ".join(part)
                part, count = [], 0
            part.append(piece)
            count += size_of(piece) if len(piece) >= CHARACTERS_PER_WORD else 1
    yield " ".join(part)
