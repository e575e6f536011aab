"""Task `squad`: passages with questions, from a file or from Hugging Face datasets.

`seal_env.tasks.io.passages` lists the file formats: SQuAD's own JSON (arXiv 1606.05250),
the JSON of SEAL's experiments (arXiv 2506.10943), either as JSONL, and CSV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal, get_args

from seal_env.errors import UserError
from seal_env.grading import grade_answer
from seal_env.grading.judge import Judge
from seal_env.tasks.base import Problem
from seal_env.tasks.finite import FiniteTask, Splits, same_text
from seal_env.tasks.io.passages import load_passages, page_name
from seal_env.tasks.sentence_ends import sentence_ends

Grader = Literal["offline", "judge"]

TRAINING_QUESTIONS = 16
"""Largest number of training questions per passage."""


class Squad(FiniteTask):
    """Passages with closed-book questions.

    Passages of one article, by title, are in one split, and so are equal passages; see
    `seal_env.tasks.finite.Splits`.

    Args:
        data: A file, or ``hf:NAME`` or ``hf:NAME:SPLIT`` for a data set read by the optional
            `datasets` library (SPLIT is ``train`` by default).
        split_seed: Seed of the splits.
        grader: ``offline`` for `seal_env.grading`, ``judge`` for a language model.
        judge: The model; only for the grader ``judge``.

    Raises:
        UserError: The data cannot be read, or the settings do not fit together.
    """

    default_prompt = "implications"

    def __init__(
        self,
        data: str | None = None,
        split_seed: int = 0,
        grader: Grader = "offline",
        judge: Judge | None = None,
    ) -> None:
        if grader not in get_args(Grader):
            raise UserError(f"unknown grader {grader!r}: known: {', '.join(get_args(Grader))}")
        if grader == "judge" and judge is None:
            raise UserError("grader 'judge' needs to know whom to ask: give its address and model")
        if not data:
            raise UserError(
                "the task squad reads its passages from a file: give --data FILE (JSON or JSONL "
                "as SQuAD or SEAL arrange it, or CSV) or --data hf:NAME for a Hugging Face data set"
            )
        self._judge = judge if grader == "judge" else None
        loaded = load_passages(str(data))
        super().__init__(
            Splits(
                loaded.found,
                "passages",
                split_seed,
                content=lambda problem: [same_text(problem.context)],
                group=lambda problem: same_text(page_name(problem.title)),
                group_noun="articles",
            )
        )
        self.notes = (*loaded.notes, *self.notes)
        self._by_reading = {self.reads(problem): problem for problem in loaded.found}

    def training_problem(self, reading: str) -> Problem | None:
        """Questions for the last words of the passage's own sentences.

        Half of a passage's questions would serve only if the other half alone were held out.
        Rewards would then be measured on fewer questions than those of other agents and of
        published results. Since questions often ask for the same facts, a self-edit chosen by one
        half would also be selected for the other.
        """
        problem = self._by_reading.get(reading)
        if problem is None:
            return None
        questions = tuple(islice(sentence_ends(problem.context), TRAINING_QUESTIONS))
        return (
            replace(problem, id=f"{problem.id}/training", questions=questions)
            if questions
            else None
        )

    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """Whether each answer is correct, by the offline grader or the judge.

        An answer is correct if it agrees with any annotator's.
        """
        pairs = zip(problem.questions, answers, strict=True)
        batch = [(question.text, question.answers, answer) for question, answer in pairs]
        if self._judge is not None:
            return self._judge.grade(batch)
        return [grade_answer(gold, answer, question) for question, gold, answer in batch]
