"""Anchors: frozen learners that trained ones are kept close to, by a penalty in the training loss.

Notation: K learners of a bank, M labels of a pass (the tokens at which a loss is computed), D the
width of the hidden states, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seal_env.engine.banks import LearnerState, routed
from seal_env.engine.learner import Learner
from seal_env.engine.mixed_bank import bank_of
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass


@dataclass(frozen=True)
class Anchor:
    """What one learner is kept close to."""

    state: LearnerState | None
    """The frozen learner; None for the base."""
    weight: float
    """Weight of KL(anchor ‖ trained) in the loss of each label."""


class Anchors:
    """The anchors of K learners.

    Args:
        learner: The base.
        anchors: One per learner; None for a loss without a penalty.
    """

    def __init__(self, learner: Learner, anchors: Sequence[Anchor | None]) -> None:
        self.learner = learner
        states = [None if anchor is None else anchor.state for anchor in anchors]
        self.bank = bank_of(states, learner.model)
        self.weights = np.array([0.0 if a is None else a.weight for a in anchors])

    @torch.no_grad()
    def hidden(
        self,
        texts: Sequence[Sequence[int]],
        owners: Sequence[int],
        offsets: Sequence[np.ndarray],
    ) -> Tensor:
        """Last hidden states of the anchors, shape (M, D).

        Args:
            texts: Token ids.
            owners: Learner of each text.
            offsets: Positions in each text at which they are wanted.
        """
        layout = Layout(texts, routed(self.bank, owners, texts), self.learner.device)
        hidden = self.learner.hidden(layout.row, FullPass(layout), self.bank)
        rows = np.concatenate([s + o for s, o in zip(layout.starts, offsets, strict=True)])
        return hidden.index_select(0, torch.from_numpy(rows).to(hidden.device))

    def losses(
        self,
        hidden: Tensor,
        rows: np.ndarray,
        labels: Sequence[int],
        before: Tensor,
        owners: np.ndarray,
    ) -> Tensor:
        """Cross-entropy plus weighted divergence from the anchor at some rows.

        Args:
            hidden: Last hidden states of the trained learners' row, shape (T, D).
            rows: Indices of rows, shape (M,).
            labels: Token ids that follow them, M of them.
            before: Result of `hidden` for the same tokens.
            owners: Learner of each label, shape (M,).

        Returns:
            Nats, shape (M,).
        """
        weights = torch.from_numpy(self.weights[owners]).to(before.device, torch.float32)
        head = self.learner.head

        def loss(new: Tensor, targets: Tensor, old: Tensor, weight: Tensor) -> Tensor:
            with torch.no_grad():
                old_logs = head(old).log_softmax(-1)
            new_logs = head(new).log_softmax(-1)
            probs = old_logs.exp()
            # A token that cannot come has a probability of 0 and a logarithm of -inf.
            terms = torch.where(probs == 0, 0.0, probs * (old_logs - new_logs))
            return F.nll_loss(new_logs, targets, reduction="none") + weight * terms.sum(-1)

        return self.learner.losses_at(hidden, rows, labels, loss, before, weights)
