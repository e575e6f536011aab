"""Deltas of named weights, and K learners with deltas of their own on one base."""

import copy

import gymnasium as gym
import pytest
import torch
from helpers import random_ids, weights_hash
from transformers.pytorch_utils import Conv1D

import seal_env  # noqa: F401 (registers SelfEdit-v0)
from seal_env.edits.weights import Weights, WeightsConfig
from seal_env.engine.changes import Change
from seal_env.engine.deltas import DeltaBank, Deltas, matrix_of
from seal_env.engine.generation import generate
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.sampling import Sampling
from seal_env.tasks.base import Problem

CPU = torch.device("cpu")
K = 32
PROMPTS = [random_ids(3 + 7 * k % 40, k) for k in range(K)]
COMPLETIONS = [random_ids(1 + k % 5, 100 + k) for k in range(K)]


def names_of(learner):
    made = Weights()
    made.bind(learner)
    return list(made.matrices.all)


def random_deltas(learner, seed):
    """Random changes of some matrices: many, few or none, whole ones, rows and single weights."""
    generator = torch.Generator().manual_seed(seed)

    def draw(below):
        return int(torch.randint(below, (), generator=generator))

    names = names_of(learner)
    changes = []
    for _ in range(draw(6)):
        name = names[draw(len(names))]
        outputs, inputs = matrix_of(learner.model, name).shape
        row, column = (draw(outputs) if draw(2) else None), (draw(inputs) if draw(2) else None)
        operation, amount = [("add", 0.3), ("scale", 1.5), ("set", -0.2)][draw(3)]
        if operation != "scale" and row is None and column is None:
            amount = 0.01
        changes.append(Change(name, row, column, operation, amount))
    return Deltas.of(learner.model, changes)


def written(learner, deltas):
    """A copy of a learner with the changes in its weights."""
    model = copy.deepcopy(learner.model)
    for name, delta in deltas.matrices.items():
        module = model.get_submodule(name)
        module.weight.data += delta.t() if isinstance(module, Conv1D) else delta
    return Learner(model, learner.tokenizer, learner.name)


def test_operations_act_one_after_the_other(llama):
    name = "model.layers.0.mlp.up_proj"
    weight = matrix_of(llama.model, name)
    changes = [
        Change(name, 3, None, "add", 0.5),
        Change(name, 3, 4, "scale", 2.0),
        Change(name, None, 4, "scale", 3.0),
        Change(name, 7, 7, "set", 9.0),
        Change(name, 7, 7, "add", 1.0),
    ]
    expected = weight.clone()
    expected[3] += 0.5
    expected[3, 4] *= 2
    expected[:, 4] *= 3
    expected[7, 7] = 10.0
    deltas = Deltas.of(llama.model, changes)
    torch.testing.assert_close(weight + deltas.matrices[name], expected, rtol=1e-6, atol=1e-6)
    total = float((expected - weight).norm())
    assert deltas.norm() == pytest.approx(total, rel=1e-5)


def test_a_stream_goes_on_from_what_there_is(llama):
    one, two = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"
    first = [Change(one, None, None, "add", 0.1), Change(two, 1, 1, "add", 1.0)]
    second = [Change(one, None, 2, "scale", 2.0)]
    former = Deltas.of(llama.model, first)
    kept = {name: delta.clone() for name, delta in former.matrices.items()}
    both = Deltas.of(llama.model, second, former)
    at_once = Deltas.of(llama.model, first + second)
    for name in (one, two):
        assert torch.equal(both.matrices[name], at_once.matrices[name])
        assert torch.equal(former.matrices[name], kept[name])
    assert both.matrices[two] is former.matrices[two]
    assert Deltas.of(llama.model, []).norm() == 0.0


