"""Rewards: terms, sums of terms, and what cannot be read as one."""

import pytest

from seal_env.errors import UserError
from seal_env.rewards import REWARDS, RewardInputs, parse_reward
from seal_env.score import Score


def score(right, of=4, likelihood=-1.0):
    return Score(("x",) * of, (True,) * right + (False,) * (of - right), (likelihood,) * of)


MEASURED = RewardInputs(
    score(1), score(3, likelihood=-0.5), ((score(4), score(2)), (score(0), score(1)))
)


class Constant:
    """A term of a user's own."""

    def __call__(self, measured):
        return 7


@pytest.mark.parametrize("name", list(REWARDS))
def test_every_term_is_a_number(name):
    reward, terms = parse_reward(name)(MEASURED)
    assert isinstance(reward, float)
    assert terms == {name: reward}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy", 0.75),
        ("log_likelihood", -0.5),
        ("retention", -0.25),
        ("accuracy + 0.3 * log_likelihood", 0.6),
        ("  2*accuracy-retention ", 1.75),
        ("-accuracy", -0.75),
        ("+ .5 * accuracy", 0.375),
        ("1e-1 * accuracy - 2. * log_likelihood", 1.075),
        ("accuracy - 0.1 * test_rewards:Constant", 0.05),
    ],
)
def test_sums_are_read_as_they_are_written(text, expected):
    assert parse_reward(text)(MEASURED)[0] == pytest.approx(expected)


def test_terms_are_reported_without_their_weights():
    _, terms = parse_reward("0.5 * accuracy - 3 * retention")(MEASURED)
    assert terms == {"accuracy": 0.75, "retention": -0.25}


def test_no_earlier_problems_nothing_to_retain():
    assert parse_reward("retention")(RewardInputs(score(1), score(2)))[0] == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "accuracy log_likelihood",
        "accuracy +",
        "accuracy * 0.3",
        "0.3 accuracy",
        "accuracy ++ retention",
        "accuracy + accuracy",
        "accuraccy",
        "accuracy / 2",
        "(accuracy)",
        "3",
        "1e999 * accuracy",
        "accuracy\n+ nothing",
        "no.such.module:Term",
        "test_rewards:Missing",
    ],
)
def test_anything_else_is_one_line(text):
    with pytest.raises(UserError) as error:
        parse_reward(text)
    assert "\n" not in str(error.value)


def test_a_misspelled_term_is_guessed():
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        parse_reward("accuraccy")
