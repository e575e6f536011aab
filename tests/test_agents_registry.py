"""Every agent of the registry on an identity environment: it runs; if it learns, it improves."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from seal_agents import AGENTS, Agent, AgentContext
from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import agent_class
from seal_agents.runner.environment import make_environment
from seal_agents.runner.rollout import Stage, rollout
from seal_env.episodes import EnvConfig, make_task
from seal_env.testing import identity

pytestmark = pytest.mark.slow

ROUNDS, PROBLEMS, SAMPLES = 3, 8, 8
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "best-of-n": {"candidates": 2},
    "pooled": {"tokens": 12},
    "ppo-choices": {"learning_rate": 1e-2},
    "self-rewarding": {"learning_rate": 2e-3},
}
"""Options of single agents, for budgets of seconds."""
ARGUMENTS = {"always": "edits.jsonl", "edits": "edits.jsonl"}


def learns(kind):
    """Whether `learn` changes what it writes: a language model needs weights of its own for it."""
    return kind.learn is not Agent.learn and getattr(kind, "trainable", True)


def make(name, config):
    kind = agent_class(name)
    settings = dict(SETTINGS.get(name, {}))
    if hasattr(kind.Options(), "max_new_tokens"):
        settings.setdefault("max_new_tokens", 12)
    context = AgentContext(config, 0, ARGUMENTS.get(name, ""), kind.Options(**settings))
    return kind(context)


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_every_agent_runs_and_those_that_learn_improve(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = EnvConfig(**identity())
    task = make_task(config.task, None, config.task_options)
    contexts = [task.problem(split, i).context for split in ("train", "test") for i in range(32)]
    (tmp_path / "edits.jsonl").write_text(
        "".join(json.dumps({"context": c, "text": "Nothing."}) + "\n" for c in contexts)
    )
    agent, envs = make(name, config), make_environment(config, 64)
    run = RunFolder.open(tmp_path / "run", {"command": "train"}, False, False)

    def play(phase, round_, split, first, count, samples):
        problems = tuple(task.problem(split, first + i) for i in range(count))
        stage = Stage(phase, name, round_, problems, samples)
        return rollout(run, agent, stage, envs, 0, lambda *_: None)

    def held_out(round_):
        rewards = [e.reward for e in play("evaluate", round_, "test", 0, 32, 1)]
        return sum(rewards) / len(rewards)

    before = held_out(0)
    for round_ in range(1, ROUNDS + 1):
        first = PROBLEMS * (round_ - 1)
        experiences = play("train", round_, "train", first, PROBLEMS, SAMPLES)
        assert len(experiences) == PROBLEMS * SAMPLES
        agent.learn(experiences)
    after = held_out(ROUNDS)
    if learns(type(agent)):
        assert after > min(before + 0.1, 0.99)  # an agent may be nearly perfect from the start
    assert len(run.every_record()) == ROUNDS * PROBLEMS * SAMPLES + 2 * 32
