"""Grids as text and back."""

from random import Random

import pytest

from seal_env.tasks.grids.grid import (
    ANSWER_PREFIX,
    LARGEST,
    Pair,
    format_demonstrations,
    format_grid,
    format_prompt,
    parse_demonstrations,
    parse_grid,
    to_grid,
)


def random_grid(random, largest=LARGEST):
    rows, columns = random.randint(1, largest), random.randint(1, largest)
    return tuple(tuple(random.randrange(10) for _ in range(columns)) for _ in range(rows))


def test_the_format_is_one_line():
    assert format_grid(((1, 2, 3), (4, 5, 6))) == "1 2 3 | 4 5 6"
    assert format_grid(((1, 2, 3),)) == "1 2 3"
    pair = Pair(((1, 2),), ((2,), (1,)))
    assert format_demonstrations([pair]) == "Input: 1 2\nOutput: 2 | 1\n"
    assert format_prompt([pair], ((3, 4),)) == "Input: 1 2\nOutput: 2 | 1\nInput: 3 4\nOutput:"


def test_what_is_written_is_read_back():
    random = Random(0)
    for _ in range(200):
        grid = random_grid(random)
        assert parse_grid(format_grid(grid)) == grid
        assert parse_grid(f"{ANSWER_PREFIX}{format_grid(grid)}\n") == grid
    largest = ((7,) * LARGEST,) * LARGEST
    assert parse_grid(format_grid(largest)) == largest


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "|",
        "1 2 | 3",
        "1 2|3 4",
        "1  2",
        "1 2 |",
        "| 1 2",
        "1 2 | | 3 4",
        "10",
        "12",
        "-1",
        "1 a",
        "1.0",
        "1, 2",
        "1\t2",
        "1 2\n3 4",
        "1 2 | 3 4 and so on",
        "[[1, 2]]",
        "\u0661 \u0662",  # digits, but not ours
        "\u00b2",
        "1\x00",
        "\ud800",
        " ".join("1" * (LARGEST + 1)),
        " | ".join("1" * (LARGEST + 1)),
        "1 " * 1_000_000,
        " | " * 1_000_000,
    ],
)
def test_other_texts_are_no_grid(text):
    assert parse_grid(text) is None


def test_any_text_is_legal_and_only_the_exact_form_is_a_grid():
    random = Random(1)
    grids = 0
    for _ in range(20_000):
        text = "".join(random.choice("0123  |\n9x") for _ in range(random.randrange(12)))
        grid = parse_grid(text)
        if grid is not None:
            grids += 1
            assert format_grid(grid) == text.strip()
    assert grids > 100


def test_demonstrations_are_read_back():
    random = Random(2)
    pairs = tuple(Pair(random_grid(random, 5), random_grid(random, 5)) for _ in range(20))
    text = format_demonstrations(pairs)
    assert parse_demonstrations(text) == pairs
    assert parse_demonstrations(f"Here they are:\n{text}\nNow yours.") == pairs
    assert parse_demonstrations(format_prompt(pairs, ((1,),))) == pairs


def test_what_is_no_demonstration_is_passed_over():
    good = "Input: 1\nOutput: 2\n"
    for bad in (
        "Input: 1\n",
        "Output: 2\n",
        "Input: 1\n\nOutput: 2\n",
        "Input: x\nOutput: 2\n",
        "Input: 1\nOutput: 2 x\n",
        "Input: 1\nOutput:\n",
    ):
        assert parse_demonstrations(good + bad + good) == (Pair(((1,),), ((2,),)),) * 2
    assert parse_demonstrations("") == ()


def test_grids_from_json():
    assert to_grid([[1, 2], [3, 4]]) == ((1, 2), (3, 4))
    with_reasons = {
        "is not a list of rows": [None, [], {}, "1 2", 3],
        "row 1 is not a list of cells": [[[]], [1, 2], ["12"]],
        "row 2 has 1 cells, row 1 has 2": [[[1, 2], [3]]],
        "row 2 is not a list of cells": [[[1, 2], []]],
        "row 1 holds '10'": [[[1, 10]]],
        "row 1 holds '-1'": [[[-1]]],
        "row 1 holds '1.0'": [[[1.0]]],
        "row 1 holds 'True'": [[[True]]],
        "row 1 holds 'nan'": [[[float("nan")]]],
        "31 rows of 1 cells, at most 30": [[[1]] * 31],
        "1 rows of 31 cells, at most 30": [[[1] * 31]],
    }
    for reason, values in with_reasons.items():
        for value in values:
            with pytest.raises(ValueError, match=reason):
                to_grid(value)
