"""Other libraries' environments, buffers and trainers around `SelfEdit-v0`, as they are.

stable-baselines3 and sb3-contrib are in test_testing.py, test_choices.py and test_gradient.py,
TRL's trainers in test_grpo.py. Libraries that are no part of what the tests install are tried
where they are there.
"""

import asyncio
import importlib

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as wrappers
from helpers import INNER
from torchrl.envs import GymEnv, GymWrapper
from torchrl.envs.utils import check_env_specs

from seal_env.errors import UserError
from seal_env.testing import identity
from seal_env.wrappers import ChoiceActions, ScalarInfo, VectorChoiceActions
from seal_env.wrappers.sb3.choice_vec import ChoiceVecEnv

FORMS = [
    {"flat": flat, "discrete": discrete} for flat in (False, True) for discrete in (False, True)
]


@pytest.fixture
def settings(models):
    return identity(2, 2, model=models["llama"])


@pytest.fixture
def many(settings):
    def make(count=4, mode="SAME_STEP", **form):
        envs = gym.make_vec("SelfEdit-v0", count, autoreset_mode=mode, **settings)
        return VectorChoiceActions(envs, **form)

    return make


# Gymnasium


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_choices_side_by_side_are_those_of_each_alone(many, settings, form):
    envs = many(3, **form)
    seen, _ = envs.reset(seed=[1, 2, 3])
    assert seen in envs.observation_space
    actions = envs.action_space.sample()
    again, rewards, terminated, _, infos = envs.step(actions)
    assert again in envs.observation_space and terminated.all()
    for slot, action in enumerate(actions):
        one = ChoiceActions(gym.make("SelfEdit-v0", **settings), **form)
        first, _ = one.reset(seed=slot + 1)
        last, reward, _, _, info = one.step(action)
        next_, _ = one.reset()
        assert reward == rewards[slot] and infos["_text"][slot]
        assert [infos[name][slot] for name in ("text", "choices")] == [
            info["text"],
            info["choices"],
        ]
        for found, expected in ((seen, first), (again, next_), (infos["final_obs"][slot], last)):
            names = [()] if form["flat"] else [*expected]
            for name in names:
                part = found[name]
                part = part if part.shape == expected[name].shape else part[slot]
                assert (part == expected[name]).all()


def test_choices_side_by_side_refuse_what_they_cannot_wrap(many):
    with pytest.raises(UserError, match="wraps SelfEdit-v0"):
        VectorChoiceActions(gym.make_vec("CartPole-v1", 2))
    envs = many(2)
    with pytest.raises(RuntimeError, match="reset"):
        envs.step(envs.action_space.sample())
    envs.reset(seed=0)
    with pytest.raises(UserError, match="not in"):
        envs.step([[9, 9], [0, 0]])


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gymnasiums_vector_wrappers_go_around_it(many, settings, mode):
    envs = wrappers.RecordEpisodeStatistics(many(mode=mode, flat=True, discrete=True))
    envs = wrappers.ClipReward(wrappers.NormalizeReward(envs), -5, 5)
    if mode is not AutoresetMode.SAME_STEP:  # which they refuse
        envs = wrappers.DtypeObservation(envs, np.float64)
    if mode is AutoresetMode.NEXT_STEP:
        envs = wrappers.NormalizeObservation(envs)
    seen, _ = envs.reset(seed=0)
    returns = []
    for _ in range(4):
        seen, _, terminated, _, infos = envs.step(envs.action_space.sample())
        returns += [*infos["episode"]["r"][infos["_episode"]]] if "episode" in infos else []
        if mode is AutoresetMode.DISABLED:
            envs.reset(options={"reset_mask": terminated})
    assert seen.shape == (4, envs.single_observation_space.shape[0])
    assert len(returns) == (8 if mode is AutoresetMode.NEXT_STEP else 16)
    assert set(returns) <= {0.0, 1.0}


