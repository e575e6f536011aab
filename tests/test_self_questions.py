"""Reward term `self_questions`: the questions that the base writes, and what they are worth."""

from dataclasses import replace

import gymnasium as gym
import pytest
from helpers import INNER

import seal_env
from seal_env.engine.loading import load_learner
from seal_env.probes import self_questions
from seal_env.probes.question_pairs import Pair, question_pairs
from seal_env.prompts import render_prompt
from seal_env.tasks import Problem
from seal_env.tasks.biographies.task import Biographies

PROBLEM = replace(Biographies().problem("train", 3), id="mine", questions=())
ONCE = {"samples": 1}
TOLD = f"Question: Where was {PROBLEM.title} born?\nAnswer: Dakar"


@pytest.fixture(scope="module", autouse=True)
def short_texts():
    """The base writes a quarter of the usual length, for the time."""
    load_learner("tiny").cache.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_questions, "WRITTEN", 64)
        yield
    load_learner("tiny").cache.clear()


class Read(Biographies):
    """The base is asked for questions as about any passage."""

    questions_prompt = "short-qa"


def measured(problems, edits, options=None):
    """Rewards and parts of one step of as many environments side by side."""
    envs = gym.make_vec(
        "SelfEdit-v0",
        num_envs=len(edits),
        reward="self_questions",
        reward_options={"self_questions": options or {}},
    )
    envs.reset(seed=0, options={"problems": problems})
    *_, rewards, _, _, infos = envs.step(edits)
    return rewards.tolist(), infos["final_info"]["parts"]["self_questions"]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        (
            "Question: Who?\nAnswer: Ann\nQuestion 2:\nWhen?\nA: 1900.",
            [("Who?", "Ann"), ("When?", "1900")],
        ),
        ("**Q1:** Who was it?\n\n**A1:** **Ann Lee**.", [("Who was it?", "Ann Lee")]),
        ("1. Who? Answer: Ann\n2. Where?\n   Oslo", [("Who?", "Ann"), ("Where?", "Oslo")]),
        ("谁？\n李明。", [("谁？", "李明")]),
        ("Question: Who is Ann?\nAnswer: Ann", []),
        ("Question: Who?\nAnswer: ...\nQuestion: Why?", []),
        ("Q: Who?\nA: Ann\nQ: who\nA: Bob", [("Who?", "Ann")]),
        ("Q: Why?\nA: " + "word " * 20, []),
        ("No question here.\nNone.", []),
        ("", []),
    ],
)  # fmt: skip
def test_pairs_are_read_however_they_are_written(text, pairs):
    assert question_pairs(text) == [Pair(*pair) for pair in pairs]


@pytest.mark.slow
def test_the_base_writes_questions_that_the_passage_answers():
    _, own = measured([PROBLEM], [""])
    asked = zip(own["questions"][0], own["labels"][0], strict=True)
    told = "\n---\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in asked)
    rewards, parts = measured([PROBLEM, PROBLEM], [told, ""])
    usable = parts["usable"][0]
    assert rewards[1] < rewards[0] < 0 and parts["usable"][1] == usable >= 8
    facts = dict(zip(parts["questions"][0], parts["labels"][0], strict=True))
    assert all(PROBLEM.title in question for question in facts)
    assert all(answer in PROBLEM.context for answer in facts.values())
    right = [a == b for a, b in zip(parts["answers"][0], parts["labels"][0], strict=True)]
    assert parts["accuracy"][0] == sum(right) / usable > 0


@pytest.mark.slow
def test_the_same_bits_alone_and_beside_others_and_again():
    other = replace(Biographies().problem("train", 8), id="other", questions=())
    together, parts = measured([PROBLEM, other, PROBLEM], [TOLD, "", ""], {"samples": 1})
    assert together[0] != together[2]
    load_learner("tiny").cache.clear()
    alone, own = measured([other], [""], ONCE)
    assert alone == together[1:2] and own["questions"][0] == parts["questions"][1] != []


@pytest.mark.slow
def test_questions_are_written_once_per_passage(monkeypatch):
    first = measured([PROBLEM], [""], {"samples": 2})[0]

    def fail(*_, **__):
        raise AssertionError("written again")

    monkeypatch.setattr(self_questions, "generate", fail)
    asked = replace(PROBLEM, id="again", questions=Biographies().problem("train", 3).questions)
    assert measured([asked], [""], {"samples": 2})[0] == first
    with pytest.raises(AssertionError, match="written again"):
        measured([PROBLEM], [""], {"samples": 1})


@pytest.mark.slow
def test_few_are_the_first_and_known_ones_are_skipped():
    known = replace(Biographies().problem("known", 0), questions=())
    steady = {"temperature": 0.0}
    _, new = measured([known], [""], steady)
    _, every = measured([known], [""], {**steady, "skip_known": False})
    assert new["usable"][0] < every["usable"][0]
    _, two = measured([known], [""], {**steady, "skip_known": False, "questions": 2})
    assert two["questions"][0] == every["questions"][0][:2]


@pytest.mark.parametrize("chat", [None, False])
def test_a_chat_model_is_asked_in_its_own_turns_however_questions_are_put(
    chat_model, monkeypatch, chat
):
    """What a policy reads, and the cue of the prompt as the beginning of the answer."""
    asked = []

    def generate(learner, prompts, *_, **__):
        asked.extend(map(learner.tokenizer.decode, prompts))
        return [[]] * len(prompts)

    monkeypatch.setattr(self_questions, "generate", generate)
    inner = replace(INNER, chat=chat)
    settings = {"model": chat_model, "inner": inner, "reward_options": {"self_questions": ONCE}}
    env = gym.make(
        "SelfEdit-v0", task="test_self_questions:Read", reward="self_questions", **settings
    )
    env.reset(options={"problems": Problem("mine", "Ada Cho", "Ada Cho comes from Oslo.", ())})
    env.step("")
    request = render_prompt("short-qa", "", "Ada Cho comes from Oslo.")
    request = render_prompt("short-qa", "", "Ada Cho comes from Oslo.")
    said, _, cue = request.rpartition("\n\n")
    assert cue == "Question:"
    assert asked == [f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n{cue}"]


@pytest.mark.parametrize(
    "written",
    ["", "No question.", "Question: Where was Ada born?\nAnswer: nobody knows it"],
    ids=["nothing", "no question", "not what it reads"],
)
def test_without_a_usable_question_the_term_is_0_and_says_so(monkeypatch, written):
    monkeypatch.setattr(
        self_questions.OwnQuestions,
        "_written",
        lambda _, problems, __: [[written] for _ in problems],
    )
    passage = Problem(f"{written}!", "Ada Cho", f"Ada Cho. {len(written)}", ())
    rewards, parts = measured([passage], ["Ada Cho"])
    assert rewards == [0] and parts["usable"][0] == 0 and parts["questions"][0] == []


def test_an_empty_passage_has_no_questions():
    rewards, parts = measured([Problem("1", "Ada Cho", "", ())], ["Ada Cho comes from Oslo."])
    assert rewards == [0] and parts["usable"][0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"questions": 0}, "questions 0: must be 1 to"),
        ({"samples": 65}, "samples 65: must be 1 to"),
        ({"temperature": -1.0}, "temperature -1.0: must be finite"),
    ],
)
def test_a_setting_out_of_bounds_is_one_line(options, said):
    with pytest.raises(seal_env.UserError, match=said):
        measured([PROBLEM], [""], options)
