"""How far learners are from others on the same texts: divergence and loss, many in one pass.

Notation: D learners, N texts, T scored tokens of the texts, V the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch
from torch import Tensor

from seal_env.engine.banks import Bank, routed
from seal_env.engine.learner import Learner
from seal_env.engine.packing import Layout, padded_rows
from seal_env.engine.passes import FullPass
from seal_env.engine.threads import run_parts, split_evenly


@dataclass(frozen=True)
class Divergence:
    """How far a learner is from another one on some texts."""

    kl: float
    """KL(new ‖ old) in nats per token: the mean over the tokens of the texts, but for each text's
    first, of the Kullback-Leibler divergence of the two next-token distributions; at least 0."""
    old_loss: float
    """Loss of the old learner in nats per token: the mean negative log-probability of the same
    tokens."""
    new_loss: float
    """The same of the new learner."""


@torch.no_grad()
def divergences(
    learner: Learner,
    texts: Sequence[Sequence[int]],
    count: int,
    new: Bank | None,
    old: Bank | None,
    tokens: int,
) -> list[Divergence]:
    """Compares D new learners with the old ones on the same texts.

    Distributions are over the whole vocabulary, and no more than a few rows of them are in memory
    at a time. A result does not depend on the other learners.

    Args:
        learner: The base.
        texts: Token ids, each at least two.
        count: D.
        new: The new learners; None for the base, D times.
        old: The old learners; None for the base.
        tokens: Tokens that go through the model at once; one learner's texts always do.

    Returns:
        One entry per learner; its numbers are not finite where the learner's are not.
    """
    size = sum(map(len, texts))
    per_pass = max(1, tokens // size)
    old_rows = None if old is not None else _scored_rows(learner, texts, [0], None)

    def compare(part: range, stop: Event) -> list[Divergence]:
        found: list[Divergence] = []
        for start in range(part.start, part.stop, per_pass):
            if stop.is_set():
                break
            owners = range(start, min(start + per_pass, part.stop))
            after = _scored_rows(learner, texts, owners, new)
            before = old_rows if old is None else _scored_rows(learner, texts, owners, old)
            assert before is not None
            found += _compare(learner, texts, before, after)
        return found

    parts = split_evenly([size] * count, learner.workers(count))
    jobs = [lambda stop, part=part: compare(part, stop) for part in parts]
    return [found for part in run_parts(jobs) for found in part]


def _scored_rows(
    learner: Learner, texts: Sequence[Sequence[int]], owners: Sequence[int], bank: Bank | None
) -> Tensor:
    """Last hidden states before each scored token, shape (learners, T, width)."""
    whole = [text for _ in owners for text in texts]
    each = routed(bank, [owner for owner in owners for _ in texts], whole)
    layout = Layout(whole, each, learner.device)
    hidden = learner.hidden(layout.row, FullPass(layout), bank)
    rows = [
        np.arange(start, start + len(text) - 1)
        for start, text in zip(layout.starts, whole, strict=True)
    ]
    chosen = hidden.index_select(0, torch.from_numpy(np.concatenate(rows)).to(learner.device))
    return chosen.view(len(owners), -1, hidden.shape[-1])


def _compare(
    learner: Learner, texts: Sequence[Sequence[int]], old: Tensor, new: Tensor
) -> list[Divergence]:
    """Divergences of learners' hidden states, shape (D, T, width), from old ones (D or 1)."""
    count = new.shape[1]
    # As many rows as in `Learner.losses`, for the head's products to be rounded alike.
    index = torch.from_numpy(np.resize(np.arange(count), padded_rows(count))).to(learner.device)
    labels = torch.tensor([t for text in texts for t in text[1:]], device=learner.device)[index]
    sums: list[list[Tensor]] = [[] for _ in new]
    for rows, targets in zip(
        index.split(learner.head_rows), labels.split(learner.head_rows), strict=True
    ):
        before = _log_probs(learner, old[0], rows)
        for i, hidden in enumerate(new):
            if i and len(old) > 1:
                before = _log_probs(learner, old[i], rows)
            after = _log_probs(learner, hidden, rows)
            sums[i].append(_per_token(before, after, targets))
    found = []
    for parts in sums:
        per_token = torch.cat(parts)[:count].cpu()
        # fsum is exact, so a mean does not depend on how rows are split.
        kl, old_loss, new_loss = (math.fsum(c) / count for c in per_token.T.tolist())
        found.append(Divergence(kl, old_loss, new_loss))
    return found


def _log_probs(learner: Learner, hidden: Tensor, rows: Tensor) -> Tensor:
    """Log-probabilities of the next token, shape (rows, V)."""
    return learner.head(hidden.index_select(0, rows)).log_softmax(-1)


def _per_token(before: Tensor, after: Tensor, labels: Tensor) -> Tensor:
    """KL divergence and the two losses at each row, float64, shape (rows, 3)."""
    probs = after.exp()
    # A token that cannot come has a probability of 0 and a logarithm of -inf.
    terms = torch.where(probs == 0, 0.0, probs * (after - before))
    kl = terms.sum(-1, dtype=torch.float64).clamp_min(0)  # below 0 by rounding alone
    losses = (-x.gather(-1, labels[:, None])[:, 0].double() for x in (before, after))
    return torch.stack([kl, *losses], dim=-1)
