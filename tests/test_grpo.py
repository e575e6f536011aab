"""GRPO and RLOO: what TRL is handed, what comes back, and that a stop changes nothing."""

import json
import math
import random
import shutil
import sys

import numpy as np
import pytest
import torch
from agent_fixtures import QUICK, context
from agent_fixtures import experience as experienced
from transformers.utils import logging as hf_logging

from seal_agents import cli
from seal_agents.algorithms.grpo import GRPO, RLOO, GRPOOptions, RLOOOptions
from seal_agents.algorithms.rest_em import RestEM, RestEMOptions
from seal_agents.trl.bridge import (
    arguments,
    borrowed,
    peft_config,
    seal_reward,
    with_adapter,
)
from seal_agents.trl.trainers import largest_divisor
from seal_env.errors import UserError
from seal_env.tasks.biographies.task import Biographies
from seal_env.vector import SelfEditVectorEnv

pytestmark = pytest.mark.slow

KINDS = {"grpo": GRPO, "rloo": RLOO}


PASSAGES = [
    {"context": task.reads(task.problem("train", i)), "model_state": None}
    for task in [Biographies()]
    for i in range(4)
]


def make(models, kind=GRPO, model="llama", **options):
    options = {"max_new_tokens": 8, "learning_rate": 5e-3, **options}
    return kind(context(models[model], options=kind.Options(**options)))


def experience(problem, text, reward):
    return experienced(PASSAGES[problem], text, reward, f"p{problem}")


def write(agent, problems=2, samples=4, seed=0, worth=len):
    """A round as the run loop would make it."""
    slots = [p for p in range(problems) for _ in range(samples)]
    texts = agent.act([PASSAGES[p] for p in slots], [seed * 1000 + i for i in range(len(slots))])
    pairs = zip(slots, texts, strict=True)
    return [experience(p, one, float(worth(one.text))) for p, one in pairs]


def state(agent):
    return agent.policy.adapter.weights.clone(), dict(agent.training._moments)


def same(one, other):
    weights, moments = one
    assert (weights == other[0]).all()
    assert moments.keys() == other[1].keys() and moments
    assert all((moments[name] == other[1][name]).all() for name in moments)
    return True


def asks(text):
    """What the embedded model does now and then of itself."""
    return float(text.startswith("Question"))


def real(kind=GRPO, **options):
    """The embedded model, as a policy that writes a few words."""
    return make({"llama": "tiny"}, kind, **{"learning_rate": 2e-3, **options})


def mean(experiences):
    return sum(e.reward for e in experiences) / len(experiences)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_agent_comes_to_write_what_is_rewarded(kind):
    agent = real(kind)
    means = []
    for round_ in range(2):
        given = write(agent, 2, 8, round_, asks)
        means.append(mean(given))
        numbers = agent.learn(given)
        assert numbers["entropy"] > 0 and 0 <= numbers["clipped"] <= 1
    assert 0.0 < means[0] < 0.6 and mean(write(agent, 2, 8, 99, asks)) > means[0] + 0.3


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_resumed_agent_does_as_one_that_was_not_stopped(models, kind, tmp_path):
    """Another process: it wrote none of the texts that it learns from."""
    agent = make(models, kind, kl_coef=0.05)
    agent.learn(write(agent))
    agent.save(tmp_path)
    again = make(models, kind, kl_coef=0.05)
    again.load(tmp_path)
    second = write(agent, seed=1)
    first_numbers, second_numbers = agent.learn(second), again.learn(second)
    assert first_numbers == second_numbers
    assert same(state(agent), state(again))
    assert agent.training.steps == again.training.steps == 2 * 2 * 2


