"""Problems and questions: what their fields may be."""

import copy
import dataclasses
import pickle

import pytest

from seal_env.errors import UserError
from seal_env.tasks import Problem, Question

QUESTION = Question("Where?", "Oslo")
PROBLEM = Problem("p", "Ada", "Ada was born in Oslo.", (QUESTION,))


@pytest.mark.parametrize("value", [None, 5, float("nan"), b"text", ["text"], object()])
@pytest.mark.parametrize(
    ("thing", "field"),
    [(PROBLEM, f) for f in ("id", "title", "context", "questions", "edits", "examples")]
    + [(QUESTION, f) for f in ("text", "answer", "subject", "choices", "aliases")],
)
def test_a_field_of_a_wrong_type_is_one_line_that_names_it(thing, field, value):
    if value == ["text"] and field in ("examples", "choices", "aliases"):
        value = [value, None] if field != "examples" else "text"
    with pytest.raises(UserError, match=rf"^{type(thing).__name__}\.{field}") as caught:
        dataclasses.replace(thing, **{field: value})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"questions": (QUESTION, None)},
            r"Problem.questions\[1\]: must be Question, not NoneType",
        ),
        ({"questions": "Where?"}, "Problem.questions: must be a tuple of Question, not str"),
        ({"questions": QUESTION}, "Problem.questions: must be a tuple of Question, not Question"),
        ({"edits": {"base": None}}, r"Problem.edits\['base'\]: must be str, not NoneType"),
        ({"edits": {1: "text"}}, "Problem.edits: a key: must be str, not int"),
    ],
)
def test_what_stands_inside_is_named_too(fields, said):
    with pytest.raises(UserError, match=said):
        dataclasses.replace(PROBLEM, **fields)


def test_choices_hold_every_right_answer():
    question = Question("Where?", "B", choices=("A", "B", "C"), aliases=("C",))
    assert question.answers == ("B", "C")
    for wrong in ({"answer": "D"}, {"aliases": ("D",)}):
        with pytest.raises(UserError, match=r"Question\.choices: every right answer"):
            dataclasses.replace(question, **wrong)


def test_lists_become_tuples_so_that_problems_can_be_hashed():
    question = Question("Where?", "B", choices=["A", "B"], aliases=["A"])
    problem = Problem("p", "", "", [question], examples=[1])
    assert (question.choices, question.aliases) == (("A", "B"), ("A",))
    assert (problem.questions, problem.examples) == ((question,), (1,))
    assert (
        hash(problem) == hash(copy.deepcopy(problem)) == hash(pickle.loads(pickle.dumps(problem)))
    )
