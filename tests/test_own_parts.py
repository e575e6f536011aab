"""Mistakes in tasks, languages and rewards of a user's own are one line that names the part."""

import math
import sys

import gymnasium as gym
import numpy as np
import pytest

import seal_env  # noqa: F401
from seal_env.config import EnvConfig, make_language, make_task
from seal_env.edits import EditLanguage, SelfEdit
from seal_env.edits.training_data import TrainingData, TrainingDataConfig
from seal_env.errors import UserError
from seal_env.rewards import RewardInputs, parse_reward
from seal_env.rewards.base import TermValue
from seal_env.score import Score
from seal_env.tasks import Problem, Question, Task
from seal_env.tasks.base import problem_at
from seal_env.tasks.finite import FiniteTask, Splits

SCORE = Score(("x",), (True,), (-1.0,))
QUESTIONS = tuple(Question(f"Where, {i}?", "Oslo") for i in range(3))
PROBLEM = Problem("0", "Ada", "Ada lives in Oslo.", QUESTIONS)


class Returns(Task):
    """A task that returns what it is told to."""

    verdicts: object = None

    def __init__(self, problem=PROBLEM):
        self.returned = problem

    def size(self, split):
        return 1

    def problem(self, split, index):
        return self.returned

    def grade(self, problem, answers):
        return Returns.verdicts


class NoGrade(Task):
    """A task without two of its methods."""

    def size(self, split):
        return 1


class NoParse(EditLanguage):
    """A language that reads nothing."""


class Loses(EditLanguage):
    """A language whose constructor is wrong."""

    def __init__(self):
        len(3)  # a mistake of its author

    def parse(self, action, problem):
        return SelfEdit(error="no")


class Forgetful(FiniteTask):
    """A task without `super().__init__`."""

    def __init__(self):
        pass

    def grade(self, problem, answers):
        return []


