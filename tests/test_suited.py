"""Settings that suit a model and an agent are the command line's defaults, and no more."""

import dataclasses

import pytest

from seal_agents import cli
from seal_agents.runner import train
from seal_agents.runner.build import agent_class
from seal_agents.runner.configs import TrainConfig
from seal_agents.suited import RUNS, run_settings


@pytest.fixture
def chosen(monkeypatch):
    """What `seal-env train` would do with some arguments."""
    configs = []
    monkeypatch.setattr(train, "train", lambda config, *rest: configs.append(config))

    def choose(arguments):
        cli.main(["train", *arguments.split()])
        return configs.pop()

    return choose


def test_what_suits_a_model_is_taken_unless_something_else_is_said(chosen):
    few_shot = "--task few-shot --model tiny-grids --edit directives"
    found = chosen(f"{few_shot} --agent rest-em")
    assert (found.rounds, found.problems, found.samples) == (3, 16, 8)
    assert (found.learner, found.test_problems) == ("fixed", 40)
    assert found.env.reward == "accuracy + 0.3 * log_likelihood"
    found = chosen(f"{few_shot} --agent ppo-choices --rounds 2 --learner follow --reward accuracy")
    assert (found.rounds, found.problems, found.samples) == (2, 8, 4)
    assert (found.learner, found.env.reward) == ("follow", "accuracy")


def test_other_models_have_the_usual_settings(chosen):
    found, usual = chosen("--agent rest-em"), TrainConfig()
    assert run_settings("rest-em", "tiny") == run_settings("ppo-choices", "another") == {}
    for name in ("rounds", "problems", "samples", "learner", "test_problems"):
        assert getattr(found, name) == getattr(usual, name)
    assert found.env.reward == usual.env.reward == "accuracy"


def test_they_name_fields_and_agents_that_there_are():
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    for by_agent in RUNS.values():
        for agent, settings in by_agent.items():
            assert set(settings) <= fields
            assert not agent or agent_class(agent)
