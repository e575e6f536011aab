"""Text of documents: the bytes of a .txt, .md, .html or .pdf file as headings and paragraphs.

Markdown is parsed by markdown-it-py (CommonMark and tables), HTML by selectolax, PDF by pypdf, and
encodings other than UTF-8 and UTF-16 are detected by charset-normalizer. No code in a file is
executed. Each reader raises `Unreadable` with a reason in one line.
"""

from __future__ import annotations

import io
import logging
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from seal_env.errors import UserError

SHORT_LINE = 50
"""Mean length in characters of lines that are kept apart: lists and verses. Longer lines are those
of a wrapped paragraph, and are joined."""
HEADING = 80
"""Length of the longest heading of plain text, in characters."""
SCANNED = 5
"""Words per page below which a PDF file counts as scanned."""
_NEEDS = "reading it needs {}; run pip install 'seal-env[documents]'"
_DROPPED = "script, style, noscript, template, nav, footer, aside, button, svg, iframe, head"
_INLINE = frozenset(
    "a abbr b bdi bdo cite code data del dfn em font i ins kbd label mark q s samp small span "
    "strong sub sup time tt u var wbr".split()
)
_SENTENCE_END = tuple(".!?:;,…。！？")
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
_UNDERLINE = re.compile(r"(=|-|~){3,}")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_FRONT = re.compile(r"\A---[ \t]*\n(?=\S)(.{0,65536}?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S | re.M)
_KEY = re.compile(r"[\w\"'$@][^\n]*?:(?:\s|$)")
_CHARSET = re.compile(rb"charset=[\"']?\s*([\w-]+)", re.IGNORECASE)


class Unreadable(ValueError):
    """A file holds no text that could be read; the message says why."""


class Block(NamedTuple):
    """A heading or a paragraph."""

    text: str
    """Its text, without markup."""
    level: int = 0
    """Level of a heading, from 1; 0 for a paragraph."""


class Text(NamedTuple):
    """Text of a document."""

    title: str
    """Title by the file's metadata; may be empty."""
    blocks: list[Block]
    """Headings and paragraphs in their order."""
    note: str = ""
    """Remark on the reading; may be empty."""


def decode(content: bytes, charset: str | None = None) -> tuple[str, str]:
    """Text of bytes, and a remark if they are not UTF-8.

    Args:
        content: The bytes.
        charset: Encoding by the file's own declaration.

    Raises:
        Unreadable: The bytes are no text.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        charset = "utf-16"
    try:
        text, note = content.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        text, note = _other_encoding(content, charset)
    text = re.sub(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]", "\n", text)
    # A form feed or an escape sequence may stand in a text; a tenth of a percent is no accident.
    if "\0" in text or len(_CONTROL.findall(text)) > 2 + len(text) / 1000:
        raise Unreadable("is no text but binary data")
    return _CONTROL.sub("", text), note


def _other_encoding(content: bytes, charset: str | None) -> tuple[str, str]:
    if charset is not None:
        try:
            return content.decode(charset), f"is read as {charset}"
        except (LookupError, UnicodeError):
            pass
    if b"\0" in content[:4096]:
        raise Unreadable("is no text but binary data")
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        raise UserError(_NEEDS.format("charset-normalizer")) from None
    best = from_bytes(content[: 1 << 20]).best()
    if best is None:
        raise Unreadable("is no text in any known encoding; save it as UTF-8")
    text = content.decode(best.encoding, "replace")
    return text, f"is not UTF-8; it is read as {best.encoding}"


def plain(content: bytes) -> Text:
    """Text of a .txt file: paragraphs between empty lines, short lines of their own as headings."""
    text, note = decode(content)
    blocks: list[Block] = []
    for piece in _BLANK_LINES.split(text):
        lines = [line.strip() for line in piece.split("\n") if line.strip()]
        if len(lines) == 2 and _UNDERLINE.fullmatch(lines[1]):
            blocks.append(Block(lines[0], 1 if lines[1][0] == "=" else 2))
        elif len(lines) == 1 and _is_heading(lines[0]):
            blocks.append(Block(lines[0], 1 if not blocks else 2))
        elif lines:
            blocks.append(Block(_joined(lines)))
    return Text("", blocks, note)


def _is_heading(line: str) -> bool:
    is_item = re.match(r"[-*•–]\s", line) is not None
    return len(line) <= HEADING and not line.endswith(_SENTENCE_END) and not is_item


def _joined(lines: Sequence[str]) -> str:
    """Lines of a paragraph; wrapped ones as one line, with words that were divided made whole."""
    if len(lines) < 2 or statistics.fmean(map(len, lines[:-1])) < SHORT_LINE:
        return "\n".join(lines)
    return re.sub(r"(?<=[a-zß-ÿ])- (?=[a-zß-ÿ])", "", " ".join(lines))


def markdown(content: bytes) -> Text:
    """Text of a Markdown file (CommonMark and tables), without markup; the front matter's title."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise UserError(_NEEDS.format("markdown-it-py")) from None
    text, note = decode(content)
    title, text = _without_front_matter(text)
    blocks: list[Block] = []
    level = 0
    row: list[str] | None = None
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "heading_open":
            level = int(token.tag[1:])
        elif token.type == "heading_close":
            level = 0
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            _add(blocks, " | ".join(row or []))
            row = None
        elif token.type == "inline" and row is not None:
            row.append(_inline(token))
        elif token.type == "inline":
            _add(blocks, _inline(token), level)
        elif token.type in ("fence", "code_block"):
            _add(blocks, token.content)
        elif token.type == "html_block":
            blocks += html(token.content.encode()).blocks
    return Text(title, blocks, note)


def _without_front_matter(text: str) -> tuple[str, str]:
    """Title by a Markdown file's front matter, and the rest of the file.

    Front matter is a mapping in YAML. What stands between two rules otherwise is text.
    """
    import yaml  # transformers needs it, too

    found = _FRONT.match(text)
    if found is None:
        return "", text
    try:
        # Texts alone, and no merge keys, by which a few lines can stand for any number of fields.
        fields = yaml.load(found[1], Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):  # people write what YAML refuses
        fields = {} if _KEY.match(found[1]) else None
    if not isinstance(fields, dict):
        return "", text
    title = fields.get("title", fields.get("Title"))
    if not isinstance(title, str) or title in ("null", "~"):
        title = ""
    return " ".join(title.split()), text[found.end() :]


def _inline(token: Any) -> str:
    """Text of an inline token, without markup; pictures as their descriptions."""
    parts: list[str] = []
    for child in token.children or []:
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n" if child.type == "hardbreak" else " ")
        elif child.type != "html_inline":
            parts.append(child.content)
    return "".join(parts)


def _add(blocks: list[Block], text: str, level: int = 0) -> None:
    if text.strip():
        blocks.append(Block(text.strip(), level))


def html(content: bytes) -> Text:
    """Text of an HTML file: its one ``main`` or ``article`` if there is one, without navigation."""
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise UserError(_NEEDS.format("selectolax")) from None
    declared = _CHARSET.search(content[:4096])
    text, note = decode(content, declared[1].decode() if declared else None)
    tree = LexborHTMLParser(text)
    title = tree.css_first("title")
    name = " ".join(title.text().split()) if title is not None else ""
    for node in tree.css(_DROPPED):
        node.decompose()
    mains = tree.css("main") or tree.css("article")
    root = mains[0] if len(mains) == 1 else tree.body
    blocks: list[Block] = []
    if root is not None:
        for block, texts in _by_block(root):
            level = int(block[1]) if re.fullmatch(r"h[1-6]", block) else 0
            lines = ["".join(texts)] if block == "pre" else "".join(texts).split("\v")
            kept = [line if block == "pre" else " ".join(line.split()) for line in lines]
            _add(blocks, "\n".join(line for line in kept if line.strip()), level)
    return Text(name, blocks, note)


def _by_block(root: Any) -> Iterator[tuple[str, list[str]]]:
    """Texts that follow each other in one block element, with its tag; breaks are vertical tabs."""
    last, tag = None, ""
    texts: list[str] = []
    for node in root.traverse(include_text=True):
        if not node.is_text_node and node.tag != "br":
            continue
        block = node.parent
        while block is not None and block.tag in _INLINE:
            block = block.parent
        key = None if block is None else block.mem_id
        if key != last and texts:
            yield tag, texts
            texts = []
        last, tag = key, "" if block is None else block.tag
        texts.append("\v" if node.tag == "br" else node.text_content or "")
    if texts:
        yield tag, texts


def pdf(content: bytes) -> Text:
    """Text of a PDF file: lines joined to paragraphs, without headers, footers and page numbers."""
    try:
        from pypdf import PdfReader
        from pypdf.errors import DependencyError
    except ImportError:
        raise UserError(_NEEDS.format("pypdf")) from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("is encrypted; save it without a password")
        pages = [page.extract_text() or "" for page in reader.pages]
        headings = {_same(title) for title in _outline(reader.outline)}
        title = str((reader.metadata and reader.metadata.title) or "")
    except Unreadable:
        raise
    except DependencyError:
        raise Unreadable("is encrypted; save it without a password") from None
    except Exception as error:  # pypdf raises many types on broken files
        told = " ".join(str(error).split())[:100] or type(error).__name__
        raise Unreadable(f"is no whole PDF file ({told})") from error
    if sum(len(page.split()) for page in pages) < SCANNED * len(pages):
        raise Unreadable("holds no text, as scanned pages do; recognize its text first (OCR)")
    return Text(title.strip(), _paragraphs(_lines(pages), headings))


def _outline(items: Sequence[Any]) -> Iterator[str]:
    for item in items:
        if isinstance(item, list):
            yield from _outline(item)
        else:
            yield str(getattr(item, "title", "") or "")


def _same(line: str) -> str:
    return " ".join(re.sub(r"\d", "", line).casefold().split())


def _lines(pages: Sequence[str]) -> list[str]:
    """Lines of all pages, without those at the edges that most pages have, but for numbers."""
    cut = [[line.strip() for line in page.split("\n")] for page in pages]
    edges: Counter[str] = Counter()
    for lines in cut:
        filled = [line for line in lines if line]
        edges.update({_same(line) for line in (*filled[:2], *filled[-2:])})
    repeated = {line for line, count in edges.items() if count > max(2, len(pages) / 2)}
    return [line for lines in cut for line in lines if not line or _same(line) not in repeated]


def _paragraphs(lines: Sequence[str], headings: set[str]) -> list[Block]:
    """Paragraphs of a PDF file: one ends at an empty line, a heading, or a short last line."""
    lengths = sorted(len(line) for line in lines if line)
    usual = lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    blocks: list[Block] = []
    part: list[str] = []

    def close() -> None:
        if part:
            blocks.append(Block(_joined(part)))
            part.clear()

    for line in lines:
        if not line or (_same(line) in headings and _same(line)):
            close()
            if line:
                blocks.append(Block(line, 2))
            continue
        part.append(line)
        if line.endswith((".", "!", "?", ":", "”", '"')) and len(line) < 0.8 * usual:
            close()
    close()
    return blocks


READERS: dict[str, Callable[[bytes], Text]] = {
    ".txt": plain,
    ".text": plain,
    ".md": markdown,
    ".markdown": markdown,
    ".html": html,
    ".htm": html,
    ".xhtml": html,
    ".pdf": pdf,
}
"""Readers by the ending of a file's name."""
