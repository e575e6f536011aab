"""Task `documents`: passages of one's own files, without questions by people.

`seal_env.tasks.io.documents` reads the files (.txt, .md, .html, .pdf) and cuts them into passages.
Nobody has labeled them: the questions are made from the passages themselves (how does a
sentence end?), and the default reward needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from seal_env.errors import UserError
from seal_env.grading import grade_answer
from seal_env.tasks.base import Problem, Question
from seal_env.tasks.finite import FiniteTask, Splits, same_text
from seal_env.tasks.io.documents import KINDS, Passage, cut, read_documents
from seal_env.tasks.sentence_ends import sentence_ends

LEAST_WORDS, MOST_WORDS = 16, 10_000
"""Bounds on the length of the longest passage, in words."""
QUESTIONS = 8
"""Largest number of questions per passage."""


class Documents(FiniteTask):
    """Passages of a folder of documents.

    Passages of one document are in one split; see `seal_env.tasks.finite.Splits`.

    Args:
        data: A file or a folder.
        words: Number of words of the longest passage.
        split_seed: Seed of the splits.

    Raises:
        UserError: No document can be read, or a setting is out of bounds.
    """

    default_prompt = "self-qa"
    default_reward = "cloze"

    def __init__(self, data: str | None = None, words: int = 150, split_seed: int = 0) -> None:
        if not data:
            raise UserError(
                f"the task documents reads your own files: give --data FOLDER with {KINDS} files"
            )
        if not LEAST_WORDS <= words <= MOST_WORDS:
            raise UserError(
                f"words {words}: passages are bounded by {LEAST_WORDS} to {MOST_WORDS} words"
            )
        read = read_documents(data)
        passages = [passage for document in read.documents for passage in cut(document, words)]
        document_of = {passage.id: passage.document for passage in passages}
        super().__init__(
            Splits(
                [Problem(p.id, p.title, p.text, _questions(p)) for p in passages],
                "passages",
                split_seed,
                content=lambda problem: [same_text(problem.context)],
                group=lambda problem: document_of[problem.id],
                group_noun="documents",
            )
        )
        self.notes = (*read.notes, *self.notes)

    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """Whether each answer is correct, by the offline grader."""
        pairs = zip(problem.questions, answers, strict=True)
        return [grade_answer(q.answers, answer, q.text) for q, answer in pairs]


def _questions(passage: Passage) -> tuple[Question, ...]:
    """Questions for the ends of a passage's sentences, or else for its text as a whole."""
    found = list(sentence_ends(passage.text))
    step = max(1, -(-len(found) // QUESTIONS))
    ends = tuple(islice(found, 0, None, step))
    return ends or (Question(f"What does {passage.title} say?", passage.text),)
