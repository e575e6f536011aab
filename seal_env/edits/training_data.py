"""The self-edit language `training-data`: text to finetune on, one sequence a line.

These are the conventions of SEAL's knowledge-incorporation experiments (arXiv 2506.10943,
section 3.1 and appendix B): what the policy wrote is cut into sequences, each is prefixed
with the passage's title, and the passage itself is trained on as well. SEAL trains on a question
with its answer as on any text, and asks in another prompt. Here it can be trained on the answer to
that prompt instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seal_env.checks import check_fields
from seal_env.edits import PairForm, PassagePlace
from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.edits.question_answers import read_question_answers
from seal_env.errors import UserError, printable
from seal_env.tasks.base import Generated, Problem, Task, closed_book
from seal_env.updates.finetuning import Finetuning

if TYPE_CHECKING:
    from seal_env.engine.learner import Learner

# Python's str may hold lone surrogates, which no UTF-8 tokenizer accepts; control characters
# teach nothing and are dropped too, all but the tab and the line breaks.
_LINE_BREAK = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_UNUSABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_SEPARATOR = re.compile(r"[ \t]*-{3,}[ \t]*")
# A marker needs a space behind it: "-5 degrees" and "1.5 million" are content.
_LIST_MARKER = re.compile(r"\s*(?:[-*•‣◦]|\(?\d{1,3}[.)])\s+")
_ANNOUNCEMENT = re.compile(
    # "Here is ..." needs its colon: it also begins sentences worth learning. What may follow
    # the colon is bounded, or a line of nothing but colons would take quadratic time.
    r"\W*(?:(?:sure|certainly|of course|okay|ok)\b\W*)?"
    r"here(?: are\b.*|(?: is|['’]s)\b.*:\W{0,4})",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"\W*(?:answer|a)(?: ?\d{1,3})?\**:", re.IGNORECASE)
_BARE_LABEL = re.compile(r"\W*(?:question|q|answer|a)(?: ?\d{1,3})?\**:\W*", re.IGNORECASE)


@dataclass(frozen=True)
class TrainingDataConfig:
    """How a self-edit's text becomes training sequences."""

    passage: PassagePlace = "last"
    """Where the passage itself is trained on: after the self-edit's sequences, as in SEAL,
    before them, or not at all."""
    pairs: PairForm = "text"
    """How a question with its answer is trained on: as text, as in SEAL, or asked in the prompt of
    the evaluation (`Task.question_prompt`) and learned from the answer alone, without a title."""
    max_sequences: int = 64
    """Most sequences taken from the self-edit; the passage comes on top."""
    max_characters: int = 65_536
    """Longest part of the self-edit that is read, in characters."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("max_sequences", "max_characters"):
            if getattr(self, name) < 1:
                raise UserError(f"training-data: {name}={getattr(self, name)} must be at least 1")


class TrainingData(EditLanguage):
    """Reads a self-edit as text to finetune on.

    * If some line is only ``---``, such lines separate the sequences, and a sequence may have
      several lines. Otherwise every line is one.
    * An ``Answer:`` (``A:``) line belongs to the line before it, so that a question-answer
      pair is one sequence.
    * List markers (``1.``, ``2)``, ``-``, ``*``, ``•``) and a leading "Here are ..." line are
      dropped.
    * Every sequence is prefixed with the problem's title, if it has one.
    * With ``pairs="asked"`` a sequence of nothing but questions with their answers is no text: each
      question is a prompt, without the title, whose answer is learned.

    A text without any sequence means the passage alone. Only if there is no passage either is
    it no self-edit.
    """

    _task: Task | None = None

    def __init__(self, config: TrainingDataConfig = TrainingDataConfig()) -> None:
        self.config = config

    def bind(self, learner: Learner, task: Task | None = None) -> None:
        """See `EditLanguage.bind`; the task words the questions.

        Raises:
            UserError: Pairs are to be asked, and the task cannot word a question by itself.
        """
        self._task = task
        if self.config.pairs == "asked" and task is not None:
            try:
                task.asked("Is it?", "yes")
            except Exception as error:  # a user's task: now, or in every self-edit
                raise UserError(
                    f"training-data: pairs=asked: task {type(task).__name__} cannot ask a question "
                    f"without more than its text ({printable(repr(error))}); define its method "
                    f"asked, or leave pairs out"
                ) from error

    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads a text as training sequences. Any string is legal; see `EditLanguage.parse`."""
        config = self.config
        if not isinstance(action, str):
            return SelfEdit(error=f"training-data: a text is wanted, not {type(action).__name__}")
        pieces = _split(clean(action[: config.max_characters]))
        truncated = len(action) > config.max_characters or len(pieces) > config.max_sequences
        pieces = pieces[: config.max_sequences]

        title = clean(problem.title).strip()
        prefix = f"{title}\n" if title else ""
        sequences = [one for piece in pieces for one in self._asked(piece) or [prefix + piece]]
        passage = clean(problem.context).strip()
        if passage and config.passage == "first":
            sequences.insert(0, prefix + passage)
        elif passage and config.passage == "last":
            sequences.append(prefix + passage)
        if not sequences:
            passage_is = "not used" if config.passage == "none" else "empty"
            reason = (
                f"nothing to train on: the self-edit holds no text and the passage is {passage_is}"
            )
            return SelfEdit(truncated=truncated, error=reason)
        return SelfEdit(Finetuning(tuple(sequences)), truncated)

    def _asked(self, piece: str) -> list[Generated | str]:
        """The questions of a piece as the learner is asked; empty if the piece stays a text."""
        if self.config.pairs == "text":
            return []
        found = read_question_answers(piece)
        if self._task is None:
            asked = [Generated(closed_book(q), a) for q, a in found.pairs]
        else:
            asked = [one for pair in found.pairs if (one := self._task.asked(*pair)) is not None]
        whole = found.nothing_else and len(asked) == len(found.pairs)
        return list(asked) if whole else []


