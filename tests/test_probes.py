"""Probes, through the environment: measured where a term asks for them, alone as beside others."""

import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import seal_env
from seal_env.engine.divergence import Divergence
from seal_env.engine.lora import AdapterBank
from seal_env.probes import drift, texts
from seal_env.probes.known import KnownQuestions
from seal_env.probes.votes import Votes
from seal_env.rewards import REWARDS
from seal_env.tasks import Problem, Question
from seal_env.tasks.biographies.task import Biographies, names

PROBED = "accuracy - 0.05 * kl - shift + old_knowledge + 0.5 * vote"
ALONE = PROBED + " critic rubric"  # what needs a folder or another model has its own tests
EVERYTHING = PROBED + "".join(f" + 0.1 * {name}" for name in REWARDS if name not in ALONE)
CHEAP = {"old_knowledge": {"questions": 5, "problems": 2}, "vote": {"samples": 3}}
WORLD = Biographies()


def measured(problems, edits, reward=PROBED, seed=0, options=None, **settings):
    """Rewards and infos of one step of as many environments side by side."""
    chosen = {name: given for name, given in (options or CHEAP).items() if name in reward}
    envs = gym.make_vec(
        "SelfEdit-v0", num_envs=len(edits), reward=reward, reward_options=chosen, **settings
    )
    envs.reset(seed=seed, options={"problems": problems})
    *_, rewards, _, _, infos = envs.step(edits)
    return rewards.tolist(), infos["final_info"]


def asked_about(index):
    """A self-edit that imitates the prompt, all answers wrong: it ruins whatever was known."""
    questions = WORLD.problem("train", index).questions
    return "\n".join(f"Question: {q.text}\nAnswer: Oslo" for q in questions)


@pytest.fixture
def unused(monkeypatch):
    """Fails whatever is measured."""

    def fail(*_):
        raise AssertionError("nothing asks for this")

    for probe in (drift.TextDrift, KnownQuestions, Votes):
        monkeypatch.setattr(probe, "measure", fail)


def test_what_no_term_needs_is_not_measured(unused):
    rewards, info = measured([0], [""], "accuracy + 0.3 * log_likelihood + f1 - length")
    assert rewards[0] < 1 and "kl" not in info["terms"]
    with pytest.raises(AssertionError, match="nothing asks"):
        measured([0], [""], "accuracy - kl")


def test_the_default_reward_says_no_parts():
    assert "parts" not in measured([0], [""], "accuracy", options={})[1]


@pytest.mark.slow
def test_the_same_bits_alone_and_beside_others_in_any_order():
    edits = ["", "Nothing of use.", asked_about(3), "x " * 200]
    problems = [3, 3, 3, 8]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    together, infos = measured(problems, edits, EVERYTHING)
    assert len(set(together)) == len(edits)
    assert torch.equal(torch.get_rng_state(), state)
    backwards, _ = measured(problems[::-1], edits[::-1], EVERYTHING)
    assert backwards[::-1] == together
    for i, (problem, edit) in enumerate(zip(problems, edits, strict=True)):
        alone, own = measured([problem], [edit], EVERYTHING)
        assert alone == together[i : i + 1]
        for name in ("kl", "shift", "old_knowledge"):
            for part, values in own["parts"][name].items():
                assert values[0] == infos["parts"][name][part][i]


@pytest.mark.slow
def test_gymnasiums_check_passes_with_every_term():
    env = gym.make("SelfEdit-v0", reward=EVERYTHING, reward_options=CHEAP)
    check_env(env.unwrapped, skip_render_check=True)


def test_doing_nothing_moves_nothing():
    env = gym.make("SelfEdit-v0", reward=PROBED, reward_options=CHEAP).unwrapped
    env.reset(seed=0, options={"problems": 3})
    (step,) = env.episodes.step([None])
    terms, parts = step.info["terms"], step.info["parts"]
    assert step.reward == step.info["reward_before"]
    assert (terms["kl"], terms["shift"], terms["old_knowledge"]) == (0, 0, 0)
    assert parts["shift"]["loss_before"] == parts["shift"]["loss_after"] > 0
    assert parts["old_knowledge"]["asked"] >= 5


def test_a_self_edit_that_cannot_be_carried_out_moves_nothing():
    nowhere = replace(WORLD.problem("train", 3), context="")
    _, info = measured([nowhere], [""])
    assert info["error"][0] and (info["terms"]["kl"][0], info["terms"]["shift"][0]) == (0, 0)


