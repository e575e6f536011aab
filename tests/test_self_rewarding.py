"""Self-rewarding: the judgement, the pairs, and that only they are learned from."""

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from agent_fixtures import context
from agent_fixtures import experience as experienced

from seal_agents.algorithms.self_rewarding import (
    RUBRIC,
    SelfRewarding,
    SelfRewardingOptions,
    by_likelihood,
    by_open_book,
    by_rubric,
    spearman,
)
from seal_env.engine.rendering import _joined
from seal_env.errors import UserError
from seal_env.tasks.base import Task
from seal_env.tasks.biographies.edits import write as write_edit
from seal_env.tasks.biographies.task import Biographies

pytestmark = pytest.mark.slow

TASK = Biographies()
PASSAGES = [
    {"context": TASK.reads(TASK.problem("train", i)), "model_state": None} for i in range(3)
]


def make(models, model="llama", **options):
    options = {"max_new_tokens": 8, "learning_rate": 5e-3, **options}
    return SelfRewarding(context(models.get(model, model), options=SelfRewardingOptions(**options)))


def experience(problem, text, reward=0.0):
    return experienced(PASSAGES[problem], text, reward, f"p{problem}")


def write(agent, problems=2, samples=4, seed=0, worth=len):
    slots = [p for p in range(problems) for _ in range(samples)]
    seeds = [1000 * seed + i for i in range(len(slots))]
    texts = agent.act([PASSAGES[p] for p in slots], seeds)
    pairs = zip(slots, texts, strict=True)
    return [experience(p, one, float(worth(one.text))) for p, one in pairs]


def test_what_says_the_facts_is_judged_best(models):
    """By the embedded model, which can look an answer up."""
    agent = make(models, "tiny")
    person, other = TASK.person("train", 0), TASK.person("train", 1)
    texts = [write_edit("statements", person, Random(0)), write_edit("vague", person, Random(0))]
    texts += [write_edit("statements", other, Random(0)), ""]
    given = [experience(0, text) for text in texts]
    judged = by_open_book(agent.policy, TASK, given)
    assert judged[0] > max(judged[1:]) + 1 and all(math.isfinite(j) and j < 0 for j in judged)
    assert by_open_book(agent.policy, TASK, given[::-1]) == judged[::-1]
    unknown = experienced({"context": "It rains."}, "a", 0.0)
    assert by_open_book(agent.policy, TASK, [unknown, given[0]]) == [0.0, judged[0]]


def test_what_repeats_the_passage_makes_it_likely(models):
    agent = make(models, "tiny")
    passage = PASSAGES[0]["context"]
    judged = by_likelihood(agent.policy, [experience(0, t) for t in (f"{passage}\nPassage:", "")])
    assert judged[0] > judged[1] + 1 and judged[0] < 0


def test_judging_in_parts_makes_no_difference(models, monkeypatch):
    agent = make(models, "tiny")
    given = [experience(p, "Ada is a vet." * n) for p in range(3) for n in range(3)]
    judges = [by_likelihood, lambda policy, some: by_open_book(policy, TASK, some)]
    whole = [judge(agent.policy, given) for judge in judges]
    monkeypatch.setattr("seal_agents.algorithms.self_rewarding.TOKENS_PER_PASS", 100)
    assert [judge(agent.policy, given) for judge in judges] == whole


def test_a_rubric_is_answered_by_yes_or_no(models):
    agent = make(models)
    given = [experience(0, "Ada is a vet."), experience(0, "It rains.")]
    # The embedded vocabulary knows neither word, and so knows no difference.
    assert by_rubric(agent.policy, given) == [0.0, 0.0]
    model = agent.policy.model
    words = {" yes": [5], " no": [6, 7]}
    real = model.renderer.answer
    try:
        model.renderer.answer = lambda text: words.get(text) or real(text)
        odds = by_rubric(agent.policy, given)
    finally:
        del model.renderer.answer
    for e, found in zip(given, odds, strict=True):
        text = RUBRIC.format(passage=e.observation["context"], notes=e.text)
        prompt = model.encode(text)
        yes = model.score([prompt], [[5]], [0], None)[0]
        no = 2 * model.score([prompt], [[6, 7]], [0], None)[0]
        assert found == pytest.approx(yes - no, abs=1e-4)


