"""The space of all texts."""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Text

LONGEST_TEXT = 1 << 30
"""Longest text, in characters, that the environment's spaces contain."""
PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"


class AnyText(Text):
    """Any string at all, of at most `max_length` characters; samples are short, printable ASCII.

    A `Text` space that listed all of Unicode as its charset would take seconds to build and
    tens of megabytes to pickle.

    Args:
        max_length: Longest text, in characters.
        sample_length: Longest text that `sample` draws.
        seed: Seeds `sample`.
    """

    def __init__(self, max_length: int, sample_length: int = 200, seed: Any = None) -> None:
        super().__init__(max_length, min_length=0, charset=PRINTABLE, seed=seed)
        self._sampled = min(sample_length, max_length)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draws a text; see `Text.sample` for the arguments."""
        if mask is None and probability is None:
            mask = (int(self.np_random.integers(self._sampled + 1)), None)
        return super().sample(mask, probability)

    def contains(self, x: Any) -> bool:
        """Whether x is a string that is not too long."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        """The space in a line."""
        return f"AnyText({self.max_length})"

    def __eq__(self, other: object) -> bool:
        """Whether the other space holds the same texts."""
        return isinstance(other, AnyText) and other.max_length == self.max_length

    __hash__ = None  # type: ignore[assignment]
