"""The language `full` and its update: transformers' numbers, bits beside others, streams."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import INNER, random_ids, weights_hash
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from seal_env.edits.full import FullConfig
from seal_env.engine.config import FinetuneConfig
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.training import Dataset, Example, _accumulate, finetune
from seal_env.updates.full import FullBank, FullState

CPU = torch.device("cpu")
SETTINGS = {
    "task": "helpers:OneQuestion",
    "edit": "full",
    "reward": "log_likelihood",
    "inner": INNER,
}


def scrambled(learner, count):
    bank = FullBank(learner.model, count)
    bank.weights.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    return bank


def whole_model(learner, bank, index):
    """Transformers' own model with the addends of one learner in its weights."""
    model = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, (addends,) in bank.matrices.items():
            addend = addends[index]
            model.get_submodule(name).weight += addend if _plain(model, name) else addend.t()
    return model


def _plain(model, name):
    return isinstance(model.get_submodule(name), torch.nn.Linear)


@pytest.mark.slow
def test_hidden_states_and_gradients_are_those_of_changed_weights(learner):
    bank = scrambled(learner, 3)
    ids = random_ids(23, 4)
    model = whole_model(learner, bank, 1)
    layout = Layout([ids], [1], CPU)
    with torch.no_grad():
        logits = learner.head(learner.hidden(layout.row, FullPass(layout), bank))[: len(ids)]
        plain = learner.head(learner.hidden(layout.row, FullPass(layout), None))[: len(ids)]
    row = torch.tensor([ids])
    torch.testing.assert_close(logits, model(input_ids=row).logits[0], rtol=1e-4, atol=1e-4)
    assert (logits - plain).abs().max() > 0.1
    bank.require_grads()
    _accumulate(learner, bank, None, np.array([1]), [[Example(tuple(ids))]], None)
    model(input_ids=row, labels=row).loss.backward()
    for name, (grads,) in bank.grad_views.items():
        wanted = model.get_submodule(name).weight.grad
        wanted = wanted if _plain(model, name) else wanted.t()
        assert wanted.abs().max() > 1e-5
        torch.testing.assert_close(grads[1], wanted, rtol=1e-3, atol=1e-6)
    assert not bank.grads[0].any() and not bank.grads[2].any()


def test_all_linear_layers_but_the_head_are_changed(learner):
    head = learner.model.get_output_embeddings()
    kinds = (torch.nn.Linear, Conv1D)
    linear = {n for n, m in learner.model.named_modules() if isinstance(m, kinds) and m is not head}
    assert set(FullBank(learner.model, 0).modules) == linear and len(linear) > 4


def test_training_side_by_side_is_training_alone_to_the_bit(learner):
    config = FinetuneConfig(learning_rate=3e-3, epochs=2)
    texts = [[random_ids(6 + 9 * k + i, 7 * k + i) for i in range(1 + k)] for k in range(3)]
    data = [Dataset([Example(tuple(t)) for t in own], config, k) for k, own in enumerate(texts)]
    bank = FullBank(learner.model, len(data))
    finetune(learner, bank, data)
    for k, one in enumerate(data):
        alone = FullBank(learner.model, 1)
        finetune(learner, alone, [one])
        assert torch.equal(alone.weights[0], bank.weights[k]) and bank.state_of(k).norm() > 0.01


@pytest.mark.slow
def test_a_stream_goes_on_from_it_and_reset_restores_to_the_bit(models):
    env = gym.make("SelfEdit-v0", **SETTINGS | {"model": models["llama"], "horizon": 2})
    model = env.unwrapped.episodes.loop.learner.model
    before = weights_hash(model)
    env.reset(seed=0, options={"problems": [0, 1]})
    env.step("Ada Cho plays the flute.")
    earlier = env.unwrapped.episodes.running[0].state
    saved = earlier.weights.clone()
    assert type(earlier) is FullState
    info = env.step("Ada Cho plays the flute.")[4]
    later = env.unwrapped.episodes.running[0].state
    assert info["error"] == "" and info["parsed"] == "rate 0.0003"
    assert later.norm() > 1.2 * earlier.norm() and torch.equal(earlier.weights, saved)
    assert weights_hash(model) == before


def test_memory_is_counted_by_all_weights(models):
    env = gym.make("SelfEdit-v0", **SETTINGS | {"model": models["llama"]})
    episodes = env.unwrapped.episodes
    update = episodes.language.parse("x", episodes.task.problem("train", 0)).update
    size = FullBank(episodes.loop.learner.model, 1).weights.numel()
    assert update.numbers(None, episodes.loop.context) >= 4 * size
    assert FullConfig(learning_rate=1e-4).learning_rate == 1e-4