def test_what_is_too_long_to_judge_loses_its_middle(models, chat_model):
    for model in (models["qwen2"], chat_model):
        agent = make({}, model)
        read = []
        real = agent.policy.model.score
        agent.policy.model.score = lambda p, *rest, read=read, real=real: (
            read.extend(p) or real(p, *rest)
        )
        try:
            notes = f"Begin. {'She is a vet. ' * 200} Finish."
            long = experienced({"context": "Passage " * 300}, notes, 0.0)
            for judge in (by_rubric, by_likelihood):
                assert all(map(math.isfinite, judge(agent.policy, [long])))
            assert by_open_book(agent.policy, TASK, [experience(0, notes)])[0] < 0
        finally:
            del agent.policy.model.score
        texts = [agent.policy.model.tokenizer.decode(ids) for ids in read]
        assert all(len(ids) <= 512 for ids in read)
        assert all("Begin." in text and "Finish." in text for text in texts)
        rubric = texts[0]
        assert "Below are a passage" in rubric and "Answer (yes or no):" in rubric
        assert rubric.index("Passage:\nPassage Pass") < rubric.index("Notes:\nBegin.")


def test_the_judge_is_chosen_by_what_the_model_and_the_task_can_do(models, monkeypatch):
    agent = make(models)
    given = [experience(0, "Ada is a vet."), experience(0, "")]
    assert agent.judge(given) == by_open_book(agent.policy, agent.task, given)
    monkeypatch.setattr(type(agent.policy.model.renderer), "uses_chat", lambda *_: True)
    monkeypatch.setattr(
        type(agent.policy.model.renderer), "_turn", lambda self, parts: _joined(parts)
    )
    assert agent.judge(given) == by_rubric(agent.policy, given)
    monkeypatch.undo()
    monkeypatch.setattr(Biographies, "training_problem", Task.training_problem)
    assert make(models).judge(given) == by_likelihood(agent.policy, given)
    with pytest.raises(UserError, match="makes no training questions"):
        make(models, judge="open-book")


def judged_by(agent, judgement):
    agent.judge = lambda experiences: [judgement(e.text) for e in experiences]
    return agent


def test_the_best_is_learned_against_the_worst_whatever_it_is_worth(models):
    """The reward says the opposite of the judgement, and is not listened to."""
    agent = judged_by(make(models, "tiny", learning_rate=1e-3), lambda text: float(len(text)))
    given = write(agent, samples=6, worth=lambda text: -len(text))
    numbers = agent.learn(given)
    assert numbers["pairs"] == 2 and numbers["spearman"] == pytest.approx(-1.0)
    assert numbers["pair_reward_difference"] < 0 and numbers["dpo_loss"] < math.log(2)
    policy = agent.policy

    def margin(bank):
        total = 0.0
        for start in (0, 6):
            group = sorted((e.text for e in given[start : start + 6]), key=len)
            prompt = policy.read(given[start].observation)
            texts = [policy.model.encode_answer(t) for t in (group[-1], group[0])]
            best, worst = policy.model.score([prompt] * 2, texts, [0, 0], bank)
            total += best * len(texts[0]) - worst * len(texts[1])
        return total

    assert margin(policy.adapter) > margin(None)


def test_equal_judgements_and_equal_texts_make_no_pair(models):
    agent = judged_by(make(models), lambda text: 1.0)
    before = agent.policy.adapter.weights.clone()
    numbers = agent.learn(write(agent))
    assert numbers == {"pairs": 0.0}
    assert (agent.policy.adapter.weights == before).all()


def test_a_resumed_agent_does_as_one_that_was_not_stopped(models, tmp_path):
    agent = make(models)
    agent.learn(write(agent, 3))
    agent.save(tmp_path)
    again = make(models)
    again.load(tmp_path)
    second = write(agent, 3, seed=1)
    assert agent.learn(second) == again.learn(second)
    assert (agent.policy.adapter.weights == again.policy.adapter.weights).all()
    mine, theirs = agent.training._moments, again.training._moments
    assert mine.keys() == theirs.keys() and mine
    assert all((mine[name] == theirs[name]).all() for name in mine)


def test_nothing_else_changes_and_nothing_is_said(models, capfd, recwarn):
    agent = make(models)
    given = write(agent)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    agent.learn(given)
    assert (torch.get_rng_state() == before).all()
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_a_group_of_one_is_refused(models):
    with pytest.raises(UserError, match="--samples 2"):
        make(models).learn([experience(0, "a"), experience(1, "b")])


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"beta": 0.0},
        {"max_grad_norm": -1.0},
        {"n_epochs": 0},
        {"batch_size": 0},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_bad_settings_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        replace(SelfRewardingOptions(), **wrong)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [10, 20, 900], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 1, 2, 3], [1, 2, 3, 4], 0.9486832980505138),  # scipy.stats.spearmanr
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 7], 0.8207826816681233),  # scipy.stats.spearmanr
        ([1, 1, 1], [1, 2, 3], None),
    ],
)
def test_rank_correlation(first, second, expected):
    assert spearman(first, second) == (None if expected is None else pytest.approx(expected))


def test_the_rubric_is_the_documented_one():
    page = Path(__file__).parent.parent / "docs" / "trl-agents.md"
    assert RUBRIC in page.read_text("utf-8")
