"""Distilling a run: what is imitated, what is reported, and that it can be stopped."""

import json
import shutil

import numpy as np
import pytest
import torch
from agent_fixtures import quiet, snapshot, summary

from seal_agents import cli
from seal_agents.algorithms.imitation import Imitation, imitate
from seal_agents.algorithms.ppo_choices import PPOChoices, PPOChoicesOptions
from seal_agents.base import Agent, AgentContext
from seal_agents.runner import distill as module
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.distill import DistillConfig, distill
from seal_agents.runner.train import train
from seal_env.episodes import EnvConfig
from seal_env.errors import UserError
from seal_env.testing import identity

pytestmark = pytest.mark.slow


class Repeats(Agent):
    """A writer of text that says the word by repeating the context, three times in four."""

    def act(self, observations, seeds):
        pairs = zip(observations, seeds, strict=True)
        return [o["context"] if seed % 4 else "Nothing." for o, seed in pairs]


@pytest.fixture(scope="module")
def taught(models, tmp_path_factory):
    """The run of an agent that says the right word most of the time."""
    out = tmp_path_factory.mktemp("taught") / "run"
    env = EnvConfig(**identity(model=models["llama"]))
    sizes = {"rounds": 2, "problems": 40, "samples": 2, "test_problems": 2}
    config = TrainConfig(env, "test_distill:Repeats", references=("none",), out=out, **sizes)
    train(config, False, False, quiet())
    return out


def settings(taught, out, **changes):
    return DistillConfig(taught, imitation=Imitation(3e-3), test_problems=40, out=out, **changes)


def weights(run):
    return (run / "checkpoints" / "round-1" / "policy.safetensors").read_bytes()


def test_the_small_policy_comes_to_do_what_the_teacher_did(taught, tmp_path):
    out = tmp_path / "out"
    numbers = distill(settings(taught, out), False, False, quiet())
    rows, found = numbers["rows"], numbers["distilled"]
    assert set(rows) == {"none", "random choices", "teacher", "distilled"}
    assert 70 <= found["imitated"] <= 80
    assert sum(found["choices"].values()) == found["imitated"] and len(found["choices"]) == 4
    assert 0.55 < found["reward_of_teacher"] < 0.95 and found["reward_of_student"] > 0.8
    assert found["share_of_reward"] == pytest.approx(
        found["reward_of_student"] / found["reward_of_teacher"]
    )
    low, high = found["share_of_reward_ci"]
    assert low < found["share_of_reward"] < high
    assert found["parameters_of_student"] < found["parameters_of_teacher"]
    assert found["seconds_of_student"] > found["seconds_of_student_reading"] > 0
    assert summary(out) == json.loads(json.dumps(numbers))
    assert (out / "comparison.png").is_file()


def test_the_new_run_is_one_of_ppo_choices(taught, tmp_path, models, capsys):
    out = tmp_path / "out"
    distill(settings(taught, out), False, False, quiet())
    cli.main(["report", str(out)])
    assert "distilled" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert config["agent"] == "ppo-choices" and config["distill"]["run"] == str(taught)
    agent = PPOChoices(
        AgentContext(EnvConfig(**identity(model=models["llama"])), options=PPOChoicesOptions())
    )
    before = torch.cat([p.flatten() for p in agent.model.policy.parameters()])
    agent.load(out / "checkpoints" / "round-1")
    assert not torch.equal(
        before, torch.cat([p.flatten() for p in agent.model.policy.parameters()])
    )


def test_a_resumed_distillation_equals_one_that_was_never_stopped(taught, tmp_path, monkeypatch):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    wanted = distill(settings(taught, whole), False, False, quiet())
    rollout, calls = module.rollout, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return rollout(*arguments)

    monkeypatch.setattr(module, "rollout", stops)
    with pytest.raises(KeyboardInterrupt):
        distill(settings(taught, halved), False, False, quiet())
    monkeypatch.undo()
    with pytest.raises(UserError, match="already holds a run"):
        distill(settings(taught, halved), False, False, quiet())
    with pytest.raises(UserError, match="same settings"):
        distill(settings(taught, halved, keep=2), True, False, quiet())
    found = distill(settings(taught, halved), True, False, quiet())
    assert found["rows"] == wanted["rows"] and weights(halved) == weights(whole)
    assert (halved / "episodes.jsonl").read_bytes() == (whole / "episodes.jsonl").read_bytes()
    before = snapshot(halved)
    assert distill(settings(taught, halved), True, False, quiet()) == found
    after = snapshot(halved)
    assert {k: v for k, v in after.items() if k != "clock.json"} == {
        k: v for k, v in before.items() if k != "clock.json"
    }


