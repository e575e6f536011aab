"""Menu `biographies`: which kind of sentence, how many of the facts, in how many wordings.

The facts are read out of the passage (`seal_env.tasks.biographies.people.read_passage`). A fact
that the passage does not state is not there to be chosen: the menu never sees the person behind it.
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
"""How many facts can be chosen, from the passage's first on."""
WORDINGS = QUESTIONS
"""Most wordings of a fact: as many as there are phrasings of a question."""
_WORD = re.compile(r"[\w-]+")


@lru_cache(4096)
def read(context: str) -> tuple[Person, tuple[int, ...]] | None:
    """Whom a passage is about and what it says.

    Returns:
        The person, with "" for what the passage does not say, and the attributes that it does
        say, in its order; None for a text that is no such passage.
    """
    name, facts = read_passage(context)
    if not facts:
        return None
    return Person(name, tuple(facts.get(i, "") for i in range(len(ATTRIBUTES)))), tuple(facts)


class BiographyMenu(Menu):
    """Self-edits about a person; of a text that is no passage about one, its sentences.

    What is chosen more of contains what is chosen less of: the order of wordings depends on the
    passage alone.
    """

    choices = (
        Choice("", ("remarks", "statements", "one text", "questions")),
        Choice("facts", tuple(map(str, FACTS))),
        Choice("wordings", tuple(str(n) for n in range(1, WORDINGS + 1))),
    )
    features = PassageMenu.features

    def describe(self, context: str) -> Sequence[float]:
        """How long the passage is, and what it is made of."""
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
        """The combination that a text comes closest to, by its form and the facts it states.

        Judged are whether it asks, how many of the passage's facts it names, and how often:
        not the wording, of which a writer has more than the menu.
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