def test_adam_goes_on_where_the_round_before_ended(models):
    """With nothing to learn in the second round, its momentum alone moves the weights."""
    agent = make(models, n_epochs=1, num_mini_batches=1, kl_coef=0.0, learning_rate=1e-2)
    agent.learn(write(agent))
    agent.learn(write(agent, seed=1))
    before, moments = state(agent)
    name = next(iter(agent.policy.adapter.matrices))
    matrix = agent.policy.adapter.matrices[name][1][0].clone()  # B, the larger changes
    first = 0.9 * moments[f"{name}.lora_B.exp_avg"] / (1 - 0.9**3)
    second = 0.999 * moments[f"{name}.lora_B.exp_avg_sq"] / (1 - 0.999**3)
    agent.learn(write(agent, seed=2, worth=lambda _: 0.5))
    moved = agent.policy.adapter.matrices[name][1][0]
    expected = matrix - 1e-2 * first / (second.sqrt() + 1e-8)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-7)
    assert (agent.policy.adapter.weights != before).any()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_resumed_run_equals_one_that_was_left_alone(models, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = [
        *["train", "--agent", {v: k for k, v in KINDS.items()}[kind], "--learner", "fixed", *QUICK],
        *"--problems 2 --samples 2 --rounds 2 --test-problems 1 --num-envs 4".split(),
        *["--options.max-new-tokens", "8", "--model", models["llama"], "--out", "run"],
    ]
    cli.main(run)
    folder = tmp_path / "run"
    last = folder / "checkpoints" / "round-2"
    whole = {p.relative_to(last): p.read_bytes() for p in last.rglob("*") if p.is_file()}
    written = (folder / "episodes.jsonl").read_bytes()
    # As if it had been killed in the second round, after one of its self-edits.
    for name in ("checkpoints/round-2", "adapter"):
        shutil.rmtree(folder / name)
    (folder / "summary.json").unlink()
    (folder / "episodes.jsonl").write_bytes(b"".join(written.splitlines(keepends=True)[:5]))
    cli.main([*run, "--resume"])
    assert (folder / "episodes.jsonl").read_bytes() == written
    assert {p.relative_to(last): p.read_bytes() for p in last.rglob("*") if p.is_file()} == whole


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("model", ["llama", "gpt2"])
def test_the_gradient_is_that_of_the_formula(models, model):
    """One step without clipping: advantages by hand, log-probabilities by another model."""
    options = {
        "n_epochs": 1,
        "num_mini_batches": 1,
        "kl_coef": 0.0,
        "max_grad_norm": 1e9,
        "per_device_train_batch_size": 2,
    }
    agent = make(models, model=model, **options)
    agent.policy.adapter.weights += 0.02 * torch.randn(
        agent.policy.adapter.weights.shape, generator=torch.Generator().manual_seed(0)
    )
    given = write(agent)[::-1]  # the order of a round must not matter either
    bank = agent.policy.adapter
    network = with_adapter(borrowed(agent.policy.model), peft_config(bank), agent.policy)
    rewards = torch.tensor([e.reward for e in given]).view(2, 4)
    spread = rewards.std(dim=1, keepdim=True) + 1e-4
    advantages = ((rewards - rewards.mean(dim=1, keepdim=True)) / spread).flatten()
    total, count = 0.0, 0
    for advantage, e in zip(advantages, given, strict=True):
        prompt, completion, _ = agent.policy.tokenize(e)
        ids = torch.tensor([prompt + completion])
        logits = (
            network(input_ids=ids, attention_mask=torch.ones_like(ids))
            .logits[0, len(prompt) - 1 : -1]
            .log_softmax(-1)
        )
        total = total - advantage * logits[range(len(completion)), completion].sum()
        count += len(completion)
    (total / count).backward()
    expected = {
        name.removeprefix("base_model.model.").removesuffix(".default.weight"): p.grad
        for name, p in network.named_parameters()
        if p.requires_grad
    }
    agent.learn(given)
    for name, gradient in expected.items():
        found = agent.training._moments[f"{name}.exp_avg"] / 0.1  # 1 - Adam's first beta
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-6)


def test_how_a_round_is_cut_for_memory_does_not_matter(models):
    agents = [make(models, per_device_train_batch_size=size) for size in (1, 32)]
    for agent in agents:
        agent.learn(write(agent))
    one, other = (agent.policy.adapter.weights for agent in agents)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_the_penalty_holds_the_policy_to_the_base():
    """Not to where the round began: with nothing to gain, it goes back."""
    agent = real(kl_coef=0.0)
    for round_ in range(2):
        agent.learn(write(agent, 2, 8, round_, asks))
    free = real(kl_coef=1.0, learning_rate=1e-3)
    free.policy.adapter.weights.copy_(agent.policy.adapter.weights)
    divergences = []
    for round_ in range(2):
        divergences.append(free.learn(write(free, 2, 8, round_, lambda _: 0.0))["kl"])
    assert divergences[0] > 0.01 and divergences[-1] < 0.7 * divergences[0]


