"""PPO on choices: what it learns, what it saves, and that resuming changes nothing."""

import random

import numpy as np
import pytest
import torch
from agent_fixtures import env, experience

from seal_agents.algorithms.ppo_choices import PPOChoices, PPOChoicesOptions
from seal_agents.base import AgentContext
from seal_agents.policies.options import PolicyOptions
from seal_env.episodes import EnvConfig
from seal_env.errors import UserError
from seal_env.tasks.biographies.task import Biographies
from seal_env.testing import identity

WIDTH = 64 + 4


def agent(models, seed=0, **options):
    options = PPOChoicesOptions(**{"menu": "biographies"} | options)
    return PPOChoices(AgentContext(env(models["llama"]), seed, options=options))


def observations(count, start=0):
    generator = np.random.default_rng(start)
    return [
        {
            "context": Biographies().problem("train", start + i).context,
            "model_state": generator.normal(size=WIDTH).astype(np.float32),
        }
        for i in range(count)
    ]


def rounds(learner, count, worth, start=0, texts=None):
    """Rounds of acting and learning under an artificial reward, a function of the text."""
    for round_ in range(start, start + count):
        seen = observations(32, 100 * round_)
        written = learner.act(seen, [1000 * round_ + i for i in range(32)])
        if texts is not None:
            texts.append(written)
        some = [experience(o, t, worth(t)) for o, t in zip(seen, written, strict=True)]
        yield learner.learn(some)


def questions(text):
    return text.count("Question:") / 28


def weights(learner):
    return {k: v.clone() for k, v in learner.model.policy.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.slow
def test_it_comes_to_choose_what_is_rewarded(models):
    learner, seen = agent(models, learning_rate=3e-3, batch_size=16), observations(64, 5000)
    before = np.mean([questions(t) for t in learner.act(seen, range(64))])
    numbers = [*rounds(learner, 12, questions)][-1]
    after = np.mean([questions(t) for t in learner.act(seen, range(64))])
    assert before < 0.25 and after > 0.6
    assert {"approx_kl", "clip_fraction", "entropy_loss", "value_loss"} <= set(numbers)
    assert numbers["off_menu"] == 0.0 and all(np.isfinite(v) for v in numbers.values())


def test_what_is_drawn_depends_on_the_seed_alone(models):
    learner, seen = agent(models), observations(8)
    texts = learner.act(seen, range(8))
    assert learner.act(seen[3:5], [3, 4]) == texts[3:5]
    assert learner.act(seen, range(8, 16)) != texts
    assert learner.act([], []) == []


@pytest.mark.slow
def test_a_resumed_run_equals_one_that_was_never_stopped(models, tmp_path):
    """Also where the round's self-edits were written before the stop: `act` is not called."""
    whole, texts = agent(models), []
    [*rounds(whole, 3, questions, texts=texts)]
    half = agent(models)
    [*rounds(half, 2, questions)]
    half.save(tmp_path)
    again = agent(models)
    again.load(tmp_path)
    seen = observations(32, 200)
    again.learn([experience(o, t, questions(t)) for o, t in zip(seen, texts[2], strict=True)])
    assert same(weights(whole), weights(again))
    ours, theirs = (a.model.policy.optimizer.state_dict()["state"] for a in (whole, again))
    assert all(same(ours[i], theirs[i]) for i in ours) and ours.keys() == theirs.keys()
    assert (whole.rounds, whole.model._n_updates) == (again.rounds, again.model._n_updates)
    assert whole.act(seen, range(32)) == again.act(seen, range(32))


def test_no_global_random_state_is_read_or_changed(models):
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        random.seed(noise)
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        learner = agent(models)
        [*rounds(learner, 1, questions)]
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]
        assert random.getstate() == before[2]
        results.append(weights(learner))
    assert same(*results)
    assert not same(results[0], weights(agent(models, seed=1)))


@pytest.mark.slow
def test_where_several_choices_say_the_same_one_is_drawn_by_its_probability(models):
    """Of a passage that is no biography the menu writes the sentences, whatever is chosen."""
    learner = agent(models)
    learner.model.policy.action_net.bias.data[:4] = torch.tensor([0.0, 0.0, 0.0, 2.0])
    seen = {"context": "No person. Just this.", "model_state": np.zeros(WIDTH, np.float32)}
    one = experience(seen, learner.act([seen], [0])[0], 1.0)
    drawn = [learner._chosen(one, place)[0] for place in range(400)]
    with torch.no_grad():
        wanted = learner.model.policy.get_distribution(learner.read([seen])).distribution[0].probs
    share = np.bincount(drawn, minlength=4) / 400
    assert np.abs(share - wanted[0].numpy()).max() < 0.08
    assert wanted[0][3] > 0.5


def test_texts_that_are_not_on_the_menu_are_counted_and_left_out(models):
    learner, seen = agent(models), observations(3)
    before = weights(learner)
    numbers = learner.learn([experience(o, "by someone else", 1.0) for o in seen])
    assert numbers == {"off_menu": 3.0} and same(before, weights(learner))
    text = learner.act(seen[:1], [0])[0]
    numbers = learner.learn(
        [experience(seen[0], text, 1.0), experience(seen[1], "by someone else", 1.0)]
    )
    assert numbers["off_menu"] == 1.0 and not same(before, weights(learner))


def test_checkpoints_of_others_are_refused(models, tmp_path):
    with pytest.raises(UserError, match="no checkpoint of ppo-choices"):
        agent(models).load(tmp_path)
    agent(models).save(tmp_path)
    with pytest.raises(UserError, match="another choices"):
        agent(models, menu="passage").load(tmp_path)
    with pytest.raises(UserError, match="another width"):
        agent(models, width=8).load(tmp_path)
    (tmp_path / "policy.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="no checkpoint of ppo-choices"):
        agent(models).load(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_epochs": 0},
        {"batch_size": 1},
        {"width": 0},
        {"learning_rate": 0.0},
        {"clip_range": float("nan")},
        {"ent_coef": -1.0},
        {"target_kl": 0.0},
    ],
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(UserError, match="ppo-choices"):
        PPOChoicesOptions(**wrong)


@pytest.mark.slow
def test_the_learners_state_can_be_left_unread(models, tmp_path):
    learner, seen = agent(models, read_state=False), observations(16)
    other = [o | {"model_state": o["model_state"] + 1} for o in seen]
    assert learner.act(seen, range(16)) == learner.act(other, range(16))
    numbers = [*rounds(learner, 12, questions)]
    assert numbers[-1]["entropy_loss"] > numbers[0]["entropy_loss"]
    learner.save(tmp_path)
    again = agent(models, read_state=False)
    again.load(tmp_path)
    assert again.act(seen, range(16)) == learner.act(seen, range(16))
    with pytest.raises(UserError, match="another model_state"):
        agent(models).load(tmp_path)


def test_the_menu_of_the_task_is_the_default(models):
    config = EnvConfig(**identity(2, 3, model=models["llama"]))
    learner = PPOChoices(AgentContext(config, options=PPOChoicesOptions()))
    assert learner.view.sizes == (3, 3)
    with pytest.raises(UserError, match="takes options of type"):
        PPOChoices(AgentContext(config, options=PolicyOptions()))