def test_rows_are_outputs_in_gpt2_too(models):
    learner = load_learner(models["gpt2"], device="cpu")
    name = "transformer.h.0.mlp.c_fc"
    deltas = Deltas.of(learner.model, [Change(name, 200, None, "scale", 0.0)])
    changed = written(learner, deltas).model.get_submodule(name).weight
    assert changed.shape == (64, 256)
    assert not changed[:, 200].any()
    assert changed[:, 199].all()


@pytest.mark.slow
def test_each_of_many_alone_gives_the_same_bits(learner):
    before = weights_hash(learner.model)
    deltas = [random_deltas(learner, seed) if seed % 8 else None for seed in range(K)]
    owners = [(5 * k) % K for k in range(K)]
    bank = DeltaBank(deltas, CPU)
    scores = learner.score(PROMPTS, COMPLETIONS, owners, bank)
    means, losses = learner.describe(PROMPTS, owners, bank)
    texts = generate(learner, PROMPTS, Sampling(8), owners, bank)
    assert len(set(map(tuple, texts))) > K // 2
    for k, owner in enumerate(owners):
        alone = DeltaBank([deltas[owner]], CPU)
        assert learner.score([PROMPTS[k]], [COMPLETIONS[k]], [0], alone) == [scores[k]]
        mean, loss = learner.describe([PROMPTS[k]], [0], alone)
        assert (mean[0] == means[k]).all()
        assert loss == [losses[k]]
        assert generate(learner, [PROMPTS[k]], Sampling(8), [0], alone) == [texts[k]]
    untouched = learner.score(PROMPTS[:1], COMPLETIONS[:1], [0], None)
    assert learner.score(PROMPTS[:1], COMPLETIONS[:1], [0], DeltaBank([None], CPU)) == untouched
    assert weights_hash(learner.model) == before


def test_the_same_with_several_threads(llama):
    kept = torch.get_num_threads()
    deltas = [random_deltas(llama, seed) for seed in range(1, 9)]
    owners = list(range(8))
    try:
        torch.set_num_threads(2)
        together = llama.score(PROMPTS[:8], COMPLETIONS[:8], owners, DeltaBank(deltas, CPU))
        for k in owners:
            alone = DeltaBank([deltas[k]], CPU)
            found = llama.score([PROMPTS[k]], [COMPLETIONS[k]], [0], alone)
            assert found == [together[k]]
    finally:
        torch.set_num_threads(kept)


def test_equals_a_model_with_the_changes_written_into_it(learner):
    deltas = [random_deltas(learner, seed) for seed in range(1, 9)]
    bank = DeltaBank(deltas, CPU)
    changed = 0
    for k, one in enumerate(deltas):
        layout = Layout([PROMPTS[k]], [k], CPU)
        alone = Layout([PROMPTS[k]], [0], CPU)
        rows = len(PROMPTS[k])
        copied = written(learner, one)
        with torch.no_grad():
            found = learner.hidden(layout.row, FullPass(layout), bank)[:rows]
            expected = copied.hidden(alone.row, FullPass(alone), None)[:rows]
            plain = learner.hidden(alone.row, FullPass(alone), None)[:rows]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        changed += bool((plain - expected).abs().max() > 1e-2)
        assert learner.score([PROMPTS[k]], [COMPLETIONS[k]], [k], bank) == pytest.approx(
            copied.score([PROMPTS[k]], [COMPLETIONS[k]], [0], None), abs=1e-5
        )
    assert changed >= 5


def test_only_touched_matrices_are_held(llama):
    one = Deltas.of(llama.model, [Change("model.layers.0.mlp.up_proj", 1, 1, "add", 1.0)])
    bank = DeltaBank([None, one, Deltas(), one], CPU)
    run = FullPass(Layout([[1]], [0], CPU))
    assert bank.adapter("model.layers.0.mlp.down_proj", run) is None
    held = bank.adapter("model.layers.0.mlp.up_proj", run)
    assert held.deltas.shape == (2, 128, 64)
    assert bank.count == 4


