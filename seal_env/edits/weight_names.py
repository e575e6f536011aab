"""Which matrices of a model can be meant, and how a text says which.

The matrices are those of the model's linear layers (``nn.Linear`` and GPT-2's ``Conv1D``).
Embeddings, the output head, norms and biases are not among them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate

from torch import nn

from seal_env.engine.config import LoraConfig
from seal_env.engine.deltas import norm_of
from seal_env.engine.learner import Learner
from seal_env.engine.lora import find_targets
from seal_env.errors import UserError

PARTS = {
    "attention": "attention",
    "self-attention": "attention",
    "attn": "attention",
    "mlp": "mlp",
    "feed-forward": "mlp",
}
"""Words for a part of a layer."""
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_MLP = re.compile(r"mlp|ffn|feed_?forward|\bfc|\bdense_", re.IGNORECASE)
_INTO_NEURONS = ("gate_proj", "up_proj", "c_fc", "fc1", "fc_in", "dense_h_to_4h", "w1", "w3")
"""Matrices of an MLP that have a row for each of its neurons."""


class Refused(ValueError):
    """Why a text is no change that may be made, in one line."""


@dataclass(frozen=True)
class Matrix:
    """The matrix of a linear layer."""

    name: str
    """Its module's name in the model."""
    outputs: int
    """Rows."""
    inputs: int
    """Columns."""
    norm: float
    """Frobenius norm."""
    layer: int | None
    """The layer that it belongs to, counted from 0: the first number in its name."""
    part: str
    """"attention", "mlp", or "" for neither, by its name."""
    editable: bool
    """Whether it may be changed."""

    @property
    def size(self) -> int:
        """Its weights."""
        return self.outputs * self.inputs

    def modules(self) -> Iterable[str]:
        """Its name and the names of the modules that it is in."""
        return accumulate(self.name.split("."), lambda left, right: f"{left}.{right}")


class Matrices:
    """The matrices of a model.

    Args:
        learner: The model.
        editable: A pattern as the shell has them (``*``, ``?``, ``[2-3]``) for the names of the
            matrices that may be changed, upper and lower case alike. It may leave out leading
            parts of a name: ``layers.[2-3].mlp.*`` fits ``model.layers.2.mlp.down_proj``.

    Raises:
        UserError: The model has no linear layer, or the pattern fits none.
    """

    def __init__(self, learner: Learner, editable: str) -> None:
        model, self.pattern = learner.model, editable
        self.all = {}
        for target in find_targets(model, LoraConfig(targets=("all-linear",))):
            name = target.name
            number = next((int(part) for part in name.split(".") if part.isdecimal()), None)
            part = "attention" if _ATTENTION.search(name) else "mlp" if _MLP.search(name) else ""
            sizes = target.outputs, target.inputs
            fits = _fits(name, editable)
            self.all[name] = Matrix(name, *sizes, norm_of(learner, name), number, part, fits)
        if not any(matrix.editable for matrix in self.all.values()):
            known = ", ".join(self.all)
            shown = known if len(known) < 200 else f"{known[:200]}..."
            raise UserError(
                f"weights: editable={editable!r} fits no matrix of {learner.name}; it has: {shown}"
            )
        self.size = sum(matrix.size for matrix in self.all.values() if matrix.editable)
        """Weights that may be changed."""
        self.layers = sorted({m.layer for m in self.all.values() if m.layer is not None})
        """The numbers of the model's layers."""
        self._others = _other_names(model)

    def find(self, noun: str | None, layer: int | None) -> list[Matrix]:
        """What a text means.

        Args:
            noun: A name in lower case, leading parts left out or not: of a matrix, or of a module
                with matrices in it. Or, together with a layer, a word of `PARTS`. None for all of
                a layer.
            layer: Looks in this layer only.

        Raises:
            Refused: Nothing or more than one thing is called that.
        """
        if layer is not None and layer not in self.layers:
            raise Refused(
                f"there is no layer {layer}: layers go from 0 to {max(self.layers, default=0)}"
            )
        inside = [m for m in self.all.values() if layer is None or m.layer == layer]
        if noun is None:
            return inside
        if noun in PARTS and layer is not None:
            found = [matrix for matrix in inside if matrix.part == PARTS[noun]]
            if not found:
                raise Refused(f"layer {layer} has no linear layer known as {noun}")
            return found
        modules = {name: None for m in inside for name in m.modules() if _ends(name.lower(), noun)}
        if len(modules) > 1:
            few = ", ".join(list(modules)[:2])
            raise Refused(
                f"{noun!r} could be {len(modules)} things ({few}, ...): give more of the name"
            )
        if not modules:
            raise Refused(self._missing(noun, inside))
        (name,) = modules
        return [m for m in inside if m.name == name or m.name.startswith(f"{name}.")]

    def into_neurons(self, layer: int) -> list[Matrix]:
        """The matrices of a layer's MLP that have a row for each neuron.

        Raises:
            Refused: There is no such layer, or none of its matrices is known to be one.
        """
        found = [
            matrix
            for matrix in self.find(None, layer)
            if matrix.part == "mlp" and matrix.name.rpartition(".")[2] in _INTO_NEURONS
        ]
        if not found:
            raise Refused(
                f"which rows are the neurons of layer {layer} is not known: name a matrix"
            )
        return found

    def _missing(self, noun: str, inside: list[Matrix]) -> str:
        """Why a name means nothing."""
        if any(_ends(name, noun) for name in self._others):
            return (
                f"{noun!r} is not the matrix of a linear layer: embeddings, norms, biases and the "
                f"output head cannot be changed"
            )
        names = [".".join(m.name.split(".")[-noun.count(".") - 1 :]).lower() for m in inside]
        close = difflib.get_close_matches(noun[:200], names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"the model has no matrix {_short(noun)!r}{hint}"


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern fits a name, or the name without some leading parts."""
    parts = name.lower().split(".")
    ends = (".".join(parts[i:]) for i in range(len(parts)))
    return any(fnmatchcase(end, pattern.lower()) for end in ends)


def _other_names(model: nn.Module) -> set[str]:
    """Lower-case names of a model's modules and parameters."""
    named = [name for name, _ in model.named_modules()] + [n for n, _ in model.named_parameters()]
    return {name.lower() for name in named}
