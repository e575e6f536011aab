"""The space of all texts."""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Text

PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"


class AnyText(Text):
    """Any string at all, of at most `max_length` characters; samples are printable ASCII.

    A `Text` space that listed all of Unicode as its charset would take seconds to build and
    tens of megabytes to pickle.

    Args:
        max_length: Longest text, in characters.
        sample_length: Longest text that `sample` draws.
        seed: Seeds `sample`.
    """

    def __init__(self, max_length: int, sample_length: int = 200, seed: Any = None) -> None:
        self._longest = max_length
        super().__init__(min(sample_length, max_length), min_length=0, charset=PRINTABLE, seed=seed)

    def contains(self, x: Any) -> bool:
        """Whether x is a string that is not too long."""
        return isinstance(x, str) and len(x) <= self._longest

    def __repr__(self) -> str:
        """The space in a line."""
        return f"AnyText({self._longest})"

    def __eq__(self, other: object) -> bool:
        """Whether the other space holds the same texts."""
        return isinstance(other, AnyText) and other._longest == self._longest

    __hash__ = None  # type: ignore[assignment]
