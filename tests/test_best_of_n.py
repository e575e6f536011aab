"""Best-of-N: what is chosen, by which questions, and at what cost."""

import json
from pathlib import Path

import pytest
from agent_fixtures import INNER, QUICK, context, experience, lines
from helpers import Parity

from seal_agents import cli
from seal_agents.algorithms.best_of_n import BestOfN, BestOfNOptions
from seal_agents.algorithms.prompted import Prompted
from seal_agents.base import AgentContext
from seal_agents.runner.experience import text_of
from seal_env.episodes import EnvConfig
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem, Task
from seal_env.tasks.biographies.people import ATTRIBUTES, QUESTIONS, read_passage
from seal_env.tasks.biographies.task import Biographies
from seal_env.tasks.squad import Squad
from seal_env.vector import SelfEditVectorEnv

TASK = Parity()
PROBLEMS = [TASK.problem("train", i) for i in range(3)]
SEEN = [{"context": TASK.reads(problem), "model_state": None} for problem in PROBLEMS]


def written(agent, observations, seeds):
    return [text_of(action) for action in agent.act(observations, seeds)]


def make(models, argument="", **options):
    options = BestOfNOptions(**{"max_new_tokens": 8, **options})
    return BestOfN(context(models["llama"], options=options, argument=argument))


def values(models, texts, problems, seed):
    """Rewards of self-edits, carried out by hand."""
    envs = SelfEditVectorEnv(len(texts), task="helpers:Parity", model=models["llama"], inner=INNER)
    envs.reset(seed=seed, options={"problems": problems})
    _, rewards, _, _, infos = envs.step(texts)
    return list(zip(rewards, infos["final_info"]["log_likelihood"], strict=True))


def test_the_best_on_training_questions_is_written(models):
    agent = make(models, candidates=4)
    base = Prompted(context(models["llama"], options=agent.context.options))
    chosen = agent.act(SEEN[:2], [7, 8])
    candidates = []

    def watch(observations, seeds):
        candidates.extend(one.text for one in real(observations, seeds))
        return real(observations, seeds)

    real, agent.policy.write = agent.policy.write, watch
    again = BestOfN.act(agent, SEEN[:2], [7, 8])
    assert again == chosen
    assert [candidates[0], candidates[4]] == written(base, SEEN[:2], [7, 8])
    seed = stable_hash(0, "best-of-n")
    for start, problem, text in zip((0, 4), PROBLEMS, chosen, strict=False):
        group = candidates[start : start + 4]
        training = TASK.training_problem(TASK.reads(problem))
        worth = values(models, group, [training] * 4, seed)
        assert text == group[worth.index(max(worth))]
        assert len(set(worth)) > 1


def test_one_of_one_is_what_base_writes_and_costs_nothing(models):
    agent = make(models, argument="1")
    base = Prompted(context(models["llama"], options=agent.context.options))
    texts = agent.act(SEEN, [1, 2, 3])
    assert texts == written(base, SEEN, [1, 2, 3]) and not agent.worth
    given = [experience(o, text, 0.0) for o, text in zip(SEEN, texts, strict=True)]
    assert agent.learn(given) == {}


def test_the_cost_is_counted_and_does_not_depend_on_a_stop(models):
    agent = make(models, candidates=3)
    texts = agent.act(SEEN, [1, 2, 3])
    given = [
        experience(o, text, 0.0, p.id) for o, text, p in zip(SEEN, texts, PROBLEMS, strict=True)
    ]
    numbers = agent.learn(given)
    assert numbers["candidate_evaluations"] == 9.0
    assert make(models, candidates=3).learn(given) == numbers  # another process: it tried out none


def test_what_cannot_be_asked_about_is_not_tried_out(models):
    agent = make(models, candidates=3)
    seen = [{"context": "Nothing to be asked about.", "model_state": None}]
    base = Prompted(context(models["llama"], options=agent.context.options))
    assert agent.act(seen, [4]) == written(base, seen, [4]) and not agent.worth


@pytest.mark.slow
def test_a_run(models, tmp_path):
    run = ["train", "--agent", "best-of-n", *QUICK, "--model", models["llama"]]
    run += "--problems 2 --samples 1 --rounds 1 --test-problems 2".split()
    run += "--options.max-new-tokens 8 --options.candidates 2".split()
    cli.main([*run, "--out", str(tmp_path / "run")])
    assert {r["policy"] for r in lines(tmp_path / "run")} >= {"best-of-n", "trained"}
    out = ["--out", str(tmp_path / "table"), "--model", models["llama"], *QUICK]
    cli.main(
        ["evaluate", "--policies", "best-of-n:2", str(tmp_path / "run"), "--problems", "2", *out]
    )
    assert len(lines(tmp_path / "table")) == 4


