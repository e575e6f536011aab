"""The embedded world: disjoint people, the same everywhere, graded exactly."""

import subprocess
import sys
from random import Random

import pytest

from seal_env.errors import UserError
from seal_env.pretraining.tokenizer import build_tokenizer
from seal_env.tasks import SPLITS
from seal_env.tasks.biographies.edits import PARAPHRASES, STYLES, classify, write
from seal_env.tasks.biographies.people import ATTRIBUTES, HELD_OUT_QUESTIONS
from seal_env.tasks.biographies.task import KNOWN_PEOPLE, Biographies, names

TASK = Biographies()
POOLS = (*SPLITS, "known", "pretrain")


def test_no_name_is_in_two_splits():
    pools = [set(names(split)) for split in POOLS]
    assert sum(map(len, pools)) == len(set().union(*pools))
    assert all(len(names(split)) == len(pool) for split, pool in zip(POOLS, pools, strict=True))
    assert len(names("known")) == KNOWN_PEOPLE
    assert min(len(names("test")), len(names("validation"))) > 900


def test_values_are_words_of_one_attribute_alone():
    values = [value for attribute in ATTRIBUTES for value in attribute.values]
    assert len(values) == len(set(values))
    assert not set(values) & {part for split in POOLS for n in names(split) for part in n.split()}


@pytest.mark.parametrize("split", SPLITS)
def test_a_problem_tells_everything_and_asks_about_it(split):
    for index in (0, 1, 5000):
        problem = TASK.problem(split, index)
        person = TASK.person(split, index)
        assert problem.title == person.name
        assert person.name in problem.context
        assert len(problem.questions) == HELD_OUT_QUESTIONS * len(ATTRIBUTES) == 14
        assert len({question.text for question in problem.questions}) == 14
        for question in problem.questions:
            assert question.answer in problem.context.replace(".", " ").split()
            assert person.name in question.text
            assert question.answer not in question.text.split()
        assert TASK.grade(problem, [q.answer for q in problem.questions]) == [True] * 14
        assert TASK.reads(problem) == problem.context


def test_indices_and_seeds_make_different_people():
    assert TASK.problem("train", 3) == TASK.problem("train", 3)
    assert len({TASK.problem("train", i).context for i in range(200)}) == 200
    other = Biographies(seed=1)
    assert other.problem("train", 3) != TASK.problem("train", 3)
    assert other.problem("train", 3).id != TASK.problem("train", 3).id
    assert other.person("known", 3) == TASK.person("known", 3)


def test_a_name_comes_again_with_other_facts():
    size = len(names("test"))
    first, again = TASK.person("test", 4), TASK.person("test", 4 + size)
    assert first.name == again.name
    assert first.values != again.values


def test_it_is_the_same_world_in_every_process():
    script = (
        "from seal_env.tasks.biographies.task import Biographies, names;"
        "print(repr([Biographies(2).problem(s, i) for s in ('train', 'test') for i in (0, 77)]),"
        " names('known')[:9])"
    )
    expected = [Biographies(2).problem(s, i) for s in ("train", "test") for i in (0, 77)]
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.strip() == f"{expected!r} {names('known')[:9]}"


def test_grading_is_exact():
    problem = TASK.problem("train", 0)
    gold = [question.answer for question in problem.questions]
    assert TASK.grade(problem, [f" {gold[0]} ", *gold[1:]])[0]
    for wrong in ("", gold[0] + ".", gold[0].upper() + "X", f"{gold[0]} {gold[0]}", gold[1]):
        assert not TASK.grade(problem, [wrong, *gold[1:]])[0]
    with pytest.raises(ValueError, match="argument"):
        TASK.grade(problem, gold[:3])


def test_splits_and_their_sizes():
    assert [TASK.size(split) for split in SPLITS] == [None] * 3
    assert TASK.size("known") == KNOWN_PEOPLE
    for wrong in (lambda: TASK.problem("holdout", 0), lambda: TASK.problem("train", -1)):
        with pytest.raises(UserError) as error:
            wrong()
        assert "\n" not in str(error.value)


def test_questions_are_put_as_pretraining_put_them():
    question = TASK.problem("train", 0).questions[0]
    assert TASK.question_prompt(question) == f"Question: {question.text}\nAnswer:"


@pytest.mark.parametrize("style", list(STYLES))
def test_styles_can_be_told_apart(style):
    rng = Random(1)
    for index in range(150):
        text = write(style, TASK.person("train", index), rng)
        assert classify(text) == style, text


@pytest.mark.parametrize("text", ["", "\n\n", "Oslo", "goat goat goat", "Question"])
def test_what_has_no_style_is_other(text):
    assert classify(text) == "other"


def test_styles_say_what_they_promise():
    rng = Random(2)
    person = TASK.person("train", 0)
    for style in STYLES:
        text = write(style, person, rng)
        told = [text.replace(".", " ").split().count(value) for value in person.values]
        expected = {
            "vague": 0,
            "statements": 1,
            "summary": 1,
            "questions": 1,
            "paraphrases": PARAPHRASES,
            "two-questions": 2,
        }.get(style)
        if expected is None:
            assert sum(told) in (2, 3)
        else:
            assert told == [expected] * 7


@pytest.mark.slow
def test_no_word_of_the_world_is_unknown_and_all_reads_back():
    tokenizer, rng = build_tokenizer(512), Random(3)
    for index in range(150):
        problem, person = TASK.problem("test", index), TASK.person("test", index)
        texts = [problem.context, f"{problem.title}\n{problem.context}"]
        texts += [TASK.question_prompt(question) for question in problem.questions]
        texts += [write(style, person, rng) for style in STYLES]
        for text in texts:
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids, text
            assert tokenizer.decode(ids) == text


def test_every_answer_is_one_token_after_its_prompt():
    tokenizer = build_tokenizer(512)
    for attribute in ATTRIBUTES:
        for value in attribute.values:
            assert len(tokenizer(TASK.answer_prefix + value)["input_ids"]) == 1
