"""Transformations of grids and the tools that are made of them."""

from dataclasses import FrozenInstanceError
from random import Random

import pytest
from test_grids import random_grid

from seal_env.errors import UserError
from seal_env.tasks.grids.grid import Pair
from seal_env.tasks.grids.tools import TOOLS, VIEWS, transforms
from seal_env.tasks.grids.transforms import (
    IDENTITY,
    Chain,
    Flip,
    Recolor,
    Reflect,
    Reorder,
    Repeat,
    Rotate,
    Scale,
    Shift,
    Transpose,
)

GRID = ((1, 2, 3), (4, 5, 6))
KNOWN = {
    Rotate(1): ((3, 6), (2, 5), (1, 4)),
    Rotate(2): ((6, 5, 4), (3, 2, 1)),
    Rotate(3): ((4, 1), (5, 2), (6, 3)),
    Flip(0): ((4, 5, 6), (1, 2, 3)),
    Flip(1): ((3, 2, 1), (6, 5, 4)),
    Transpose(): ((1, 4), (2, 5), (3, 6)),
    Shift(1, 1): ((6, 4, 5), (3, 1, 2)),
    Recolor((0, 2, 1, 4, 3, 9, 6, 7, 8, 5)): ((2, 1, 4), (3, 9, 6)),
    Reflect(0): ((1, 2, 3), (4, 5, 6), (4, 5, 6), (1, 2, 3)),
    Reflect(0, True): ((4, 5, 6), (1, 2, 3), (1, 2, 3), (4, 5, 6)),
    Reflect(1): ((1, 2, 3, 3, 2, 1), (4, 5, 6, 6, 5, 4)),
    Reflect(1, True): ((3, 2, 1, 1, 2, 3), (6, 5, 4, 4, 5, 6)),
    Scale(1, 2): ((1, 1, 2, 2, 3, 3), (4, 4, 5, 5, 6, 6)),
    Scale(2, 1): ((1, 2, 3), (1, 2, 3), (4, 5, 6), (4, 5, 6)),
    Repeat(2, 1): ((1, 2, 3), (4, 5, 6), (1, 2, 3), (4, 5, 6)),
    Repeat(1, 2): ((1, 2, 3, 1, 2, 3), (4, 5, 6, 4, 5, 6)),
    Chain((Transpose(), Flip(0))): ((3, 6), (2, 5), (1, 4)),
    IDENTITY: GRID,
}


def some_transforms(random):
    """One of every kind, with random settings, and two chains of random parts."""
    parts = [
        Rotate(random.randint(1, 3)),
        Flip(random.randint(0, 1)),
        Transpose(),
        Shift(random.randint(-40, 40), random.randint(-40, 40)),
        Recolor.draw(random),
        Recolor(tuple(random.sample(range(10), 10))),
        Reflect(random.randint(0, 1), random.random() < 0.5),
        Scale(random.randint(1, 3), random.randint(1, 3)),
        Repeat(random.randint(1, 3), random.randint(1, 3)),
    ]
    return [
        *parts,
        Chain(tuple(random.sample(parts, 2))),
        Chain(tuple(random.choices(parts, k=4))),
    ]


@pytest.mark.parametrize("transform", KNOWN, ids=lambda transform: transform.name)
def test_what_each_does(transform):
    assert transform.apply(GRID) == KNOWN[transform]
    assert transform.inverse(KNOWN[transform]) == GRID


def test_every_transformation_is_undone_by_its_inverse():
    random = Random(0)
    for _ in range(300):
        grid = random_grid(random, 7)
        for transform in some_transforms(random):
            assert transform.inverse(transform.apply(grid)) == grid, transform.name


