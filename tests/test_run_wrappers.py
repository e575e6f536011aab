"""A user's Gymnasium wrappers around the environment of a run."""

import json

import gymnasium as gym
import numpy as np
import pytest
from agent_fixtures import TRAIN, context, env, lines
from gymnasium.vector import VectorWrapper

from seal_agents.base import Agent
from seal_agents.cli import main
from seal_agents.run_folder import RunFolder
from seal_agents.runner.environment import make_environment
from seal_agents.runner.rollout import Stage, rollout
from seal_env.curriculum import Curriculum
from seal_env.episodes import make_task
from seal_env.errors import UserError

TASK = make_task("helpers:Parity")
PROBLEMS = tuple(TASK.problem("train", i) for i in range(3))
SAID = "He works.\nHe sleeps."


class Half(gym.RewardWrapper):
    """Halves rewards."""

    def reward(self, reward):
        return reward / 2


class OneMore(VectorWrapper):
    """Adds 1 to rewards."""

    def step(self, actions):
        observations, rewards, *rest = self.env.step(actions)
        return observations, rewards + 1, *rest


class Reversed(gym.ActionWrapper):
    """Carries the lines out in reverse order."""

    def action(self, action):
        return "\n".join(reversed(action.split("\n")))


class Told(gym.ObservationWrapper):
    """Shows another context."""

    def observation(self, observation):
        return observation | {"context": f"Read this: {observation['context']}"}


class Stepping(gym.Wrapper):
    """Steps by itself."""

    def step(self, action):
        return self.env.step(action)


class Numbers(VectorWrapper):
    """Has other actions."""

    def __init__(self, env):
        super().__init__(env)
        self.single_action_space = gym.spaces.Discrete(3)


class Blind(VectorWrapper):
    """Shows nothing."""

    def __init__(self, env):
        super().__init__(env)
        self.single_observation_space = gym.spaces.Dict({})


class Picky(VectorWrapper):
    """Needs more than an environment."""

    def __init__(self, env, number):
        super().__init__(env)


class Refused(VectorWrapper):
    """Fits no environment, by an error of Gymnasium's own."""

    def __init__(self, env):
        raise gym.error.Error("not around this one")


class NoReward(gym.RewardWrapper):
    """Forgets to return the reward."""

    def reward(self, reward):
        pass


class Boundless(gym.RewardWrapper):
    """Has a reward without bound."""

    def reward(self, reward):
        return float("inf")


class NoObservation(gym.ObservationWrapper):
    """Returns the context alone."""

    def observation(self, observation):
        return {"context": observation["context"]}


class NoInfos(VectorWrapper):
    """Drops the infos."""

    def step(self, actions):
        return *self.env.step(actions)[:-1], {}


class Noting(VectorWrapper):
    """Adds infos: an array, and one with the name of a field of the run's."""

    def step(self, actions):
        *step, infos = self.env.step(actions)
        whole = np.ones(self.num_envs, dtype=bool)
        infos |= {"place": np.zeros((self.num_envs, 2)), "_place": whole}
        infos |= {"inner": {"place": infos["place"], "_place": whole}, "_inner": whole}
        return *step, infos | {"round": np.full(self.num_envs, 77), "_round": whole}


class Says(Agent):
    """Says the same to everyone, and nothing to the last one of a batch."""

    seen = ()

    def act(self, observations, seeds):
        self.seen = [*self.seen, *(o["context"] for o in observations)]
        return [SAID] * (len(observations) - 1) + [None]


def play(path, model, *names, curriculum=None, progress=1.0):
    config = env(model, reward="log_likelihood")
    envs = make_environment(config, 4, [f"test_run_wrappers:{name}" for name in names], curriculum)
    run = RunFolder.open(path, {"command": "train"}, False, False)
    agent = Says(context(model))
    stage = Stage("train", "says", 1, PROBLEMS, 1, progress=progress)
    return agent, rollout(run, agent, stage, envs, 0, lambda *_: None)


@pytest.fixture(scope="module")
def plain(models, tmp_path_factory):
    return play(tmp_path_factory.mktemp("plain"), models["llama"])[1]


def test_a_wrapped_reward_is_learned_from_and_written_down(models, tmp_path, plain):
    _, found = play(tmp_path, models["llama"], "Half")
    assert [e.reward for e in found] == [e.reward / 2 for e in plain]
    assert [r["reward"] for r in lines(tmp_path)] == [e.reward for e in found]
    for one, other in zip(found, plain, strict=True):
        assert one.info["reward_before"] == other.info["reward_before"] / 2
    assert found[-1].info["text"] is None and found[-1].reward < 0  # the no-op's, too


def test_wrappers_are_applied_in_their_order(models, tmp_path, plain):
    for names, wanted in (
        (("Half", "OneMore"), [e.reward / 2 + 1 for e in plain]),
        (("OneMore", "Half"), [(e.reward + 1) / 2 for e in plain]),
    ):
        _, found = play(tmp_path / names[0], models["llama"], *names)
        assert [e.reward for e in found] == wanted


