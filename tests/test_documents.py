"""Documents of one's own: files read, passages cut, and the task made of them."""

import io
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter

from seal_env.errors import UserError
from seal_env.tasks.documents import Documents
from seal_env.tasks.io import documents
from seal_env.tasks.io.document_text import Block, Unreadable, html, markdown, pdf, plain
from seal_env.tasks.io.documents import Document, cut, read_documents, size_of

BEES = "Bees live in hives. They collect nectar from flowers and turn it into honey."


def pdf_bytes(pages: list[list[str]]) -> bytes:
    """A PDF file with the given lines, written by hand."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, lines in enumerate(pages):
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        stream = f"BT /F1 12 Tf 14 TL 50 700 Td {shown} ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * i} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> >> >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n{body}\nendobj\n".encode())
    start = out.tell()
    rows = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    out.write(f"xref\n0 {size}\n0000000000 65535 f \n{rows}".encode())
    out.write(f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF".encode())
    return out.getvalue()


def encrypted(content: bytes) -> bytes:
    """The same PDF file with a password."""
    writer = PdfWriter(clone_from=io.BytesIO(content))
    writer.encrypt("secret", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def texts(read) -> list[tuple[str, int]]:
    return [(block.text, block.level) for block in read.blocks]


# ---- formats -------------------------------------------------------------------------------------


def test_markdown_loses_its_markup_and_keeps_its_headings():
    content = b"""---
author: nobody
---
# Bees

