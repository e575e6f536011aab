"""Texts as arrays of token ids, for libraries whose spaces hold only numbers.

An observation is an array of token ids, padded with `PAD`; an action is an array of token ids that
ends at its first end token. The environment carries out the text of these tokens, and the policy
learns on the tokens themselves. `PAD` is outside of every vocabulary: the pad token of some models
is their end token, so that padding cannot be masked by a token's id.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces

from seal_env.engine.learner import Learner
from seal_env.engine.rendering import DoesNotFit, Rendered
from seal_env.errors import UserError
from seal_env.prompts import prompt_tokens

PAD = -1
"""Padding of observations, and of actions without an end token."""


class TextTokens:
    """Converter between a problem's texts and arrays of token ids.

    Args:
        learner: Model whose tokenizer is used.
        prompt: Name of the prompt (`seal_env.prompts`) around a context.
        max_new_tokens: Length of the longest self-edit and of an action, in tokens.
        max_prompt_tokens: Length of the longest prompt and of an observation, in tokens; None for
            the room that the model leaves. The middle of the context is cut.

    Raises:
        UserError: The model's inputs are shorter, the prompt is unknown, or its frame without the
            context is longer than `max_prompt_tokens`.
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
        """Space of prompts: token ids, padded with `PAD`."""
        self.action_space = spaces.MultiDiscrete(np.full(max_new_tokens, size))
        """Space of self-edits: token ids, ignored after the first end token."""

    def read(self, context: str) -> Rendered:
        """Token ids of a context's prompt, never empty, at most `max_prompt_tokens`."""
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

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as written by a policy: with an end token, or cut at the limit.

        Under a chat template the end token is that of a turn.
        """
        length = int(self.action_space.shape[0])
        ids = self.learner.renderer.answer(text, length)
        ends = self.learner.renderer.ends() or self.learner.stop_ids[:1].tolist()
        return (ids + ends)[:length]

    def decode(self, action: np.ndarray) -> str:
        """Text of an action."""
        ids = written(action, self.learner.stop_ids)
        return self.learner.decode(ids[:-1] if ids and ids[-1] in self.learner.stop_ids else ids)


def vocabulary_size(learner: Learner) -> int:
    """Number of tokens of a model's output head."""
    return int(learner.model.get_output_embeddings().weight.shape[0])


def prompts(observations: np.ndarray) -> list[list[int]]:
    """Token ids of observations, without `PAD`."""
    return [row[row != PAD].tolist() for row in np.asarray(observations)]


def action(ids: Sequence[int], length: int, filler: int = PAD) -> np.ndarray:
    """Token ids as an action, int64 of shape (length,), padded after the end.

    `PAD` is outside of the action space: an environment's actions are padded with a token.
    """
    row = np.full(length, filler, dtype=np.int64)
    row[: len(ids)] = ids
    return row


def written(row: np.ndarray, stop_ids: np.ndarray) -> list[int]:
    """Inverse of `action`: token ids before the first `PAD`, up to the first end token."""
    row = np.asarray(row)
    ends = np.flatnonzero(np.isin(row, stop_ids) | (row == PAD))
    if not len(ends):
        return [int(i) for i in row]
    first = int(ends[0])
    return [int(i) for i in row[: first + (row[first] != PAD)]]
