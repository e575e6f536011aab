"""Questions that are asked before and after: by people, about general knowledge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Question
from seal_env.tasks.io.records import Format, Loaded, Record, kind, load, text_field

PEOPLE, CLOZE, GENERAL = "by people", "ends of sentences", "general knowledge"
"""Names of sets of questions."""
MOST_CLOZE = 100
"""Largest number of questions about the ends of sentences."""
ANSWERS = ("answer", "answers")
"""Fields of a right answer, or of a list of right answers."""

_GENERAL = """
    What is the capital of France? Paris | What is the capital of Japan? Tokyo
    What is the capital of Italy? Rome | What is the capital of Germany? Berlin
    What is the capital of Russia? Moscow | What is the capital of Egypt? Cairo
    What is the capital of Spain? Madrid | What is the capital of England? London
    What is the largest planet in the solar system? Jupiter
    Which planet is closest to the sun? Mercury | Which planet is known as the red planet? Mars
    What is the largest ocean on Earth? Pacific Ocean
    What is the longest river in Africa? Nile | What is the highest mountain on Earth? Mount Everest
    Who wrote Romeo and Juliet? William Shakespeare | Who wrote Hamlet? William Shakespeare
    Who painted the Mona Lisa? Leonardo da Vinci
    Who developed the theory of relativity? Albert Einstein
    Who was the first president of the United States? George Washington
    Who discovered penicillin? Alexander Fleming
    Who discovered gravity? Isaac Newton | Who wrote the Odyssey? Homer
    What is the chemical symbol of gold? Au | What is the chemical formula of water? H2O
    What gas do plants take in for photosynthesis? carbon dioxide
    What is the hardest natural material? diamond | How many days are in a week? seven
    How many continents are there? seven | How many legs does a spider have? eight
    How many minutes are in an hour? sixty | How many sides does a triangle have? three
    What is the freezing point of water in degrees Celsius? 0
    What do bees make? honey | What is the fastest land animal? cheetah
    What is the largest animal on Earth? blue whale | What color is the sky on a clear day? blue
    In which country are the pyramids of Giza? Egypt | In which country is the Eiffel Tower? France
    Which language is spoken in Brazil? Portuguese | Which organ pumps blood through the body? heart
"""


def general_knowledge() -> Problem:
    """Questions that have nothing to do with anybody's documents: what a model could forget."""
    lines = (one for line in _GENERAL.strip().split("\n") for one in line.split(" | "))
    pairs = (line.strip().rpartition("? ") for line in lines)
    questions = tuple(Question(f"{text}?", answer.strip()) for text, _, answer in pairs)
    return Problem(GENERAL, "", "", questions)


def read_questions(path: Path) -> Problem:
    """Questions of a file: JSON, JSONL, CSV, TSV or Parquet, with the fields question and answer.

    Raises:
        UserError: The file cannot be read, or holds no questions; the message says where.
    """
    with named("--questions"):
        found = load(str(path), _FORMAT).found
    if not found:
        raise UserError(f"--questions {path}: holds no questions")
    return Problem(PEOPLE, "", "", found)


def sentence_questions(problems: Sequence[Problem]) -> Problem:
    """Questions of the passages themselves, evenly spread over them."""
    every = [question for problem in problems for question in problem.questions]
    count = min(len(every), MOST_CLOZE)
    return Problem(CLOZE, "", "", tuple(every[i * len(every) // count] for i in range(count)))


@contextmanager
def named(flag: str) -> Iterator[None]:
    """Context in which errors of readers of data name another flag than ``--data``."""
    try:
        yield
    except UserError as error:
        _, found, reason = str(error).partition("--data ")
        raise (UserError(f"{flag} {reason}") if found else error) from None


def _flatten(whole: Any) -> Iterator[Record]:
    if isinstance(whole, Mapping):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = [whole] if "question" in whole else lists[0] if len(lists) == 1 else None
    if not isinstance(whole, list):
        raise ValueError("needs a list of objects with the fields question and answer")
    yield from ((f"question {number}", item) for number, item in enumerate(whole, 1))


def _read(records: list[Record]) -> Loaded[Question]:
    rows = [(place, row) for place, row in records if isinstance(row, tuple)]
    if rows:
        names = [name.strip().casefold() for name in rows[0][1]]
        records = [_cells(place, names, row) for place, row in rows[1:]]
    return Loaded(tuple(_question(place, item) for place, item in records))


def _cells(place: str, names: list[str], row: tuple[str, ...]) -> Record:
    if len(row) != len(names):
        raise ValueError(
            f"{place}: has {len(row)} fields where the first line has {len(names)}; put quotes "
            f"around a text with commas"
        )
    return place, dict(zip(names, row, strict=True))


def _question(place: str, item: Any) -> Question:
    if not isinstance(item, Mapping):
        raise ValueError(f"{place}: must be an object with question and answer, not {kind(item)}")
    text = text_field(item, "question", place)
    field = next((name for name in ANSWERS if name in item), ANSWERS[0])
    given = item.get(field)
    listed = given if isinstance(given, list) and given else [given]
    numbers = [str(one) if type(one) in (int, float) else one for one in listed]
    first, *others = (text_field({field: one}, field, place).strip() for one in numbers)
    return Question(" ".join(text.split()), first, aliases=tuple(others))


_FORMAT: Format[Question] = Format("questions", _flatten, _read)
