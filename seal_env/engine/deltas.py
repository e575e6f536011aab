"""Direct changes of a model's weights: dense differences of the touched matrices, K side by side.

`Deltas` is the result of a self-edit in the language `weights`: an addend for each matrix that it
touches. A `DeltaBank` holds the deltas of K learners. It adds, to the output of each touched
module, the product of the delta that a token's learner has there. The base's own weights are never
written, so that nothing has to be restored and K learners share one base. As with adapters
(`seal_env.engine.lora`), each learner's products run in blocks that hold its own tokens alone, and
its results are the same to the bit beside any other learners.

Matrices are read as outputs × inputs: row i computes output i, column j reads input j. GPT-2's are
stored transposed, and are transposed here.

Dimensions:
    - K: learners of the bank; M: those that touch one module.
    - I, O: inputs and outputs of a module.
    - T: rows of tokens in a pass, spare ones included.
    - G: learners in one group of equal padded length L.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from seal_env.engine.banks import Bank, LearnerState, aligned, listed, product
from seal_env.engine.changes import Change
from seal_env.engine.passes import Pass

if TYPE_CHECKING:
    from seal_env.engine.learner import Learner
    from seal_env.engine.lora import AdapterState


@dataclass(frozen=True)
class Deltas(LearnerState):
    """Addends of the matrices of one learner. Immutable."""

    matrices: Mapping[str, Tensor] = field(default_factory=dict)
    """Addend by module name: float32, shape (O, I), on the CPU."""

    @staticmethod
    @torch.no_grad()
    def of(model: nn.Module, changes: Sequence[Change], former: Deltas | None = None) -> Deltas:
        """Deltas that carry out changes, one after the other.

        Each change, the factor of "scale" included, acts on the current matrix: the model's own
        weights, plus `former`, plus the changes before it.

        Args:
            model: The frozen model, which is only read.
            changes: The changes; modules, rows and columns must exist.
            former: Earlier deltas (in a stream); None for the untouched model. They are not
                changed, and matrices that `changes` do not name are shared with them.
        """
        before = dict(former.matrices) if former is not None else {}
        weights = {c.name: matrix_of(model, c.name) for c in changes}
        changed = {
            name: before[name].clone() if name in before else torch.zeros_like(weight)
            for name, weight in weights.items()
        }
        for change in changes:
            rows = slice(None) if change.row is None else slice(change.row, change.row + 1)
            columns = slice(None) if change.column is None else change.column
            delta = changed[change.name][rows, columns]
            base = weights[change.name][rows, columns]
            if change.operation == "add":
                delta.add_(change.amount)
            elif change.operation == "scale":
                delta.add_((base + delta).mul_(change.amount - 1))
            elif change.operation == "set":
                delta.copy_(change.amount - base)
            else:
                raise ValueError(f"no operation {change.operation!r}")
        return Deltas(before | changed)

    @staticmethod
    @torch.no_grad()
    def merged(state: AdapterState, below: Deltas | None) -> Deltas:
        """Deltas with an adapter added, in float32: the size stays, however many are merged."""
        addends = state.addends()
        before = dict(below.matrices) if below is not None else {}
        return Deltas(before | {n: before[n] + x if n in before else x for n, x in addends.items()})

    @property
    def size(self) -> int:
        """See `LearnerState.size`."""
        return sum(matrix.numel() for matrix in self.matrices.values())

    def norm(self) -> float:
        """See `LearnerState.norm`."""
        norms = (float(torch.linalg.vector_norm(d.double())) for d in self.matrices.values())
        return math.hypot(*norms)

    @classmethod
    def bank(cls, states: Sequence[Deltas | None], model: PreTrainedModel) -> DeltaBank:
        """See `LearnerState.bank`."""
        return DeltaBank(states, model.device)


def matrix_of(model: nn.Module, name: str) -> Tensor:
    """A module's matrix, float32, shape (O, I), on the CPU; read-only."""
    module = model.get_submodule(name)
    weight: Tensor = module.weight.detach()  # type: ignore[operator]
    return (weight.t() if isinstance(module, Conv1D) else weight).cpu().float().contiguous()


