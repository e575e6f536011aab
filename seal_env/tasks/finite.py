"""Tasks that have a fixed list of problems, which falls into splits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from seal_env.errors import UserError
from seal_env.tasks.base import SPLITS, Problem, Task, stable_hash

T = TypeVar("T")
HELD_OUT_SHARE = 0.1
"""Share of the problems in each of the validation and the test split."""


def splits(
    items: Sequence[T], about: Callable[[T], Hashable], seed: int
) -> dict[str, tuple[T, ...]]:
    """Divides items among train, validation and test; see `FiniteTask`."""
    keys = sorted({about(item) for item in items}, key=lambda key: stable_hash(seed, key))
    held_out = max(1, round(HELD_OUT_SHARE * len(keys))) if len(keys) >= 3 else 0
    names = ["test"] * held_out + ["validation"] * held_out
    split_of = dict(zip(keys, names, strict=False))  # the rest is for training
    return {
        name: tuple(item for item in items if split_of.get(about(item), "train") == name)
        for name in SPLITS
    }


class FiniteTask(Task):
    """A task with a fixed list of problems.

    **Splits.** `all` is every problem, in the data's order; it is what a file of evaluation
    problems is for. `train`, `validation` and `test` are disjoint parts of it: the problems are
    ordered by a hash of what they are about and `split_seed`, the first tenth is `test`, the
    second `validation`, the rest `train` (at least one in each where there are three). So they do
    not depend on the data's order, and what is there twice falls in one. Within a split, too, the
    data's order is kept.

    Args:
        problems: The problems.
        noun: What they are, in the plural: "passages".
        split_seed: Another seed splits them another way.
        about: What a problem is about; those that agree in it fall into the same split.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        noun: str,
        split_seed: int,
        about: Callable[[Problem], Hashable] = lambda problem: problem.context,
    ) -> None:
        self.noun = noun
        self._splits = {"all": tuple(problems), **splits(problems, about, split_seed)}

    def size(self, split: str) -> int:
        """Number of problems in a split."""
        return len(self._problems(split))

    def problem(self, split: str, index: int) -> Problem:
        """The problem at a position of a split."""
        problems = self._problems(split)
        if not 0 <= index < len(problems):
            raise UserError(
                f"split {split!r} has {len(problems)} {self.noun}; there is none at {index}"
            )
        return problems[index]

    def _problems(self, split: str) -> tuple[Problem, ...]:
        try:
            return self._splits[split]
        except KeyError:
            raise UserError(f"unknown split {split!r}: known: {', '.join(self._splits)}") from None
