"""Seeds as users give them, and the inner seeds that they become.

The inner seed of an episode fixes an adapter's initial weights and the order of its training data.
It is the seed that `reset` was given, or the one that Gymnasium drew in its place, so that giving
`np_random_seed` to another environment's `reset` repeats everything.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from gymnasium.utils.seeding import np_random

from seal_env.errors import UserError
from seal_env.hashing import stable_hash

INNER_BITS = 63
"""Width of an inner seed, which torch's generators have to take."""


def check_seed(seed: Any) -> int | None:
    """A seed as a plain integer; None stays None.

    Raises:
        UserError: It is no integer, or negative.
    """
    if seed is None:
        return None
    try:
        if isinstance(seed, bool | np.bool_):
            raise TypeError
        number = operator.index(seed)
    except TypeError:
        given = f"{type(seed).__name__} {str(seed)[:40]!r}"
        raise UserError(f"seed: {given} is no integer; give one that is not negative") from None
    if number < 0:
        raise UserError(f"seed {number}: must not be negative")
    return number


def check_seeds(seeds: Any, count: int) -> int | list[int | None] | None:
    """The seed of all sub-environments, or a list with one for each.

    Args:
        seeds: An integer, None, or a list, tuple or array of these.
        count: How many sub-environments there are.

    Raises:
        UserError: A seed is none, or their number is wrong.
    """
    if isinstance(seeds, np.ndarray):
        seeds = seeds.tolist()
    if not isinstance(seeds, list | tuple):
        return check_seed(seeds)
    if len(seeds) != count:
        raise UserError(f"got {len(seeds)} seeds for {count} environments; give one for each")
    return [check_seed(seed) for seed in seeds]


def inner_seed(seed: int | None, random: np.random.Generator) -> int:
    """The inner seed that a seed stands for.

    Args:
        seed: Not negative, of any size. Gymnasium says -1 or None where it does not know it.
        random: Draws one for an unknown seed.
    """
    if seed is None or seed < 0:
        return int(random.integers(1 << 31))
    return stable_hash("inner seed", seed) if seed >> INNER_BITS else seed


class Source(NamedTuple):
    """What the episodes of one sub-environment come from."""

    random: np.random.Generator
    """Draws problems; several sub-environments can share it."""
    inner: int
    """The inner seed of all its episodes."""

    @classmethod
    def of(cls, seed: int) -> Source:
        """What an environment of its own has after ``reset(seed=seed)``."""
        random, _ = np_random(seed)
        return cls(random, inner_seed(seed, random))
