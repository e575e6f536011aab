"""Gymnasium space of all texts."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from gymnasium.spaces import Text, flatdim, flatten, flatten_space, unflatten
from gymnasium.vector.utils import (
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)

from seal_env.errors import UserError

LONGEST_TEXT = 1 << 20
"""Length of the longest text in the environment's spaces, in characters. `step` also takes longer
ones; shared memory is allocated for this bound (4 MiB per text)."""
PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"


class AnyText(Text):
    """Space of all strings of at most `max_length` characters, with short ASCII samples.

    A `Text` space that listed all of Unicode as its charset would take seconds to build and
    tens of megabytes to pickle.

    Args:
        max_length: Length of the longest text, in characters.
        sample_length: Length of the longest sample, in characters.
        seed: Seed of the samples.
    """

    def __init__(self, max_length: int, sample_length: int = 200, seed: Any = None) -> None:
        super().__init__(max_length, min_length=0, charset=PRINTABLE, seed=seed)
        self._sampled = min(sample_length, max_length)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Random text; `Text.sample` describes the arguments."""
        if mask is None and probability is None:
            mask = (int(self.np_random.integers(self._sampled + 1)), None)
        return super().sample(mask, probability)

    def contains(self, x: Any) -> bool:
        """Whether x is a string of at most `max_length` characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        """The space in one line."""
        return f"AnyText({self.max_length})"

    def __eq__(self, other: object) -> bool:
        """Whether another space has the same texts."""
        return isinstance(other, AnyText) and other.max_length == self.max_length

    __hash__ = None  # type: ignore[assignment]


# Gymnasium's functions for `Text` use its charset, which here is that of the samples only.


@flatten_space.register(AnyText)
@flatdim.register(AnyText)
@flatten.register(AnyText)
@unflatten.register(AnyText)
def _flat(space: AnyText, *_: Any) -> NoReturn:  # type: ignore[misc]
    raise UserError(
        "a space of texts cannot be flattened to numbers: use ChoiceActions(env, flat=True), or "
        "leave the text out first, FilterObservation(env, ['model_state'])"
    )


@create_shared_memory.register(AnyText)
def _create(space: AnyText, n: int = 1, ctx: Any = multiprocessing) -> Any:
    return ctx.Array("i", n * (1 + space.max_length))


@write_to_shared_memory.register(AnyText)
def _write(space: AnyText, index: int, value: str, shared_memory: Any) -> None:
    if len(value) > space.max_length:
        raise UserError(
            f"a text of {len(value)} characters does not fit the shared memory, which is laid out "
            f"for {space.max_length}: make the environments with shared_memory=False"
        )
    row = _rows(space, shared_memory)[index]
    row[0] = len(value)
    row[1 : 1 + len(value)] = np.frombuffer(value.encode("utf-32-le", "surrogatepass"), "<i4")


@read_from_shared_memory.register(AnyText)
def _read(space: AnyText, shared_memory: Any, n: int = 1) -> SharedTexts:
    return SharedTexts(_rows(space, shared_memory))


class SharedTexts(Sequence[str]):
    """Current texts in shared memory; a copy is a tuple of them.

    `AsyncVectorEnv` requests the view once, and returns copies after every step.

    Args:
        rows: Length and code points of each text, shape (texts, 1 + max_length).
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        row = self._rows[index]
        length = row[0]
        return row[1 : 1 + length].astype("<i4").tobytes().decode("utf-32-le", "surrogatepass")

    def __deepcopy__(self, _: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)


def _rows(space: AnyText, shared_memory: Any) -> np.ndarray:
    """Length and code points of each text, shape (texts, 1 + max_length)."""
    return np.frombuffer(shared_memory.get_obj(), np.int32).reshape(-1, 1 + space.max_length)
