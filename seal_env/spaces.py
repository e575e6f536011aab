"""The space of all texts."""

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
"""Longest text, in characters, that the environment's spaces contain. `step` takes longer ones as
well; a bound is what shared memory is laid out for (4 MiB a text)."""
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


# What Gymnasium does with a `Text` goes by its charset, which here is that of samples alone.


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
    """The texts that stand in shared memory now; a copy is a tuple of them.

    `AsyncVectorEnv` asks once for what it returns, copied, after every step.

    Args:
        rows: A length and the code points of each text, shape (texts, 1 + max_length).
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
    """A length and the code points of each text, shape (texts, 1 + max_length)."""
    return np.frombuffer(shared_memory.get_obj(), np.int32).reshape(-1, 1 + space.max_length)