def test_imitation_learns_what_depends_on_the_context(models):
    """The right word is in the features; what is held back tells when to stop."""
    env = EnvConfig(**identity(model=models["llama"]))
    student = PPOChoices(AgentContext(env, options=PPOChoicesOptions()))
    generator = np.random.default_rng(0)
    menu, values = student.view.menu, student.view.menu.kinds[0]
    seen, chosen = [], []
    for i in range(120):
        state = generator.normal(size=68).astype(np.float32)
        seen.append({"context": f"It is {values[i % 4]}.", "model_state": state})
        chosen.append((i % 4,))
    problems = [f"p{i}" for i in range(120)]
    numbers = imitate(student, seen[:80], chosen[:80], problems[:80], Imitation(3e-3), 0)
    assert numbers["loss_held_back"] < 0.7 < np.log(4)
    written = student.act(seen[80:], range(40))
    right = [menu.render("", c) for c in chosen[80:]]
    assert np.mean([a == b for a, b in zip(written, right, strict=True)]) > 0.7


def test_imitation_stops_before_it_learns_by_heart(models):
    env = EnvConfig(**identity(model=models["llama"]))
    student = PPOChoices(AgentContext(env, options=PPOChoicesOptions()))
    generator = np.random.default_rng(0)
    seen = [
        {"context": "", "model_state": generator.normal(size=68).astype(np.float32)}
        for _ in range(60)
    ]
    chosen = [(int(i),) for i in generator.integers(4, size=60)]  # nothing to be learned
    problems = [f"p{i}" for i in range(60)]
    numbers = imitate(student, seen, chosen, problems, Imitation(1e-2, 300), 0)
    assert numbers["loss_held_back"] < np.log(4) + 0.1
    assert numbers["loss"] > 0.5


def test_shares_are_of_the_teachers_reward_and_gain():
    def some(rewards):
        return [{"reward": r, "reward_before": 0.2} for r in rewards]

    teacher, student = [0.4, 0.8] * 50, [0.5, 0.3] * 50
    found = module._shares({"teacher": some(teacher), "distilled": some(student)}, 0)
    assert found["share_of_reward"] == pytest.approx(0.4 / 0.6)
    assert found["share_of_gain"] == pytest.approx(0.2 / 0.4)
    low, high = found["share_of_gain_ci"]
    assert 0.35 < low < 0.5 < high < 0.65
    worse = module._shares({"teacher": some([0.1] * 9), "distilled": some([0.1] * 9)}, 0)
    assert "share_of_gain" not in worse and "share_of_reward" in worse


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "nowhere"], "no run here"),
        (["--keep", "0"], "--keep 0: must be at least 1"),
        (["--imitation.held-back", "1"], "held_back at least 2"),
        (["--options.menu", "pasage"], "did you mean 'passage'"),
        (["--last-rounds", "x"], "seal-env distill --help"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments, message, taught, tmp_path, capsys):
    run = [] if "--run" in arguments else ["--run", str(taught)]
    with pytest.raises(SystemExit) as ended:
        cli.main(["distill", *run, *arguments, "--out", str(tmp_path / "out")])
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and message in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_that_kept_nothing_cannot_be_distilled(models, tmp_path):
    env = EnvConfig(**identity(model=models["llama"]))
    sizes = {"rounds": 1, "problems": 2, "samples": 1, "test_problems": 1}
    config = TrainConfig(env, "none", references=("none",), out=tmp_path / "run", **sizes)
    train(config, False, False, quiet())
    with pytest.raises(UserError, match="no self-edit was better than none"):
        distill(DistillConfig(tmp_path / "run", out=tmp_path / "out"), False, False, quiet())
    assert not (tmp_path / "out").exists()


def test_a_run_on_streams_is_refused(taught, tmp_path):
    shutil.copytree(taught, tmp_path / "streams")
    place = tmp_path / "streams" / "config.json"
    config = json.loads(place.read_text())
    config["env"]["horizon"] = 3
    place.write_text(json.dumps(config))
    with pytest.raises(UserError, match="was trained with --horizon 3"):
        distill(settings(tmp_path / "streams", tmp_path / "out"), False, False, quiet())
    assert not (tmp_path / "out").exists()
