"""PPO with the language model as policy: exact gradients, what it learns, how it goes on."""

import json
import math
import random
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_fixtures import context, env, experience, finish, lines, snapshot
from peft import PeftModel
from stable_baselines3 import PPO
from transformers import AutoModelForCausalLM

from seal_agents.algorithms.ppo import PPOOptions, ProximalPolicy, leave_one_out
from seal_agents.policies import token_policy
from seal_agents.policies.token_buffer import TokenRolloutBuffer
from seal_agents.policies.token_policy import LanguageModelConfig, LanguageModelPolicy
from seal_agents.runner.experience import text_of
from seal_env.engine.capacity import memory_cost
from seal_env.engine.generation import sample
from seal_env.engine.peft_io import save_peft
from seal_env.episodes import EnvConfig
from seal_env.errors import UserError
from seal_env.wrappers.sb3.token_vec import TokenVecEnv
from seal_env.wrappers.sb3.tokens import action, prompts

LENGTH = 6
END = 3
SEEN = ["Ada was born in Oslo.", "Boris was born in Lima.", "chess", "Carla loves red."]


def bridge(model, count=4, length=LENGTH):
    config = env(model)
    given = {name: getattr(config, name) for name in EnvConfig.__dataclass_fields__}
    envs = gym.make_vec("SelfEdit-v0", num_envs=count, **given)
    return TokenVecEnv(envs, max_new_tokens=length)


def test_parts_of_a_minibatch_allow_for_the_logits_that_are_kept(models, monkeypatch):
    policy, _ = make_policy(models["llama"], ent_coef=0.0)
    cost = memory_cost(policy.learner, policy._targets, policy._lora).of(100)
    logits = 4 * policy.learner.head(torch.zeros(1, policy.learner.width)).shape[1]
    monkeypatch.setattr(token_policy, "ACTIVATIONS", 2 * (cost + 10 * logits))
    assert policy._parts([(100, 10)] * 4) == [slice(0, 2), slice(2, 4)]
    assert policy._parts([(100, 11), (100, 10)]) == [slice(0, 1), slice(1, 2)]
    assert policy._parts([(100, 9)] * 2 + [(10_000, 1)]) == [slice(0, 2), slice(2, 3)]


def make_policy(model, **settings):
    """A policy whose adapter changes a lot, and the environments that it is for."""
    envs = bridge(model)
    config = LanguageModelConfig(model=model, device="cpu", rank=4, **settings)
    policy = LanguageModelPolicy(
        envs.observation_space, envs.action_space, lambda _: 1e-3, config=config
    )
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for views in policy.bank.matrices.values():
            for matrix in views:
                matrix += 0.1 * torch.randn(matrix.shape, generator=generator)
        policy.value_net.weight.normal_(generator=generator)
    return policy, envs


def batch(envs):
    """Self-edits of all kinds: ended early, at once, at the limit and by the limit."""
    texts = [[7, 8, 9, END], [END], [5, 6, 7, 8, 9, END], [9, 8, 7, 6, 5, 4]]
    rows = [action(ids, LENGTH, END) for ids in texts]
    obs = torch.from_numpy(envs.tokens.observe(SEEN))
    return obs, torch.from_numpy(np.stack(rows)), texts