def clean(text: str) -> str:
    """Makes a text safe for any tokenizer: one kind of line break, only text."""
    return _UNUSABLE.sub("", _LINE_BREAK.sub("\n", text))


def _split(text: str) -> list[str]:
    """The sequences of a self-edit, without markers and announcement."""
    lines = text.split("\n")
    if any(_SEPARATOR.fullmatch(line) for line in lines):
        pieces = _split_at_separators(_without_announcement(lines))
    else:
        pieces = _split_at_newlines(_without_announcement(lines))
    return pieces


def _without_announcement(lines: list[str]) -> list[str]:
    """Drops a leading "Here are ..." line, unless it is all there is."""
    for position, line in enumerate(lines):
        if line.strip():
            rest = lines[position + 1 :]
            announced = _ANNOUNCEMENT.fullmatch(line.strip()) and any(map(str.strip, rest))
            return rest if announced else lines[position:]
    return []


def _split_at_separators(lines: list[str]) -> list[str]:
    blocks: list[list[str]] = [[]]
    for line in lines:
        if _SEPARATOR.fullmatch(line):
            blocks.append([])
        else:
            blocks[-1].append(line)
    pieces = (_without_marker("\n".join(block).strip()) for block in blocks)
    return [piece for piece in pieces if piece]


def _split_at_newlines(lines: list[str]) -> list[str]:
    # Lines that belong together are collected first and joined once, which keeps a long run
    # of "A:" lines linear in time.
    groups: list[list[str]] = []
    for line in lines:
        line = _without_marker(line.strip())
        if not line:
            continue
        after_label = bool(groups) and _BARE_LABEL.fullmatch(groups[-1][-1]) is not None
        if after_label or (groups and _ANSWER.match(line)):
            groups[-1].append(line)
        else:
            groups.append([line])
    return ["\n".join(group) for group in groups]


def _without_marker(line: str) -> str:
    """Removes one list marker; a line that is only a marker comes back empty."""
    marker = _LIST_MARKER.match(line + " ")
    return line[marker.end() :].strip() if marker else line
