"""A direct change of one matrix of a model, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A change of one matrix of the learner: ``W[rows, columns]`` plus or times an amount."""

    name: str
    """The module whose weight is meant, as the model calls it."""
    row: int | None
    """Which output; None for all."""
    column: int | None
    """Which input; None for all."""
    operation: str
    """`add`, `scale` or `set`."""
    amount: float
    """What is added, the factor, or the new value."""

    def __str__(self) -> str:
        """The change as one reads it."""
        place = ", ".join(":" if i is None else str(i) for i in (self.row, self.column))
        word = "to" if self.operation == "set" else "by"
        return f"{self.operation} {self.name}[{place}] {word} {self.amount:g}"
