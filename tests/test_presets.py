"""Presets of a model and an agent are the command line's defaults, and no more."""

import dataclasses

import pytest

from seal_agents import AGENTS, cli
from seal_agents.algorithms.choice_options import PPOChoicesOptions
from seal_agents.algorithms.rest_em import RestEMOptions
from seal_agents.presets import PRESETS, Preset, preset
from seal_agents.runner import train
from seal_agents.runner.build import agent_class
from seal_agents.runner.configs import TrainConfig
from seal_env.config import InnerLoopConfig
from seal_env.presets import MODEL_PRESETS, ModelPreset, model_preset
from seal_env.rewards import parse_reward


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


def test_options_of_the_agent_are_among_them(chosen):
    few_shot = "--task few-shot --model tiny-grids --edit directives --agent"
    assert chosen(f"{few_shot} rest-em").options.finetune.epochs == 16
    assert chosen(f"{few_shot} rest-em --options.finetune.epochs 3").options.finetune.epochs == 3
    assert chosen(f"{few_shot} ppo-choices").options.read_state is False
    assert chosen("--agent ppo-choices").options == PPOChoicesOptions()
    assert chosen("--agent rest-em").options == RestEMOptions()


def test_other_models_have_the_usual_settings(chosen):
    found, usual = chosen("--agent rest-em"), TrainConfig()
    assert preset("tiny", "rest-em") == preset("another", "ppo-choices") == Preset()
    assert model_preset("another") == ModelPreset()
    for name in ("rounds", "problems", "samples", "learner", "test_problems"):
        assert getattr(found, name) == getattr(usual, name)
    assert found.env.reward == usual.env.reward == "accuracy"


def test_they_name_fields_and_agents_that_there_are():
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    for (_, agent), known in PRESETS.items():
        assert set(known.run) <= fields
        assert agent in AGENTS or (agent == "*" and not known.options)
        if known.options:
            agent_class(agent).Options(**known.options)
    for known in MODEL_PRESETS.values():
        assert parse_reward(known.reward)


def test_all_that_fit_are_taken_and_later_ones_override(monkeypatch):
    monkeypatch.setitem(PRESETS, ("org/*", "*"), Preset({"rounds": 5, "samples": 2}))
    monkeypatch.setitem(PRESETS, ("*/big", "rest-em"), Preset({"rounds": 7}, {"keep": 2}))
    assert preset("org/small", "rest-em") == Preset({"rounds": 5, "samples": 2})
    assert preset("org/big", "rest-em") == Preset({"rounds": 7, "samples": 2}, {"keep": 2})
    assert preset("org/big", "grpo") == preset("org/small", "rest-em")
    assert preset("ORG/big", "grpo") == Preset()
    inner = InnerLoopConfig(max_tokens=99)
    monkeypatch.setitem(MODEL_PRESETS, "org/*", ModelPreset(inner))
    assert model_preset("org/big").inner == inner and model_preset("tiny").inner != inner
    monkeypatch.setitem(MODEL_PRESETS, "*/big", ModelPreset(reward="log_likelihood"))
    assert model_preset("org/big") == ModelPreset(reward="log_likelihood")


OWN = """
from seal_agents import presets
from seal_agents.algorithms.prompted import Prompted

presets.PRESETS["*", "addedpresets:Mine"] = presets.Preset({"rounds": 6}, {"temperature": 0.7})


class Mine(Prompted):
    pass
"""


def test_a_module_of_ones_own_adds_some(chosen, tmp_path, monkeypatch):
    (tmp_path / "addedpresets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("seal_agents.presets.PRESETS", dict(PRESETS))
    config = chosen("--agent addedpresets:Mine --model tiny")
    assert config.rounds == 6 and config.options.temperature == 0.7
    assert chosen("--agent rest-em --model tiny").rounds == TrainConfig().rounds


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (Preset({"nonsense": 1}), "has no setting 'nonsense'"),
        (Preset(options={"nope": 1}), "has no setting 'nope'"),
        (Preset({"rounds": "three"}), "'str' and 'int'"),
        (Preset({"rounds": 0}), "rounds 0"),
    ],
)
def test_a_preset_that_does_not_fit_is_one_line(chosen, monkeypatch, capsys, added, message):
    monkeypatch.setitem(PRESETS, ("tiny", "grpo"), added)
    with pytest.raises(SystemExit):
        chosen("--agent grpo --model tiny")
    said = capsys.readouterr().err.strip()
    assert "preset of model 'tiny' and agent 'grpo'" in said and message in said
    assert len(said.splitlines()) == 1
