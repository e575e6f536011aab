"""Texts as arrays of token ids, for libraries whose spaces hold numbers only.

What a policy reads is an array of token ids, filled up with `PAD`; what it writes is an array
of token ids that ends at its first end token. `PAD` lies outside of every vocabulary: some
models' pad token is their end token, so nothing may be masked by a token's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from gymnasium import spaces

from seal_env.engine.learner import Learner
from seal_env.engine.rendering import DoesNotFit, Rendered
from seal_env.errors import UserError
from seal_env.prompts import prompt_tokens

PAD = -1
"""Fills up an observation."""


class Written(NamedTuple):
    """What a policy wrote, out of an array of token ids."""

    ids: list[int]
    """The text's tokens, without the end token."""
    ended: bool
    """Whether an end token followed, or only the end of the array did."""


class TextTokens:
    """Converts between a problem's texts and arrays of token ids.

    Args:
        learner: Whose tokenizer it is.
        prompt: Name of the prompt (`seal_env.prompts`) around a context.
        max_new_tokens: Longest self-edit, in tokens: the length of an action.
        max_prompt_tokens: Longest prompt, in tokens: the length of an observation; None for
            all that the model leaves room for. What is cut is the middle of the context.

    Raises:
        UserError: The model cannot take inputs of that length, the prompt is unknown, or what
            surrounds the context is longer than `max_prompt_tokens`.
    """

    def __init__(
        self,
        learner: Learner,
        prompt: str,
        max_new_tokens: int = 256,
        max_prompt_tokens: int | None = None,
    ) -> None:
        room = learner.max_length - max_new_tokens
        if max_new_tokens < 1 or room < 1:
            raise UserError(
                f"max_new_tokens {max_new_tokens}: must be at least 1 and leave room for a "
                f"prompt; the model takes {learner.max_length} tokens in all"
            )
        if max_prompt_tokens is not None and max_prompt_tokens < 1:
            raise UserError(f"max_prompt_tokens {max_prompt_tokens}: must be at least 1")
        self.learner, self.name = learner, prompt
        self.longest = min(room, max_prompt_tokens or room)
        self.read("")  # an unknown name or too little room fails here
        size = vocabulary_size(learner)
        self.observation_space = spaces.Box(PAD, size - 1, (self.longest,), np.int32)
        """Token ids of a prompt, filled up with `PAD`."""
        self.action_space = spaces.MultiDiscrete(np.full(max_new_tokens, size))
        """Token ids of a self-edit; what stands after the first end token does not count."""

    def read(self, context: str) -> Rendered:
        """What a policy reads of a problem: never empty, at most the longest prompt."""
        try:
            return prompt_tokens(self.learner.renderer, self.name, context, self.longest)
        except DoesNotFit as error:
            raise UserError(
                f"prompt {self.name!r}: {error}; the model takes {self.learner.max_length} tokens "
                f"in all: give a smaller max_new_tokens or a larger max_prompt_tokens"
            ) from None

    def prompt(self, context: str) -> list[int]:
        """Token ids of what a policy reads."""
        return self.read(context).ids

    def observe(self, contexts: Sequence[str]) -> np.ndarray:
        """Contexts as observations, int32 of shape (contexts, longest prompt)."""
        rows = np.full((len(contexts), self.longest), PAD, dtype=np.int32)
        for row, context in zip(rows, contexts, strict=True):
            ids = self.prompt(context)
            row[: len(ids)] = ids
        return rows

    def encode(self, text: str) -> Written:
        """A text as a policy would have written it: cut off where it is too long."""
        length = int(self.action_space.shape[0])
        ids = self.learner.renderer.answer(text, length)
        return Written(ids, len(ids) < length and bool(len(self.learner.stop_ids)))

    def learned(self, text: str) -> list[int]:
        """`encode`, with the end token if the text has ended there: what a policy learns from it.

        Under a chat template that is the token with which a turn ends.
        """
        ids, ended = self.encode(text)
        return ids + (self.learner.renderer.ends() if ended else [])

    def decode(self, action: np.ndarray) -> str:
        """The text of an action."""
        return self.learner.decode(written(action, self.learner.stop_ids).ids)


def vocabulary_size(learner: Learner) -> int:
    """How many tokens a model's output head tells apart."""
    return int(learner.model.get_output_embeddings().weight.shape[0])


def prompts(observations: np.ndarray) -> list[list[int]]:
    """Token ids of observations, without `PAD`."""
    return [row[row != PAD].tolist() for row in np.asarray(observations)]


def action(text: Written, length: int, stop_ids: np.ndarray) -> np.ndarray:
    """Token ids as an action, int64 of shape (length,); filled up with the end token."""
    filler = int(stop_ids[0]) if len(stop_ids) else 0
    row = np.full(length, filler, dtype=np.int64)
    row[: len(text.ids)] = text.ids
    return row


def written(row: np.ndarray, stop_ids: np.ndarray) -> Written:
    """The inverse of `action`: what stands before the first end token."""
    ends = np.flatnonzero(np.isin(row, stop_ids))
    count = int(ends[0]) if len(ends) else len(row)
    return Written([int(i) for i in row[:count]], bool(len(ends)))
