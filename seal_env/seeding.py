"""Seeds of users, and the inner seeds derived from them.

The inner seed of an episode fixes an adapter's initial weights and the order of its training data.
It is the seed of `reset`, or the one that Gymnasium drew instead, so that `reset` of another
environment with `np_random_seed` repeats everything.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np
from gymnasium.utils.seeding import np_random

from seal_env.errors import UserError
from seal_env.hashing import stable_hash

INNER_BITS = 63
"""Width of an inner seed in bits, within the range of torch's generators."""


def check_seed(seed: Any) -> int | None:
    """Seed as a plain integer; None stays None.

    Raises:
        UserError: The seed is no integer, or negative.
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
    """Seed of all sub-environments, or a list with one per sub-environment.

    Args:
        seeds: An integer, None, or a list, tuple or array of these.
        count: Number of sub-environments.

    Raises:
        UserError: An entry is no seed, or their number is wrong.
    """
    if isinstance(seeds, np.ndarray):
        seeds = seeds.tolist()
    if not isinstance(seeds, list | tuple):
        return check_seed(seeds)
    if len(seeds) != count:
        raise UserError(f"got {len(seeds)} seeds for {count} environments; give one for each")
    return [check_seed(seed) for seed in seeds]


def inner_seed(seed: int | None, random: np.random.Generator) -> int:
    """Inner seed of a seed.

    Args:
        seed: A seed of any size; -1 or None, as in Gymnasium, if it is unknown.
        random: Generator of the inner seed for an unknown seed.
    """
    if seed is None or seed < 0:
        return int(random.integers(1 << 31))
    return stable_hash("inner seed", seed) if seed >> INNER_BITS else seed


class Source(NamedTuple):
    """Random state of the episodes of one sub-environment."""

    random: np.random.Generator
    """Generator of problems, which several sub-environments may share."""
    inner: int
    """Inner seed of all episodes."""

    @classmethod
    def of(cls, seed: int) -> Source:
        """State of a single environment after ``reset(seed=seed)``."""
        random, _ = np_random(seed)
        return cls(random, inner_seed(seed, random))
