"""The menu `directives`: recipes to choose from, and what demonstrations look like."""

from random import Random

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_env.edits.directive_model import STRATEGIES
from seal_env.edits.directives import Directives, write_directive
from seal_env.errors import UserError
from seal_env.menus.base import load_menu
from seal_env.menus.directives import DirectiveMenu, RecipeGrid, demonstrations
from seal_env.tasks.base import Problem
from seal_env.tasks.biographies.task import Biographies
from seal_env.wrappers import MENUS, ChoiceActions

SMALL = RecipeGrid(("basic", "colors"), (1e-4, 1e-2), (1, 3, 9), STRATEGIES[:1])
PROBLEM = Problem("p", "", "", (), examples=("one",))


def rows(change, count=4, length=8, colors=9, seed=0):
    """A context of one-row demonstrations of an operation."""
    random = Random(seed)
    text = ""
    for _ in range(count):
        cells = [random.randint(1, colors) for _ in range(length)]
        given, wanted = (" ".join(map(str, row)) for row in (cells, change(cells)))
        text += f"Input: {given}\nOutput: {wanted}\n"
    return text


def described(context):
    menu = DirectiveMenu()
    return dict(zip(menu.features, menu.describe(context), strict=True))


def test_it_goes_with_the_language():
    assert MENUS.load("directives") is DirectiveMenu
    assert isinstance(
        load_menu(None, Biographies(), Directives(), ("directives", "x")), DirectiveMenu
    )


@pytest.mark.parametrize("grid", [RecipeGrid(), SMALL])
def test_every_combination_is_another_valid_recipe(grid):
    menu, language = DirectiveMenu(grid), Directives(grid.tools)
    combinations = list(menu.combinations())
    sizes = (len(grid.learning_rates), len(grid.epochs), len(grid.strategies))
    assert len(combinations) == 2 ** len(grid.tools) * np.prod(sizes)
    edits = {language.parse(menu.render("", c), PROBLEM) for c in combinations}
    assert len(edits) == len(combinations)
    assert all(edit.error is None for edit in edits)
    assert {e.update.training.learning_rate for e in edits} == set(grid.learning_rates)
    assert {e.update.training.epochs for e in edits} == set(grid.epochs)
    assert {e.update.training.outputs_only for e in edits} == {
        s == STRATEGIES[0] for s in grid.strategies
    }
    assert {t for e in edits for t in e.update.tools} == set(grid.tools)
    assert len({menu.label(c) for c in combinations}) == len(combinations)


def test_a_combination_is_found_again_by_its_text():
    menu = DirectiveMenu(SMALL)
    for chosen in menu.combinations():
        text = menu.render("any context", chosen)
        assert menu.matches("another", text) == [chosen]
        assert menu.nearest("another", text) == chosen
        assert menu.matches("", text + " ") == []
        assert menu.nearest("", f"So: {text}!") == chosen


@pytest.mark.parametrize(
    ("tools", "rate", "epochs", "nearest"),
    [
        (("colors",), 5e-4, 2, (0, 1, 0, 1, 0)),
        (("basic",), 2e-3, 1, (1, 0, 1, 0, 0)),
        (("basic", "colors"), 1e-6, 64, (1, 1, 0, 2, 0)),
        ((), 1e-1, 5, (0, 0, 1, 1, 0)),
    ],
)
def test_the_nearest_recipe_is_found_choice_by_choice(tools, rate, epochs, nearest):
    menu = DirectiveMenu(SMALL)
    text = write_directive(SMALL.tools, tools, rate, epochs, STRATEGIES[1])
    assert menu.nearest("", text) == nearest
    assert menu.matches("", text) == []


def test_what_is_no_directive_is_like_the_first_recipe():
    menu = DirectiveMenu()
    assert menu.nearest("", "no directive") == next(iter(menu.combinations()))
    assert menu.matches("", "no directive") == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"learning_rates": (1e-3, 1.0)}, "learning_rate"),
        ({"epochs": (1, 65)}, "num_train_epochs"),
        ({"strategies": ("none",)}, "strategy"),
        ({"epochs": ()}, "choice"),
        ({"tools": ("a b",)}, "tool"),
    ],
)
def test_a_grid_of_invalid_recipes_is_refused(settings, says):
    with pytest.raises(UserError, match=says):
        DirectiveMenu(RecipeGrid(**settings))


def test_features_tell_operations_apart():
    recolor = described(rows(lambda c: [(x + 3) % 9 + 1 for x in c]))
    assert recolor["one mapping"] == 1.0 and recolor["same counts"] == 1.0
    assert recolor["same cells"] == 0.0

    mirror = described(rows(lambda c: c[::-1]))
    assert mirror["mirrored"] == 1.0 and mirror["same bag"] == 1.0
    assert mirror["one mapping"] < 0.8 and mirror["shifted"] < 0.8

    shift = described(rows(lambda c: c[-3:] + c[:-3]))
    assert shift["shifted"] == 1.0 and shift["mirrored"] < 0.8

    ordered = described(rows(sorted))
    assert ordered["sorted"] == 1.0 and ordered["same bag"] == 1.0

    fill = described(rows(lambda c: [c[0], *[0] * (len(c) - 1)]))
    assert fill["new colors"] == 1.0 and fill["same bag"] == 0.0
    assert fill["same length"] == 1.0

    both = described(rows(lambda c: [(x + 3) % 9 + 1 for x in c[::-1]]))
    assert both["same counts"] == 1.0 and both["same bag"] < 1.0

    crop = described(rows(lambda c: c[:3]))
    assert crop["same length"] == 0.0 and crop["same cells"] == 0.0

    nothing = described(rows(lambda c: c, count=2))
    assert nothing["same cells"] == 1.0 and nothing["demonstrations"] == 0.25


def test_rows_and_titles_are_read():
    context = "A title\nInput: 1 2 | 3 4\nOutput: 3 4 | 1 2\n\nInput: 5\nOutput: 6\nInput: 7\n"
    assert demonstrations(context) == [
        (["1", "2", "3", "4"], ["3", "4", "1", "2"]),
        (["5"], ["6"]),
    ]


@given(st.text(st.characters()) | st.text("Input: Output:\n 12|", max_size=300))
def test_any_context_is_described(text):
    menu = DirectiveMenu(SMALL)
    for context in (text, f"Input: {text}\nOutput: {text}\n"):
        numbers = menu.describe(context)
        assert len(numbers) == len(menu.features)
        assert all(0.0 <= number <= 1.0 for number in numbers)


@pytest.mark.parametrize("unit", ["1 ", "Input: 1\nOutput: 2\n", "Input: ", "\n", "Input:\n"])
def test_a_megabyte_is_described_in_a_moment(unit):
    text = unit * (1_000_000 // len(unit))
    for context in (text, f"Input: {text}\nOutput: {text}\n"):
        assert len(DirectiveMenu(SMALL).describe(context)) == len(DirectiveMenu.features)


@pytest.mark.slow
def test_it_is_an_action_space_for_sb3():
    env = ChoiceActions(gym.make("SelfEdit-v0", edit="directives"), menu=DirectiveMenu(SMALL))
    check_env(env)
    env.reset(seed=0)
    *_, info = env.step([1, 0, 1, 2, 0])
    assert info["choices"] == "basic, rate 0.01, 9 epochs, output tokens"
    assert info["text"] == write_directive(SMALL.tools, ("basic",), 1e-2, 9)