def peft_twin(policy, model, folder):
    """The same model with the same adapter, by PEFT, to compare with."""
    save_peft(policy.bank, 0, folder, model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return PeftModel.from_pretrained(base, folder, is_trainable=True).eval()


def by_hand(twin, prompt, labels, temperature):
    """Log-probabilities and entropies of one self-edit, and the hidden state after its prompt."""
    found = twin(torch.tensor([prompt + labels]), output_hidden_states=True)
    rows = found.logits[0, len(prompt) - 1 : len(prompt) - 1 + len(labels)] / temperature
    logs = rows.log_softmax(-1)
    chosen = logs[torch.arange(len(labels)), labels]
    return chosen, -(logs.exp() * logs).sum(-1), found.hidden_states[-1][0, len(prompt) - 1]


@pytest.mark.parametrize(
    "weights",
    [
        {"ent_coef": 0.1},
        {"kl_coef": 0.1, "importance_sampling_level": "token"},
        {"ent_coef": 0.1, "kl_coef": 0.1},
    ],
    ids=str,
)
def test_a_minibatch_that_is_too_large_at_once_has_the_same_gradients_in_parts(
    models, monkeypatch, weights
):
    policy, envs = make_policy(models["llama"], **weights)
    obs, actions, _ = batch(envs)
    rows = []
    hidden = policy._hidden
    monkeypatch.setattr(
        policy, "_hidden", lambda layout: rows.append(torch.is_grad_enabled()) or hidden(layout)
    )

    def gradients() -> list[torch.Tensor]:
        policy.zero_grad()
        rows.clear()
        values, log_probs, bonus = policy.evaluate_actions(obs, actions)
        (values.square().sum() + log_probs.sum() - bonus.sum()).backward()
        return [values, log_probs, bonus, policy.adapter.grad, policy.value_net.weight.grad]

    whole = gradients()
    assert rows == [True]
    monkeypatch.setattr(token_policy, "ACTIVATIONS", 1)
    parts = gradients()
    assert rows == [False] * 4 + [True] * 4  # four without gradients, and again with them
    assert min(grad.abs().max() for grad in parts[3:]) > 0
    for one, other in zip(whole, parts, strict=True):
        assert one.norm() > 0
        assert (one - other).norm() < 1e-5 * one.norm()
    with torch.no_grad():
        policy.evaluate_actions(obs, actions)
    assert rows[8:] == [False] * 4


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_values_log_probabilities_and_gradients_are_those_of_peft(models, tmp_path, architecture):
    model = models[architecture]
    policy, envs = make_policy(model, importance_sampling_level="token", temperature=0.7)
    obs, actions, texts = batch(envs)
    values, log_probs, entropies = policy.evaluate_actions(obs, actions)
    twin = peft_twin(policy, model, tmp_path)
    reads = [envs.tokens.prompt(text) for text in SEEN]
    hand = [by_hand(twin, p, t, 0.7) for p, t in zip(reads, texts, strict=True)]
    assert torch.allclose(log_probs, torch.cat([h[0] for h in hand]), atol=1e-4)
    assert torch.allclose(entropies, torch.cat([h[1] for h in hand]), atol=1e-4)
    hand_values = torch.stack([policy.value_net(h[2]) for h in hand])
    assert torch.allclose(values, hand_values, atol=1e-4)
    assert torch.allclose(policy.predict_values(obs), values, atol=1e-5)

    weights = torch.linspace(-1, 1, len(log_probs))
    loss = (weights * log_probs).sum() + entropies.mean() + values.square().mean()
    loss.backward()
    twin.zero_grad()
    head = policy.value_net.weight.grad.clone()
    policy.value_net.zero_grad()
    chosen, spreads = (torch.cat([h[i] for h in hand]) for i in (0, 1))
    ((weights * chosen).sum() + spreads.mean() + hand_values.square().mean()).backward()
    assert torch.allclose(head, policy.value_net.weight.grad, rtol=1e-3, atol=1e-4)
    policy.bank.grads.copy_(policy.adapter.grad)  # the flat gradient, matrix by matrix
    grads = dict(twin.named_parameters())
    for target in policy.bank.targets:
        for letter, views in zip("AB", policy.bank.grad_views[target.name], strict=True):
            name = f"base_model.model.{target.name}.lora_{letter}.default.weight"
            assert grads[name].grad.abs().max() > 1e-3
            assert torch.allclose(views[0], grads[name].grad, rtol=1e-3, atol=1e-4), name


def test_gradients_of_two_passes_add_up_and_leave_nothing_behind(models):
    policy, envs = make_policy(models["llama"], importance_sampling_level="token")
    obs, actions, _ = batch(envs)

    def gradient(*parts):
        policy.optimizer.zero_grad()
        sum(policy.evaluate_actions(obs[p], actions[p])[1].sum() for p in parts).backward()
        return policy.adapter.grad.clone()

    whole = gradient(slice(0, 4))
    halves = gradient(slice(0, 2), slice(2, 4))
    assert torch.allclose(whole, halves, rtol=1e-3, atol=1e-4)
    assert torch.equal(gradient(slice(0, 4)), whole)


def test_weights_that_were_moved_are_the_ones_that_count(models):
    """As `Module.to` does where the device changes: the parameter gets memory of its own."""
    policy, envs = make_policy(models["llama"], importance_sampling_level="token")
    obs, actions, _ = batch(envs)
    with torch.no_grad():
        before = policy.evaluate(obs, actions).log_probs
        policy.adapter.data = torch.zeros_like(policy.adapter.data)
        base = policy.learner.score([envs.tokens.prompt(SEEN[3])], [actions[3].tolist()], [0], None)
        after = policy.evaluate(obs, actions).log_probs
    assert float(after[-LENGTH:].mean()) == pytest.approx(base[0], abs=1e-5)
    assert (before - after).abs().max() > 1e-2


def test_a_ratio_over_a_sequence_is_the_geometric_mean_over_its_tokens(models):
    token, envs = make_policy(models["llama"], importance_sampling_level="token")
    sequence, _ = make_policy(models["llama"], importance_sampling_level="sequence")
    obs, actions, texts = batch(envs)
    each = token.evaluate_actions(obs, actions)[1]
    counts = [len(ids) for ids in texts]
    means = torch.stack([part.mean() for part in each.split(counts)])
    assert torch.allclose(sequence.evaluate_actions(obs, actions)[1], means, atol=1e-5)


@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_what_was_written_is_evaluated_alike_afterwards(models, ratio):
    policy, envs = make_policy(models["llama"], importance_sampling_level=ratio)
    obs = torch.from_numpy(envs.tokens.observe(SEEN * 4))
    with torch.no_grad():
        actions, values, log_probs = policy(obs)
    again_values, again, _ = policy.evaluate_actions(obs, actions)
    real = log_probs[~log_probs.isnan()]
    assert torch.equal(real, again.detach()) and torch.equal(values, again_values.detach())
    assert log_probs.shape == ((16, LENGTH) if ratio == "token" else (16,))
    assert all(envs.action_space.contains(row) for row in actions.numpy())


def test_samples_follow_the_probabilities(models):
    """The first token of many samples, against the probabilities that are claimed for it."""
    policy, envs = make_policy(models["llama"], importance_sampling_level="token", temperature=0.3)
    obs = torch.from_numpy(envs.tokens.observe(SEEN[:1] * 400))
    with torch.no_grad():
        actions, _, log_probs = policy(obs)
    first = actions[:, 0].numpy()
    token = np.bincount(first).argmax()
    claimed = math.exp(float(log_probs[int(np.argmax(first == token)), 0]))
    assert 0.05 < claimed < 0.95
    assert (first == token).mean() == pytest.approx(claimed, abs=0.09)


def test_divergence_from_the_base_is_that_of_the_distributions(models, tmp_path):
    policy, envs = make_policy(
        models["llama"], importance_sampling_level="token", kl_coef=1.0, ent_coef=0.0
    )
    obs, actions, texts = batch(envs)
    found = policy.evaluate(obs, actions).divergences
    twin = peft_twin(policy, models["llama"], tmp_path)
    prompt, ids = envs.tokens.prompt(SEEN[3]), texts[3]
    with torch.no_grad():
        mine = twin(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        with twin.disable_adapter():
            base = twin(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
    expected = (mine.exp() * (mine - base.log_softmax(-1))).sum(-1)
    assert torch.allclose(found[-LENGTH:], expected, atol=1e-4) and expected.min() > 1e-3
    assert torch.equal(policy.evaluate_actions(obs, actions)[2], -found)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_the_librarys_own_ppo_trains_saves_and_loads(models, tmp_path, ratio):
    config = LanguageModelConfig(
        model=models["llama"], device="cpu", rank=4, importance_sampling_level=ratio
    )
    more = {"rollout_buffer_class": TokenRolloutBuffer} if ratio == "token" else {}
    kept = random.getstate(), torch.get_rng_state()
    made = PPO(
        LanguageModelPolicy,
        bridge(models["llama"]),
        n_steps=2,
        batch_size=4,
        n_epochs=2,
        learning_rate=1e-2,
        policy_kwargs={"config": config},
        device="cpu",
        **more,
    )
    before = made.policy.adapter.detach().clone()
    made.learn(16)
    assert made.num_timesteps == 16 and not torch.equal(made.policy.adapter, before)
    assert int(made.policy.drawn) == 16
    assert random.getstate() == kept[0] and torch.equal(torch.get_rng_state(), kept[1])
    made.save(tmp_path / "policy.zip")
    with zipfile.ZipFile(tmp_path / "policy.zip") as saved:
        size = sum(file.file_size for file in saved.infolist())
    assert size < 5 * 4 * made.policy.adapter.numel()  # adapter and moments, no base model

    again = PPO.load(tmp_path / "policy.zip", env=bridge(models["llama"]), device="cpu")
    assert torch.equal(again.policy.adapter, made.policy.adapter)
    assert torch.equal(again.policy.bank.weights, made.policy.bank.weights)
    obs = made.env.reset()
    for deterministic in (True, False):
        texts = [m.predict(obs, deterministic=deterministic)[0] for m in (made, again)]
        assert (texts[0] == texts[1]).all()
    again.learn(8, reset_num_timesteps=False)
    assert again.num_timesteps == 24
    with pytest.raises(NotImplementedError):
        again.policy.get_distribution(obs)


def test_a_policy_for_another_model_is_refused(models):
    envs = bridge(models["llama"])
    spaces = envs.observation_space, gym.spaces.MultiDiscrete([17] * LENGTH)
    config = LanguageModelConfig(model=models["llama"])
    with pytest.raises(UserError, match="not token ids of model"):
        LanguageModelPolicy(*spaces, lambda _: 1e-3, config=config)


# The agent.


def make_agent(model, seed=0, **settings):
    given = {"max_new_tokens": LENGTH, "rank": 4, "batch_size": 8, "learning_rate": 1e-2}
    options = PPOOptions(**{**given, **settings})
    return ProximalPolicy(context(model, options=options, seed=seed))


def watched(count):
    return [{"context": SEEN[i % 4], "model_state": None} for i in range(count)]


def worth(text):
    """The share of words from the first half of the alphabet: something to learn by trying."""
    words = [word for word in text.split() if word[0].isalpha()]
    return sum(word[0].lower() < "m" for word in words) / max(1, len(words))


def experiences(observations, texts, pay=worth):
    return [
        experience(o, t, pay(text_of(t) or ""), o["context"])
        for o, t in zip(observations, texts, strict=True)
    ]


def play(agent, rounds, count=32, pay=worth, first=0):
    """Rounds of writing and learning; the mean pay and what learn said, of each."""
    history = []
    for round_ in range(first, first + rounds):
        seeds = range(1000 * round_, 1000 * round_ + count)
        texts = agent.act(watched(count), seeds)
        numbers = agent.learn(experiences(watched(count), texts, pay))
        history.append((sum(pay(t.text) for t in texts) / count, numbers))
    return history


@pytest.mark.slow
def test_what_is_learned_from_is_what_was_read(models, chat_model, monkeypatch):
    """Also where the prompt is too long for the model, and in a chat."""
    long = [{"context": f"Ada {'vet ' * 900} Oslo {i}", "model_state": None} for i in range(2)]
    for model in (models["llama"], models["gpt2"], chat_model):
        agent = make_agent(model, max_new_tokens=8)
        read, real = [], sample
        monkeypatch.setattr(
            "seal_agents.policies.writing.sample",
            lambda model, given, *rest, read=read, real=real, **more: (
                read.extend(given) or real(model, given, *rest, **more)
            ),
        )
        texts = agent.act(long, [1, 2])
        monkeypatch.undo()
        assert [len(ids) for ids in read] == [512 - 8] * 2
        assert sorted(prompts(agent.envs.read({"context": [o["context"] for o in long]}))) == (
            sorted(read)
        )
        assert agent.truncated(long[0]) > 300
        assert agent.learn(experiences(long, texts))


SHARP = {
    "max_new_tokens": 2,
    "temperature": 0.5,
    "learning_rate": 2e-2,
    "target_kl": None,
    "batch_size": 16,
}
"""A random model's samples are too random to learn much from in a few seconds; so sharper ones."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"importance_sampling_level": "token"},
        {"importance_sampling_level": "sequence"},
        {"baseline": "group"},
    ],
)
def test_the_agent_comes_to_write_what_is_rewarded(models, settings):
    history = play(make_agent(models["llama"], seed=3, **SHARP, **settings), 10, 48)
    late = sum(paid for paid, _ in history[-4:]) / 4
    assert history[0][0] < 0.6 and late > history[0][0] + 0.12


def test_learning_is_the_same_every_time_and_touches_no_global_random_state(models):
    agents = [make_agent(models["llama"]) for _ in range(2)]
    texts = agents[0].act(watched(16), range(16))
    np.random.seed(1)
    kept = np.random.get_state(), torch.get_rng_state(), random.getstate()
    agents[0].learn(experiences(watched(16), texts))
    assert (np.random.get_state()[1] == kept[0][1]).all() and np.random.get_state()[2] == kept[0][2]
    assert torch.equal(torch.get_rng_state(), kept[1]) and random.getstate() == kept[2]
    np.random.seed(2)
    agents[1].learn(experiences(watched(16), texts))
    assert torch.equal(agents[0].actor.adapter, agents[1].actor.adapter)


def test_a_loaded_agent_goes_on_as_if_it_had_never_stopped(models, tmp_path):
    """From texts on file: the one that was stopped never calls act."""
    rounds = [
        experiences(watched(12), make_agent(models["llama"], seed=i).act(watched(12), range(12)))
        for i in range(3)
    ]
    straight = make_agent(models["llama"])
    for round_ in rounds:
        last = straight.learn(round_)
    stopped = make_agent(models["llama"])
    stopped.learn(rounds[0])
    stopped.save(tmp_path)
    resumed = make_agent(models["llama"])
    resumed.load(tmp_path)
    resumed.learn(rounds[1])
    assert resumed.learn(rounds[2]) == last
    for mine, theirs in zip(straight.actor.parameters(), resumed.actor.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        moments = (a.actor.optimizer.state[p] for a, p in ((straight, mine), (resumed, theirs)))
        first, second = moments
        assert first.keys() == second.keys() and all(
            torch.equal(first[k], second[k]) for k in first
        )
    assert resumed.rounds == 3 and resumed.ppo._n_updates == straight.ppo._n_updates
    assert resumed.act(watched(4), range(4)) == straight.act(watched(4), range(4))


def test_a_checkpoint_is_plain_data(models, tmp_path):
    agent = make_agent(models["llama"])
    play(agent, 1, 8)
    agent.save(tmp_path)
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert names == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "ppo.safetensors",
        "ppo.json",
    }
    assert json.loads((tmp_path / "ppo.json").read_text())["rounds"] == 1


def test_a_checkpoint_that_does_not_fit_is_said(models, tmp_path):
    agent = make_agent(models["llama"])
    agent.save(tmp_path)
    with pytest.raises(UserError, match="has rank 4 and this agent's has 8"):
        make_agent(models["llama"], rank=8).load(tmp_path)
    with pytest.raises(UserError, match="no readable PEFT adapter"):
        agent.load(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"wrong base model|does not fit"):
        make_agent(models["gpt2"]).load(tmp_path)
    (tmp_path / "ppo.json").write_text("{}")
    with pytest.raises(UserError, match="no readable checkpoint of agent ppo"):
        agent.load(tmp_path)
    (tmp_path / "ppo.safetensors").unlink()  # as other agents leave it
    with pytest.raises(UserError, match="no readable checkpoint of agent ppo"):
        agent.load(tmp_path)


def test_texts_of_all_kinds_can_be_learned_from(models):
    agent = make_agent(models["llama"])
    texts = ["", None, "Oslo", "Oslo " * 50, "\n\n", "Ünknown </s> words"]
    numbers = agent.learn(experiences(watched(6), texts))
    assert all(math.isfinite(value) for value in numbers.values())
    assert numbers["length"] == pytest.approx((1 + 1 + 2 + 6 + 3 + 6) / 6, abs=1)
    assert agent.learn([]) == {}
    before = agent.actor.adapter.detach().clone()
    bad = experiences(watched(2), ["Oslo", "chess"], lambda _: math.nan)
    assert agent.learn(bad) == {} and torch.equal(agent.actor.adapter, before)
    assert agent.learn(experiences(watched(1), ["Oslo"], lambda _: 0.5))


def test_the_update_stops_where_the_policy_has_moved_too_far(models):
    def moved(**settings):
        agent = make_agent(models["llama"], n_epochs=8, clip_range=10.0, **settings)
        ((_, numbers),) = play(agent, 1)
        return numbers["approx_kl"], agent.ppo._n_updates

    free, all_epochs = moved(target_kl=None)
    bound, some_epochs = moved(target_kl=1e-3)
    assert all_epochs == 8 and some_epochs < 8 and bound < free


@pytest.mark.slow
def test_clipping_and_small_steps_keep_the_policy_near(models):
    def distance(**settings):
        agent = make_agent(models["llama"], target_kl=None, **settings)
        before = agent.actor.adapter.detach().clone()
        play(agent, 1)
        return float((agent.actor.adapter.detach() - before).norm())

    assert distance(learning_rate=1e-3) < distance()
    assert distance(clip_range=1e-6) < distance()


@pytest.mark.slow
def test_the_penalty_keeps_the_policy_near_the_base(models):
    def divergence(kl):
        agent = make_agent(models["llama"], kl_coef=kl)
        play(agent, 5)
        config = LanguageModelConfig(models["llama"], rank=4, kl_coef=1.0)
        judge, envs = agent.actor, agent.envs
        judge.config = config
        obs, actions, _ = batch(envs)
        with torch.no_grad():
            return float(judge.evaluate(obs, actions).divergences.mean())

    assert divergence(5.0) < 0.5 * divergence(0.0)


@pytest.mark.slow
def test_the_bonus_keeps_the_policy_random(models):
    def entropy(ent_coef):
        agent = make_agent(models["llama"], **SHARP, ent_coef=ent_coef)
        return play(agent, 6, 32)[-1][1]["entropy"]

    assert entropy(0.5) > entropy(0.0) + 0.5


@pytest.mark.slow
def test_the_value_head_learns_what_self_edits_are_worth(models):
    agent = make_agent(models["llama"], learning_rate=3e-3)
    some = [experience(watched(2)[i % 2], "Oslo", (0.2, 0.9)[i % 2], str(i)) for i in range(16)]
    for _ in range(10):
        numbers = agent.learn(some)
    assert numbers["explained_variance"] > 0.5


def test_a_groups_baseline_leaves_each_one_out():
    rewards = np.array([1.0, 2.0, 6.0, 5.0])
    found = leave_one_out(rewards, ["p", "q", "p", "p"])
    assert found.tolist() == pytest.approx([5.5, 4.0, 3.0, 3.5])
    assert leave_one_out(np.array([3.0]), ["p"]).tolist() == [0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"n_epochs": 0}, "n_epochs 0"),
        ({"batch_size": 1}, "batch_size at least 2"),
        ({"clip_range": -0.2}, "clip_range -0.2"),
        ({"target_kl": 0.0}, "target_kl 0.0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm 0.0"),
        ({"ent_coef": -1.0}, "ent_coef -1.0"),
        ({"vf_coef": float("inf")}, "vf_coef inf"),
        ({"kl_coef": -0.1}, "kl_coef -0.1"),
        ({"importance_sampling_level": "word"}, "importance_sampling_level 'word'"),
        ({"baseline": "none"}, "baseline 'none'"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"rank": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_refused_in_a_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        PPOOptions(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_is_resumed_after_any_round(models, tmp_path):
    """Through the command line: the learner follows the policy, and a stop makes no difference."""
    arguments = (
        "train --agent ppo --task helpers:Parity --inner.finetune.epochs 1 "
        "--inner.finetune.batch-size 4 --inner.lora.rank 4 --inner.finetune.learning-rate 0.02 "
        "--problems 2 --samples 3 --rounds 2 --test-problems 3 --options.max-new-tokens 8 "
        f"--options.batch-size 4 --model {models['llama']} --out run"
    ).split()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        code, _, errors = finish(arguments, folder)
        assert (code, errors) == (0, "")
    run = cut / "run"
    (run / "summary.json").unlink()
    for file in (run / "checkpoints" / "round-2").rglob("*"):
        if file.is_file():
            file.unlink()
    for folder in ("round-2/adapter", "round-2"):
        (run / "checkpoints" / folder).rmdir()
    assert finish([*arguments, "--resume"], cut)[0] == 0
    assert snapshot(run / "checkpoints") == snapshot(whole / "run" / "checkpoints")
    assert lines(run) == lines(whole / "run")
