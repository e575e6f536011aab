"""SelfEditVectorEnv: many self-edits in one pass, each as if it were alone."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from helpers import INNER

from seal_env import inner_loop
from seal_env.env import SelfEditEnv
from seal_env.errors import UserError
from seal_env.vector import SelfEditVectorEnv

EDIT = "Ada Cho was born in Oslo.\nThe pet of Ada Cho is a goat."
TEXTS = [EDIT, "", "x", EDIT * 3, "---", "\ud800 Oslo", "Question: Where?\nAnswer: Oslo", EDIT]
PROBLEMS = [5, 5, 5, 5, 1, 2, 3, 4]


@pytest.fixture
def make(models):
    def build(num_envs=8, **changes):
        return SelfEditVectorEnv(num_envs, **{"model": models["llama"], "inner": INNER, **changes})

    return build


def test_gymnasium_makes_it(models):
    env = gym.make_vec("SelfEdit-v0", num_envs=8, model=models["llama"], inner=INNER)
    assert isinstance(env.unwrapped, SelfEditVectorEnv)
    assert env.num_envs == 8
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    observations, infos = env.reset(seed=0)
    assert observations in env.observation_space
    assert infos["_problem"].all()
    actions = env.action_space.sample()
    assert actions in env.action_space
    observations, rewards, terminated, truncated, _ = env.step(actions)
    assert observations in env.observation_space
    assert rewards.shape == terminated.shape == truncated.shape == (8,)
    assert rewards.dtype == np.float64
    assert terminated.all()
    assert not truncated.any()


def test_each_is_what_it_is_alone_to_the_bit(make, models):
    env = make(reward="accuracy + log_likelihood")
    first, _ = env.reset(seed=3, options={"problems": PROBLEMS})
    _, rewards, _, _, infos = env.step(TEXTS)
    final = infos["final_info"]
    one = SelfEditEnv(model=models["llama"], inner=INNER, reward="accuracy + log_likelihood")
    for i, (text, problem) in enumerate(zip(TEXTS, PROBLEMS, strict=True)):
        observation, _ = one.reset(seed=3, options={"problems": problem})
        assert observation["context"] == first["context"][i]
        assert (observation["model_state"] == first["model_state"][i]).all()
        observation, reward, _, _, info = one.step(text)
        assert reward == rewards[i]
        assert info["log_likelihood"] == final["log_likelihood"][i]
        assert info["answers"] == list(final["answers"][i])
        assert (observation["model_state"] == infos["final_obs"][i]["model_state"]).all()


def test_order_does_not_matter(make):
    env = make(reward="log_likelihood")
    env.reset(seed=3, options={"problems": PROBLEMS})
    rewards = env.step(TEXTS)[1]
    env.reset(seed=3, options={"problems": PROBLEMS[::-1]})
    assert (env.step(TEXTS[::-1])[1] == rewards[::-1]).all()


def test_a_group_shares_its_seed(make):
    env = make(4, reward="log_likelihood")
    env.reset(seed=3, options={"problems": [6] * 4})
    rewards = env.step([EDIT] * 4)[1]
    assert len(set(rewards)) == 1


def test_a_list_gives_each_its_own_seed(make):
    env = make(4, reward="log_likelihood")
    env.reset(seed=[1, 2, 1, None], options={"problems": [6] * 4})
    rewards = env.step([EDIT] * 4)[1]
    assert rewards[0] == rewards[2]
    assert len(set(rewards)) == 3


def test_one_pass_of_finetuning_a_step(make, monkeypatch):
    calls = []
    real = inner_loop.finetune

    def counting(learner, bank, *rest):
        calls.append(bank.count)
        return real(learner, bank, *rest)

    monkeypatch.setattr(inner_loop, "finetune", counting)
    env = make()
    env.reset(seed=0)
    assert calls == []
    env.step(TEXTS)
    assert calls == [8]
    env.step(TEXTS)
    assert calls == [8, 8]


def test_episodes_that_end_begin_again_in_the_same_step(make):
    env = make()
    _, before = env.reset(seed=0)
    observations, _, terminated, _, infos = env.step([EDIT] * 8)
    assert terminated.all()
    final = infos["final_info"]
    assert list(final["problem"]) == list(before["problem"])
    assert not set(infos["problem"]) & set(before["problem"])
    assert infos["_final_info"].all()
    assert infos["_final_obs"].all()
    assert (observations["model_state"][:, -1] == 1).all()
    for i, last in enumerate(infos["final_obs"]):
        assert last in env.single_observation_space
        assert last["model_state"][-1] == 0
        assert infos["title"][i] in observations["context"][i]
    second = env.step([EDIT] * 8)[4]["final_info"]
    assert list(second["problem"]) == list(infos["problem"])


def test_infos_have_the_same_types_every_step(make):
    env = make()
    env.reset(seed=0)
    kinds = []
    for texts in (TEXTS, [""] * 8, [EDIT] * 8):
        final = env.step(texts)[4]["final_info"]
        kinds.append(
            {k: (v.dtype if isinstance(v, np.ndarray) else type(v)) for k, v in final.items()}
        )
        assert all(mask.all() for key, mask in final.items() if key.startswith("_"))
    assert kinds[0] == kinds[1] == kinds[2]
    assert kinds[0]["accuracy"] == np.float64
    assert np.issubdtype(kinds[0]["steps"], np.integer)


def test_streams_go_on_until_their_horizon(make, models):
    env = make(2, horizon=3, reward="log_likelihood + retention")
    streams = [[1, 2, 3], [4, 5, 6]]
    env.reset(seed=7, options={"problems": streams})
    rewards = []
    for step in range(3):
        observations, reward, terminated, _, infos = env.step([EDIT, "Nobody knows."])
        rewards.append(reward)
        assert terminated.tolist() == [step == 2] * 2
        assert ("final_info" in infos) == (step == 2)
        if step < 2:
            assert infos["problem"][0].endswith(f"/{streams[0][step]}")
            assert observations["model_state"][0, -1] == pytest.approx(1 - (step + 1) / 3)
    one = SelfEditEnv(
        model=models["llama"], inner=INNER, horizon=3, reward="log_likelihood + retention"
    )
    for i, text in enumerate([EDIT, "Nobody knows."]):
        one.reset(seed=7, options={"problems": streams[i]})
        assert [one.step(text)[1] for _ in range(3)] == [r[i] for r in rewards]


def test_a_seed_fixes_all_problems_even_at_the_first_reset(make):
    env = make()
    first = env.reset(seed=5)[1]["problem"]
    following = env.step([""] * 8)[4]["problem"]
    again = env.reset(seed=5)[1]["problem"]
    assert list(first) == list(again)
    assert list(following) == list(env.step([""] * 8)[4]["problem"])
    assert len(set(first)) == 8
    assert list(env.reset()[1]["problem"]) != list(first)


def test_without_any_seed_it_works_too(make):
    env = make(2)
    env.reset()
    assert np.isfinite(env.step(["", EDIT])[1]).all()


def test_progress_is_told(make):
    env = make(2)
    stages = set()
    env.progress = lambda stage, done, total: stages.add(stage)
    env.reset(seed=0)
    env.step([EDIT, EDIT])
    assert stages == {"training", "asking"}


def test_wrong_numbers_are_one_line(make):
    with pytest.raises(UserError, match="num_envs"):
        make(0)
    env = make(2)
    for arguments in (
        {"seed": [1]},
        {"options": {"problems": [1]}},
        {"options": {"problems": [[1, 2], 3]}},
    ):
        with pytest.raises(UserError) as error:
            env.reset(**arguments)
        assert "\n" not in str(error.value)
    env.reset(seed=0)
    with pytest.raises(UserError, match="1 self-edits for 2"):
        env.step([EDIT])
