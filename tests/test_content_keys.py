"""What is kept of the untouched model goes by content: nothing else gets its scores."""

import copy
import pickle
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import pytest
from helpers import INNER

from seal_env.content_keys import Same, frozen, problem_key
from seal_env.env import SelfEditEnv
from seal_env.tasks.base import Problem, Question
from seal_env.tasks.biographies.task import Biographies

PROBLEM = Problem(
    "p", "Ada Cho", "Ada Cho was born in Oslo.", (Question("Where was Ada Cho born?", "Oslo"),)
)
OTHERS = {
    "context": replace(PROBLEM, context="Ada Cho was born in Rome."),
    "title": replace(PROBLEM, title="Bo Cho"),
    "answer": replace(PROBLEM, questions=(Question("Where was Ada Cho born?", "Rome goat"),)),
    "question": replace(PROBLEM, questions=(Question("Who plays the flute?", "Oslo"),)),
    "choices": replace(
        PROBLEM, questions=(Question("Where was Ada Cho born?", "Oslo", "", ("Oslo", "Rome")),)
    ),
    "one more": replace(PROBLEM, questions=PROBLEM.questions * 2),
    "examples": replace(PROBLEM, examples=((1, 2),)),
}


def before(problem, models, task="helpers:Parity", **changes):
    """What `step` says of the untouched learner."""
    env = SelfEditEnv(model=models["llama"], inner=INNER, task=task, **changes)
    seen, _ = env.reset(seed=1, options={"problems": problem})
    info = env.step("")[4]
    found = {name: value for name, value in info.items() if name.endswith("_before")}
    return found | {"state": seen["model_state"].tolist()}


@pytest.mark.slow
@pytest.mark.parametrize("what", OTHERS)
def test_another_problem_of_the_same_id_has_its_own_scores(models, llama, what):
    llama.cache.clear()
    right = before(OTHERS[what], models)
    llama.cache.clear()
    first = before(PROBLEM, models)
    assert before(OTHERS[what], models) == right
    assert before(copy.deepcopy(PROBLEM), models) == first
    assert problem_key(OTHERS[what]) != problem_key(PROBLEM)


def test_a_problem_is_asked_once(models, llama, monkeypatch):
    llama.cache.clear()
    expected = before(PROBLEM, models)
    env = SelfEditEnv(model=models["llama"], inner=INNER, task="helpers:Parity")
    monkeypatch.setattr(env.episodes.loop.evaluator, "evaluate", None)
    monkeypatch.setattr(type(llama), "describe", None)
    twin = replace(copy.deepcopy(PROBLEM), edits={"gpt": "Oslo."})
    seen, _ = env.reset(seed=1, options={"problems": twin})
    assert seen["model_state"].tolist() == expected["state"]
    scores = env.episodes.loop.baselines([twin, PROBLEM, twin])
    assert scores[0] is scores[1] is scores[2]
    assert list(scores[0].answers) == expected["answers_before"]


class ByExamples(Biographies):
    """Grades by what the solved examples say."""

    def grade(self, problem, answers):
        return [bool(problem.examples)] * len(answers)


def test_examples_count_where_a_task_looks_at_them(models):
    task = "test_content_keys:ByExamples"
    assert before(PROBLEM, models, task)["accuracy_before"] == 0
    assert before(OTHERS["examples"], models, task)["accuracy_before"] == 1


class ByOption(Biographies):
    """Grades as it is told to."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def grade(self, problem, answers):
        return [bool(self.right)] * len(answers)


class Quiet:
    """Says nothing of itself."""

    def __init__(self, truth):
        self.truth = truth

    def __repr__(self):
        return "Quiet"

    def __bool__(self):
        return self.truth


@pytest.mark.parametrize("pair", [(0, 1), (True, False), (Quiet(False), Quiet(True)), ([], [0])])
def test_options_are_told_apart(models, pair):
    for right in (*pair, *pair[::-1]):
        options = {"right": right}
        found = before(PROBLEM, models, "test_content_keys:ByOption", task_options=options)
        assert found["accuracy_before"] == bool(right)


def test_a_task_defined_anew_grades_anew(models, monkeypatch):
    module = ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", module)
    for verdict in (True, False, True):

        class Mine(Biographies):
            def grade(self, problem, answers, verdict=verdict):
                return [verdict] * len(answers)

        Mine.__module__, Mine.__qualname__ = "notebook", "Mine"
        module.Mine = Mine
        found = before(PROBLEM, models, "notebook:Mine")
        assert found["accuracy_before"] == verdict


@dataclass(frozen=True)
class Setting:
    """A part of a configuration."""

    size: int = 1
    parts: dict[str, list[int]] = field(default_factory=dict)


def test_plain_data_is_a_key_by_content_and_type():
    alike = [
        lambda: {"a": [1, (2.5, None)], "b": {"c": "d"}},
        lambda: Setting(2, {"x": [1]}),
        lambda: Path("a/b"),
        lambda: [float("nan")],
        lambda: {1, 2, 3},
    ]
    keys = [frozen(make()) for make in alike]
    assert keys == [frozen(make()) for make in alike]
    assert len({*keys}) == len(alike)
    assert frozen({"a": 1, "b": 2}) == frozen({"b": 2, "a": 1})
    different = [1, 1.0, True, "1", b"1", None, 0, 0.0, -0.0, [], (), {}, set(), Setting(), "a"]
    assert len({frozen(value) for value in different}) == len(different)


def test_anything_else_is_a_key_by_identity():
    one, other = Quiet(True), Quiet(True)
    assert frozen(one) == frozen(one) != frozen(other)
    assert frozen([one]) != frozen([other])
    assert Same(one) != one
    assert isinstance(pickle.loads(pickle.dumps(frozen(Quiet))), Same)