def test_where_all_are_equal_nothing_is_learned(models):
    agent = make(models, kl_coef=0.0)
    before = agent.policy.adapter.weights.clone()
    assert agent.learn(write(agent, worth=lambda _: 0.5))["tied_groups"] == 1.0
    assert (agent.policy.adapter.weights == before).all()


def test_nothing_else_changes_and_nothing_is_said(models, capfd, recwarn):
    agent = make(models)
    given = write(agent)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    verbosity, model = hf_logging.get_verbosity(), agent.policy.model.model
    attention, patched = model.config._attn_implementation, vars(model).keys()
    agent.learn(given)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert (torch.get_rng_state() == before[2]).all()
    assert hf_logging.get_verbosity() == verbosity
    assert model.config._attn_implementation == attention and vars(model).keys() == patched
    assert not any(p.requires_grad for p in model.parameters())
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_the_second_model_takes_no_memory_and_agrees(models):
    learner = make(models).policy.model
    model = borrowed(learner)
    theirs = dict(model.named_parameters())
    for name, parameter in learner.model.named_parameters():
        assert theirs[name].data_ptr() == parameter.data_ptr()
    prompt, text = [5, 6, 7], [8, 9, 10, 11]
    logits = model(input_ids=torch.tensor([prompt + text])).logits[0, 2:-1].log_softmax(-1)
    mean = logits[range(4), text].mean().item()
    assert mean == pytest.approx(learner.score([prompt], [text], [0], None)[0], abs=1e-4)


def test_a_text_without_tokens_is_learned_in_its_usual_spelling(models):
    agent = make(models, max_new_tokens=3)
    end = agent.policy.model.end_ids
    ended = agent.policy.tokenize(experience(0, "Ada enjoys", 0.0)).completion_ids
    assert ended == agent.policy.model.encode_answer("Ada enjoys") + end and len(ended) == 3
    cut = agent.policy.tokenize(experience(0, "Ada enjoys chess.", 0.0)).completion_ids
    assert len(cut) == 3 and cut[-1:] != end
    assert agent.policy.tokenize(experience(0, "", 0.0)).completion_ids == end


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_chat_model_learns_to_end_its_turn(chat_model, kind):
    agent = make({"chat": chat_model}, kind, "chat")
    turn = agent.policy.model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    prompt, written, _ = agent.policy.tokenize(experience(0, "Ada", 0.0))
    assert written[-1] == turn and written[:-1] == agent.policy.model.encode_answer("Ada")
    assert prompt == agent.policy.read(PASSAGES[0]) and prompt.count(turn) == 1
    before = agent.policy.adapter.weights.clone()
    given = [experience(0, text, float(i)) for i, text in enumerate(["Ada", "", "a vet", "Oslo"])]
    agent.learn(given)
    assert not torch.equal(agent.policy.adapter.weights, before)


@pytest.mark.parametrize(
    ("number", "most", "expected"), [(64, 5, 4), (7, 4, 1), (6, 9, 6), (9, 1, 1)]
)
def test_a_round_is_cut_evenly(number, most, expected):
    assert largest_divisor(number, most) == expected


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_group_of_one_is_refused(models, kind):
    with pytest.raises(UserError, match=r"2 or more self-edits per problem.*--samples 2"):
        make(models, kind).learn([experience(0, "a", 0.0), experience(1, "b", 1.0)])
    uneven = [experience(p, text, 0.0) for p, text in [(0, "a"), (0, "b"), (0, "c"), (1, "d")]]
    with pytest.raises(UserError, match="got 1 and 3"):
        make(models, kind).learn(uneven)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"clip_range": -0.1},
        {"max_grad_norm": 0.0},
        {"kl_coef": -1.0},
        {"n_epochs": 0},
        {"num_mini_batches": 0},
        {"per_device_train_batch_size": 0},
        {"temperature": 0.0},
        {"rank": 0},
    ],
    ids=str,
)
def test_bad_settings_are_refused(wrong):
    for kind in (GRPOOptions, RLOOOptions):
        with pytest.raises(UserError, match=next(iter(wrong))):
            kind(**wrong)


def test_training_that_diverges_is_said(models):
    with pytest.raises(UserError, match="lower its learning rate"):
        agent = make(models, learning_rate=1e30)
        for round_ in range(3):
            agent.learn(write(agent, seed=round_))