def test_a_wrapped_text_is_carried_out_and_learned_from(models, tmp_path, plain):
    _, found = play(tmp_path, models["llama"], "Reversed")
    assert [e.text for e in found] == ["He sleeps.\nHe works."] * 2 + [""]
    assert [e.info.get("written") for e in found] == [SAID, SAID, None]
    assert found[0].reward != plain[0].reward


def test_the_curriculum_cuts_what_a_wrapper_made(models, tmp_path):
    lengths = Curriculum(first=1, last=1)
    _, found = play(tmp_path, models["llama"], "Reversed", curriculum=lengths, progress=0.0)
    assert [e.text for e in found] == ["He sleeps."] * 2 + [""]


def test_a_wrapped_observation_is_what_the_agent_reads(models, tmp_path, plain):
    agent, found = play(tmp_path, models["llama"], "Told")
    assert agent.seen == [f"Read this: {TASK.reads(p)}" for p in PROBLEMS]
    for one, other in zip(found, plain, strict=True):
        assert one.observation["context"] == f"Read this: {other.observation['context']}"
        assert np.array_equal(one.observation["model_state"], other.observation["model_state"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such:Wrapper", "cannot import 'no.such'"),
        ("nosuch", "unknown wrapper 'nosuch'"),
        ("json:loads", "no subclass of gymnasium.vector.VectorWrapper"),
        ("test_run_wrappers:Says", "no subclass of gymnasium.vector.VectorWrapper"),
        ("test_run_wrappers:Nowhere", "has no 'Nowhere'"),
        ("test_run_wrappers:Stepping", "has a step or a reset of its own"),
        ("test_run_wrappers:Numbers", "agents write self-edits"),
        ("test_run_wrappers:Blind", "must leave 'context' and 'model_state'"),
        ("test_run_wrappers:Picky", "cannot be constructed with an environment alone"),
        ("test_run_wrappers:Refused", "cannot be constructed .*not around this one"),
    ],
)
def test_a_wrapper_that_does_not_fit_is_one_line(models, name, message):
    with pytest.raises(UserError, match=message) as error:
        make_environment(env(models["llama"]), 2, [name])
    assert "\n" not in str(error.value) and name in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoReward", "wrapper NoReward: reward must return a number"),
        ("Boundless", "a reward is infinite or NaN"),
        ("NoObservation", "wrapper NoObservation: observation must return a dict"),
        ("NoInfos", "infos have no 'text'"),
    ],
)
def test_a_wrapper_that_returns_nonsense_is_one_line(models, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        play(tmp_path, models["llama"], name)


def test_what_a_wrapper_adds_is_written_beside_the_fields_of_the_run(models, tmp_path, plain):
    _, found = play(tmp_path, models["llama"], "Noting")
    assert [e.info["round"] for e in found] == [1, 1, 1]
    assert [e.info["place"] for e in found] == [[0.0, 0.0]] * 3
    assert lines(tmp_path) == [e.info for e in found]
    added = {"place": [0.0, 0.0], "inner": {"place": [0.0, 0.0]}}
    assert [e.info for e in found] == [{**e.info, **added} for e in plain]


@pytest.mark.slow
def test_wrappers_on_the_command_line(models, tmp_path, capsys):
    common = [*TRAIN, "--model", models["llama"], "--rounds", "1"]
    named = ["--wrappers", "test_run_wrappers:OneMore", "test_run_wrappers:Half"]
    main(["train", *common, "--out", str(tmp_path / "plain")])
    main(["train", *common, *named, "--out", str(tmp_path / "run")])
    pairs = list(zip(lines(tmp_path / "plain"), lines(tmp_path / "run"), strict=True))
    assert len(pairs) == 6 + 4 * 3
    for one, other in pairs[:-3]:  # what it writes in the end may be another text
        assert other["reward"] == (one["reward"] + 1) / 2 and other["text"] == one["text"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["wrappers"] == named[1:]
    older = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert older.pop("wrappers") is None  # a run of before there were wrappers goes on
    (tmp_path / "plain" / "config.json").write_text(json.dumps(older))
    (tmp_path / "plain" / "summary.json").unlink()
    main(["train", *common, "--out", str(tmp_path / "plain"), "--resume"])
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(SystemExit):
        main(["train", *common, *named[:2], "--out", str(tmp_path / "run"), "--resume"])
    assert "--wrappers" in capsys.readouterr().err
    main(["train", *common, *named, "--out", str(tmp_path / "run"), "--resume"])
    main(["evaluate", *TRAIN[:10], "--model", models["llama"], "--policies", "passage",
          "--problems", "2", *named, "--out", str(tmp_path / "e")])  # fmt: skip
    for record in lines(tmp_path / "e"):
        assert record["reward"] == (record["terms"]["accuracy"] + 1) / 2