def test_an_inverse_is_exact_or_none():
    random = Random(1)
    outcomes = {True: 0, False: 0}
    for _ in range(300):
        grid = tuple(tuple(cell % 2 for cell in row) for row in random_grid(random, 4))
        for transform in some_transforms(random)[6:]:  # those that make other sizes
            found = transform.inverse(grid)
            outcomes[found is None] += 1
            assert found is None or transform.apply(found) == grid, transform.name
    assert min(outcomes.values()) > 100
    assert Scale(2, 2).inverse(((1, 1, 1), (1, 1, 1))) is None
    assert Scale(2, 2).inverse(((1, 1), (1, 2))) is None
    assert Repeat(1, 2).inverse(((1,),)) is None
    assert Repeat(2, 1).inverse(((1,),)) is None
    assert Reflect(0).inverse(((1,), (2,))) is None
    assert Reflect(1).inverse(((1,),)) is None


def test_views_undo_any_answer():
    random = Random(2)
    for _ in range(50):
        grid = random_grid(random, 6)
        for view in VIEWS.values():
            found = view.inverse(grid)
            assert view.apply(found) == grid
            assert len(found) * len(found[0]) == len(grid) * len(grid[0])


def test_transformations_are_plain_frozen_data():
    random = Random(3)
    for transform in some_transforms(random):
        assert eval(repr(transform)) == transform  # settings and nothing else
        with pytest.raises(FrozenInstanceError):
            transform.quarters = 2
    several = {t for _ in range(50) for t in some_transforms(random)}
    assert len({transform.name for transform in several}) == len(several)


def test_drawn_colors_leave_the_background():
    random = Random(4)
    drawn = [Recolor.draw(random).colors for _ in range(50)]
    assert all(sorted(colors) == list(range(10)) and colors[0] == 0 for colors in drawn)
    assert len(set(drawn)) == 50
    assert Recolor.draw(Random(4)).colors == drawn[0]


def test_orders_are_undone():
    random = Random(5)
    for count in range(8):
        items = [f"item {i}" for i in range(count)]
        order = Reorder.draw(count, random)
        assert sorted(order.apply(items)) == items
        assert order.inverse(order.apply(items)) == tuple(items)
        assert order.apply(order.inverse(items)) == tuple(items)


def names(tool, pairs, seed=0):
    return [transform.name for transform in transforms(tool, pairs, Random(seed))]


def test_tools_hold_what_the_papers_say():
    pairs = [Pair(GRID, GRID)]
    *fixed, shift = names("basic", pairs)
    assert fixed == [
        *("rotate-90", "rotate-180", "rotate-270", "flip-rows", "flip-columns", "transpose"),
        *("reflect-rows", "reflect-rows-first", "reflect-columns", "reflect-columns-first"),
    ]
    assert shift in {"shift-0-1", "shift-0-2", "shift-1-0", "shift-1-1", "shift-1-2"}
    assert names("size", pairs) == ["scale-2x2", "scale-2x1", "scale-1x2"]
    assert names("chain", pairs) == [f"{name}+scale-2x2" for name in fixed[:6]]
    assert names("repeat", pairs) == ["repeat-2x1", "repeat-1x2", "repeat-2x2"]
    assert all(name.startswith("recolour-0") for name in names("colors", pairs))
    assert sorted(names("positions", pairs)) == ["flip-columns", "shift-0-1", "shift-0-2"]
    with pytest.raises(UserError, match=r"unknown data-generation tool 'magic': known: basic"):
        names("magic", pairs)


def test_tools_are_undone_and_depend_on_the_seed_alone():
    random = Random(6)
    for seed in range(30):
        pairs = [Pair(random_grid(random, 6), random_grid(random, 6)) for _ in range(3)]
        for tool in TOOLS:
            found = transforms(tool, pairs, Random(seed))
            assert found == transforms(tool, pairs, Random(seed))
            assert len(set(found)) == len(found)
            for transform in found:
                for grid in (grid for pair in pairs for grid in pair):
                    assert transform.inverse(transform.apply(grid)) == grid
    assert len({tuple(names("colors", pairs, seed)) for seed in range(10)}) == 10


def test_a_single_cell_has_nothing_to_shift():
    pair = Pair(((1,),), ((2,),))
    assert not any(name.startswith("shift") for t in TOOLS for name in names(t, [pair]))
