"""Questions with their answers, read out of a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal_env.edits.question_answers import read_question_answers


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Question: Where?\nAnswer: Oslo", ("Where?", "Oslo")),
        ("**Question 1: How cold?**\n**Answer:** -5 degrees", ("How cold?", "-5 degrees")),
        ("**Question: Where?**\n**Answer: Oslo**", ("Where?", "Oslo")),
        ("_Question:_ Where?\n_Answer:_ Oslo", ("Where?", "Oslo")),
        ("### Question: How much?\nAnswer: $5", ("How much?", "$5")),
        ("Question 1. Where?\nAnswer 1. Oslo", ("Where?", "Oslo")),
        ("Where?\nA: Oslo\nA: Rome", ("Where?", "Oslo")),
        ("Where?\nOslo", ("Where?", "Oslo")),
        ("Question 1:\nName the town\nAnswer:\nOslo", ("Name the town", "Oslo")),
        ("Q2: Where? Answer: Oslo", ("Where?", "Oslo")),
        ("Q: Where? A: Oslo", ("Where?", "Oslo")),
        ("Question: Where? Answer: Oslo\nAnswer: Rome", ("Where?", "Oslo")),
        ("Who says Q: is it?\nA: Ada", ("Who says Q: is it?", "Ada")),
        ("\n  Question: Where?\n\n\tAnswer: Oslo\n", ("Where?", "Oslo")),
        ("首都は？\n東京", ("首都は？", "東京")),
    ],
)
def test_a_question_and_its_answer_lose_their_labels(text, pair):
    assert read_question_answers(text) == ([pair], True)


def test_several_questions_are_read_in_order():
    text = "Q: One?\nA: 1\n\nQ: Two?\nA: 2"
    assert read_question_answers(text) == ([("One?", "1"), ("Two?", "2")], True)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Oslo is a city.", 0),
        ("The answer: 3", 0),
        ("Answer: Oslo\nAnswer: Rome", 0),
        ("Question: Where?", 0),
        ("Question: Where?\nAnswer:", 0),
        ("Question:\nAnswer: Oslo", 0),
        ("C: Rome\nAnswer: B", 0),
        ("A fact.\nWhere?\nA: Oslo", 1),
        ("Where?\nA: Oslo\nA fact.", 1),
        ("Where?\nWhen?\nA: 1990", 1),
        ("Question: Where? Answer: Oslo Question: When? Answer: 1990", 1),
        ("Where?\nA: Oslo\nQuestion:", 1),
    ],
)
def test_a_text_with_anything_else_says_so(text, count):
    found = read_question_answers(text)
    # An empty text holds nothing else, and no pair.
    assert len(found.pairs) == count and found.nothing_else == (text == "")


@given(st.text() | st.text("QA:?.*_1 \n-", max_size=60))
def test_any_text_can_be_read(text):
    for question, answer in read_question_answers(text).pairs:
        assert question.strip() and answer.strip() and "\n" not in question + answer
