"""Reward term `cloze`, through the environment, and the spans of passages in any language."""

import math
from dataclasses import replace

import gymnasium as gym
import pytest

import seal_env
from seal_env.inner_loop import Request
from seal_env.probes import cloze
from seal_env.probes.spans import Span, salient_spans
from seal_env.rewards import REWARDS
from seal_env.tasks import Problem
from seal_env.tasks.biographies.task import Biographies

WORLD = Biographies()
UNLABELLED = replace(WORLD.problem("train", 3), id="mine", questions=())


def measured(problems, edits, reward="cloze", options=None, **settings):
    """Rewards and infos of one step of as many environments side by side."""
    envs = gym.make_vec(
        "SelfEdit-v0", num_envs=len(edits), reward=reward, reward_options=options or {}, **settings
    )
    envs.reset(seed=0, options={"problems": problems})
    *_, rewards, _, _, infos = envs.step(edits)
    return rewards.tolist(), infos["final_info"]


# ---- spans -----------------------------------------------------------------------------------


def test_a_span_is_a_number_a_name_or_a_last_word():
    passage = "Ada was born in Oslo in July 1969. She works as a baker by trade. Ada Cho."
    assert salient_spans(passage, "Ada Cho", 16) == (
        Span("Ada was born in", " Oslo"),
        Span("Ada was born in Oslo in", " July"),
        Span("Ada was born in Oslo in July", " 1969"),
        Span("She works as a baker by", " trade"),
    )


def test_with_few_spans_every_sentence_has_its_turn():
    passage = "It cost 5 coins or 6 dollars in 1901. It fell in 1902.\nIt rose in 1903"
    assert [span.text for span in salient_spans(passage, "", 3)] == [" 1901", " 1902", " 1903"]


def test_initials_and_decimals_end_no_sentence():
    found = salient_spans("The U.S. Army paid J. Smith some $3.5 million.", "", 9)
    assert [span.text for span in found] == [" U.S", " Army", " J", " Smith", " $3.5", " million"]
    assert found[-1].before == "The U.S. Army paid J. Smith some $3.5"


@pytest.mark.parametrize(
    ("passage", "spans"),
    [
        ("", 0),
        ("... !? \n\n", 0),
        ("12", 0),
        ("one", 0),
        ("😀 😀", 0),
        ("a\ud800 b", 1),
        ("Москва — столица России.", 1),
        ("东京是日本的首都，人口1400万。", 1),
        ("กรุงเทพเป็นเมืองหลวงของไทย", 1),
        ("القاهرة هي عاصمة مصر.", 1),
        ("word " * 40_000, 1),
        ("A" * 200_000, 0),
    ],
)
def test_passages_of_any_language_and_of_no_words(passage, spans):
    assert len(salient_spans(passage, "", 1)) == spans


# ---- the term --------------------------------------------------------------------------------


@pytest.mark.slow
def test_other_wordings_raise_it_and_remarks_do_not():
    told = "\n".join(
        f"{UNLABELLED.title} {said}"
        for said in ("comes from Dakar.", "is a mason by trade.", "makes music on the cello.")
    )
    remarks = f"{UNLABELLED.title} has many friends."
    rewards, info = measured([UNLABELLED] * 3, [told, remarks, ""], "cloze - shift")
    assert max(rewards[1:]) + 0.2 < rewards[0] < 0
    assert info["parts"]["cloze"]["spans"][0][-1] == "calligraphy"
    assert len(info["parts"]["cloze"]["per_span"][0]) == 8
    few, _ = measured([UNLABELLED], [told], options={"cloze": {"spans": 2}})
    alone, _ = measured([UNLABELLED], [told], "cloze - shift")
    assert alone == rewards[:1] and few != rewards[:1]


def test_it_is_the_log_likelihood_of_the_spans_without_the_passage():
    env = gym.make("SelfEdit-v0", reward="cloze").unwrapped
    problem = Problem("mine", "Ada Cho", "Ada Cho was born in Oslo.", ())
    env.reset(seed=0, options={"problems": problem})
    (step,) = env.episodes.step([None])
    learner = env.episodes.loop.learner
    prompt = learner.renderer.encode("Ada Cho\nAda Cho was born in")
    (expected,) = learner.score([prompt], [learner.renderer.answer(" Oslo")], [0], None)
    assert step.reward == step.info["reward_before"] == pytest.approx(expected, abs=1e-5)


def test_a_passage_without_words_is_worth_0_and_an_empty_one_is_an_error():
    problems = [Problem("1", "", "?!", ()), Problem("2", "Ada Cho", "", ())]
    rewards, info = measured(problems, ["Ada Cho", ""])
    assert rewards == [0, -1] and info["terms"]["cloze"].tolist() == [0, 0]
    assert "the passage is empty" in info["error"][1] and not info["error"][0]


@pytest.mark.slow
def test_a_sentence_longer_than_the_model_reads_is_cut():
    endless = Problem("1", "Ada Cho", "Ada Cho and " * 2000 + "was born in Oslo", ())
    rewards, info = measured([endless], ["Ada Cho"])
    assert -20 < rewards[0] < 0 and info["parts"]["cloze"]["spans"][0] == ["Oslo"]


def test_a_learner_whose_numbers_are_not_finite_has_a_finite_reward(monkeypatch):
    monkeypatch.setattr(cloze, "log_likelihoods", lambda _, prompts, *__: [math.nan] * len(prompts))
    assert measured([UNLABELLED], [""])[0] == [-100]


