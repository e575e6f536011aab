"""Tasks with a fixed list of problems, and its splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import SPLITS, Problem, Task


class Identified(Protocol):
    """Object with an id."""

    @property
    def id(self) -> str:
        """Identifier, unique and independent of the order of the data."""


T = TypeVar("T", bound=Identified)
Key = tuple[str, str]
"""Key by which items belong together: ``"group"`` or ``"content"``, and a text."""
HELD_OUT_SHARE = 0.1
"""Fraction of the problems in each of the validation and the test split."""
FEWEST_GROUPS = 3
"""Smallest number of groups with one for each split."""


class Splits(Generic[T]):
    """Fixed list of items and its splits.

    `all` is every item, in the data's order, for a file of evaluation problems.
    `train`, `validation` and `test` are disjoint parts of it:

    * Items that share content are never in two of them, and items of one group (an article, a
      subject) are not either. With fewer than three groups the group is disregarded, and `notes`
      says so.
    * Groups are taken in the order of a hash of their content and `seed`. `test` takes those that
      fit into a tenth of the items, `validation` likewise of the others, `train` has the rest;
      each takes the smallest group if none fits. With fewer than three groups of equal content
      all are in `train`.
    * Their items come in the order of a hash of their ids, so that the first few are a fair sample.

    The splits depend on the content and `seed` alone: not on the order of the data, the process
    or the machine.

    Args:
        items: The items.
        noun: Name of the items in the plural, e.g. "passages".
        seed: Seed of the splits.
        content: Texts of an item; items with a text in common have equal content.
        group: Name of the group of an item; empty for a group of one.
        group_noun: Name of the groups in the plural, e.g. "articles".

    Raises:
        UserError: Two items have the same id.
    """

    def __init__(
        self,
        items: Iterable[T],
        noun: str,
        seed: int,
        content: Callable[[T], Collection[str]],
        group: Callable[[T], str] = lambda item: "",
        group_noun: str = "groups",
    ) -> None:
        self.noun = noun
        self.notes: tuple[str, ...] = ()
        """Remarks on the splits, one line each."""
        everything = tuple(items)
        repeated = [item for item, count in Counter(i.id for i in everything).items() if count > 1]
        if repeated:
            raise UserError(f"two {noun} have the id {repeated[0]!r}; give each an id of its own")
        contents = [[("content", text) for text in content(item)] for item in everything]
        names = [[("group", name)] if (name := group(item)) else [] for item in everything]
        parts = _connected([[*name, *own] for name, own in zip(names, contents, strict=True)])
        if any(names) and len(set(parts)) < FEWEST_GROUPS:
            parts = _connected(contents)
            if len(set(parts)) >= FEWEST_GROUPS:
                self.notes = (
                    f"these {len(everything)} {noun} have fewer than {FEWEST_GROUPS} {group_noun}:"
                    f" they are split one by one, so that {group_noun} are in several splits",
                )
        split_of = _assign(parts, seed)
        placed = sorted(
            zip(everything, parts, strict=True), key=lambda pair: stable_hash(seed, pair[0].id)
        )
        self._items = {"all": everything} | {
            split: tuple(item for item, part in placed if split_of[part] == split)
            for split in SPLITS
        }

    def __getitem__(self, split: str) -> tuple[T, ...]:
        try:
            return self._items[split]
        except KeyError:
            raise UserError(f"unknown split {split!r}: known: {', '.join(self._items)}") from None

    def at(self, split: str, index: int) -> T:
        """Item at an index of a split.

        Raises:
            UserError: There is no such split or no such index.
        """
        items = self[split]
        if not 0 <= index < len(items):
            raise UserError(
                f"split {split!r} has {len(items)} {self.noun}; there is none at {index}"
            )
        return items[index]


def _connected(keys: Sequence[Collection[Key]]) -> list[int]:
    """Number per item, equal for items that share a key, directly or through others.

    The number is a hash of the least of their keys, groups before contents, whatever the order of
    the data.
    """
    parent: dict[Key, Key] = {}

    def root(key: Key) -> Key:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    for first, *others in keys:
        root(first)
        for other in others:
            parent[root(other)] = root(first)
    least: dict[Key, tuple[bool, int]] = {}
    for key in parent:
        kind, text = key
        mine = (kind != "group", stable_hash(text))
        least[root(key)] = min(least.get(root(key), mine), mine)
    return [least[root(first)][1] for first, *_ in keys]


def _assign(parts: Sequence[int], seed: int) -> dict[int, str]:
    """Split of each part of the data, given the part of each item."""
    sizes = Counter(parts)
    waiting = sorted(sizes, key=lambda part: stable_hash(seed, part))
    split_of = dict.fromkeys(waiting, "train")
    if len(waiting) < FEWEST_GROUPS:
        return split_of
    share = max(1, round(HELD_OUT_SHARE * len(parts)))
    for split, kept in (("test", 2), ("validation", 1)):  # parts that are left for the other splits
        room = share
        taken: list[int] = []
        for part in waiting:
            if sizes[part] <= room and len(waiting) - len(taken) > kept:
                room -= sizes[part]
                taken.append(part)
        taken = taken or [min(waiting, key=sizes.__getitem__)]
        split_of |= dict.fromkeys(taken, split)
        waiting = [part for part in waiting if split_of[part] == "train"]
    return split_of


class FiniteTask(Task):
    """Task with a fixed list of problems.

    Args:
        splits: The problems and their splits.
    """

    def __init__(self, splits: Splits[Problem]) -> None:
        self.splits = splits
        self.notes = splits.notes

    def size(self, split: str) -> int:
        """Number of problems in a split."""
        return len(self._all_splits()[split])

    def problem(self, split: str, index: int) -> Problem:
        """Problem at an index of a split."""
        return self._all_splits().at(split, index)

    def _all_splits(self) -> Splits[Problem]:
        """The splits, which a subclass hands over."""
        if not hasattr(self, "splits"):
            raise UserError(
                f"task {type(self).__name__}: its __init__ must call super().__init__(splits)"
            )
        return self.splits


def same_text(text: str) -> str:
    """Text without differences of letter case, line breaks and spaces."""
    return " ".join(text.casefold().split())