@pytest.mark.slow
def test_a_step_says_what_the_no_op_would_have_been_rewarded():
    env = gym.make("SelfEdit-v0", reward=PROBED, reward_options=CHEAP).unwrapped
    env.reset(seed=0, options={"problems": 3})
    *_, info = env.step(asked_about(3))
    env.reset(seed=0, options={"problems": 3})
    _, idle, *_ = env.step(None)
    assert info["reward_before"] == idle


def test_training_that_diverged_has_no_length(monkeypatch):
    real = AdapterBank.initialize

    def poisoned(bank, seeds):
        real(bank, seeds)
        bank.weights[:, :30] = torch.nan

    monkeypatch.setattr(AdapterBank, "initialize", poisoned)
    _, info = measured([3], [""], "accuracy - length - kl")
    assert "diverged" in info["error"][0] and info["tokens"][0] > 0
    assert (info["terms"]["length"][0], info["terms"]["kl"][0]) == (0, 0)


def test_in_a_stream_a_step_answers_for_its_own_drift():
    config = {"reward": "accuracy - kl - shift", "horizon": 2}
    env = gym.make("SelfEdit-v0", **config)
    nowhere = replace(WORLD.problem("train", 4), context="")
    env.reset(seed=0, options={"problems": [3, nowhere]})
    first = env.step("")[4]
    second = env.step("")[4]
    assert first["terms"]["kl"] > 0.1 and second["error"] and second["terms"]["kl"] == 0
    assert second["parts"]["shift"]["loss_before"] == first["parts"]["shift"]["loss_after"]


def test_a_learner_whose_numbers_are_not_finite_has_a_finite_reward(monkeypatch):
    broken = [Divergence(math.nan, 2.0, math.inf)]
    monkeypatch.setattr(drift, "divergences", lambda *_: broken)
    rewards, info = measured([3], [""], "accuracy - kl - shift")
    assert info["terms"]["kl"] == info["terms"]["shift"] == 10
    assert math.isfinite(rewards[0])
    assert info["parts"]["kl"]["unbounded"] == info["parts"]["shift"]["loss_after"] == 1e6


# ---- drift -----------------------------------------------------------------------------------


def test_probe_texts_are_about_nobody_that_a_problem_is_about():
    people = {name for split in ("train", "validation", "test", "known") for name in names(split)}
    for text in texts.suited_texts("tiny"):
        assert not any(name in text for name in people)
        assert any(name in text for name in names("pretrain"))
    assert len(set(texts.suited_texts("tiny"))) == texts.EMBEDDED


def test_probe_texts_suit_the_model():
    assert all(text.startswith("Input: ") for text in texts.suited_texts("tiny-grids"))
    general = texts.suited_texts("some/other-model")
    assert general == texts.GENERAL and all(30 < len(text.split()) < 70 for text in general)


def test_texts_of_ones_own_are_what_is_measured(tmp_path):
    file = tmp_path / "texts"
    file.write_text("Oslo Oslo Oslo\n", "utf-8")
    options = {"kl": {"texts": str(file)}}
    _, usual = measured([3], [""], "0 * kl")
    _, own = measured([3], [""], "0 * kl", options=options)
    assert own["terms"]["kl"][0] != usual["terms"]["kl"][0] > 0


def test_a_file_of_single_words_is_one_line(tmp_path):
    file = tmp_path / "texts"
    file.write_text("Oslo\n\nParis\n", "utf-8")
    with pytest.raises(seal_env.UserError, match="none is longer than one token"):
        measured([3], [""], "kl", options={"kl": {"texts": str(file)}})


# ---- old knowledge ---------------------------------------------------------------------------


@pytest.mark.slow
def test_what_was_known_is_asked_again_and_only_that():
    reward = "0 * old_knowledge"
    options = {"old_knowledge": {"questions": 20, "problems": 4}}
    problems = [WORLD.problem("known", i) for i in range(4)]
    *_, untouched = measured(problems, [""] * 4, "accuracy", options={})
    right = [sum(verdicts) for verdicts in untouched["verdicts_before"]]
    _, info = measured([3, problems[0]], [asked_about(3), ""], reward, options=options)
    asked = info["parts"]["old_knowledge"]["asked"].tolist()
    # The second is about one of the four itself, whose questions it is not asked.
    expected = [next(c for c in np.cumsum(part) if c >= 20) for part in (right, right[1:])]
    assert asked == expected
    forgotten, _ = info["terms"]["old_knowledge"].tolist()
    assert -1 <= forgotten < -0.5