A *bee* has [six](http://x) legs,
and `four` wings.

## Tables

| part | number |
|---|---|
| eyes | five |

* one
* two

```
# no heading
```
"""
    assert texts(markdown(content)) == [
        ("Bees", 1),
        ("A bee has six legs, and four wings.", 0),
        ("Tables", 2),
        ("part | number", 0),
        ("eyes | five", 0),
        ("one", 0),
        ("two", 0),
        ("# no heading", 0),
    ]


FRONT = {
    "title: 'On Bees'\ntags:\n  - insects\n- wings\n# no text\n\n": "",  # no YAML, and meant as it
    "title: 'It''s bees' # draft\nog:title: x\nauthor/editor: B\n$schema: y\n": "It's bees",
    "Title: On Bees\ntags: [\n  a\n]\n": "On Bees",
    "title: >-\n  On\n  Bees\n": "On Bees",
    "title: null\n": "",
    "title: 1984\ndate: 2026-13-45\n": "1984",
    "title: 7\nnote: [" + "[" * 5000 + "\n": "",
    "title: Bees\na0: &a0 {x: y}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)): (
        "Bees"  # by merge keys 9 to the 11 fields
    ),
}


@pytest.mark.parametrize("front", FRONT)
@pytest.mark.parametrize("end", ["---", "..."])
def test_front_matter_gives_the_title_alone(front, end):
    read = markdown(f"---\n{front}{end}\nSix legs.".encode())
    assert (read.title, texts(read)) == (FRONT[front], [("Six legs.", 0)])


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("---\nA bee has six legs.\n\n---\nMore.", 2),
        ("---\n\nNote: a bee\nhas six legs.\n\n---\n\nMore.", 2),
        ("---\n\n# Bees\n\n---\n\n# Wasps", 2),
        ("---\n# Bees\n- six legs\n- four wings\n\n---\nMore.", 4),
        ("---\n- one\n- two\n\n---\nMore.", 3),
        ("---\ntitle: On Bees\nMore.", 1),
        ("---\n---\nMore.", 1),
    ],
)
def test_text_between_rules_is_no_front_matter(content, kept):
    read = markdown(content.encode())
    assert (read.title, len(read.blocks)) == ("", kept)


def test_html_is_its_article_without_navigation_and_scripts():
    content = b"""<html><head><title>The site</title><style>p {}</style></head><body>
    <nav>Home</nav><main><h1>Bees</h1><p>A <b>bee</b> has six&nbsp;legs,<br>and wings.</p>
    loose <i>text</i><ul><li>one<li>two</ul><script>evil()</script></main><footer>Imprint</footer>
    </body></html>"""
    read = html(content)
    assert read.title == "The site"
    assert texts(read) == [
        ("Bees", 1),
        ("A bee has six legs,\nand wings.", 0),
        ("loose text", 0),
        ("one", 0),
        ("two", 0),
    ]


def test_plain_text_has_wrapped_paragraphs_lists_and_headings():
    content = (
        b"All about bees\n\nBees live in hives, which are boxes of wood, and they collect nec-\n"
        b"tar from flowers in spring and in summer, which they turn into much honey.\n\n"
        b"Kinds\n-----\n\nthe honey bee\nthe bumble bee\n"
    )
    assert texts(plain(content)) == [
        ("All about bees", 1),
        (
            "Bees live in hives, which are boxes of wood, and they collect nectar from flowers in "
            "spring and in summer, which they turn into much honey.",
            0,
        ),
        ("Kinds", 2),
        ("the honey bee\nthe bumble bee", 0),
    ]


@pytest.mark.parametrize(
    ("content", "text", "note"),
    [
        ("Käse für die Königin der Bienen im Stock".encode("latin-1"), "Käse für", "not UTF-8"),
        ("Käse für alle".encode("utf-16"), "Käse für alle", "utf-16"),
        ("\ufeffKäse".encode(), "Käse", ""),
    ],
)
def test_encodings_are_recognized(content, text, note):
    read = plain(content)
    assert text in read.blocks[0].text
    assert note in read.note
    assert bool(note) == bool(read.note)


@pytest.mark.parametrize("name", ["undefined", "hex", "no-such", "utf-8"])
def test_a_page_that_names_a_wrong_encoding_is_read_in_another(name):
    page = f'<meta charset="{name}"><p>Käse für die Königin der Bienen im Stock</p>'
    read = html(page.encode("latin-1"))
    assert read.blocks[0].text.endswith("der Bienen im Stock") and "is not UTF-8" in read.note


def test_pdf_lines_become_paragraphs_without_what_every_page_repeats():
    pages = [
        [
            "Bee Monthly",
            f"The {kind} bees live in a hive which is made of old wood and which stands",
            "in the garden.",
            f"A second paragraph about the {kind} bees has two very long lines, which",
            f"ends with {kind}.",
            f"Page {number}",
        ]
        for number, kind in enumerate(("honey", "wild", "black", "small"), 1)
    ]
    found = [text for text, _ in texts(pdf(pdf_bytes(pages)))]
    assert found[:2] == [
        "The honey bees live in a hive which is made of old wood and which stands in the garden.",
        "A second paragraph about the honey bees has two very long lines, which ends with honey.",
    ]
    assert len(found) == 8


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (encrypted(pdf_bytes([[BEES]])), "is encrypted"),
        (pdf_bytes([[BEES]])[:-300], "is no whole PDF file"),
        (b"%PDF-1.7 and nothing else", "is no whole PDF file"),
        (pdf_bytes([["3"], []]), "scanned"),
    ],
    ids=["encrypted", "cut off", "empty", "scanned"],
)
def test_a_pdf_that_cannot_be_read_says_why(content, why):
    with pytest.raises(Unreadable, match=why):
        pdf(content)


# ---- folders -------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_left_out_with_one_line_each(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "MOST_BYTES", 5_000)
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    for name, content in {
        "bees.md": BEES.encode(),
        "copy.txt": BEES.upper().encode(),
        "picture.txt": bytes(range(256)) * 4,
        "empty.md": b"  \n",
        "marks.md": b"***\n\n---\n",
        "huge.txt": b"word " * 2_000,
        "locked.pdf": encrypted(pdf_bytes([[BEES]])),
        "photo.PNG": b"png",
        "sub/wasps.HTML": b"<p>Wasps have no honey.",
        "sub/.git/config.md": b"hidden",
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    read = read_documents(str(tmp_path))
    assert [document.name for document in read.documents] == ["bees.md", "sub/wasps.HTML"]
    expected = {
        "copy.txt": "has the text of bees.md",
        "picture.txt": "is no text but binary data",
        "empty.md": "is empty",
        "marks.md": "holds no text",
        "huge.txt": "split it",
        "locked.pdf": "is encrypted",
        "gone.txt": "leads nowhere",
        "pipe.txt": "is no file",
        "sub/loop": "a folder that was read already",
        "1 file of other kinds (.png)": ".txt, .md, .html or .pdf",
    }
    assert len(read.notes) == len(expected)
    for name, why in expected.items():
        (line,) = (note for note in read.notes if note.startswith(f"left out {name}"))
        assert why in line and "\n" not in line


@pytest.mark.parametrize(
    ("files", "given", "why"),
    [
        ({}, ".", "holds no document that can be read; put .txt"),
        ({"a.txt": b""}, ".", "left out a.txt: is empty"),
        ({"a.docx": b"x"}, "a.docx", "is of another kind; give a .txt"),
        ({"a.docx": b"x"}, ".", "left out 1 file of other kinds"),
        ({}, "nowhere", "no such file"),
    ],
)
def test_nothing_to_read_is_one_line(tmp_path, files, given, why):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(why)):
        read_documents(str(tmp_path / given))


def test_many_remarks_are_summed_up(tmp_path):
    (tmp_path / "good.md").write_text(BEES)
    for i in range(30):
        (tmp_path / f"{i}.txt").write_bytes(b"")
    notes = read_documents(str(tmp_path)).notes
    assert len(notes) == 21
    assert notes[-1] == "and 10 more remarks of this kind"


# ---- passages ------------------------------------------------------------------------------------

HARD = st.lists(
    st.builds(
        Block,
        st.text("ab .!?\n。京", min_size=1, max_size=200).filter(str.strip).map(str.strip),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=40)
@given(HARD, st.integers(3, 40))
def test_no_passage_is_too_long_and_no_paragraph_is_lost(blocks, words):
    document = Document("x.md", "x", tuple(blocks))
    passages = cut(document, words)
    heading = max(size_of(block.text) for block in blocks)
    assert all(size_of(passage.text) <= words + heading for passage in passages)
    said = "".join("".join(f"{p.title} {p.text}" for p in passages).split())
    for block in blocks:
        letters = "".join(block.text.split())
        if not block.level:
            assert all(letter in said for letter in letters)
    kept = "".join("".join(p.text for p in passages).split())
    assert len(kept) >= sum(len("".join(b.text.split())) for b in blocks if not b.level)
    assert [p.id for p in passages] == [f"x.md#{i}" for i in range(1, len(passages) + 1)]


def test_sections_are_cut_evenly_and_small_ones_put_together():
    sentence = "one two three four five six seven eight nine ten."
    blocks = (
        Block("Title", 1),
        Block(" ".join([sentence] * 12)),
        Block("First", 2),
        Block("Short."),
        Block("Second", 2),
        Block(sentence),
        Block("Bare", 2),
    )
    passages = cut(Document("x.md", "Title", blocks), 100)
    assert [(p.title, size_of(p.text)) for p in passages[:2]] == [("Title", 60), ("Title", 60)]
    (last,) = passages[2:]
    assert last.title == "Title, First"
    assert last.text == f"Short.\n\nTitle, Second\n{sentence}".replace("Title, ", "") + "\n\nBare"


# ---- the task ------------------------------------------------------------------------------------


def test_documents_are_in_one_split_each_and_passages_are_the_same_every_time(tmp_path):
    for name in "abcdef":
        lines = (f"{name}{i} has the number {i}. " * 8 for i in range(6))
        (tmp_path / f"{name}.txt").write_text("\n\n".join(lines))
    task, again = (Documents(str(tmp_path), words=50) for _ in range(2))
    names: dict[str, set[str]] = {}
    for split in ("train", "validation", "test"):
        for i in range(task.size(split)):
            problem = task.problem(split, i)
            assert problem == again.problem(split, i)
            names.setdefault(split, set()).add(problem.id.partition("#")[0])
    assert sum(map(len, names.values())) == len(set().union(*names.values())) == 6
    assert names["test"] and names["validation"]


@pytest.mark.parametrize("words", [0, 15, 10_001])
def test_a_length_of_passages_out_of_bounds_is_one_line(tmp_path, words):
    (tmp_path / "a.txt").write_text(BEES)
    with pytest.raises(UserError, match="16 to 10000"):
        Documents(str(tmp_path), words=words)
