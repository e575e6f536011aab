"""Identity environments: `SelfEdit-v0` with a right answer that the policy can read.

As with stable-baselines3's `IdentityEnv`, an algorithm that does not learn here has a bug. They run
wherever `SelfEdit-v0` does, with agents and wrappers, in milliseconds per self-edit: the reward is
1.0 for a self-edit that contains the words that the context names, and 0.0 for any other,
independent of the learner::

    env = gym.make("SelfEdit-v0", **identity())                  # say the word
    env = ChoiceActions(gym.make("SelfEdit-v0", **identity()))   # choose it
    seal-env train --task seal_env.testing:SayTheWord ...        # see `identity` for the rest
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Any

from seal_env.config import InnerLoopConfig
from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.menus.base import Choice, Chosen, Menu
from seal_env.rewards.base import RewardInputs
from seal_env.tasks.base import Problem, Question, Task
from seal_env.tasks.biographies.people import ATTRIBUTES, tidy
from seal_env.tasks.biographies.task import names
from seal_env.updates.finetuning import Finetuning

_WORD = re.compile(r"\w+")
LOUD = 5.0
"""Feature of a word that the context names, large in comparison with the learner's state."""
LARGEST = min(len(attribute.values) for attribute in ATTRIBUTES)
"""Largest number of words of a kind."""


class SayTheWord(Task):
    """Each problem names a few words, in sentences of the embedded world.

    Args:
        words: Number of words that a problem names, each of another kind; at most 7.
        values: Number of words per kind.
    """

    default_prompt = "notes"
    answer_tokens = 1
    answer_prefix = " "

    def __init__(self, words: int = 1, values: int = 4) -> None:
        if not 1 <= words <= len(ATTRIBUTES) or not 2 <= values <= LARGEST:
            raise UserError(
                f"SayTheWord: words={words} values={values}: words go from 1 to "
                f"{len(ATTRIBUTES)}, values from 2 to {LARGEST}"
            )
        self.words, self.values = words, values
        self.menu = WordMenu(words, values)

    def size(self, split: str) -> int | None:
        """None: endless."""
        return None

    def problem(self, split: str, index: int) -> Problem:
        """Problem whose questions are answered by the words to say."""
        if index < 0:
            raise UserError(f"problem {index} of SayTheWord/{split}: indices start at 0")
        random = Random(stable_hash("say the word", split, index))
        known = names(split)
        name = known[index % len(known)]
        said, questions = [], []
        for attribute in ATTRIBUTES[: self.words]:
            value = random.choice(attribute.values[: self.values])
            said.append(tidy(attribute.statements[0].format(name=name, value=value)))
            asked = tidy(attribute.questions[0].format(name=name))
            questions.append(Question(asked, value, attribute.name))
        identity = f"say-the-word/{self.words}/{self.values}/{split}/{index}"
        return Problem(identity, name, " ".join(said), tuple(questions))

    def training_problem(self, reading: str) -> Problem | None:
        """The words that the context names, asked for in another phrasing."""
        named = set(_WORD.findall(reading))
        name = " ".join(reading.split()[:2])
        questions = tuple(
            Question(tidy(attribute.questions[-1].format(name=name)), value, attribute.name)
            for attribute in ATTRIBUTES[: self.words]
            for value in attribute.values[: self.values]
            if value in named
        )
        identity = f"say-the-word/training/{stable_hash(reading):016x}"
        return Problem(identity, name, reading, questions) if questions else None

    def grade(self, problem: Problem, answers: Sequence[str]) -> list[bool]:
        """Whether each answer is the word."""
        return [a.strip() == q.answer for a, q in zip(answers, problem.questions, strict=True)]

    def reads(self, problem: Problem) -> str:
        """The sentences that name the words."""
        return problem.context


class RightWords(EditLanguage):
    """A self-edit with every word of the problem trains on them; any other is an error."""

    def parse(self, text: str, problem: Problem) -> SelfEdit:
        """Reads a text; see `EditLanguage.parse`."""
        wanted = [question.answer for question in problem.questions]
        if set(wanted) <= set(_WORD.findall(text)):
            return SelfEdit(Finetuning((" ".join(wanted),)))
        return SelfEdit(error=f"does not say {' '.join(wanted)!r}")


class CarriedOut:
    """Reward term: 1.0 if a self-edit was carried out, 0.0 if not."""

    def __call__(self, measured: RewardInputs) -> float:
        """Without training there is no second measurement; see `RewardInputs`."""
        return float(measured.after is not measured.before)


class WordMenu(Menu):
    """One choice for each kind of word; the features say which word the context names.

    Args:
        words: Argument of the task.
        values: Argument of the task.
    """

    def __init__(self, words: int = 1, values: int = 4) -> None:
        self.kinds = [a.values[:values] for a in ATTRIBUTES[:words]]
        self.choices = tuple(Choice("", kind) for kind in self.kinds)
        self.features = tuple(value for kind in self.kinds for value in kind)

    def describe(self, context: str) -> Sequence[float]:
        """`LOUD` for a word that the context names, 0.0 for others."""
        named = set(_WORD.findall(context))
        return [LOUD * (value in named) for value in self.features]

    def render(self, context: str, chosen: Chosen) -> str:
        """The chosen words."""
        return " ".join(kind[i] for kind, i in zip(self.kinds, chosen, strict=True))


def identity(words: int = 1, values: int = 4, **settings: Any) -> dict[str, Any]:
    """Settings of an identity environment, for `gym.make`, `gym.make_vec` or `EnvConfig`.

    With `ChoiceActions` there is one correct choice among ``values ** words``.

    Args:
        words: Number of words to say.
        values: Number of words per kind.
        **settings: Further fields of `EnvConfig`, which may override those set here.
    """
    once = InnerLoopConfig(LoraConfig(1, 1.0), FinetuneConfig(1e-3, epochs=1))
    return {
        "task": "seal_env.testing:SayTheWord",
        "task_options": {"words": words, "values": values},
        "edit": "seal_env.testing:RightWords",
        "reward": "seal_env.testing:CarriedOut",
        "invalid_penalty": 0.0,
        "inner": once,
    } | settings
