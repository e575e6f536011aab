"""Mistakes in an agent of a user's own are one line that names the agent and says what to do."""

from dataclasses import dataclass

import pytest
from agent_fixtures import env

from seal_agents import Agent
from seal_agents.base import AgentOptions
from seal_agents.runner.build import agent_class, make
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.experience import actions, learned
from seal_agents.runner.train import _small
from seal_env.errors import UserError


class Silent(Agent):
    """Does not act."""


class Writes(Agent):
    """Writes nothing, and learns what the test says."""

    returned = None

    def act(self, observations, seeds):
        return [None] * len(observations)

    def learn(self, experiences):
        return self.returned


class Contextless(Writes):
    """Forgets the context."""

    def __init__(self):
        super().__init__(None)


class Greedy(Writes):
    """Takes more than the context."""

    def __init__(self, context, rate):
        super().__init__(context)


class Unrelated(Writes):
    """Has options of no known class."""

    Options = dict


class Plain(AgentOptions):
    """Lacks its decorator, so that the field is none."""

    rate: float = 0.1


class Undecorated(Writes):
    Options = Plain


@dataclass(frozen=True)
class Needy(AgentOptions):
    """Options without defaults."""

    rate: float


class Demanding(Writes):
    Options = Needy


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Silent, "has no method act; define it"),
        (Contextless, "its constructor takes an AgentContext"),
        (Greedy, "its constructor takes an AgentContext"),
        (Unrelated, "its Options must be a frozen dataclass derived from"),
        (Undecorated, "its Options must be a frozen dataclass derived from"),
        (Demanding, "rate of its Options needs a default"),
    ],
)
def test_a_class_that_is_no_whole_agent_is_told_what_it_lacks(kind, said):
    name = f"{__name__}:{kind.__name__}"
    with pytest.raises(UserError, match=rf"agent '{name}'.*{said}"):
        make(name, env("tiny"), 0, lambda *_: None)


def test_a_mistake_inside_of_a_constructor_keeps_its_traceback():
    class Mistaken(Writes):
        def __init__(self, context):
            len(3)

    globals()["Mistaken"] = Mistaken
    assert agent_class(f"{__name__}:Mistaken") is Mistaken
    with pytest.raises(TypeError, match="has no len"):
        make(f"{__name__}:Mistaken", env("tiny"), 0, lambda *_: None)


@pytest.fixture
def agent():
    return make(f"{__name__}:Writes", env("tiny"), 0, lambda *_: None)


def test_act_that_returns_nothing_is_said(agent, monkeypatch):
    monkeypatch.setattr(agent, "act", lambda observations, seeds: None)
    with pytest.raises(UserError, match=r"agent Writes: act must return .*; it returned None$"):
        actions(agent, [{}, {}], [0, 1])


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (0.5, "it returned a float"),
        ([("loss", 0.5)], "it returned a list"),
        ({"loss": [1, 2]}, r"its 'loss' is no number \(list\)"),
        ({"loss": "low"}, r"its 'loss' is no number \(str\)"),
        ({"loss": None}, r"its 'loss' is no number \(NoneType\)"),
    ],
)
def test_learn_that_returns_no_numbers_is_said(agent, returned, said):
    agent.returned = returned
    with pytest.raises(UserError, match=f"agent Writes: learn must return numbers by name.*{said}"):
        learned(agent, [])


@pytest.mark.parametrize(
    ("returned", "numbers"), [(None, {}), ({}, {}), ({"loss": 1, "on": True}, {"loss": 1, "on": 1})]
)
def test_learn_may_return_numbers_or_nothing(agent, returned, numbers):
    agent.returned = returned
    assert learned(agent, []) == numbers


@pytest.mark.parametrize(("size", "notes"), [(8, 1), (500, 0), (None, 0)])
def test_a_split_smaller_than_a_round_is_noted(size, notes):
    class Sized:
        def size(self, split):
            return size

    said = list(_small(Sized(), TrainConfig(env("tiny"), problems=500)))
    assert said == ["--problems 500: split 'train' has 8 problems; a round has 8"][:notes]