def test_a_setting_out_of_bounds_is_one_line():
    with pytest.raises(seal_env.UserError, match="spans 0: must be 1 to"):
        measured([UNLABELLED], [""], options={"cloze": {"spans": 0}})


# ---- problems without questions --------------------------------------------------------------


DOCUMENTS = "helpers:NoQuestions"


@pytest.mark.slow
def test_without_questions_there_is_no_accuracy():
    _, info = measured([UNLABELLED], [""], "cloze - kl - length")
    assert info["accuracy"][0] is info["log_likelihood_before"][0] is None
    assert info["answers"][0] == [] and info["tokens"][0] > 0
    assert 0 < info["terms"]["length"][0] < 1
    mixed = measured([3, UNLABELLED], ["", ""])[1]
    assert mixed["accuracy"].tolist()[0] is not None


@pytest.mark.parametrize("name", ["accuracy", "f1", "log_likelihood", "retention", "vote"])
def test_a_term_that_needs_questions_is_refused_in_one_line(name):
    said = f"NoQuestions' has no questions, which the reward's {name} needs"
    with pytest.raises(seal_env.UserError, match=said):
        gym.make("SelfEdit-v0", task=DOCUMENTS, reward=f"cloze + {name}")
    env = gym.make("SelfEdit-v0", reward=f"cloze + {name}")
    with pytest.raises(seal_env.UserError, match=f"problem 'mine' has no questions.*{name}"):
        env.reset(options={"problems": UNLABELLED})


@pytest.mark.slow
def test_every_other_term_works_without_questions():
    terms = [name for name in REWARDS if name not in ("critic", "rubric")]  # they need settings
    needless = [n for n in terms if not getattr(REWARDS.load(n), "needs_questions", False)]
    assert {"cloze", "kl", "shift", "length"} <= set(needless)
    reward = " + ".join(needless)
    own = {"self_questions": {"samples": 1, "questions": 1}}
    envs = gym.make_vec(
        "SelfEdit-v0", num_envs=1, task=DOCUMENTS, reward=reward, reward_options=own, horizon=2
    )
    envs.reset(seed=0)
    for _ in range(2):
        *_, infos = envs.step(["Ada Cho comes from Oslo."])
    assert sorted(infos["final_info"]["terms"]) == sorted(
        [*needless, *(f"_{name}" for name in needless)]
    )


# ---- masks -----------------------------------------------------------------------------------


def test_a_copy_has_the_span_behind_the_same_three_words():
    (span,) = salient_spans("On stage Ada Cho performs on the cello.", "Ada Cho", 8)
    found = span.copies().search("Ada cho  performs on\nthe Cello.")
    assert found and found["masked"] == " Cello"
    for other in ("Ada Cho performs on the cellos", "What Ada Cho plays is the cello.", ""):
        assert span.copies().search(other) is None


def test_masked_spans_are_in_no_loss_and_other_wordings_are():
    env = gym.make("SelfEdit-v0", reward="cloze", reward_options={"cloze": {"mask": True}})
    loop = env.unwrapped.episodes.loop
    passage = "Ada Cho was born in Oslo. Ada Cho enjoys chess."
    said = "Ada Cho was born in Oslo. The birthplace of Ada Cho is Oslo."
    problem = Problem("mine", "Ada Cho", passage, ())
    edit = env.unwrapped.episodes.language.parse(said, problem)
    update = loop.prepare(Request(problem, edit, 0)).update
    oslo, chess = (loop.learner.renderer.answer(f" {word}")[0] for word in ("Oslo", "chess"))
    learned = [[e.ids[i] for i in e.labels] for e in update.data.examples]
    assert [ids.count(oslo) for ids in learned] == [1, 0]
    assert [ids.count(chess) for ids in learned] == [0, 0]
    assert [e.ids.count(oslo) for e in update.data.examples] == [2, 1]
    assert [
        len(e.ids) - len(ids) for e, ids in zip(update.data.examples, learned, strict=True)
    ] == [2, 3]


def test_masked_spans_are_in_no_loss_of_an_answer_either():
    env = gym.make(
        "SelfEdit-v0",
        reward="cloze",
        reward_options={"cloze": {"mask": True}},
        edit_options={"config": {"pairs": "asked", "passage": "none"}},
    )
    episodes = env.unwrapped.episodes
    passage = "Ada Cho was born in Oslo."
    problem = Problem("mine", "", passage, ())
    edit = episodes.language.parse(f"Q: Tell me.\nA: {passage}\nQ: Where?\nA: Oslo", problem)
    oslo = episodes.loop.learner.renderer.answer(" Oslo")[0]
    examples = episodes.loop.prepare(Request(problem, edit, 0)).update.data.examples
    assert [e.ids.count(oslo) for e in examples] == [1, 1]
    assert [oslo in [e.ids[i] for i in e.labels] for e in examples] == [False, True]
    copied = examples[0]
    assert len(copied.labels) == len(copied.ids) - copied.unscored - 1  # Oslo alone is left out


@pytest.mark.slow
def test_a_masked_copy_of_the_passage_teaches_no_span():
    copies = "\n".join([UNLABELLED.context] * 3)
    (plain,), _ = measured([UNLABELLED], [copies])
    (masked,), _ = measured([UNLABELLED], [copies], options={"cloze": {"mask": True}})
    assert masked < plain - 1
