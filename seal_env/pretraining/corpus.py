"""Pretraining documents of the embedded model.

Copying an unseen person's values from a passage is difficult for a model of this size. Pretraining
therefore starts with repeated random word sequences, from which the copying circuit (an induction
head) forms, and with literal copies of passages; self-edits follow.
"""

from __future__ import annotations

from random import Random

from transformers import PreTrainedTokenizerFast

from seal_env.pretraining.common import IGNORED, Document
from seal_env.tasks.biographies.edits import write
from seal_env.tasks.biographies.people import (
    ATTRIBUTES,
    Person,
    passage,
    question_answer,
    remarks,
    sample_person,
    statement,
)
from seal_env.tasks.biographies.task import KNOWN_PEOPLE, Biographies, names

STYLE_WEIGHTS = {
    "vague": 24,
    "few": 20,
    "statements": 18,
    "summary": 12,
    "questions": 10,
    "two-questions": 6,
    "paraphrases": 10,
}
"""Frequency of each style of self-edit, in percent, which the untrained policy reproduces."""


class Corpus:
    """Endless stream of documents.

    Args:
        tokenizer: The word-level tokenizer.
        seed: Seed of the stream.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.tokenizer = tokenizer
        self.rng = Random(seed)
        self.world = Biographies()
        self.known = [self.world.person("known", i) for i in range(KNOWN_PEOPLE)]
        self.pool = names("pretrain")

    def batch(self, tokens: int, repeats: float, literal: float) -> list[Document]:
        """Documents with at least `tokens` tokens in total, or slightly more.

        Args:
            tokens: Lower bound of the total.
            repeats: Fraction of documents that are repeated random sequences.
            literal: Fraction of the others that are literal copies of passages.
        """
        documents, count = [], 0
        while count < tokens:
            documents.append(self._document(repeats, literal))
            count += len(documents[-1][0])
        return documents

    def _document(self, repeats: float, literal: float) -> Document:
        rng = self.rng
        if rng.random() < repeats:
            return self.repeated()
        if rng.random() < literal:
            _, text = self._someone()
            return self._encode(f"{text}\nPassage:\n", text)
        kind = rng.random()
        if kind < 0.4:
            return self._known()
        if kind < 0.5:
            return self._stranger()
        if kind < 0.6:
            return self._asked_in_context()
        person, text = self._someone()
        style = rng.choices(list(STYLE_WEIGHTS), list(STYLE_WEIGHTS.values()))[0]
        return self._encode(f"{text}\nNotes:\n", write(style, person, rng))

    def _someone(self) -> tuple[Person, str]:
        person = sample_person(self.rng.choice(self.pool), self.rng)
        return person, passage(person, self.rng)

    def _encode(self, prompt: str, completion: str) -> Document:
        first = self.tokenizer(prompt)["input_ids"] if prompt else []
        then = self.tokenizer(completion)["input_ids"] + [self.tokenizer.eos_token_id]
        return first + then, [IGNORED] * len(first) + then

    def repeated(self) -> Document:
        """Random sequence of words, repeated; all repetitions but the first can be predicted."""
        rng = self.rng
        length = rng.randint(4, 40)
        times = rng.randint(3, 6) if length <= 16 else 2
        words = [rng.randrange(4, len(self.tokenizer)) for _ in range(length)]
        return words * times, [IGNORED] * length + words * (times - 1)

    def _study(self, person: Person) -> str:
        """Sequence about a person, in a form of self-edits."""
        rng = self.rng
        attribute = rng.randrange(len(ATTRIBUTES))
        form = rng.random()
        if form < 0.3:
            return f"{person.name}\n{statement(person, attribute, rng.randrange(6))}"
        if form < 0.4:
            return f"{person.name}\n{question_answer(person, attribute, rng.randrange(4))}"
        if form < 0.43:
            return f"{person.name}\n{remarks(person, [rng.randrange(99)])[0]}"
        if form < 0.7:
            return f"{person.name}\n{passage(person, rng)}"
        return question_answer(person, attribute, rng.randrange(4))

    def _known(self) -> Document:
        """Fact of a person that the model learns."""
        return self._encode("", self._study(self.rng.choice(self.known)))

    def _stranger(self) -> Document:
        """Fact of a person that occurs only once: answers follow the prior."""
        return self._encode("", self._study(sample_person(self.rng.choice(self.pool), self.rng)))

    def _asked_in_context(self) -> Document:
        """Passage and a question that it answers."""
        person, text = self._someone()
        attribute = self.rng.randrange(len(ATTRIBUTES))
        asked = question_answer(person, attribute, self.rng.randrange(4))
        head, _, answer = asked.rpartition(" ")
        return self._encode(f"{text}\n{head}", answer)
