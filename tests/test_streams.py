"""Runs with episodes of several problems (`--horizon` above 1)."""

import io
import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from agent_fixtures import context, env, lines, quiet
from rich.console import Console

from seal_agents.base import Agent
from seal_agents.reporting.report import print_summary, summarize
from seal_agents.run_folder import RunFolder
from seal_agents.runner import train
from seal_agents.runner.build import agent_class
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.environment import make_environment
from seal_agents.runner.rollout import Stage, rollout
from seal_env.episodes import make_task
from seal_env.errors import UserError
from seal_env.streams import STREAMS

TASK = make_task("helpers:Parity")
PROBLEMS = tuple(TASK.problem("train", i) for i in range(5))
HORIZON, SAMPLES = 2, 2


class Echo(Agent):
    """Writes its seed, or nothing for every third; knows the states that it has seen."""

    asked = ()

    def act(self, observations, seeds):
        self.asked = [*self.asked, *seeds]
        return [
            None if s % 3 == 0 else f"{o['context']} {s % 7} {o['model_state'].sum():.6f}"
            for o, s in zip(observations, seeds, strict=True)
        ]


def open_run(path):
    resume = (path / "config.json").exists()
    return RunFolder.open(path, {"command": "train"}, resume=resume, overwrite=False)


def play(path, model, problems=PROBLEMS, num_envs=3, horizon=HORIZON, stream="continue"):
    agent = Echo(context(model))
    envs = make_environment(env(model, horizon=horizon, stream=stream), num_envs)
    stage = Stage("train", "echo", 1, problems, SAMPLES)
    return agent, rollout(open_run(path), agent, stage, envs, 3, lambda *_: None)


def test_every_step_is_an_experience_and_a_line(models, tmp_path):
    _, found = play(tmp_path, models["llama"])
    # 5 problems make 2 episodes of 2; each is played twice, 3 at a time.
    where = [(e, s, t) for e in range(2) for s in range(SAMPLES) for t in range(HORIZON)]
    assert [(x.info["episode"], x.info["sample"], x.info["step"]) for x in found] == where
    assert [x.info["index"] for x in found] == list(range(8))
    assert [x.info["problem"] for x in found] == [PROBLEMS[2 * e + t].id for e, _, t in where]
    assert sorted(lines(tmp_path), key=lambda r: r["index"]) == [x.info for x in found]


def test_groups_are_the_samples_of_one_step(models, tmp_path):
    groups = {}
    for x in play(tmp_path, models["llama"])[1]:
        groups.setdefault(x.group, set()).add((x.info["episode"], x.info["step"]))
    assert sorted(map(sorted, groups.values())) == [[(0, 0)], [(0, 1)], [(1, 0)], [(1, 1)]]


def test_episodes_are_those_of_the_single_environment(models, tmp_path):
    _, found = play(tmp_path, models["llama"])
    config = env(models["llama"], horizon=HORIZON)
    one = gym.make("SelfEdit-v0", **config.kwargs())
    changed = 0
    for first in range(0, len(found), HORIZON):
        episode = found[first : first + HORIZON]
        start = 2 * episode[0].info["episode"]
        problems = list(PROBLEMS[start : start + HORIZON])
        observation, _ = one.reset(seed=3, options={"problems": problems})
        for x in episode:
            assert np.array_equal(x.observation["model_state"], observation["model_state"])
            observation, reward, *_, info = one.step(x.info["text"])
            assert (x.reward, x.info["reward_before"]) == (reward, info["reward_before"])
            assert x.info["answers"] == info["answers"] and x.info["terms"] == info["terms"]
        changed += episode[0].info["text"] is not None
        assert "retention" in x.info["terms"]
    assert changed


@pytest.mark.slow
@pytest.mark.parametrize(("known", "stream"), enumerate(["continue", *STREAMS], 1))
def test_a_batch_that_was_stopped_goes_on_to_the_bit(models, tmp_path, known, stream):
    agent, whole = play(tmp_path / "whole", models["llama"], stream=stream)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    place = tmp_path / "cut" / "episodes.jsonl"
    place.write_text("".join(place.read_text().splitlines(keepends=True)[:known]))
    again, found = play(tmp_path / "cut", models["llama"], stream=stream)
    assert list(again.asked) == list(agent.asked)[known:]
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    for one, other in zip(whole, found, strict=True):
        assert one.info == other.info
        assert np.array_equal(one.observation["model_state"], other.observation["model_state"])


def test_too_few_problems_for_an_episode_are_one_line(models, tmp_path):
    with pytest.raises(UserError, match=r"--horizon 6: .* there are 5"):
        play(tmp_path, models["llama"], horizon=6)


def test_a_summary_tells_accuracy_by_step_and_retention(models, tmp_path):
    _, found = play(tmp_path, models["llama"])
    summary = summarize({"echo": [x.info for x in found]}, 0, 1.0)
    row = summary["rows"]["echo"]
    for step in range(HORIZON):
        mine = [x.info["accuracy"] for x in found if x.info["step"] == step]
        assert row["accuracy_by_step"][step] == pytest.approx(sum(mine) / len(mine))
    lost = [x.info["terms"]["retention"] for x in found if x.info["step"] == 1]
    assert row["retention"] == pytest.approx(sum(lost) / len(lost))
    shown = io.StringIO()
    print_summary(summary, Console(file=shown, width=200))
    assert "echo: accuracy by step 0." in shown.getvalue()
    assert "retention +" in shown.getvalue() or "retention -" in shown.getvalue()


def run(agent, out, stream, model):
    kind = agent_class(agent).Options()
    options = replace(kind, max_new_tokens=24) if hasattr(kind, "max_new_tokens") else kind
    config = TrainConfig(
        env=env(model, horizon=3, stream=stream), agent=agent, options=options,
        rounds=2, problems=6, samples=2, test_problems=4, references=("none",), num_envs=3, out=out,
    )  # fmt: skip
    return train.train(config, True, False, quiet())


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("agent", "stream"), [("rest-em", "merge"), ("ppo-choices", "route"), ("grpo", "replay")]
)
def test_agents_train_on_streams_and_resume_to_the_bit(
    models, tmp_path, monkeypatch, agent, stream
):
    whole = run(agent, tmp_path / "whole", stream, models["llama"])
    assert [len(row["accuracy_by_step"]) for row in whole["rows"].values()] == [3, 3]
    assert whole["rows"]["trained"]["problems"] == 3 and whole["evaluations"] == 24
    append, done = RunFolder.append, []

    def stops(self, records):
        append(self, records)
        done.append(len(records))
        if len(done) in (2, 8):  # in the middle of episodes, once per round
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "append", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(agent, tmp_path / "cut", stream, models["llama"])
    found = run(agent, tmp_path / "cut", stream, models["llama"])
    assert found["rows"] == whole["rows"] and found["checks"] == whole["checks"]
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    for place in (tmp_path / "whole" / "checkpoints").rglob("*.safetensors"):
        other = tmp_path / "cut" / place.relative_to(tmp_path / "whole")
        assert other.read_bytes() == place.read_bytes()
