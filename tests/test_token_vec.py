"""SelfEdit-v0 as stable-baselines3 sees it: token ids in, token ids out, one pass a step."""

import gymnasium as gym
import numpy as np
import pytest
from agent_fixtures import context, env
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import VecMonitor

import seal_env  # noqa: F401
from seal_agents.policies.language_model import Policy, PolicyOptions
from seal_env.episodes import EnvConfig
from seal_env.errors import UserError
from seal_env.wrappers.sb3.token_vec import TokenVecEnv
from seal_env.wrappers.sb3.tokens import PAD, TextTokens, action, prompts, written

LENGTH = 6
END = 3


def vector(models, count, **settings):
    config = env(models["llama"], **settings)
    given = {name: getattr(config, name) for name in EnvConfig.__dataclass_fields__}
    return gym.make_vec("SelfEdit-v0", num_envs=count, **given)


def bridge(models, count=4, group=1, **settings):
    return TokenVecEnv(vector(models, count, **settings), group, max_new_tokens=LENGTH)


def some_actions(envs, seed=0):
    return np.random.default_rng(seed).integers(4, 500, (envs.num_envs, LENGTH))


def read(envs, observation):
    return [envs.inner.episodes.loop.learner.decode(ids) for ids in prompts(observation)]


def test_an_action_ends_at_its_first_end_token():
    stop = np.array([END])
    assert written(np.array([7, 8, END, 9, END, 5]), stop) == [7, 8, END]
    assert written(np.array([7, 8, 9]), stop) == [7, 8, 9]
    assert written(np.array([END, 8, 9]), stop) == [END]
    assert written(np.array([7, 5, 9]), np.array([END, 5])) == [7, 5]
    for ids in ([7, 8, END], [END], [7, 8, 9, 10]):
        assert written(action(ids, 4, END), stop) == ids
        assert written(action(ids, 4), stop) == ids


def test_an_action_that_was_cut_off_has_no_end_token():
    stop = np.array([END])
    assert written(np.array([7, 8, PAD, PAD]), stop) == [7, 8]
    assert written(action([7, 8], 4), stop) == [7, 8]
    assert written(action([], 2), stop) == []


def test_a_model_without_an_end_token_fills_its_actions():
    nothing = np.array([], dtype=np.int64)
    assert written(np.array([7, 3, 0]), nothing) == [7, 3, 0]


def test_the_policy_reads_the_prompt_and_padding_is_no_token(models, llama):
    options = PolicyOptions(max_new_tokens=LENGTH)
    policy = Policy(context(models["llama"]), options, trainable=False)
    tokens = TextTokens(llama, "notes", LENGTH)
    texts = ["Ada is a zzz.", "", "Ada is a vet. " * 200]
    observed = tokens.observe(texts)
    assert observed.shape == (3, 512 - LENGTH)
    assert tokens.observation_space.contains(observed[0])
    assert prompts(observed) == [policy.read({"context": text}) for text in texts]
    assert (observed[0] == PAD).sum() == 512 - LENGTH - len(prompts(observed)[0])
    short = TextTokens(llama, "notes", LENGTH, max_prompt_tokens=5)
    # What is around the context is whole: a line break, "Notes", a colon, a line break.
    assert prompts(short.observe(texts)) == [
        ids[:1] + ids[-4:] if len(ids) > 4 else ids for ids in prompts(observed)
    ]


