"""Menu `biographies`: kind of sentence, number of facts, number of wordings.

The facts are parsed from the passage (`seal_env.tasks.biographies.people.read_passage`). A fact
that the passage does not state cannot be chosen: the menu has no access to the person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from seal_env.hashing import stable_hash
from seal_env.menus.base import Choice, Chosen, Menu
from seal_env.menus.passages import PassageMenu, describe_text, sentences
from seal_env.tasks.biographies.people import (
    ATTRIBUTES,
    QUESTIONS,
    REMARKS,
    Person,
    question_answer,
    read_passage,
    remarks,
    statement,
)

FACTS = (2, 4, len(ATTRIBUTES))
"""Numbers of facts to choose from, counted from the passage's first."""
WORDINGS = QUESTIONS
"""Largest number of wordings of a fact, the number of phrasings of a question."""
_WORD = re.compile(r"[\w-]+")


@lru_cache(4096)
def read(context: str) -> tuple[Person, tuple[int, ...]] | None:
    """Person and stated attributes of a passage.

    Returns:
        The person, with "" for attributes that the passage does not state, and the indices of the
        stated attributes in their order; None for a text that is no such passage.
    """
    name, facts = read_passage(context)
    if not facts:
        return None
    return Person(name, tuple(facts.get(i, "") for i in range(len(ATTRIBUTES)))), tuple(facts)


class BiographyMenu(Menu):
    """Self-edits about a person; the sentences of any text that is no passage about one.

    A larger number of facts or wordings contains the smaller ones: the order depends on the passage
    alone.
    """

    choices = (
        Choice("", ("remarks", "statements", "one text", "questions")),
        Choice("facts", tuple(map(str, FACTS))),
        Choice("wordings", tuple(str(n) for n in range(1, WORDINGS + 1))),
    )
    features = PassageMenu.features

    def describe(self, context: str) -> Sequence[float]:
        """Length and composition of the passage."""
        return describe_text(context)

    def render(self, context: str, chosen: Chosen) -> str:
        """The chosen sentences."""
        known = read(context)
        if known is None:
            return "\n".join(sentences(context))
        (person, order), (kind, facts, wordings) = known, chosen
        random = Random(stable_hash("menu", context))
        of_statements = random.sample(range(6), 6)
        of_questions = random.sample(range(WORDINGS), WORDINGS)
        vague = random.sample(range(len(REMARKS)), len(REMARKS))
        some, count = order[: FACTS[facts]], wordings + 1
        stated = [[statement(person, i, w) for i in some] for w in of_statements[:count]]
        asked = [[question_answer(person, i, w) for i in some] for w in of_questions[:count]]
        lines = (
            remarks(person, vague[: 2 * count]),
            [line for one in stated for line in one],
            [" ".join(one) for one in stated],
            [line for one in asked for line in one],
        )[kind]
        return "\n".join(lines)

    def nearest(self, context: str, text: str) -> Chosen:
        """Combination that a text is closest to, by its form and the facts that it states.

        The criteria are whether it asks questions, the number of the passage's facts that it
        states, and their repetitions, but not the wording, which may be none of the menu's.
        """
        known = read(context)
        if known is None:
            return super().nearest(context, text)
        lines = [line for line in text.splitlines() if line.strip()]
        values = {value for value in known[0].values if value}
        said = [values.intersection(_WORD.findall(line)) for line in lines]
        facts = len(set().union(*said))
        asked = sum(line.startswith("Question:") for line in lines)
        if asked:
            kind, times = 3, asked / max(facts, 1)
        elif not facts:
            kind, times = 0, len(lines) / 2
        else:
            telling = [len(some) for some in said if some]
            together = max(telling) > 1
            kind, times = (2, len(telling)) if together else (1, len(telling) / facts)
        nearest = min(range(len(FACTS)), key=lambda i: abs(FACTS[i] - facts))
        return kind, nearest, min(max(round(times), 1), WORDINGS) - 1
