"""Operations on one-row grids: what they do, and that no split has another's."""

from random import Random

import pytest

from seal_env.tasks import SPLITS
from seal_env.tasks.grids.families import CELLS, FAMILIES, LAST_COLOUR, draw_cells

EVERY = [family for families in FAMILIES.values() for family in families]


def named(name):
    return next(family for family in EVERY if family.name == name)


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("shift-1", (1, 2, 3, 4, 5, 6), (6, 1, 2, 3, 4, 5)),
        ("shift-4", (1, 2, 3, 4, 5, 6), (3, 4, 5, 6, 1, 2)),
        ("mirror-0", (1, 2, 3, 4, 5, 6), (6, 5, 4, 3, 2, 1)),
        ("mirror-2", (1, 2, 3, 4, 5, 6), (2, 1, 6, 5, 4, 3)),
        ("swap-pairs", (1, 2, 3, 4, 5, 6), (2, 1, 4, 3, 6, 5)),
        ("halves-shift-2", (1, 2, 3, 4, 5, 6), (2, 3, 1, 5, 6, 4)),
        ("interleave", (1, 2, 3, 4, 5, 6), (1, 4, 2, 5, 3, 6)),
        ("add-2", (1, 2, 7, 8, 9, 5), (3, 4, 9, 1, 2, 7)),
        ("subtract-from-10", (1, 2, 5, 8, 9, 9), (9, 8, 5, 2, 1, 1)),
        ("subtract-from-4", (1, 3, 4, 5, 9, 9), (3, 1, 9, 8, 4, 4)),
        ("cycle-threes-1", (1, 2, 3, 4, 6, 9), (2, 3, 1, 5, 4, 7)),
        ("swap-far", (1, 9, 5, 2, 6, 8), (9, 1, 5, 6, 2, 4)),
    ],
)
def test_what_an_operation_does(name, cells, expected):
    assert named(name).apply(cells) == expected


def test_every_operation_is_reversible_and_changes_something():
    for family in EVERY:
        assert sorted(family.order) == list(range(CELLS))
        assert sorted(family.colors) == list(range(LAST_COLOUR + 1))
        assert family.colors[0] == 0
        moves = family.order != tuple(range(CELLS))
        recolors = family.colors != tuple(range(LAST_COLOUR + 1))
        assert (moves, recolors) == (family.kind == "positions", family.kind == "colors")


def test_no_operation_comes_twice():
    assert len({(family.order, family.colors) for family in EVERY}) == len(EVERY)
    assert len({family.name for family in EVERY}) == len(EVERY)


def test_every_split_has_both_kinds_in_turns_where_they_are_held_out():
    assert set(FAMILIES) == {*SPLITS, "known"}
    for split in SPLITS:
        kinds = [family.kind for family in FAMILIES[split]]
        assert kinds == ["positions", "colors"] * (len(kinds) // 2)


def test_cells_are_drawn_from_all_colors_but_the_background():
    random = Random(0)
    drawn = [cell for _ in range(200) for cell in draw_cells(random)]
    assert set(drawn) == set(range(1, LAST_COLOUR + 1))
    assert draw_cells(Random(1)) == draw_cells(Random(1))
