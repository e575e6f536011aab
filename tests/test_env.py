"""SelfEdit-v0: Gymnasium's contract, determinism, any action at all."""

import math
import random
import shutil
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from helpers import INNER, Parity, weights_hash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from seal_env.engine.loading import EMBEDDED
from seal_env.engine.lora import LoraConfig
from seal_env.engine.training import FinetuneConfig
from seal_env.env import SelfEditEnv
from seal_env.errors import UserError
from seal_env.inner_loop import InnerLoopConfig
from seal_env.presets import model_preset
from seal_env.tasks.base import Problem, Question
from seal_env.tasks.biographies.edits import write
from seal_env.tasks.biographies.task import Biographies
from seal_env.updates import finetuning

EDIT = "Ada Cho was born in Oslo.\nThe pet of Ada Cho is a goat."


@pytest.fixture
def make(models):
    def build(**changes):
        return SelfEditEnv(**{"model": models["llama"], "inner": INNER, **changes})

    return build


def play(env, text, seed=3, problems=5):
    env.reset(seed=seed, options={"problems": problems})
    return env.step(text)


def equal(one, other):
    """Whether two results of `step` are the same to the bit."""
    same_state = (one[0]["model_state"] == other[0]["model_state"]).all()
    return bool(same_state) and one[0]["context"] == other[0]["context"] and one[1:] == other[1:]


@pytest.mark.parametrize("horizon", [1, 3])
def test_gymnasiums_checker_has_nothing_to_say(models, horizon):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("seal_env:SelfEdit-v0", model=models["llama"], inner=INNER, horizon=horizon)
        check_env(env.unwrapped)


def test_a_plain_import_registers_it():
    script = "import gymnasium, seal_env; print(gymnasium.spec('SelfEdit-v0').entry_point)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == "seal_env.env:SelfEditEnv"


def test_one_episode(make):
    env = make(reward="accuracy + 0.5 * log_likelihood")
    observation, info = env.reset(seed=1)
    assert observation in env.observation_space
    assert info["title"] in observation["context"]
    assert observation["model_state"].dtype == np.float32
    assert observation["model_state"].shape == (64 + 4,)
    loss, norm, last, left = observation["model_state"][-4:]
    assert loss > 0
    assert (norm, last, left) == (0, 0, 1)
    after, reward, terminated, truncated, info = env.step(EDIT)
    assert after in env.observation_space
    assert terminated is True
    assert truncated is False
    assert isinstance(reward, float)
    assert reward == pytest.approx(info["accuracy"] + 0.5 * info["log_likelihood"])
    assert info["terms"] == {k: info[k] for k in ("accuracy", "log_likelihood")}
    assert info["error"] == ""
    assert len(info["sequences"]) == 3
    assert info["steps"] == 6
    assert info["tokens"] > 60
    assert info["log_likelihood"] != info["log_likelihood_before"]
    norm, last, left = after["model_state"][-3:]
    assert norm > 0
    assert last == np.float32(reward)
    assert left == 0


def test_the_held_out_questions_are_not_observed(make):
    env = make()
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        problem = env.episodes.running[0].problems[0]
        for question in problem.questions:
            assert question.text not in observation["context"]
            assert question.text not in repr(info)


def test_same_problem_edit_and_seed_same_result_to_the_bit(make):
    env = make()
    first = play(env, EDIT)
    assert equal(play(env, EDIT), first)
    for text in ("", "Something else entirely.", "\ud800"):
        play(env, text, seed=9, problems=2)
    assert equal(play(env, EDIT), first)
    assert equal(play(make(), EDIT), first)
    assert play(env, EDIT, seed=4)[4]["log_likelihood"] != first[4]["log_likelihood"]


def test_a_seed_holds_until_the_next(make):
    env = make()
    first = play(env, EDIT)
    env.reset(options={"problems": 5})
    assert equal(env.step(EDIT), first)


def test_a_seed_fixes_the_problems(make):
    env = make()
    drawn = [env.reset(seed=8 if i == 0 else None)[1]["problem"] for i in range(5)]
    again = [env.reset(seed=8 if i == 0 else None)[1]["problem"] for i in range(5)]
    assert drawn == again
    assert len(set(drawn)) == 5