def test_a_failure_leaves_no_module_changed(models):
    learner = load_learner(models["gpt2"], device="cpu")
    bank = DeltaBank([random_deltas(learner, 1)], CPU)
    with pytest.raises(RuntimeError, match="on purpose"), bank.attached(learner.model):
        raise RuntimeError("on purpose")
    assert not any("forward" in vars(module) for module in learner.model.modules())


def test_bfloat16(models):
    learner = load_learner(models["llama"], device="cpu", dtype="bfloat16")
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    made = Weights(WeightsConfig(max_share=1.0))
    made.bind(learner)
    edit = made.parse(
        "scale layer 0 attention by 1.2\nscale layer 1 mlp by 0.9", Problem("", "", "", ())
    )
    deltas = Deltas.of(learner.model, edit.update.changes)
    assert all(delta.dtype == torch.float32 for delta in deltas.matrices.values())
    bank = DeltaBank([deltas, None], CPU)
    together = learner.score(PROMPTS[:4], COMPLETIONS[:4], [0, 1, 0, 1], bank)
    expected = written(learner, deltas).score(PROMPTS[:1], COMPLETIONS[:1], [0], None)
    assert together[:1] == pytest.approx(expected, abs=0.1)
    for k in range(4):
        alone = DeltaBank([[deltas, None][k % 2]], CPU)
        assert learner.score([PROMPTS[k]], [COMPLETIONS[k]], [0], alone) == [together[k]]
    after = learner.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


SETTINGS = {"task": "helpers:OneQuestion", "edit": "weights", "reward": "log_likelihood"}
SETTINGS |= {"edit_options": {"config": WeightsConfig(max_change=1.0)}}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_32_edits_in_one_vector_step_are_what_each_would_be_alone(models, architecture):
    settings = SETTINGS | {"model": models[architecture]}
    matrix = {"llama": "layers.1.mlp.down_proj", "gpt2": "h.1.mlp.c_proj"}[architecture]
    texts = [
        [f"scale {matrix} by {1 + k / 40}", f"add {k / 50} to neuron {k} of layer 0", "no edit"][
            k % 3
        ]
        for k in range(K)
    ]
    envs = gym.make_vec("SelfEdit-v0", num_envs=K, **settings)
    envs.reset(seed=[1] * K, options={"problems": [k % 3 for k in range(K)]})
    _, rewards, _, _, infos = envs.step(texts)
    assert len(set(rewards.tolist())) > K // 3
    env = gym.make("SelfEdit-v0", **settings)
    learner = env.unwrapped.episodes.loop.learner
    before = weights_hash(learner.model)
    for k, text in enumerate(texts):
        env.reset(seed=1, options={"problems": k % 3})
        _, reward, _, _, info = env.step(text)
        assert reward == rewards[k]
        assert bool(info["error"]) == (text == "no edit")
        assert info["answers"] == infos["final_info"]["answers"][k]
    assert weights_hash(learner.model) == before


def test_a_stream_keeps_its_changes_until_reset(models):
    env = gym.make("SelfEdit-v0", **SETTINGS | {"model": models["llama"], "horizon": 2})
    first, _ = env.reset(seed=0, options={"problems": [0, 0]})
    second, *_ = env.step("scale layer 0 attention by 0.5")
    assert (second["model_state"][:64] != first["model_state"][:64]).any()
    twice = env.step("scale layer 0 attention by 0.5")[4]
    again, _ = env.reset(seed=0, options={"problems": [0, 0]})
    assert (again["model_state"] == first["model_state"]).all()
    once = gym.make("SelfEdit-v0", **SETTINGS | {"model": models["llama"]})
    once.reset(seed=0, options={"problems": 0})
    alone = once.step("scale layer 0 attention by 0.25")[4]
    assert twice["log_likelihood"] == pytest.approx(alone["log_likelihood"], abs=1e-5)
    assert alone["log_likelihood"] != alone["log_likelihood_before"]