class Number:
    """A term with a required option."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, measured):
        return self.scale


class Silent:
    """A term that cannot be called."""


def env():
    made = gym.make("SelfEdit-v0", task=f"{__name__}:Returns", model="tiny")
    made.reset(seed=0)
    return made


@pytest.mark.parametrize(
    "verdicts", [[True], [True] * 4, [1.0] * 3, [1, 0, 1], "yes", None, True, [None] * 3]
)
def test_verdicts_are_one_bool_per_question(verdicts, monkeypatch):
    monkeypatch.setattr(Returns, "verdicts", verdicts)
    with pytest.raises(UserError) as error:
        env().step("Ada lives in Oslo.")
    assert str(error.value) == (
        "task Returns: grade must return one bool for each of the 3 questions; "
        f"it returned {verdicts!r}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
def test_verdicts_of_numpy_and_of_any_sequence_are_taken(kind, monkeypatch):
    class Kind:
        def __get__(self, *_):
            return kind([True, False, True])

    monkeypatch.setattr(Returns, "verdicts", Kind())
    monkeypatch.setattr(Returns, "grade", lambda self, *_: kind([True, False, True]))
    info = env().step("Ada lives in Oslo.")[-1]
    assert info["verdicts"] == [True, False, True] and type(info["verdicts"][0]) is bool


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, None, "1", 1j, 10**400, [1.0], np.float32("nan")]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_term_is_a_finite_number(value, wrapped, monkeypatch):
    given = TermValue(value, {}) if wrapped else value
    monkeypatch.setattr(Number, "__call__", lambda self, measured: given)
    reward = parse_reward(f"{__name__}:Number", {f"{__name__}:Number": {"scale": 1}})
    with pytest.raises(UserError) as error:
        reward(RewardInputs(SCORE, SCORE))
    assert str(error.value).startswith(
        f"reward term '{__name__}:Number': must return a finite number; it returned "
    )
    assert repr(value)[:40] in str(error.value)


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2)])
def test_numbers_of_any_kind_are_terms(value):
    reward = parse_reward(f"{__name__}:Number", {f"{__name__}:Number": {"scale": value}})
    total, terms, _ = reward(RewardInputs(SCORE, SCORE))
    assert total == 2 and type(terms[f"{__name__}:Number"]) is float


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: parse_reward(f"{__name__}:Silent"), "Silent': has no method __call__; define it"),
        (lambda: parse_reward(f"{__name__}:Number"), "Number': needs the option scale; give it"),
        (
            lambda: make_task(f"{__name__}:NoGrade"),
            "NoGrade': has no method grade and no method problem; define them",
        ),
        (
            lambda: make_language(EnvConfig(edit=f"{__name__}:NoParse")),
            "NoParse': has no method parse; define it",
        ),
        (
            lambda: make_task(f"{__name__}:Forgetful").size("train"),
            r"task Forgetful: its __init__ must call super().__init__(splits)",
        ),
        (
            lambda: make_task(f"{__name__}:Forgetful").problem("train", 0),
            r"task Forgetful: its __init__ must call super().__init__(splits)",
        ),
        (
            lambda: make_task(f"{__name__}:Forgetful", data="x"),
            "does not take these options: it has no setting 'data'",
        ),
        (
            lambda: problem_at(Returns(None), "test", 4),
            "task Returns: problem must return a Problem; for 4 of split 'test' it returned None",
        ),
        (
            lambda: problem_at(Returns(Problem("7", "", "", ())), "test", 0),
            "task Returns: problem '7' has no questions; give it at least one, or set",
        ),
        (lambda: Question("How?", ""), "Question.answer: is empty"),
        (lambda: Question("How?", " \n"), "Question.answer: is empty"),
        (lambda: Question("How?", "so", aliases=("", "thus")), "Question.aliases: one is empty"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(make, said):
    with pytest.raises(UserError) as error:
        make()
    assert said in str(error.value)


def test_a_mistake_within_a_constructor_keeps_its_traceback():
    with pytest.raises(TypeError) as error:
        make_language(EnvConfig(edit=f"{__name__}:Loses"))
    assert error.traceback[-1].name == "__init__"


@pytest.mark.parametrize("problem", [None, Problem("0", "", "", ())])
def test_an_environment_says_so_of_problems_that_it_draws(problem):
    made = gym.make(
        "SelfEdit-v0", task=f"{__name__}:Returns", model="tiny", task_options={"problem": problem}
    ).unwrapped
    for options in (None, {"problems": 0}):
        with pytest.raises(UserError, match=r"^task Returns: problem "):
            made.reset(seed=0, options=options)


def test_problems_of_a_task_have_different_ids():
    twice = [PROBLEM, Problem("0", "Bob", "Bob lives in Rome.", QUESTIONS)]
    for problems in (twice, [PROBLEM, PROBLEM]):
        with pytest.raises(UserError, match=r"^two people have the id '0'; give each"):
            Splits(problems, "people", 0, content=lambda p: [p.context])


@pytest.mark.parametrize(("place", "said"), [("last", "empty"), ("none", "not used")])
def test_nothing_to_train_on_says_why_the_passage_is_not_there(place, said):
    language = TrainingData(TrainingDataConfig(passage=place))
    edit = language.parse("", Problem("0", "", "", QUESTIONS))
    assert edit.error.endswith(f"and the passage is {said}")


@pytest.fixture
def objects(tmp_path, monkeypatch):
    (tmp_path / "objects_task.py").write_text("class Objects:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("objects_task", None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("objects_task.Objects", "did you mean 'objects_task:Objects'?"),
        ("mine.objects_task.Objects", "did you mean 'mine.objects_task:Objects'?"),
        ("objects_task.py", "did you mean 'objects_task:Name'?"),
        ("objects_task.py:Objects", "name the module, not the file: 'objects_task:Objects'"),
        ("./objects_task.py:Objects", "name the module, not the file: 'objects_task:Objects'"),
        ("mine/objects_task.py:Objects", "not the file: 'mine.objects_task:Objects'"),
        ("/anywhere/objects_task.py:Objects", "not the file: 'objects_task:Objects'"),
        ("objects_task:objects", "has no 'objects'; did you mean 'Objects'?"),
        ("objects_task:OBJECT", "has no 'OBJECT'; name a class"),
        ("objects_task:Object", "has no 'Object'; did you mean 'Objects'?"),
    ],
)
def test_a_name_that_is_written_otherwise_is_corrected(name, said, objects):
    with pytest.raises(UserError) as error:
        make_task(name)
    assert said in str(error.value)