def test_without_a_seed_it_works_too(make):
    env = make()
    env.reset()
    assert math.isfinite(env.step(EDIT)[1])


def test_no_global_randomness_is_used(make, models):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)

    def state():
        return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()

    before = state()
    env = gym.make("SelfEdit-v0", model=models["llama"], inner=INNER)
    env.reset(seed=2)
    env.step(EDIT)
    env.reset()
    assert state() == before
    random.seed(2)
    np.random.seed(2)
    torch.manual_seed(2)
    assert equal(play(make(), EDIT), play(make(), EDIT))


def test_weights_are_the_bases_after_anything(make, monkeypatch):
    env = make()
    model = env.episodes.loop.learner.model
    before = weights_hash(model)
    good = play(env, EDIT)
    assert weights_hash(model) == before
    real = finetuning.finetune

    def fails(learner, bank, datasets, progress=None, tokens_per_pass=None, below=None):
        def stop(done, total):
            raise MemoryError

        return real(learner, bank, datasets, stop, tokens_per_pass)

    monkeypatch.setattr(finetuning, "finetune", fails)
    env.reset(seed=3)
    with pytest.raises(MemoryError):
        env.step(EDIT)
    monkeypatch.undo()
    env.reset(seed=0)
    assert weights_hash(model) == before
    assert equal(play(env, EDIT), good)


def test_an_invalid_edit_is_doing_nothing_less_the_penalty(make):
    env = make(edit_options={"config": _no_passage()}, reward="log_likelihood")
    _, reward, terminated, _, info = play(env, " \n\x00 ")
    assert info["error"]
    assert terminated
    assert reward == info["log_likelihood_before"] - 1.0
    assert info["log_likelihood"] == info["log_likelihood_before"]
    assert info["steps"] == info["tokens"] == 0
    assert env.observation_space.contains(env.reset()[0])
    lenient = make(edit_options={"config": _no_passage()}, invalid_penalty=0.25)
    assert play(lenient, "")[1] == info["accuracy_before"] - 0.25


def _no_passage():
    from seal_env.edits.training_data import TrainingDataConfig

    return TrainingDataConfig(passage="none")


def test_a_stream_keeps_its_weights_and_its_rewards_add_up(make):
    env = make(task="helpers:Parity", horizon=3, reward="accuracy + retention")
    assert isinstance(env.episodes.task, Parity)
    env.reset(seed=4, options={"problems": [1, 2, 3]})
    edits = [EDIT, "Ada Cho plays the flute.\n" * 3, "Nobody knows."]
    total, norms, forgotten = 0.0, [], []
    for step, text in enumerate(edits):
        observation, reward, terminated, _, info = env.step(text)
        total += reward
        norms.append(float(observation["model_state"][-3]))
        forgotten.append(info["terms"]["retention"])
        assert terminated == (step == 2)
        assert observation["model_state"][-1] == pytest.approx(1 - (step + 1) / 3)
    assert len(set(norms)) == 3
    assert forgotten[0] == 0
    assert any(forgotten)
    episode = env.episodes.running[0]
    loop = env.episodes.loop
    final = loop.evaluator.evaluate(episode.problems, [0, 0, 0], loop.bank_of([episode.state]))
    assert total == pytest.approx(sum(score.accuracy for score in final), abs=1e-12)
    assert len({score.accuracy for score in final}) > 1


def test_reset_ends_a_stream(make):
    env = make(horizon=2)
    stream = [3, 4]
    first = play(env, EDIT, problems=stream)
    second = env.step(EDIT)
    assert equal(play(env, EDIT, problems=stream), first)
    assert equal(env.step(EDIT), second)
    env.reset(seed=3, options={"problems": [4, 3]})
    assert env.step(EDIT)[4]["log_likelihood_before"] != second[4]["log_likelihood_before"]


def test_stepping_out_of_turn_is_an_error(make):
    env = make()
    with pytest.raises(RuntimeError, match="reset"):
        env.step(EDIT)
    env.reset(seed=0)
    env.step(EDIT)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(EDIT)


