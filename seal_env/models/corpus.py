"""What the embedded model reads in pretraining: a curriculum over kinds of document.

Copying an unseen person's values out of a passage is the hard part for a model this small.
So pretraining starts with repeated random word sequences, from which the copying circuit
(an induction head) forms, and with literal copies of passages; self-edits come after.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from seal_env.tasks.biographies import KNOWN_PEOPLE, Biographies, names
from seal_env.tasks.biography_edits import STYLES, write
from seal_env.tasks.people import (
    ATTRIBUTES,
    Person,
    passage,
    question_answer,
    remarks,
    sample_person,
    statement,
)

STYLE_WEIGHTS = {
    "vague": 24,
    "few": 20,
    "statements": 18,
    "summary": 12,
    "questions": 10,
    "two-questions": 6,
    "paraphrases": 10,
}
"""How often each style of self-edit is shown, in percent: the untrained policy's habits."""
IGNORED = -100

Document = tuple[list[int], list[int]]
"""Token ids and labels (`IGNORED` where nothing is to be predicted)."""


class Corpus:
    """An endless stream of training rows.

    Args:
        tokenizer: The word-level tokenizer.
        row_length: Tokens in a row.
        seed: Fixes the stream.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, row_length: int, seed: int) -> None:
        self.tokenizer = tokenizer
        self.row_length = row_length
        self.rng = Random(seed)
        self.world = Biographies()
        self.known = [self.world.person("known", i) for i in range(KNOWN_PEOPLE)]
        self.pool = names("pretrain")

    def batch(self, rows: int, progress: float) -> tuple[Tensor, Tensor]:
        """Rows of concatenated documents for a moment of the curriculum.

        Args:
            rows: Number of rows.
            progress: Share of pretraining that is done, 0 to 1.

        Returns:
            Token ids and labels, each of shape (rows, row_length).
        """
        ids, labels = [], []
        for _ in range(rows):
            row_ids: list[int] = []
            row_labels: list[int] = []
            for document_ids, document_labels in self._documents(progress):
                if row_ids and len(row_ids) + len(document_ids) > self.row_length:
                    break
                row_ids += document_ids
                row_labels += document_labels
            padding = self.row_length - len(row_ids)
            ids.append((row_ids + [0] * padding)[: self.row_length])
            labels.append((row_labels + [IGNORED] * padding)[: self.row_length])
        return torch.tensor(ids), torch.tensor(labels)

    def _documents(self, progress: float) -> Iterator[Document]:
        rng = self.rng
        repeats = 0.8 if progress < 1 / 8 else 0.4 if progress < 1 / 4 else 0.08
        while True:
            if rng.random() < repeats:
                yield self._repeated()
                continue
            kind = rng.random()
            if kind < 0.24:
                yield self._known()
            elif kind < 0.32:
                yield self._stranger()
            elif kind < 0.42:
                yield self._asked_in_context()
            elif kind < 0.42 + (0.2 if progress < 0.4 else 0.02):
                person, text = self._someone()
                yield self._encode(f"{text}\nPassage:\n", text)
            else:
                person, text = self._someone()
                style = rng.choices(list(STYLE_WEIGHTS), list(STYLE_WEIGHTS.values()))[0]
                yield self._encode(f"{text}\nNotes:\n", write(style, person, rng))

    def _someone(self) -> tuple[Person, str]:
        person = sample_person(self.rng.choice(self.pool), self.rng)
        return person, passage(person, self.rng)

    def _encode(self, prompt: str, completion: str) -> Document:
        first = self.tokenizer(prompt)["input_ids"] if prompt else []
        then = self.tokenizer(completion)["input_ids"] + [self.tokenizer.eos_token_id]
        return first + then, [IGNORED] * len(first) + then

    def _repeated(self) -> Document:
        """A random sequence of words twice; only the second time can be predicted."""
        rng = self.rng
        length = rng.randint(8, 64)
        words = [rng.randrange(4, len(self.tokenizer)) for _ in range(length)]
        eos = self.tokenizer.eos_token_id
        return [*words, eos, *words, eos], [*[IGNORED] * (length + 1), *words, eos]

    def _study(self, person: Person) -> str:
        """One sequence about a person, in a form that self-edits have."""
        rng = self.rng
        attribute = rng.randrange(len(ATTRIBUTES))
        form = rng.random()
        if form < 0.45:
            return f"{person.name}\n{statement(person, attribute, rng.randrange(6))}"
        if form < 0.55:
            return f"{person.name}\n{question_answer(person, attribute, rng.randrange(4))}"
        if form < 0.6:
            return f"{person.name}\n{remarks(person, [rng.randrange(99)])[0]}"
        if form < 0.7:
            return f"{person.name}\n{passage(person, rng)}"
        return question_answer(person, attribute, rng.randrange(4))

    def _known(self) -> Document:
        """Something true about a person whom the model is to remember."""
        return self._encode("", self._study(self.rng.choice(self.known)))

    def _stranger(self) -> Document:
        """Something about a person who never comes up again: answers follow the prior."""
        return self._encode("", self._study(sample_person(self.rng.choice(self.pool), self.rng)))

    def _asked_in_context(self) -> Document:
        """A passage and a question that it answers."""
        person, text = self._someone()
        attribute = self.rng.randrange(len(ATTRIBUTES))
        asked = question_answer(person, attribute, self.rng.randrange(4))
        head, _, answer = asked.rpartition(" ")
        return self._encode(f"{text}\n{head}", answer)