@pytest.mark.parametrize("wrong", [{"candidates": 0}, {"max_new_tokens": 0}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        BestOfNOptions(**wrong)


@pytest.mark.parametrize("argument", ["x", "-1", "1.5", "0"])
def test_a_number_is_wanted(models, argument):
    with pytest.raises(UserError, match=r"best-of-n:4|candidates 0"):
        make(models, argument=argument)


class Mute(Parity):
    """A task that makes no training questions."""

    training_problem = Task.training_problem


def test_a_task_without_training_questions_is_refused(models):
    config = EnvConfig(model=models["llama"], task="test_best_of_n:Mute", inner=INNER)
    with pytest.raises(UserError, match="makes no training questions"):
        BestOfN(AgentContext(config, options=BestOfNOptions()))


class Modest(Parity):
    """A task that says that it makes none, though it has the method."""

    has_training_questions = False


def test_a_task_says_whether_it_makes_training_questions(models):
    assert Parity().has_training_questions and not Mute().has_training_questions
    config = EnvConfig(model=models["llama"], task="test_best_of_n:Modest", inner=INNER)
    with pytest.raises(UserError, match="makes no training questions"):
        BestOfN(AgentContext(config, options=BestOfNOptions()))


@pytest.mark.parametrize("split", ["train", "validation", "test", "known"])
def test_training_questions_about_a_person_come_from_the_passage(split):
    task = Biographies()
    for index in range(60):
        problem, person = task.problem(split, index), task.person(split, index)
        training = task.training_problem(task.reads(problem))
        assert training.title == person.name and training.context == problem.context
        assert [q.answer for q in training.questions] == [*person.values] * 2
        assert not {q.text for q in training.questions} & {q.text for q in problem.questions}
        assert training.id != problem.id


def test_every_attribute_has_all_its_phrasings():
    assert all(len(attribute.questions) == QUESTIONS for attribute in ATTRIBUTES)


@pytest.mark.parametrize(
    ("text", "name", "facts"),
    [
        ("Meet Ada Cho. Ada likes the colour teal.", "Ada Cho", {6: "teal"}),
        ("Meet Ada Cho. This person works as a vet. It rains.", "Ada Cho", {1: "vet"}),
        ("Meet Ada Cho. Ada Cho works as a king.", "Ada Cho", {}),
        ("Ada Cho works as a vet.", "", {}),
        ("", "", {}),
    ],
)
def test_a_passage_is_read_as_far_as_it_goes(text, name, facts):
    assert read_passage(text) == (name, facts)
    training = Biographies().training_problem(text)
    assert (training is None) == (not facts)


SENTENCES = (
    "Oslo is the capital and the largest city of Norway. It rains. He said that it was cold."
)


def squad(tmp_path: Path, contexts=(SENTENCES, "Short.")) -> Squad:
    records = [
        {"title": "Oslo", "context": c, "questions": [{"question": "What is it?", "answer": "a"}]}
        for c in contexts
    ]
    (tmp_path / "data.json").write_text(json.dumps(records))
    return Squad(str(tmp_path / "data.json"))


def test_training_questions_about_a_passage_are_its_sentences(tmp_path):
    task = squad(tmp_path)
    problem = task.problem("all", 0)
    training = task.training_problem(task.reads(problem))
    assert isinstance(training, Problem) and training.title == "Oslo"
    assert [q.answer for q in training.questions] == ["city of Norway"]  # the others are short
    first = training.questions[0]
    assert first.answer == "city of Norway"
    assert first.text.endswith("Oslo is the capital and the largest ...")
    assert not {q.text for q in training.questions} & {q.text for q in problem.questions}
    answers = [q.answer for q in training.questions]
    assert task.grade(training, answers) == [True] * len(answers)
    assert task.training_problem(task.reads(task.problem("all", 1))) is None
    assert task.training_problem("another text") is None


def test_a_long_passage_makes_a_bounded_number_of_questions(tmp_path):
    task = squad(tmp_path, [" ".join(f"{SENTENCES[:-1]} {i}." for i in range(60))])
    training = task.training_problem(task.reads(task.problem("all", 0)))
    assert len(training.questions) == 16
