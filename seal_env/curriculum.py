"""The lengths of a curriculum: short self-edits first, then longer ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from seal_env.errors import UserError

if TYPE_CHECKING:
    from seal_env.engine.learner import Learner

Unit = Literal["lines", "tokens", "characters"]


@dataclass(frozen=True)
class Curriculum:
    """How long a self-edit may be, by progress."""

    first: int = 4
    """Longest self-edit at the beginning."""
    last: int = 32
    """Longest self-edit just before the cap is lifted."""
    unit: Unit = "lines"
    """What is counted: lines that say something, tokens of the learner, or characters."""
    until: float = 0.5
    """Progress from which on nothing is cut."""

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise UserError(
                f"curriculum: first={self.first} last={self.last}: lengths start at 1 and do not "
                f"shrink"
            )
        if self.unit not in get_args(Unit):
            known = ", ".join(get_args(Unit))
            raise UserError(f"curriculum: unit={self.unit!r} is unknown; known: {known}")
        if not 0 < self.until <= 1:
            raise UserError(f"curriculum: until={self.until} must be above 0 and at most 1")

    def cap(self, progress: float) -> int | None:
        """The longest self-edit at some progress, in units; None if there is no limit."""
        if not 0 <= progress <= 1:
            raise UserError(f"curriculum: progress {progress} must be from 0 to 1")
        if progress >= self.until:
            return None
        return self.first + int((self.last - self.first) * progress / self.until)

    def cut(self, text: str, progress: float, learner: Learner) -> str:
        """A self-edit as far as its length is allowed.

        Args:
            text: The self-edit.
            progress: How far training has come, from 0 to 1.
            learner: Whose tokens are counted.
        """
        cap = self.cap(progress)
        if cap is None:
            return text
        if self.unit == "characters":
            return text[:cap]
        if self.unit == "tokens":
            ids = learner.encode_answer(text)
            return text if len(ids) <= cap else learner.decode(ids[:cap])
        lines = text.split("\n")
        said = [i for i, line in enumerate(lines) if line.strip()]
        return text if len(said) <= cap else "\n".join(lines[: said[cap]]).rstrip("\n")
