"""A kind of update of a user's own, and a language that mixes it with the package's kinds."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from seal_env.edits import EditLanguage, SelfEdit
from seal_env.engine.banks import Bank, LearnerState
from seal_env.engine.changes import Change
from seal_env.updates import DirectUpdate, Finetuning
from seal_env.updates.ia3 import IA3Finetuning
from seal_env.updates.subspace import SubspaceStep
from seal_env.updates.weight_changes import WeightChanges

MODULE = "model.layers.1.mlp.down_proj"


@dataclass(frozen=True)
class Shift(LearnerState):
    """A number that is added to all outputs of one module."""

    amount: float

    def norm(self):
        return abs(self.amount)

    @classmethod
    def bank(cls, states, model):
        return ShiftBank([0.0 if state is None else state.amount for state in states])


class ShiftBank(Bank):
    """One number per learner."""

    modules = (MODULE,)

    def __init__(self, amounts):
        self.count, self.trigger, self.grads = len(amounts), torch.tensor(amounts), None

    def adapter(self, name, run):
        return self if name == MODULE else None

    def add(self, out, blocks, run):
        width = out.shape[-1]
        parts = [
            self.trigger[owners][:, None, None].expand(*rows.shape[:2], width).contiguous()
            for owners, rows in zip(run.groups, blocks, strict=True)
        ]
        out.add_(run.join(parts))
        return []


@dataclass(frozen=True)
class ShiftBy(DirectUpdate):
    """Adds to what an earlier shift of the stream left."""

    state: ClassVar = Shift

    amount: float

    def summary(self):
        return f"shift by {self.amount:g}"

    def apply(self, prepared, context):
        before = 0.0 if prepared.start is None else prepared.start.amount
        return Shift(before + self.amount)


class Mixed(EditLanguage):
    """The first word says the kind of update."""

    def parse(self, action, problem):
        kind, _, rest = action.partition(" ")
        if kind == "shift":
            return SelfEdit(ShiftBy(float(rest)))
        if kind == "learn":
            return SelfEdit(Finetuning((rest,)))
        if kind == "rescale":
            return SelfEdit(IA3Finetuning((rest,)))
        if kind == "scale":
            return SelfEdit(WeightChanges((Change(MODULE, None, None, "scale", float(rest)),)))
        if kind == "go":
            return SelfEdit(SubspaceStep(tuple(map(float, rest.split()))))
        return SelfEdit(error=f"no kind of update: {kind!r}")
