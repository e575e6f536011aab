"""Direct change of one matrix of a model, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Change of one matrix of the learner: ``W[row, column]`` plus, times or set to an amount."""

    name: str
    """Name of the module in the model."""
    row: int | None
    """Index of the output; None for all."""
    column: int | None
    """Index of the input; None for all."""
    operation: str
    """`add`, `scale` or `set`."""
    amount: float
    """Addend, factor or new value."""

    def __str__(self) -> str:
        """The change in words."""
        place = ", ".join(":" if i is None else str(i) for i in (self.row, self.column))
        word = "to" if self.operation == "set" else "by"
        return f"{self.operation} {self.name}[{place}] {word} {self.amount:g}"