def test_texts_can_be_left_out_and_numbers_normalized(settings):
    envs = gym.make_vec("SelfEdit-v0", 2, autoreset_mode="NEXT_STEP", **settings)
    envs = wrappers.FlattenObservation(wrappers.FilterObservation(envs, ["model_state"]))
    envs = wrappers.NormalizeObservation(envs)
    seen, _ = envs.reset(seed=0)
    for _ in range(3):
        seen, *_ = envs.step(["Ada.", "Bo."])
        assert seen in envs.observation_space and np.isfinite(seen).all()


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_infos_can_be_numbers_alone(settings):
    env = ScalarInfo(gym.make("SelfEdit-v0", **settings))
    check_env(env, skip_render_check=True)
    assert env.reset(seed=0)[1] == {}
    kinds = []
    for text in ("Nothing.", env.unwrapped.episodes.running[0].problems[0].context):
        env.reset(seed=0)
        info = env.step(text)[4]
        kinds.append({name: type(value) for name, value in info.items()})
        assert info["terms/seal_env.testing:CarriedOut"] in (0.0, 1.0)
    assert kinds[0] == kinds[1] and set(kinds[0].values()) == {bool, int, float}
    again = gym.make(env.spec)
    assert isinstance(again, ScalarInfo)


@pytest.mark.parametrize("mode", ["NEXT_STEP", "DISABLED"])
def test_stable_baselines3_is_told_which_autoreset_mode_it_needs(settings, mode):
    with pytest.raises(UserError, match=f"{mode}.* needs SAME_STEP"):
        ChoiceVecEnv(gym.make_vec("SelfEdit-v0", 2, autoreset_mode=mode, **settings))


# A loop in the style of CleanRL


@pytest.mark.slow
def test_a_policy_gradient_in_a_page_of_torch_learns(many):
    torch.manual_seed(0)
    envs = many(32, flat=True, discrete=True)
    inputs = envs.single_observation_space.shape[0]
    options = int(envs.single_action_space.n)
    layers = [torch.nn.LayerNorm(inputs), torch.nn.Linear(inputs, 64), torch.nn.Tanh()]
    policy = torch.nn.Sequential(*layers, torch.nn.Linear(64, options))
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    seen, _ = envs.reset(seed=0)
    means = []
    for _ in range(60):
        chosen = torch.distributions.Categorical(logits=policy(torch.from_numpy(seen)))
        actions = chosen.sample()
        seen, rewards, *_ = envs.step(actions.numpy())
        means.append(rewards.mean())
        advantage = torch.from_numpy(rewards - rewards.mean()).float()
        optimizer.zero_grad()
        (-chosen.log_prob(actions) * advantage).mean().backward()
        optimizer.step()
    assert means[0] < 0.6 and np.mean(means[-5:]) > 0.8


# TorchRL


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_torchrl_checks_choices(settings, many, form):
    check_env_specs(GymWrapper(ChoiceActions(gym.make("SelfEdit-v0", **settings), **form)))
    envs = GymWrapper(many(3, "DISABLED", **form))
    check_env_specs(envs)
    rollout = envs.rollout(4, break_when_any_done=False)
    assert rollout["next", "reward"].shape == (3, 4, 1)
    assert rollout["next", "done"].all()


def test_torchrl_checks_texts(settings):
    for env in (GymEnv("SelfEdit-v0", **settings), GymWrapper(gym.make("SelfEdit-v0", **settings))):
        check_env_specs(env)
        state = env.reset()
        state["action"] = state["context"]  # says the words
        assert env.step(state)["next", "reward"].item() == 1.0
    for name in ("horizons", "frameskip"):
        with pytest.raises(UserError, match=name):
            gym.make("SelfEdit-v0", **settings, **{name: 1})


# skrl


