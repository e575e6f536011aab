"""Task `biographies`: endless made-up people, split by disjoint names, with exact grading."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random

from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem, Question, Task
from seal_env.tasks.biographies.edits import classify
from seal_env.tasks.biographies.people import (
    ATTRIBUTES,
    FIRST_NAMES,
    HELD_OUT_QUESTIONS,
    LAST_NAMES,
    QUESTIONS,
    Person,
    passage,
    question,
    read_passage,
    sample_person,
)

KNOWN_PEOPLE = 128
"""Number of people whose facts the embedded model learned in pretraining, to measure forgetting."""
_SHARES = {"pretrain": 40, "train": 40, "validation": 10, "test": 10}


@cache
def names(split: str) -> tuple[str, ...]:
    """Names of a split, in a fixed random order. No name is in two splits.

    Args:
        split: ``"train"``, ``"validation"``, ``"test"``, ``"known"`` (people that the embedded
            model was taught in pretraining) or ``"pretrain"`` (names that pretraining made up
            people with).
    """
    everyone = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    everyone.sort(key=lambda name: stable_hash("name", name))
    if split == "known":
        return tuple(everyone[:KNOWN_PEOPLE])
    start, rest = 0, everyone[KNOWN_PEOPLE:]
    for name, share in _SHARES.items():
        stop = start + len(rest) * share // 100
        if name == split:
            return tuple(rest[start:stop])
        start = stop
    raise UserError(f"unknown split {split!r} of biographies: use train, validation, test or known")


@cache
def _person(split: str, index: int, seed: int) -> Person:
    pool = names(split)
    world = 0 if split == "known" else seed
    return sample_person(pool[index % len(pool)], Random(stable_hash(world, split, index)))


class Biographies(Task):
    """Made-up people: a passage about each, and closed-book questions in two phrasings.

    A name occurs again, with other facts, only after all names of its split (about 990 in
    `validation` and `test`, 3,950 in `train`) have been used.

    Args:
        seed: Seed of the people, except for those of the split ``"known"``.
    """

    default_prompt = "notes"
    questions_prompt = "notes-qa"
    answer_tokens = 4
    answer_prefix = " "
    known_split = "known"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def size(self, split: str) -> int | None:
        """None (endless), except for the known people."""
        return len(names(split)) if split == "known" else None

    def person(self, split: str, index: int) -> Person:
        """Person that a problem is about."""
        if index < 0:
            raise UserError(f"problem {index} of biographies/{split}: indices start at 0")
        return _person(split, index, self.seed)

    def problem(self, split: str, index: int) -> Problem:
        """Problem at an index of a split: passage and 14 questions about one person."""
        person = self.person(split, index)
        text = passage(person, Random(stable_hash("passage", self.seed, split, index)))
        questions = tuple(
            Question(question(person, i, wording), person.values[i], attribute.name)
            for wording in range(HELD_OUT_QUESTIONS)
            for i, attribute in enumerate(ATTRIBUTES)
        )
        identity = f"biographies/{self.seed}/{split}/{index}"
        return Problem(identity, person.name, text, questions)

    def training_problem(self, reading: str) -> Problem | None:
        """Questions for the passage's facts, in the phrasings that are not held out."""
        name, facts = read_passage(reading)
        person = Person(name, tuple(facts.get(i, "") for i in range(len(ATTRIBUTES))))
        questions = tuple(
            Question(question(person, i, wording), facts[i], ATTRIBUTES[i].name)
            for wording in range(HELD_OUT_QUESTIONS, QUESTIONS)
            for i in sorted(facts)
        )
        identity = f"biographies/training/{stable_hash(reading):016x}"
        return Problem(identity, name, reading, questions) if questions else None

    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """Whether each answer is the gold word and nothing else."""
        return [
            answer.strip() == question.answer
            for question, answer in zip(problem.questions, answers, strict=True)
        ]

    def reads(self, problem: Problem) -> str:
        """The passage, which names its person."""
        return problem.context

    def style(self, text: str) -> str:
        """One of the styles that the embedded model can write, or "other"."""
        return classify(text)

    def question_prompt(self, question: Question) -> str:
        """The two-line form that the embedded model was pretrained on."""
        return f"Question: {question.text}\nAnswer:"
