"""The learner's own hidden states of a self-edit, as the features of a critic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seal_env.critics.base import Features, Told, fingerprint
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.rendering import Content

SEPARATOR = "\n"
"""Text between context and self-edit."""
TOKENS_PER_PASS = 16384
"""Approximate number of tokens per pass; bounds memory."""


class HiddenStates(Features):
    """Mean last hidden state of the tokens of a self-edit, after its context.

    Args:
        learner: Model that reads, without adapters.
    """

    kind = "hidden states: last layer, mean over the self-edit's tokens"

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.model, self.width = learner.name, learner.width

    @torch.no_grad()
    def measure(
        self, pairs: Sequence[tuple[str, str]], tell: Told = lambda done, total: None
    ) -> np.ndarray:
        """See `Features.measure`."""
        read = [self._read(context, text) for context, text in pairs]
        found = np.empty((len(read), self.width))
        start, used = 0, 0
        for stop, (ids, _) in enumerate(read, 1):
            used += len(ids)
            if used < TOKENS_PER_PASS and stop < len(read):
                continue
            part = read[start:stop]
            layout = Layout([ids for ids, _ in part], range(len(part)), self.learner.device)
            hidden = self.learner.hidden(layout.row, FullPass(layout), None)
            states = hidden.float().cpu().numpy()
            rows = zip(range(start, stop), part, layout.starts, strict=True)
            for place, (ids, first), row in rows:
                own = states[row + first : row + len(ids)]
                found[place] = own.mean(axis=0, dtype=np.float64)
            start, used = stop, 0
            tell(stop, len(read))
        return found

    def fingerprint(self) -> str:
        """See `Features.fingerprint`."""
        return fingerprint(self.learner.model)

    def _read(self, context: str, text: str) -> tuple[list[int], int]:
        """Token ids of context and self-edit, and the number of those of the context.

        Where both are too long for the model, the self-edit loses its end and the context its
        middle.
        """
        renderer, longest = self.learner.renderer, self.learner.max_length
        written = renderer.scored(text, longest // 2, chat=False)
        parts = (Content(context), Content(SEPARATOR))
        prompt = renderer.prompt(parts, longest - len(written), chat=False).ids
        return prompt + written, len(prompt)


def without_adapter(learner: Learner) -> Learner:
    """The base of a learner, which is what critics read with: it stays the same over a run."""
    precision = str(learner.model.dtype).removeprefix("torch.")
    return load_learner(
        learner.name, precision, learner.device.type, None, learner.trust_remote_code
    )
