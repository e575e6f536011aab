"""A run says so if its model cannot spell the gold answers."""

import io

import pytest
from rich.console import Console

from seal_agents.runner.configs import EvaluateConfig
from seal_agents.runner.notes import unknown_words
from seal_agents.runner.train import evaluate
from seal_env.config import EnvConfig, make_task
from seal_env.engine.loading import load_learner
from seal_env.tasks import Problem, Question
from seal_env.tasks.finite import FiniteTask, Splits


class Cities(FiniteTask):
    """Six people, with or without cities that `tiny` knows."""

    def __init__(self, cities=("Oslo", "Paris", "New York")):
        problems = [
            Problem(f"{i}", f"{i}", f"{i} in {city}", (Question(f"Where is {i}?", city),))
            for i, city in enumerate(cities)
        ]
        super().__init__(Splits(problems, "people", 0, content=lambda p: [p.context]))

    def grade(self, problem, answers):
        return [False]


def said(task, model):
    problems = [task.problem("test", i) for i in range(4)] if task.size("test") is None else []
    problems = problems or [task.problem("all", i) for i in range(task.size("all"))]
    return unknown_words(task, problems, load_learner(model, device="cpu"))


def test_the_share_of_unknown_words_is_named():
    (note,) = said(Cities(), "tiny")
    assert note.startswith("75% of the words of the gold answers are unknown to the model tiny, so")
    assert note.isprintable()


@pytest.mark.parametrize("model", ["tiny", "llama"])
def test_there_is_no_note_where_all_words_are_known(model, models):
    model = models.get(model, model)
    assert said(make_task("biographies"), "tiny") == ()
    assert said(Cities(("Oslo", "Lima")), model) == ()


def test_a_run_prints_it(tmp_path):
    console = Console(file=io.StringIO(), width=400)
    env = EnvConfig(task=f"{__name__}:Cities", model="tiny", device="cpu", split="all")
    evaluate(
        EvaluateConfig(env=env, policies=("none",), out=tmp_path / "run"), False, False, console
    )
    assert "note: 75% of the words of the gold answers" in console.file.getvalue()