def test_text_comes_back_as_it_was_written(llama):
    tokens = TextTokens(llama, "notes", LENGTH)
    assert tokens.encode("") == [END]
    assert tokens.encode("Oslo, Oslo") == [*llama.encode_answer("Oslo, Oslo"), END]
    cut = tokens.encode("Oslo " * 10)
    assert len(cut) == LENGTH and END not in cut
    row = action(tokens.encode("Oslo.\nThis is"), LENGTH, END)
    assert tokens.action_space.contains(row)
    assert tokens.decode(row) == "Oslo.\nThis is"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 512}, "leave room for a prompt"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"max_prompt_tokens": 0}, "max_prompt_tokens 0"),
        ({"max_prompt_tokens": 3}, "prompt 'notes': the prompt takes 4 tokens .* room for 3"),
        ({"prompt": "nots"}, "unknown prompt"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(llama, settings, message):
    with pytest.raises(UserError, match=message):
        TextTokens(llama, **{"prompt": "notes", **settings})


def test_a_step_is_one_pass_with_the_rewards_of_the_vector_environment(models, monkeypatch):
    envs, plain = bridge(models), vector(models, 4)
    envs.seed(5)
    observation = envs.reset()
    contexts, _ = plain.reset(seed=5)
    assert read(envs, observation) == [
        f"{text}\nNotes:\n".replace(" \n", "\n") for text in contexts["context"]
    ]
    assert [info["problem"] for info in envs.reset_infos]
    actions = some_actions(envs)
    actions[1, 2:] = END
    passes = []
    run = envs.inner.episodes.loop.run
    monkeypatch.setattr(
        envs.inner.episodes.loop, "run", lambda *a, **k: passes.append(len(a[0])) or run(*a, **k)
    )
    following, rewards, dones, infos = envs.step(actions)
    assert passes == [4]
    texts = [envs.tokens.decode(row) for row in actions]
    _, expected, *_, plain_infos = plain.step(texts)
    assert rewards.tolist() == expected.astype(np.float32).tolist()
    assert dones.all() and observation.shape == following.shape
    for slot, info in enumerate(infos):
        assert info["accuracy"] == plain_infos["final_info"]["accuracy"][slot]
        assert info["answers"] == plain_infos["final_info"]["answers"][slot]
        assert (info["terminal_observation"] == observation[slot]).all()
        assert info["TimeLimit.truncated"] is False
        assert envs.reset_infos[slot]["problem"] != info["problem"]
    assert not (following == observation).all(axis=1).any()


def test_a_seed_fixes_the_problems(models):
    envs = bridge(models)
    envs.seed(3)
    first = envs.reset()
    later = envs.step(some_actions(envs))
    envs.seed(3)
    assert (envs.reset() == first).all()
    again = envs.step(some_actions(envs))
    assert (again[0] == later[0]).all() and again[1].tolist() == later[1].tolist()
    envs.seed(4)
    assert not (envs.reset() == first).all()


def problems(infos):
    return [info["problem"] for info in infos]


def test_neighbors_of_a_group_get_the_same_problem(models):
    envs = bridge(models, 6, group=3)
    envs.seed(1)
    observation = envs.reset()
    seen = set()
    for round_ in range(3):
        drawn = problems(envs.reset_infos)
        assert len(set(drawn[:3])) == len(set(drawn[3:])) == 1 and drawn[0] != drawn[3]
        assert (observation[:3] == observation[0]).all()
        seen.update(drawn)
        actions = np.tile(some_actions(envs, round_)[:1], (6, 1))
        observation, rewards, _, infos = envs.step(actions)
        assert problems(infos) == drawn
        assert len(set(rewards[:3])) == 1  # common random numbers
    assert len(seen) == 6


def test_streams_end_together_at_their_horizon(models):
    envs = bridge(models, 4, group=2, horizon=2)
    envs.seed(1)
    start = envs.reset()
    middle, _, dones, infos = envs.step(some_actions(envs))
    assert not dones.any() and "terminal_observation" not in infos[0]
    assert (middle[0] == middle[1]).all() and not (middle[0] == start[0]).all()
    after, _, dones, infos = envs.step(some_actions(envs, 1))
    assert dones.all() and (infos[0]["terminal_observation"] == middle[0]).all()
    assert (after[0] == after[1]).all() and not (after[0] == middle[0]).all()


def test_what_wraps_a_vec_env_wraps_this_one(models):
    envs = VecMonitor(bridge(models, 2))
    envs.seed(0)
    envs.reset()
    _, rewards, _, infos = envs.step(some_actions(envs))
    assert [info["episode"]["r"] for info in infos] == pytest.approx(rewards.tolist(), abs=1e-5)
    assert envs.get_attr("num_envs") == [2, 2]
    assert envs.env_is_wrapped(gym.Wrapper) == [False, False]
    with pytest.raises(UserError, match="no sub-environments"):
        envs.env_method("reset")
    envs.close()


def test_a_stock_policy_trains_on_token_ids(models):
    """Not that it would get far: it shows that the spaces are what the library takes."""
    trained = A2C("MlpPolicy", bridge(models, 2), n_steps=1, policy_kwargs={"net_arch": [4]})
    trained.learn(4)
    assert trained.num_timesteps == 4


def test_environments_that_do_not_fit_are_refused(models):
    with pytest.raises(UserError, match="not SyncVectorEnv"):
        TokenVecEnv(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync"))
    for group in (0, 3):
        with pytest.raises(UserError, match=f"group {group}"):
            bridge(models, 4, group=group)