# ---- votes -----------------------------------------------------------------------------------


def test_the_base_votes_for_what_the_passage_says():
    problem = WORLD.problem("train", 3)
    _, info = measured([problem], [""], "vote")
    labels = info["parts"]["vote"]["labels"][0]
    assert labels == [question.answer for question in problem.questions]
    assert info["terms"]["vote"][0] == info["accuracy"][0]  # the labels are right


def test_votes_do_not_look_at_the_gold_answers():
    problem = WORLD.problem("train", 3)
    unlabelled = replace(
        problem,
        id="mine",
        questions=tuple(replace(q, answer="nobody knows") for q in problem.questions),
    )
    (labelled, unknown), info = measured([problem, unlabelled], ["", ""], "vote")
    assert labelled == unknown > 0
    assert info["accuracy"].tolist()[1] == 0


@pytest.mark.slow
def test_with_the_book_closed_the_base_votes_by_what_it_knows():
    options = {"vote": {"open_book": False, "samples": 8}}
    _, info = measured([3, 3], ["", "more"], "vote", options=options)
    parts = info["parts"]["vote"]
    assert parts["labels"][0] == parts["labels"][1]
    assert any(share < 1 for share in parts["shares"][0])  # it does not know the person
    steady = {"vote": {"open_book": False, "temperature": 0, "samples": 8}}
    _, greedy = measured([3], [""], "vote", options=steady)
    assert greedy["parts"]["vote"]["shares"][0] == [1.0] * 14
    assert greedy["parts"]["vote"]["labels"][0] == greedy["answers_before"][0]


def test_of_choices_the_likeliest_has_all_votes():
    said = Question("Where was Ada Cho born?", "Oslo", choices=("Paris", "Oslo", "Lima"))
    problem = Problem("mine", "Ada Cho", "Ada Cho was born in Oslo.", (said,))
    _, info = measured([problem], [""], "vote")
    assert info["parts"]["vote"]["labels"][0] == ["Oslo"]
    assert info["parts"]["vote"]["shares"][0] == [1.0]


def test_the_seeds_of_the_voters_come_from_what_is_asked():
    problem = WORLD.problem("train", 3)
    few = replace(problem, id="few", questions=problem.questions[3:6])
    equal = replace(few, id="other", questions=tuple(replace(q) for q in few.questions))
    options = {"vote": {"open_book": False, "samples": 8}}
    _, info = measured([few, equal], ["", ""], "vote", options=options)
    first, second = info["parts"]["vote"]["shares"]
    assert first == second and len(set(first)) > 1


@pytest.mark.slow
def test_a_vote_is_taken_once(monkeypatch):
    taken = []
    ballots = Votes._ballots
    monkeypatch.setattr(
        Votes, "_ballots", lambda self, p, c: taken.append(p.id) or ballots(self, p, c)
    )
    problems = [replace(WORLD.problem("train", i), id=f"once {i}") for i in (70, 70, 71)]
    measured(problems, ["", "more", ""], "vote")
    measured(problems[:1], ["again"], "vote")
    assert taken == ["once 70", "once 71"]


# ---- other models ----------------------------------------------------------------------------


@pytest.mark.slow
def test_grids_are_probed_too():
    settings = {"task": "few-shot", "model": "tiny-grids", "edit": "directives"}
    options = {"old_knowledge": {"questions": 8, "problems": 4}}
    reward = "accuracy - kl - shift + old_knowledge"
    directive = (
        '{"data_generation": {"use_colors_augmentations": true, '
        '"use_positions_augmentations": false}, "training": {"strategy": '
        '"train_using_output_tokens", "learning_rate": 0.003, "num_train_epochs": 1}}'
    )
    _, info = measured([0], [directive], reward, options=options, **settings)
    assert info["terms"]["kl"][0] > 0 and info["parts"]["old_knowledge"]["asked"][0] >= 8


@pytest.mark.slow
def test_transformers_own_layers_are_probed_too(models):
    reward = "accuracy - kl - shift + vote"
    rewards, info = measured([0, 1], ["", "a"], reward, model=models["gpt2"])
    assert all(info["terms"]["kl"] > 0) and all(map(math.isfinite, rewards))