def test_a_checkpoint_of_another_agent_or_model_is_refused(models, tmp_path):
    agent = make(models)
    agent.learn(write(agent))
    (tmp_path / "grpo").mkdir()
    agent.save(tmp_path / "grpo")
    with pytest.raises(UserError, match="of agent grpo, not of rloo"):
        make(models, RLOO).load(tmp_path / "grpo")
    with pytest.raises(UserError):
        make(models, model="gpt2").load(tmp_path / "grpo")
    shutil.copytree(models["llama"], tmp_path / "finetuned")
    with pytest.raises(UserError, match=r"was trained on model .* and this is"):
        make({"llama": str(tmp_path / "finetuned")}).load(tmp_path / "grpo")
    (tmp_path / "rest-em").mkdir()
    RestEM(context(models["llama"], options=RestEMOptions())).save(tmp_path / "rest-em")
    with pytest.raises(UserError, match="no checkpoint of agent grpo"):
        make(models).load(tmp_path / "rest-em")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no readable PEFT adapter"):
        make(models).load(tmp_path / "empty")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "optimizer.json").write_text("{"),
        lambda folder: (folder / "optimizer.json").write_text('{"agent": "grpo"}'),
        lambda folder: (folder / "optimizer.safetensors").write_bytes(b"not safetensors"),
        lambda folder: (folder / "optimizer.safetensors").unlink(),
    ],
)
def test_a_damaged_checkpoint_is_refused(models, tmp_path, damage):
    agent = make(models)
    agent.learn(write(agent))
    agent.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match="no checkpoint of agent grpo"):
        make(models).load(tmp_path)


def test_a_checkpoint_with_another_rank_is_refused(models, tmp_path):
    for name, rank in (("a", 4), ("b", 8)):
        (tmp_path / name).mkdir()
        agent = make(models, rank=rank)
        agent.learn(write(agent))
        agent.save(tmp_path / name)
    shutil.copy(tmp_path / "b" / "optimizer.safetensors", tmp_path / "a")
    with pytest.raises(UserError, match="does not fit the adapter"):
        make(models).load(tmp_path / "a")


def test_a_checkpoint_is_plain_data(models, tmp_path):
    agent = make(models)
    agent.learn(write(agent))
    agent.save(tmp_path)
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "optimizer.json",
        "optimizer.safetensors",
    }
    kept = json.loads((tmp_path / "optimizer.json").read_text())
    assert kept == {"agent": "grpo", "model": models["llama"], "steps": 4}


def test_a_checkpoint_of_an_earlier_version_is_read(models, tmp_path):
    agent = make(models)
    agent.learn(write(agent))
    agent.save(tmp_path)
    for kind in ("json", "safetensors"):
        (tmp_path / f"optimizer.{kind}").rename(tmp_path / f"optimiser.{kind}")
    again = make(models)
    again.load(tmp_path)
    assert same(state(agent), state(again)) and again.training.steps == 4


def test_without_trl_one_line_says_what_to_install(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(UserError, match=r"pip install 'seal-env\[trl\]'"):
        make(models)


def test_several_gpus_are_said(models, monkeypatch, tmp_path):
    policy = make(models).policy
    monkeypatch.setattr(policy.model, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES"):
        arguments(policy, tmp_path, 0)


def test_a_reward_function_for_trl_s_own_loop(models):
    settings = {"task": "helpers:Parity", "model": models["llama"], "reward": "log_likelihood"}
    reward = seal_reward(seed=3, **settings)
    texts = ["Ada is a vet.", "Bo has a cat.", ""]
    found = reward(completions=texts, problem=[4, 4, 5], prompts=["x"] * 3, trainer_state=None)
    envs = SelfEditVectorEnv(3, **settings)
    envs.reset(seed=3, options={"problems": [4, 4, 5]})
    assert found == envs.step(texts)[1].tolist() and found[0] != found[1]
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    assert reward(completions=chats, problem=[4, 4, 5]) == found


@pytest.mark.parametrize("kind", [GRPO, RLOO])
def test_a_reward_that_is_no_number_is_not_learned_from(models, kind):
    agent = make(models, kind)
    before = agent.policy.adapter.weights.clone()
    with pytest.raises(UserError, match="a reward is infinite or NaN"):
        agent.learn(write(agent, worth=lambda text: math.nan))
    assert torch.equal(agent.policy.adapter.weights, before)
