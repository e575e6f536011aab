"""Presets of a model and an agent are the command line's defaults, and no more."""

import dataclasses
import json

import pytest

from seal_agents import AGENTS, cli
from seal_agents.algorithms.choice_options import PPOChoicesOptions
from seal_agents.algorithms.rest_em import RestEMOptions
from seal_agents.presets import PRESETS, Preset, preset
from seal_agents.runner import train
from seal_agents.runner.build import agent_class
from seal_agents.runner.configs import TrainConfig
from seal_env.config import EnvConfig, InnerLoopConfig
from seal_env.edits.training_data import TrainingDataConfig
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.engine.shapes import ModelShape, read_shape
from seal_env.episodes import Episodes
from seal_env.presets import (
    DENSE,
    MODEL_PRESETS,
    ModelPreset,
    model_preset,
    read_preset,
    shipped_names,
)
from seal_env.presets.files import preset_json
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


def folder_of(tmp_path, name, kind, width, layers):
    """A folder with nothing but the config of a model."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "vocab_size": 500}
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **sizes, **heads}))
    return str(folder)


@pytest.mark.parametrize("name", ["SmolLM2-135M-Instruct", "anything"])
@pytest.mark.parametrize(
    ("preset", "shape"),
    [("smollm2-135m", ("llama", 576, 30)), ("qwen2.5-0.5b", ("qwen2", 896, 24))],
)
def test_a_model_is_known_by_its_architecture_and_size(tmp_path, name, preset, shape):
    known = read_preset(preset)
    assert known.shape == ModelShape(*shape)
    assert model_preset(folder_of(tmp_path, name, *shape)) == known


def test_other_small_models_have_a_preset_of_their_own_and_large_ones_seals(tmp_path):
    small, paper = read_preset("small"), ModelPreset()
    sizes = {"test": (64, 2), "360m": (960, 32), "0.5b": (1024, 24), "3b": (2560, 32)}
    found = {
        name: model_preset(folder_of(tmp_path, name, "llama", *size))
        for name, size in sizes.items()
    }
    large = dataclasses.replace(paper, reward=DENSE)
    assert small.reward == large.reward
    assert found == {"test": paper, "360m": small, "0.5b": small, "3b": large}
    assert paper.inner == read_preset("seal").inner
    assert model_preset("nothing/there/is") == model_preset("nosuch") == paper


def test_an_environment_and_the_command_line_take_the_same(chosen, models, monkeypatch):
    shape, inner = read_shape(models["llama"]), InnerLoopConfig(max_tokens=99)
    known = ModelPreset(inner, shape=shape)
    monkeypatch.setattr("seal_env.presets.shipped_names", lambda: ["mine"])
    monkeypatch.setattr("seal_env.presets.read_preset", lambda name: known)
    assert Episodes(EnvConfig(model=models["llama"]), 1).loop.config == inner
    assert chosen(f"--model {models['llama']}").env.inner == inner


def test_every_preset_that_ships_reads_back(tmp_path):
    for name in shipped_names():
        (tmp_path / "again.json").write_text(preset_json(read_preset(name)))
        assert read_preset(str(tmp_path / "again.json")) == read_preset(name)
        assert read_preset(name).source


def test_a_preset_file_gives_defaults_and_flags_beat_it(chosen, tmp_path):
    inner = InnerLoopConfig(LoraConfig(4, 8.0, ("all-linear",)), FinetuneConfig(2e-3, epochs=3))
    own = ModelPreset(inner, "accuracy + log_likelihood", "first")
    (tmp_path / "own.json").write_text(preset_json(own))
    found = chosen(f"--preset {tmp_path}/own.json --inner.finetune.epochs 2").env
    assert found.inner == dataclasses.replace(inner, finetune=FinetuneConfig(2e-3, epochs=2))
    assert found.reward == own.reward
    assert found.edit_options == {"config": TrainingDataConfig(passage="first")}
    given = "--reward accuracy --edit-options config.passage=none"
    found = chosen(f"--preset {tmp_path}/own.json {given}").env
    assert found.reward == "accuracy"
    assert found.edit_options == {"config": TrainingDataConfig(passage="none")}
    assert chosen("--preset seal --model tiny").env.inner == InnerLoopConfig()
    assert chosen(f"--preset {tmp_path}/own.json --edit ia3").env.edit_options == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; give one that seal-env tune wrote, or one of qwen"),
        ("{", "cannot be read"),
        ("[]", "holds no JSON object"),
        ('{"rank": 3}', "has no setting 'rank'; it has: inner, reward"),
        ('{"inner": {"finetune": {"learning_rate": NaN}}}', "must be finite"),
        ('{"inner": {"lora": {"rank": "many"}}}', "rank: must be a valid integer, not 'many'"),
        ('{"reward": "acuracy"}', "acuracy"),
        ('{"shape": {"kind": "llama", "width": 0, "layers": 2}}', "must be > 0"),
        ('{"passage": "middle"}', "'middle'"),
    ],
)
def test_a_file_that_is_no_preset_is_one_line(chosen, tmp_path, capsys, content, message):
    file = tmp_path / "own.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit):
        chosen(f"--preset {file}")
    said = capsys.readouterr().err.strip()
    assert f"preset {str(file)!r}" in said and message in said and len(said.splitlines()) == 1
