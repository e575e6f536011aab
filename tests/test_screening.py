"""Screening: which candidates are carried out, at what cost, and after a stop."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from agent_fixtures import QUICK, context, env, lines, quiet, summary
from helpers import Parity

from seal_agents import cli
from seal_agents.algorithms.best_of_n import BestOfN, BestOfNOptions
from seal_agents.algorithms.rest_em import RestEMOptions
from seal_agents.base import Agent
from seal_agents.run_folder import RunFolder
from seal_agents.runner import screening
from seal_agents.runner.build import load, make
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.environment import make_environment
from seal_agents.runner.rollout import Stage, rollout
from seal_agents.runner.screening import Screening, quota
from seal_agents.runner.train import train
from seal_env.critics import Critic
from seal_env.critics.hidden_states import HiddenStates
from seal_env.engine.config import FinetuneConfig
from seal_env.errors import UserError
from seal_env.hashing import stable_hash

TASK = Parity()


class Longest:
    """A critic that prefers long texts."""

    nothing = -1.0

    def score(self, pairs):
        return [float(len(text)) for _, text in pairs]


LONGEST = Longest()


def choose(texts, known=(), critic=LONGEST, count=2):
    """Indices that are carried out of two problems with 3 candidates, and all that is written."""
    asked = []

    def write(indices):
        asked.extend(indices)
        return [("context", texts[i]) for i in indices]

    chosen = Screening(count, critic).choose({"p": [0, 1, 2], "q": [3, 4, 5]}, known, write)
    return {i: c and c.score for i, c in sorted(chosen.items())}, asked


TEXTS = ["a", "ccc", "bb", "dd", "dd", "dd"]


def test_the_best_of_each_problem_are_chosen_and_ties_go_to_the_earlier_ones():
    assert choose(TEXTS) == ({1: 3.0, 2: 2.0, 3: 2.0, 4: 2.0}, [0, 1, 2, 3, 4, 5])


def test_without_a_critic_the_first_are_chosen_and_nothing_is_written():
    assert choose(TEXTS, critic=None) == ({0: None, 1: None, 3: None, 4: None}, [])


def test_what_was_carried_out_stays_chosen_and_a_finished_problem_is_not_written_about_again():
    chosen, asked = choose(TEXTS, known={1, 3, 4})
    assert (chosen, asked) == ({1: None, 2: 2.0, 3: None, 4: None}, [0, 1, 2])
    assert choose(TEXTS, known={0})[0] == {0: None, 1: 3.0, 3: 2.0, 4: 2.0}
    assert choose(TEXTS, known={0, 2, 3, 4}, critic=None) == (dict.fromkeys([0, 2, 3, 4]), [])


def test_no_self_edit_is_as_good_as_the_critic_says():
    assert choose([None, "", "b", "c", None, "cc"])[0] == {1: 0.0, 2: 1.0, 3: 1.0, 5: 2.0}


class Numbers(Agent):
    """Writes its seed, and notes it."""

    def act(self, observations, seeds):
        self.asked = [*getattr(self, "asked", ()), *seeds]
        return ["x" * (seed % 9) for seed in seeds]


def test_every_candidate_is_written_once(models, tmp_path):
    agent, problems = (
        Numbers(context(models["llama"])),
        tuple(TASK.problem("train", i) for i in (0, 1)),
    )
    run = RunFolder.open(tmp_path, {"command": "train"}, resume=False, overwrite=False)
    envs = make_environment(env(models["llama"]), 3)
    stage = Stage("train", "numbers", 2, problems, samples=4)
    found = rollout(run, agent, stage, envs, 0, lambda *_: None, Screening(2, LONGEST))
    assert len(agent.asked) == len(set(agent.asked)) == 8
    for group in (agent.asked[:4], agent.asked[4:]):
        own = {"x" * (seed % 9) for seed in group}
        assert sorted(own, key=len)[-1] in [e.text for e in found]
    assert [e.info["critic"] for e in found] == [len(e.text) for e in found]


@pytest.mark.parametrize(
    ("fraction", "samples", "count"), [(0.5, 8, 4), (0.5, 3, 2), (0.01, 8, 1), (0.9, 8, 7)]
)
def test_the_number_of_candidates(fraction, samples, count):
    assert quota(fraction, samples) == count


def settings(model, out, **changes):
    options = RestEMOptions(max_new_tokens=8, finetune=FinetuneConfig(1e-2, 1, 4))
    given = {"rounds": 2, "problems": 2, "samples": 4, "test_problems": 2, "num_envs": 3}
    given |= {"references": ("none",), "screen": 0.5, "out": out, "options": options}
    return TrainConfig(env(model), **given | changes)


@pytest.fixture(scope="module")
def screened(models, tmp_path_factory):
    """A run with a critic of its own, and its settings."""
    config = settings(models["llama"], tmp_path_factory.mktemp("screened") / "run")
    train(config, False, False, quiet())
    return config


def of_round(run, round_):
    return [r for r in lines(run) if r["phase"] == "train" and r["round"] == round_]


@pytest.mark.slow
def test_a_run_spends_a_fraction_of_its_inner_loops_and_says_so(screened):
    run = screened.out
    rounds = json.loads((run / "rounds.json").read_text())
    assert [(r["evaluations"], r["saved"]) for r in rounds] == [(4, 4), (8, 8)]
    assert (summary(run)["evaluations"], summary(run)["saved"]) == (8, 8)
    assert [r["sample"] for r in of_round(run, 1)] == [0, 1, 0, 1]
    assert not any("critic" in r for r in of_round(run, 1))
    assert all(np.isfinite(r["critic"]) for r in of_round(run, 2))


@pytest.mark.slow
def test_the_critic_learns_from_the_earlier_rounds_and_the_best_candidates_are_run(screened, llama):
    """The second round by hand: all candidates are written again, and ranked by another fit."""
    first, second = of_round(screened.out, 1), of_round(screened.out, 2)
    contexts = {r["problem"]: read(r["problem"]) for r in first + second}
    critic = Critic.fit(
        HiddenStates(llama),
        [(contexts[r["problem"]], r["text"]) for r in first],
        [r["reward"] for r in first],
        np.mean([r["reward_before"] for r in first]),
    )
    agent = make(screened.agent, screened.env, 0, lambda *_: None, asdict(screened.options))
    load(agent, RunFolder(screened.out).checkpoint(1))
    for name in {r["problem"]: None for r in second}:
        seeds = [stable_hash(0, "train", 2, name, sample) for sample in range(4)]
        observation = {"context": contexts[name], "model_state": None}
        texts = [one.text for one in agent.act([observation] * 4, seeds)]
        scores = critic.score([(contexts[name], text) for text in texts])
        best = sorted(sorted(range(4), key=lambda i: -scores[i])[:2])
        found = [r for r in second if r["problem"] == name]
        assert [r["sample"] for r in found] == best
        assert [r["text"] for r in found] == [texts[i] for i in best]
        assert [r["critic"] for r in found] == [scores[i] for i in best]


def read(name):
    return TASK.reads(TASK.problem("train", int(name.rpartition("/")[2])))


@pytest.mark.slow
@pytest.mark.parametrize("known", [1, 3])
def test_a_stopped_run_goes_on_to_the_same_bits(screened, tmp_path, known):
    run = tmp_path / "run"
    shutil.copytree(screened.out, run)
    wanted = (run / "episodes.jsonl").read_text()
    adapter = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    first = len(of_round(run, 1)) + known
    content = "".join(line + "\n" for line in wanted.splitlines()[:first])
    (run / "episodes.jsonl").write_text(content)
    (run / "summary.json").unlink()
    shutil.rmtree(run / "checkpoints" / "round-2")
    shutil.rmtree(run / "adapter")
    train(settings(screened.env.model, run), True, False, quiet())
    assert (run / "episodes.jsonl").read_text() == wanted
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == adapter
    assert summary(run)["saved"] == 8


@pytest.fixture
def critic(llama, tmp_path):
    """Folder of a critic that prefers the word Oslo."""
    pairs = [("Ada", "Oslo " * n) for n in range(6)]
    folder = tmp_path / "critic"
    folder.mkdir()
    Critic.fit(HiddenStates(llama), pairs, list(range(6)), 0.0).save(folder, {})
    return folder


@pytest.mark.slow
def test_a_trained_critic_ranks_from_the_first_round_on_and_may_not_change(
    critic, models, tmp_path
):
    config = settings(models["llama"], tmp_path / "run", critic=critic, rounds=1)
    train(config, False, False, quiet())
    assert all("critic" in r for r in of_round(config.out, 1))
    (config.out / "summary.json").unlink()
    with (critic / "critic.json").open("a") as file:
        file.write(" ")
    with pytest.raises(UserError, match=r"the critic's files \(--critic\) changed"):
        train(config, True, False, quiet())


def test_a_critic_of_another_learner_is_refused_before_the_run(critic, models, tmp_path):
    config = settings(models["gpt2"], tmp_path / "run", critic=critic)
    with pytest.raises(UserError, match="was trained for the model"):
        train(config, False, False, quiet())
    assert not config.out.exists()


@pytest.mark.slow
def test_an_on_policy_agent_is_screened_with_a_note(models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", *QUICK, "--model", models["llama"], "--agent", "rloo", "--screen", "0.5"]
    flags = "--rounds 1 --problems 1 --samples 4 --test-problems 1 --references none --out run"
    cli.main([*arguments, *flags.split(), "--options.max-new-tokens", "4"])
    said = capsys.readouterr().out
    assert "its gradient is biased" in said and "screening saved 2" in said


def test_best_of_n_evaluates_the_best_fraction_of_its_candidates(critic, models):
    def best_of(**settings):
        options = BestOfNOptions(max_new_tokens=8, candidates=4, **settings)
        return BestOfN(context(models["llama"], options=options))

    seen = [{"context": TASK.reads(TASK.problem("train", i)), "model_state": None} for i in (0, 1)]
    agent, tried = best_of(screen=0.5, critic=str(critic)), []
    agent._try_out = lambda readings, texts: tried.extend(zip(readings, texts, strict=True))
    every = [one.text for one in agent.policy.write([s for s in seen for _ in range(4)], range(8))]
    groups = [every[:4], every[4:]]
    chosen = agent._screened([s["context"] for s in seen], groups)
    for reading, group, best in zip(seen, groups, chosen, strict=True):
        scores = agent.critic.score([(reading["context"], text) for text in group])
        assert sorted(scores)[2:] == sorted(scores[group.index(text)] for text in best)
    agent.act(seen, [5, 6])
    assert len(tried) == 4
    with pytest.raises(UserError, match="screen and critic: give both"):
        best_of(screen=0.5)


def test_the_settings_of_runs_of_earlier_versions_are_those_without_screening(models, tmp_path):
    """`None` is what a config.json without the settings has."""
    config = TrainConfig(env(models["llama"]))
    assert config.screen is None and config.critic is None
    assert screening.screening(RunFolder(tmp_path), TASK, config, {}) is None