def norm_of(learner: Learner, name: str) -> float:
    """Frobenius norm of a module's own matrix; computed once per learner."""
    norms = learner.cache.setdefault("norms of matrices", {})
    if name not in norms:
        norms[name] = float(torch.linalg.vector_norm(matrix_of(learner.model, name).double()))
    return float(norms[name])


class DeltaBank(Bank):
    """The deltas of K learners, for evaluation; they have no gradients.

    A learner that does not touch a matrix has no product there, and a matrix that no learner
    touches costs nothing.

    Args:
        deltas: One per learner; None or an empty one for the untouched model.
        device: Device of the model.
    """

    def __init__(self, deltas: Sequence[Deltas | None], device: torch.device) -> None:
        self.count = len(deltas)
        self._adapters: dict[str, DenseAdapter] = {}
        of_module: dict[str, dict[int, Tensor]] = {}
        for owner, state in enumerate(deltas):
            for name, matrix in state.matrices.items() if state is not None else ():
                of_module.setdefault(name, {})[owner] = matrix
        for name, matrices in of_module.items():
            index = {owner: number for number, owner in enumerate(matrices)}
            self._adapters[name] = DenseAdapter(_stack(list(matrices.values()), device), index)

    @property
    def modules(self) -> Sequence[str]:
        """See `Bank.modules`: those that a learner touches."""
        return list(self._adapters)

    def adapter(self, name: str, run: Pass) -> DenseAdapter | None:
        """See `Bank.adapter`."""
        return self._adapters.get(name)


class DenseAdapter(NamedTuple):
    """Products of one module: D_k x for each row x of a learner k that touches it."""

    deltas: Tensor
    """Deltas of those learners, shape (M, O, I)."""
    index_of: Mapping[int, int]
    """Index into `deltas` by learner."""
    grads: None = None

    @property
    def trigger(self) -> Tensor:
        """See `Products.trigger`."""
        return self.deltas

    def add(self, out: Tensor, blocks: list[Tensor], run: Pass) -> list[Tensor]:
        """See `Products.add`."""
        if any(owner in self.index_of for owners in run.groups for owner in listed(owners)):
            out.add_(run.join(self._products(blocks, self.deltas.transpose(1, 2), run)))
        return []

    def input_grad(self, outer: Sequence[Tensor], run: Pass) -> list[Tensor]:
        """See `FrozenProducts.input_grad`."""
        return self._products(outer, self.deltas, run)

    def _products(self, blocks: Sequence[Tensor], matrices: Tensor, run: Pass) -> list[Tensor]:
        """Each learner's rows times its matrix; zeros for a learner that touches nothing here."""
        parts = []
        for owners, rows in zip(run.groups, blocks, strict=True):
            present = listed(owners)
            touching = [i for i, owner in enumerate(present) if owner in self.index_of]
            places = [self.index_of[present[i]] for i in touching]
            if len(touching) == len(present):
                parts.append(_times(rows, matrices, places))
                continue
            part = rows.new_zeros(*rows.shape[:2], matrices.shape[2])
            if touching:
                chosen = torch.tensor(touching, device=rows.device)
                part[chosen] = _times(rows[chosen], matrices, places)
            parts.append(part)
        return parts

    def backward(self, *_: object) -> None:
        """Deltas are not trained."""
        raise NotImplementedError("deltas have no gradients")


def _times(rows: Tensor, matrices: Tensor, places: list[int]) -> Tensor:
    """Blocks times matrices, without a copy: those that are no neighbors are taken one by one."""
    first, last = places[0], places[-1]
    if last - first + 1 == len(places):
        return product(rows, matrices[first : last + 1])
    pairs = ((rows[i : i + 1], matrices[p : p + 1]) for i, p in enumerate(places))
    return torch.cat([product(*pair) for pair in pairs])


def _stack(matrices: Sequence[Tensor], device: torch.device) -> Tensor:
    """Matrices stacked in memory, shape (M, O, I), each aligned (see `seal_env.engine.banks`)."""
    outputs, inputs = matrices[0].shape
    flat = torch.zeros(len(matrices), aligned(outputs * inputs), device=device)
    stacked = flat[:, : outputs * inputs].view(-1, outputs, inputs)
    for index, matrix in enumerate(matrices):
        stacked[index] = matrix
    return stacked