@pytest.mark.slow
def test_skrl_trains(many):
    dqn = importlib.import_module("skrl.agents.torch.dqn")
    memories = importlib.import_module("skrl.memories.torch")
    models = importlib.import_module("skrl.models.torch")
    trainers = importlib.import_module("skrl.trainers.torch")
    wrap_env = importlib.import_module("skrl.envs.wrappers.torch").wrap_env

    class Values(models.DeterministicMixin, models.Model):
        def __init__(self, env):
            spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
            models.Model.__init__(self, **spaces, device=env.device)
            models.DeterministicMixin.__init__(self)
            self.net = torch.nn.Linear(self.num_observations, self.num_actions)

        def compute(self, inputs, role):
            return self.net(inputs["observations"]), {}

    env = wrap_env(many(4, flat=True, discrete=True))
    networks = {name: Values(env) for name in ("q_network", "target_q_network")}
    memory = memories.RandomMemory(memory_size=64, num_envs=4, device=env.device)
    cfg = {"learning_starts": 4, "batch_size": 8, "random_timesteps": 4}
    cfg |= {"experiment": {"write_interval": 0, "checkpoint_interval": 0}}
    agent = dqn.DQN(
        models=networks,
        memory=memory,
        observation_space=env.observation_space,
        action_space=env.action_space,
        device=env.device,
        cfg=cfg,
    )
    before = networks["q_network"].net.weight.clone()
    settings = {"timesteps": 12, "headless": True, "disable_progressbar": True}
    settings["close_environment_at_exit"] = False
    trainers.SequentialTrainer(env=env, agents=agent, cfg=settings).train()
    assert not torch.equal(before, networks["q_network"].net.weight)


# Tianshou


@pytest.mark.slow
def test_tianshou_collects_and_trains(settings):
    pytest.importorskip("tianshou")
    from tianshou.algorithm import DQN
    from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.utils.net.common import Net
    from tianshou.utils.torch_utils import policy_within_training_step

    def make():
        env = gym.make("SelfEdit-v0", **settings)
        return ScalarInfo(ChoiceActions(env, flat=True, discrete=True))

    envs, space = DummyVectorEnv([make, make]), make()
    net = Net(
        state_shape=space.observation_space.shape,
        action_shape=int(space.action_space.n),
        hidden_sizes=[16],
    )
    policy = DiscreteQLearningPolicy(model=net, action_space=space.action_space, eps_training=1.0)
    algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), gamma=0.0)
    collector = Collector(algorithm, envs, VectorReplayBuffer(64, 2), exploration_noise=True)
    collector.reset()
    assert set(collector.rollout(n_step=16).returns) <= {0.0, 1.0}
    before = [p.clone() for p in net.parameters()]
    with policy_within_training_step(policy):
        algorithm.update(sample_size=8, buffer=collector.buffer)
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


# verifiers


def test_a_taskset_of_verifiers_is_rewarded_by_the_environment(settings):
    pytest.importorskip("verifiers")
    from verifiers import v1 as vf

    env = gym.make("SelfEdit-v0", **settings)

    class Passage(vf.TaskData):
        problem: int

    class WriteSelfEdit(vf.Task[Passage]):
        @vf.reward
        async def learned(self, trace) -> float:
            env.reset(seed=0, options={"problems": self.data.problem})
            return env.step(trace.last_reply)[1]

    class Passages(vf.Taskset[WriteSelfEdit]):
        def load(self):
            for index in range(3):
                seen, _ = env.reset(seed=0, options={"problems": index})
                yield WriteSelfEdit(Passage(prompt=seen["context"], problem=index))

    class Reply:
        def __init__(self, text):
            self.last_reply, self.rewards = text, {}

        def record_reward(self, name, value, *_, **__):
            self.rewards[name] = value

    for task in Passages(vf.TasksetConfig()):
        for reply, reward in ((task.data.prompt, 1.0), ("Nothing.", 0.0)):
            assert asyncio.run(task.learned(Reply(reply))) == reward


# Hydra, Ray and the like hand over plain dictionaries


def test_settings_as_plain_dictionaries(models):
    inner = {"lora": {"rank": 4, "alpha": 8.0}, "finetune": {"learning_rate": 2e-2, "epochs": 2}}
    rewards = []
    for given in (inner, INNER):
        env = gym.make("SelfEdit-v0", model=models["llama"], inner=given, reward="log_likelihood")
        env.reset(seed=1)
        rewards.append(env.step("Ada Cho was born in Oslo.")[1])
    assert rewards[0] == rewards[1]
