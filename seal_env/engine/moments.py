"""Second moments of what the modules of a learner read on some texts.

Dimensions:
    - T: rows of tokens in a pass, spare ones included.
    - I: inputs of a module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seal_env.engine.banks import Bank, LearnerState, routed
from seal_env.engine.learner import Learner
from seal_env.engine.lora import Target
from seal_env.engine.mixed_bank import bank_of
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass, Pass


@torch.no_grad()
def second_moments(
    learner: Learner,
    texts: Sequence[Sequence[int]],
    state: LearnerState | None,
    targets: Sequence[Target],
    tokens: int,
) -> dict[str, Tensor]:
    """Sum of x x^T over the inputs x of each module at all tokens of texts.

    Args:
        learner: The base.
        texts: Token ids, none empty.
        state: What the learner has beyond the base; None for nothing.
        targets: The modules.
        tokens: Tokens that go through the model at once; a longer text is a pass by itself.

    Returns:
        Float64, shape (I, I), on the CPU, by module name.
    """
    below = bank_of([state], learner.model)
    bank = _MomentBank(targets, below, learner.device)
    for part in _parts(texts, tokens):
        layout = Layout(part, routed(below, [0] * len(part), part), learner.device)
        learner.hidden(layout.row, FullPass(layout), bank)
    return {name: moment.cpu() for name, moment in bank.moments.items()}


def _parts(texts: Sequence[Sequence[int]], tokens: int) -> Iterator[list[Sequence[int]]]:
    """Texts in their order, as many at once as fit."""
    part: list[Sequence[int]] = []
    for text in texts:
        if part and sum(map(len, part)) + len(text) > tokens:
            yield part
            part = []
        part.append(text)
    if part:
        yield part


class _MomentBank(Bank):
    """One learner, whose modules' inputs are summed up as they are read.

    Args:
        targets: The modules.
        below: The learner; None for the base.
        device: Device of the model.
    """

    def __init__(self, targets: Sequence[Target], below: Bank | None, device: torch.device) -> None:
        self.below, self.count = below, 1 if below is None else below.count
        wide = torch.float64 if device.type != "mps" else torch.float32  # has no float64
        self.moments = {
            t.name: torch.zeros(t.inputs, t.inputs, dtype=wide, device=device) for t in targets
        }
        """Sums so far, by module name."""

    @property
    def modules(self) -> Sequence[str]:
        """See `Bank.modules`."""
        lower = [] if self.below is None else self.below.modules
        return list(dict.fromkeys([*self.moments, *lower]))

    def adapter(self, name: str, run: Pass) -> Any:
        """See `Bank.adapter`."""
        lower = None if self.below is None else self.below.adapter(name, run)
        return _Summed(self.moments[name], lower) if name in self.moments else lower


class _Summed(NamedTuple):
    """Products of one module, whose input is added to a sum."""

    trigger: Tensor
    """The sum, shape (I, I)."""
    lower: Any
    """Products of the learner itself; None for none."""
    grads: None = None

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """See `Products.add`."""
        rows = run.join(blocks).to(self.trigger.dtype)  # (T, I), zeros in the spare rows
        self.trigger.addmm_(rows.t(), rows)
        return [] if self.lower is None else self.lower.add(out, blocks, run)