def test_problems_can_be_given_in_several_ways(make):
    env = make()
    problem = env.episodes.task.problem("train", 7)
    for way in (7, np.int64(7), [7], problem, (problem,)):
        assert env.reset(options={"problems": way})[1]["problem"] == problem.id
    own = Problem("mine", "Ada", "Ada was born in Oslo.", (Question("Where?", "Oslo"),))
    env.reset(seed=1, options={"problems": own})
    assert math.isfinite(env.step(EDIT)[1])


@pytest.mark.parametrize(
    "given", [[1, 2], [], "five", 1.5, None, -1, Problem("empty", "", "text", ())]
)
def test_problems_that_are_none_are_refused(make, given):
    env = make()
    if given is None:
        given = [None]
    with pytest.raises(UserError) as error:
        env.reset(options={"problems": given})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"horizon": 0},
        {"invalid_penalty": -1.0},
        {"invalid_penalty": math.inf},
        {"task": "biografies"},
        {"edit": "nothing"},
        {"reward": "speed"},
        {"nonsense": 1},
        {"task_options": {"nonsense": 1}},
        {"edit_options": {"nonsense": 1}},
        {"dtype": "float8"},
        {"device": "abacus"},
        {"adapter": "/nowhere"},
        {"model": "tyni"},
    ],
)
def test_wrong_settings_are_one_line(make, wrong):
    with pytest.raises(UserError) as error:
        make(**wrong)
    assert "\n" not in str(error.value)


def test_an_unknown_split_is_one_line(make):
    with pytest.raises(UserError, match="unknown split"):
        make(split="holdout").reset(seed=0)


@pytest.mark.slow
def test_a_tokenizer_that_appends_its_end_token_changes_nothing(tmp_path):
    folder = tmp_path / "eos"
    shutil.copytree(EMBEDDED["tiny"], folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_eos_token = True
    tokenizer.save_pretrained(folder)
    found, inner = [], model_preset("tiny").inner
    for model in ("tiny", str(folder)):
        envs = gym.make_vec("SelfEdit-v0", num_envs=2, model=model, inner=inner)
        envs.reset(seed=0, options={"problems": [0, 1]})
        person = [Biographies().person("train", i) for i in range(2)]
        texts = [write("paraphrases", p, random.Random(0)) for p in person]
        observation, rewards, *_ = envs.step(texts)
        found.append((rewards.tolist(), observation["model_state"].tolist()))
    assert found[0] == found[1] and max(found[0][0]) > 0.5


ANYTHING = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(categories=["Cs", "Cc", "Cf", "Cn", "Zl", "Zp"]), max_size=20),
    st.text(st.sampled_from("-\n A:Q*1.)"), max_size=40),
    st.sampled_from(
        [
            "",
            "\n",
            "---",
            "\ud800",
            "</s>",
            "<s>" * 9,
            "A:\nA:\nA:",
            '{"a": [1, null]}',
            "def f():\n    return 1 / 0",
            "import os; os.remove('x')",
            "\x00" * 99,
            "\U0010ffff",
        ]
    ),
)
TINY = InnerLoopConfig(LoraConfig(1, 2.0), FinetuneConfig(1e-2, epochs=1), max_tokens=24)


@pytest.fixture(scope="module")
def crowd(models):
    """250 environments whose problems have one short question."""
    env = gym.make_vec(
        "SelfEdit-v0", num_envs=250, model=models["llama"], inner=TINY, task="helpers:OneQuestion"
    )
    yield env
    env.close()


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[HealthCheck.data_too_large])
@given(st.lists(ANYTHING, min_size=250, max_size=250))
def test_five_thousand_strings_raise_nothing(crowd, texts):
    model = crowd.unwrapped.episodes.loop.learner.model
    before = weights_hash(model)
    crowd.reset(seed=0, options={"problems": [0] * 250})
    _, rewards, terminated, _, _ = crowd.step(texts)
    assert np.isfinite(rewards).all()
    assert terminated.all()
    assert weights_hash(model) == before


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a", "goat ", "a\n", "\ud800", "- \n", "A:\n", "\x00", "é,"])
def test_a_megabyte_is_an_action_too(make, unit):
    env = make(inner=TINY)
    text = unit * (1_000_000 // len(unit))
    assert text in env.action_space
    text *= 2  # beyond the bound of the space
    assert text not in env.action_space
    _, reward, _, _, info = play(env, text)
    assert math.isfinite(reward)
    assert info["truncated_edit"]
