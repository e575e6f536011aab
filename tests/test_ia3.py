"""The language `ia3` and its update: PEFT's numbers, bits beside others, streams, restoring."""

import gymnasium as gym
import numpy as np
import peft
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from helpers import INNER, random_ids, weights_hash
from transformers import AutoModelForCausalLM

from seal_env.edits import EDITS
from seal_env.edits.ia3 import IA3, IA3Config
from seal_env.engine.config import FinetuneConfig
from seal_env.engine.loading import load_learner
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.training import Dataset, Example, _accumulate, finetune
from seal_env.errors import UserError
from seal_env.updates.ia3 import IA3Bank, IA3State, rescaled_modules

CPU = torch.device("cpu")
DATA = [
    [Example(tuple(random_ids(6 + 9 * k + i, 7 * k + i))) for i in range(1 + k)] for k in range(4)
]
SETTINGS = {
    "task": "helpers:OneQuestion",
    "edit": "ia3",
    "reward": "log_likelihood",
    "inner": INNER,
}


def scrambled(learner, count):
    bank = IA3Bank(learner.model, count)
    bank.weights.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    return bank


def peft_model(learner, bank, index):
    """PEFT's IA3 model with the vectors of one learner."""
    base = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32)
    model = peft.get_peft_model(base, peft.IA3Config(task_type="CAUSAL_LM")).eval()
    with torch.no_grad():
        for name, (offsets,) in bank.matrices.items():
            module = model.base_model.model.get_submodule(name)
            vector = module.ia3_l["default"]
            vector.copy_((1 + offsets[index]).view_as(vector))
    return model


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_hidden_states_and_gradients_are_pefts(learner):
    bank = scrambled(learner, 3)
    ids = random_ids(23, 4)
    model = peft_model(learner, bank, 1)
    layout = Layout([ids], [1], CPU)
    with torch.no_grad():
        logits = learner.head(learner.hidden(layout.row, FullPass(layout), bank))[: len(ids)]
        expected = model(input_ids=torch.tensor([ids])).logits[0]
        plain = learner.head(learner.hidden(layout.row, FullPass(layout), None))[: len(ids)]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert (logits - plain).abs().max() > 0.1
    bank.require_grads()
    _accumulate(learner, bank, None, np.array([1]), [[Example(tuple(ids))]], None)
    row = torch.tensor([ids])
    model(input_ids=row, labels=row).loss.backward()
    for name, (grads,) in bank.grad_views.items():
        vector = model.base_model.model.get_submodule(name).ia3_l["default"]
        assert vector.grad.abs().max() > 1e-5
        torch.testing.assert_close(grads[1], vector.grad.flatten(), rtol=1e-3, atol=1e-6)
    assert not bank.grads[0].any() and not bank.grads[2].any()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_training_side_by_side_is_training_alone_to_the_bit(learner, threads):
    config = FinetuneConfig(learning_rate=0.05, epochs=2)
    data = [Dataset(examples, config, k) for k, examples in enumerate(DATA)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        bank = IA3Bank(learner.model, len(data))
        finetune(learner, bank, data)
        for k, one in enumerate(data):
            alone = IA3Bank(learner.model, 1)
            finetune(learner, alone, [one])
            assert torch.equal(alone.weights[0], bank.weights[k])
            assert bank.state_of(k).norm() > 0.01
    finally:
        torch.set_num_threads(before)


def test_modules_are_pefts(learner):
    base = AutoModelForCausalLM.from_pretrained(learner.name)
    wrapped = peft.get_peft_model(base, peft.IA3Config(task_type="CAUSAL_LM"))
    expected = {n: m.is_feedforward for n, m in base.named_modules() if hasattr(m, "ia3_l")}
    found = {target.name: of_input for target, of_input in rescaled_modules(learner.model).items()}
    assert found == expected and set(found.values()) == {False, True}
    assert wrapped is not None


def test_a_model_without_modules_to_rescale_is_refused(llama, monkeypatch):
    monkeypatch.setattr("seal_env.updates.ia3._MODULES", {})
    with pytest.raises(UserError, match="no modules to rescale in a model of the kind 'llama'"):
        IA3().bind(llama)


@pytest.mark.parametrize("config", [{"learning_rate": -1.0}, {"epochs": 0}, {"max_sequences": 0}])
def test_senseless_settings(config):
    with pytest.raises(UserError):
        IA3Config(**config)
    assert EDITS.load("ia3") is IA3


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_vector_step_is_what_each_would_be_alone(models, architecture):
    """Beside other kinds of update: tests/test_updates.py."""
    texts = ["", "Ada Cho plays the flute.", "a\nb\nc", "Ada Cho was born in Oslo. " * 9]
    settings = SETTINGS | {"model": models[architecture]}
    envs = gym.make_vec("SelfEdit-v0", num_envs=4, **settings)
    envs.reset(seed=[4] * 4, options={"problems": [0, 1, 2, 0]})
    rewards = envs.step(texts)[1]
    env = gym.make("SelfEdit-v0", **settings)
    for text, problem, reward in zip(texts, [0, 1, 2, 0], rewards, strict=True):
        env.reset(seed=4, options={"problems": problem})
        assert env.step(text)[1] == reward
    assert len(set(rewards.tolist())) == 4


def test_a_stream_goes_on_from_it_and_reset_restores_to_the_bit(models):
    env = gym.make("SelfEdit-v0", **SETTINGS | {"model": models["llama"], "horizon": 2})
    model = env.unwrapped.episodes.loop.learner.model
    before = weights_hash(model)
    first, _ = env.reset(seed=0, options={"problems": [0, 1]})
    env.step("Ada Cho plays the flute.")
    earlier = env.unwrapped.episodes.running[0].state
    saved = earlier.weights.clone()
    assert type(earlier) is IA3State
    info = env.step("Ada Cho plays the flute.")[4]
    later = env.unwrapped.episodes.running[0].state
    assert info["error"] == "" and info["parsed"] == "rate 0.03"
    assert later.norm() > 1.2 * earlier.norm() and torch.equal(earlier.weights, saved)
    again, _ = env.reset(seed=0, options={"problems": [0, 1]})
    assert (again["model_state"] == first["model_state"]).all()
    assert weights_hash(model) == before


def test_gymnasium_accepts_it(models):
    env = gym.make("SelfEdit-v0", **SETTINGS | {"model": models["llama"]})
    check_env(env.unwrapped, skip_render_check=True)


def test_an_untrained_learner_is_the_base(learner):
    texts = [[random_ids(9, 1)], [random_ids(3, 2)], [0]]
    assert learner.score(*texts, IA3Bank(learner.model, 1)) == learner.score(*texts, None)


def test_bfloat16_trains(models):
    learner = load_learner(models["llama"], "bfloat16", "cpu")
    bank = IA3Bank(learner.model, 2)
    config = FinetuneConfig(learning_rate=0.05, epochs=6)
    records = finetune(learner, bank, [Dataset(DATA[0], config, 0), Dataset(DATA[1], config, 0)])
    assert not any(record.failed for record in records) and bank.weights.any(dim=1).all()
