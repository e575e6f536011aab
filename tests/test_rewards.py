"""Rewards: terms, sums of terms, and what cannot be read as one."""

import importlib
import json
import math
import re

import pytest

from seal_env.engine.divergence import Divergence
from seal_env.errors import UserError
from seal_env.probes.cloze import Cloze, ClozeSpans
from seal_env.probes.drift import TextDrift
from seal_env.probes.known import KnownQuestions
from seal_env.probes.self_questions import OwnAnswers, OwnQuestions
from seal_env.probes.spans import Span
from seal_env.probes.votes import Vote as Ballot
from seal_env.probes.votes import Votes
from seal_env.rewards import REWARDS, RewardInputs, parse_reward
from seal_env.rewards.base import TermValue
from seal_env.score import Score
from seal_env.tasks.base import Question


def score(right, of=4, likelihood=-1.0):
    return Score(("x",) * of, (True,) * right + (False,) * (of - right), (likelihood,) * of)


MEASURED = RewardInputs(
    score(1),
    score(3, likelihood=-0.5),
    ((score(4), score(2)), (score(0), score(1))),
    questions=(Question("Which letter?", "x"),) * 4,
    trained_tokens=100,
    probed={
        OwnQuestions(16, 4, 0.7, True): OwnAnswers(
            (Question("Who?", "x"),), ("y",), (False,), (-2.0,)
        ),
        ClozeSpans(16): Cloze((Span("Ada is", " six"),), (-1.5,)),
        TextDrift(): Divergence(kl=0.5, old_loss=2.0, new_loss=3.5),
        KnownQuestions(): (True, True, True, False),
        Votes(16, 0.6, True): (Ballot("x", 1.0),) * 4,
    },
)


NEEDING_OPTIONS = {"critic": "test_critic.py", "rubric": "test_rubric.py"}
"""Terms that cannot be had without settings, and the files of their tests."""


class Constant:
    """A term of a user's own."""

    def __call__(self, measured):
        return 7


def constant(measured):
    """A term as a function."""
    return TermValue(2.0, {"half": 1.0})


@pytest.mark.parametrize("name", [name for name in REWARDS if name not in NEEDING_OPTIONS])
def test_every_term_is_a_finite_number_with_parts_of_plain_data(name):
    reward, terms, parts = parse_reward(name)(MEASURED)
    assert isinstance(reward, float) and math.isfinite(reward)
    assert terms == {name: reward}
    assert json.loads(json.dumps(parts, allow_nan=False)) == parts


@pytest.mark.parametrize("name", list(REWARDS))
def test_every_term_says_its_formula_and_source(name):
    kind = REWARDS.load(name)
    said = " ".join(kind.__doc__.split())
    assert re.search(rf"``{name} = [^`]+``", said, re.IGNORECASE) and "Source: " in said
    assert importlib.import_module(kind.__module__).__doc__.startswith(f"Reward term `{name}`")


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
        ("accuracy - 0.1 * test_rewards:constant", 0.55),
    ],
)
def test_sums_are_read_as_they_are_written(text, expected):
    assert parse_reward(text)(MEASURED)[0] == pytest.approx(expected)


def test_terms_are_reported_without_their_weights():
    terms = parse_reward("0.5 * accuracy - 3 * retention")(MEASURED).terms
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
        "test_rewards:MEASURED",
    ],
)
def test_anything_else_is_one_line(text):
    with pytest.raises(UserError) as error:
        parse_reward(text)
    assert "\n" not in str(error.value)


def test_a_misspelled_term_is_guessed():
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        parse_reward("accuraccy")


def test_a_term_takes_options_under_the_name_that_the_reward_has_for_it():
    reward = parse_reward("accuracy - length", {"length": {"scale": 100}})
    assert reward(MEASURED).terms["length"] == 0.5 / 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lenght": {"scale": 1}}, "no term 'lenght'; it has accuracy, length"),
        ({"kl": {}}, "no term 'kl'"),
        ({"length": {"scales": 1}}, "did you mean 'scale'? it has scale"),
        ({"length": {"scale": 0}}, "reward term 'length': scale 0: must be above 0"),
        ({"accuracy": {"of": 1}}, "reward term 'accuracy' does not take these options"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options, says):
    with pytest.raises(UserError) as error:
        parse_reward("accuracy + length", options)
    assert says in str(error.value)


def test_a_function_takes_no_options():
    with pytest.raises(UserError, match="is a function, which takes no options"):
        parse_reward("test_rewards:constant", {"test_rewards:constant": {"a": 1}})


def test_parts_are_there_for_the_terms_that_say_them():
    parts = parse_reward("accuracy + test_rewards:constant")(MEASURED).parts
    assert parts == {"test_rewards:constant": {"half": 1.0}}


def test_what_terms_ask_for_is_listed_once_and_by_default_nothing_is():
    assert parse_reward("accuracy + log_likelihood + retention + f1 - length").probes == ()
    assert parse_reward("accuracy - kl - shift").probes == (TextDrift(),)
    assert len(parse_reward("kl + old_knowledge + vote").probes) == 3
