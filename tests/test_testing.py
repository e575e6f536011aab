"""The identity environments: what they reward, and that algorithms learn on them."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_checker import check_env as check_for_sb3

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_env.episodes import EnvConfig
from seal_env.errors import UserError
from seal_env.testing import SayTheWord, identity
from seal_env.wrappers import ChoiceActions
from seal_env.wrappers.sb3.choice_vec import ChoiceVecEnv


def right_words(problem):
    return [question.answer for question in problem.questions]


@pytest.mark.parametrize("words", [1, 2])
def test_the_reward_is_one_for_the_right_words_and_zero_for_others(models, words):
    env = gym.make("SelfEdit-v0", **identity(words, model=models["llama"]))
    task = SayTheWord(words)
    for index in range(3):
        wanted = right_words(task.problem("train", index))
        right = f"I say {' and '.join(wanted)}."
        for text, reward in ((right, 1.0), ("Nothing.", 0.0), ("", 0.0), (wanted[0][:-1], 0.0)):
            seen, _ = env.reset(seed=0, options={"problems": index})
            assert all(word in seen["context"] for word in wanted)
            _, got, terminated, _, info = env.step(text)
            assert (got, terminated) == (reward, True)
            assert bool(info["error"]) == (reward == 0)


def test_every_word_is_asked_for_about_equally_often():
    task = SayTheWord(values=4)
    counts = np.unique([right_words(task.problem("train", i)) for i in range(400)], return_counts=1)
    assert len(counts[0]) == 4 and counts[1].min() > 70
    held_out = {task.problem("test", i).title for i in range(100)}
    assert not held_out & {task.problem("train", i).title for i in range(100)}


@pytest.mark.filterwarnings("error")
def test_they_are_environments(models):
    settings = identity(model=models["llama"])
    check_env(gym.make("SelfEdit-v0", **settings).unwrapped, skip_render_check=True)
    for discrete in (False, True):
        check_for_sb3(ChoiceActions(gym.make("SelfEdit-v0", **settings), discrete=discrete))
    assert EnvConfig(**settings).task == "seal_env.testing:SayTheWord"


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("discrete", [False, True])
def test_one_choice_is_right_and_can_be_read(models, words, discrete):
    settings = identity(words, 3, model=models["llama"])
    env = ChoiceActions(gym.make("SelfEdit-v0", **settings), discrete=discrete)
    for index in range(3):
        rewards = []
        for chosen in env.view.menu.combinations():
            seen, _ = env.reset(seed=0, options={"problems": index})
            rewards.append(env.step(env.view.action(chosen))[1])
        read = seen["features"].reshape(words, 3)
        assert ((read > 0).sum(axis=1) == 1).all() and sum(rewards) == 1
        right = list(env.view.menu.combinations())[int(np.argmax(rewards))]
        assert right == tuple(read.argmax(axis=1))


DQN_SETTINGS = {
    "learning_rate": 5e-3,
    "learning_starts": 100,
    "gradient_steps": 32,
    "batch_size": 128,
    "target_update_interval": 100,
    "exploration_fraction": 0.5,
    "gamma": 0.0,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "discrete", "settings"),
    [
        (PPO, False, {"n_steps": 1, "batch_size": 16, "learning_rate": 2e-3}),
        (A2C, False, {"n_steps": 1}),
        (DQN, True, DQN_SETTINGS),
    ],
)
def test_algorithms_learn_the_right_choice(models, kind, discrete, settings):
    def make():
        config = identity(2, 2, model=models["llama"])
        envs = gym.make_vec("SelfEdit-v0", num_envs=64, **config)
        return ChoiceVecEnv(envs, discrete=discrete)

    model = kind("MultiInputPolicy", make(), seed=0, device="cpu", **settings)

    def score():
        env = make()
        env.seed(99)
        actions, _ = model.predict(env.reset(), deterministic=True)
        return float(env.step(actions)[1].mean())

    before = score()
    model.learn(64 * 32)
    assert before < 0.5 and score() > 0.85


def test_bad_numbers_are_refused():
    for wrong in ({"words": 0}, {"words": 8}, {"values": 1}, {"values": 99}):
        with pytest.raises(UserError, match="SayTheWord"):
            SayTheWord(**wrong)
    with pytest.raises(UserError, match="start at 0"):
        SayTheWord().problem("train", -1)
