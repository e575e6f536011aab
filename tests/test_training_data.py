"""The self-edit language `training-data`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal_env.config import make_task
from seal_env.edits import EDITS
from seal_env.edits.training_data import TrainingData, TrainingDataConfig
from seal_env.errors import UserError
from seal_env.tasks.base import Generated, Problem, closed_book
from seal_env.tasks.biographies.task import Biographies
from seal_env.tasks.multiple_choice import MultipleChoice

PROBLEM = Problem(id="p", title="Rivers", context="The Elbe is long.", questions=())
PASSAGE = "Rivers\nThe Elbe is long."


def parse(text, problem=PROBLEM, **config):
    return TrainingData(TrainingDataConfig(**config)).parse(text, problem)


def pieces(text):
    """The sequences of a text without title and passage."""
    edit = parse(text)
    assert edit.error is None
    assert edit.update.sequences[-1] == PASSAGE
    assert all(sequence.startswith("Rivers\n") for sequence in edit.update.sequences)
    return [sequence.removeprefix("Rivers\n") for sequence in edit.update.sequences[:-1]]


def test_is_registered():
    assert EDITS.load("training-data") is TrainingData


def test_every_line_is_a_sequence_with_the_title_and_the_passage_goes_last():
    edit = parse("One.\n\n  Two.  \r\nThree.")
    assert edit.update.sequences == ("Rivers\nOne.", "Rivers\nTwo.", "Rivers\nThree.", PASSAGE)
    assert not edit.truncated


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "---", "1.\n-\n"])
def test_text_without_content_means_the_passage_alone(text):
    assert parse(text).update.sequences == (PASSAGE,)
    assert parse(text).error is None


def test_separator_lines_keep_the_newlines_within():
    assert pieces("One\nmore.\n---\n\nTwo.\n -----  \n---\nThree.") == [
        "One\nmore.",
        "Two.",
        "Three.",
    ]


def test_dashes_within_a_line_separate_nothing():
    assert pieces("a --- b\n--\n---x") == ["a --- b", "--", "---x"]


@pytest.mark.parametrize("marker", ["1.", "12.", "2)", "(3)", "-", "*", "•"])
def test_list_markers_are_dropped(marker):
    assert pieces(f"{marker} One.\n  {marker}  Two.") == ["One.", "Two."]
    assert pieces(f"{marker} One.\n---\n{marker} Two.\nMore.") == ["One.", "Two.\nMore."]


@pytest.mark.parametrize("line", ["-5 degrees", "1.5 million", "*bold*", "1984. A year.", "(b) x"])
def test_what_only_looks_like_a_marker_stays(line):
    assert pieces(line) == [line]


@pytest.mark.parametrize(
    "line",
    [
        "Here are some implications:",
        "**Here are the facts**",
        "Sure! Here are three:",
        "Here is a list:",
    ],
)
def test_a_leading_announcement_is_dropped(line):
    assert pieces(f"\n{line}\n\n1. One.\nTwo.") == ["One.", "Two."]
    assert pieces(f"{line}\n---\nOne.") == ["One."]


def test_other_lines_with_here_stay():
    assert pieces("One.\nHere are two:\nTwo.") == ["One.", "Here are two:", "Two."]
    assert pieces("Here is where the Elbe ends.\nTwo.") == ["Here is where the Elbe ends.", "Two."]
    assert pieces("Here are some facts.") == ["Here are some facts."]


def test_question_and_answer_stay_together():
    text = "Question: How long?\nAnswer: Very.\n\nQ: Where?\nA: Here.\nA: There.\nA statement."
    assert pieces(text) == [
        "Question: How long?\nAnswer: Very.",
        "Q: Where?\nA: Here.\nA: There.",
        "A statement.",
    ]


def test_question_and_answer_in_lists_and_with_numbers_stay_together():
    text = (
        "1. **Question 1:** How?\n   **Answer 1:** So.\n- Q2: Who?\n\n- A2: He.\nWhat?\nanswer: It."
    )
    assert pieces(text) == [
        "**Question 1:** How?\n**Answer 1:** So.",
        "Q2: Who?\nA2: He.",
        "What?\nanswer: It.",
    ]


def test_a_bare_label_takes_the_next_line():
    assert pieces("Question:\nHow long?\nAnswer:\nVery.\nNext.") == [
        "Question:\nHow long?\nAnswer:\nVery.",
        "Next.",
    ]


def test_an_answer_without_a_question_is_a_sequence():
    assert pieces("Answer: Very.\nA word: no answer.") == ["Answer: Very.", "A word: no answer."]


def test_without_a_title_nothing_is_prefixed():
    problem = Problem(id="p", title="", context="Text.", questions=())
    assert parse("One.", problem).update.sequences == ("One.", "Text.")


def test_passage_can_go_first_or_be_left_out():
    assert parse("One.", passage="first").update.sequences == (PASSAGE, "Rivers\nOne.")
    assert parse("One.", passage="none").update.sequences == ("Rivers\nOne.",)


def test_nothing_to_train_on_is_an_error_in_one_line():
    empty = Problem(id="p", title="T", context=" ", questions=())
    for edit in (parse("", passage="none"), parse("\n", empty)):
        assert edit.update is None
        assert edit.error
        assert "\n" not in edit.error


def test_caps_are_reported():
    assert parse("a\nb\nc", max_sequences=3).truncated is False
    edit = parse("a\nb\nc\nd", max_sequences=3)
    assert edit.truncated
    assert edit.update.sequences == ("Rivers\na", "Rivers\nb", "Rivers\nc", PASSAGE)

    assert parse("abc", max_characters=3).truncated is False
    edit = parse("abcd", max_characters=3)
    assert edit.truncated
    assert edit.update.sequences == ("Rivers\nabc", PASSAGE)


def test_unusable_characters_are_dropped_everywhere():
    problem = Problem(id="p", title="T\x00", context="C\ud800\x1b", questions=())
    assert parse("a\x07b\udfff\tc\x85d\u2028e", problem).update.sequences == (
        "T\nab\tc",
        "T\nd",
        "T\ne",
        "T\nC",
    )


@given(st.text(st.characters()) | st.text("\n-1.QA: \tHere", max_size=200))
@pytest.mark.parametrize("pairs", ["text", "asked"])
def test_any_text_is_legal(pairs, text):
    edit = parse(text, Problem(id="p", title=text, context=text, questions=()), pairs=pairs)
    assert (edit.error is None) == bool(edit.update and edit.update.sequences)
    for sequence in edit.update.texts() if edit.update else ():
        sequence.encode("utf-8")
        assert sequence.strip()
        assert not any(ord(char) < 32 and char not in "\n\t" for char in sequence)
    assert parse(text).error is None


@pytest.mark.parametrize(
    "unit",
    [
        "x",
        "\n",
        "a\n",
        "A:\n",
        "-",
        "- ",
        "---\n",
        ":",
        "here is ",
        "\x00",
        "\ud800",
        "1.",
        "*",
        "\r",
    ],
)
def test_a_megabyte_is_cut_off(unit):
    # A pattern that backtracked on one of these would run into the suite's time limit.
    assert parse("here is " + unit * (1_000_000 // len(unit)) + "x").truncated


def test_a_line_of_colons_is_read_too():
    assert parse("here is a" + ":" * 60_000 + "a\nb").update.sequences[-1]


# ---- questions that are asked ----------------------------------------------------------------


PAIR_LIKE = "**Question:** What does it cost?\n\n**Answer:** Three crowns a month."


@pytest.mark.parametrize(
    "text", ["Where?", "Fact.\n---\nWhere?\nA: Oslo\nThat is all.", PAIR_LIKE[:-35]]
)
def test_what_is_more_or_less_than_questions_with_answers_stays_text(text):
    assert parse(text, pairs="asked") == parse(text)


def test_a_block_of_several_questions_asks_each():
    asked = [Generated(closed_book(f"{name}?"), name) for name in ("One", "Two")]
    block = "---\nQ: One?\nA: One\nQ: Two?\nA: Two"
    assert parse(block, pairs="asked").update.sequences[:-1] == tuple(asked)


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_passage_that_looks_like_a_question_with_its_answer_stays_a_text(place):
    problem = Problem("p", "FAQ", PAIR_LIKE, ())
    for text in ("", "Fact."):
        asked, plain = (
            parse(text, problem, pairs=pairs, passage=place) for pairs in ("asked", "text")
        )
        assert asked == plain and f"FAQ\n{PAIR_LIKE}" in asked.update.sequences


def test_a_task_says_how_a_question_that_was_written_is_asked(llama):
    language = TrainingData(TrainingDataConfig(pairs="asked"))
    text = "Where?\nA: Oslo"
    language.bind(llama, Choices())
    asked = language.parse(text, PROBLEM).update.sequences
    assert asked == (Generated("Question: Where?\nAnswer:", " Oslo"), PASSAGE)
    language.bind(llama, make_task("few-shot"))
    assert language.parse(text, PROBLEM).update.sequences == (f"Rivers\n{text}", PASSAGE)
    with pytest.raises(UserError, match="Unable cannot ask a question"):
        language.bind(llama, Unable())


class Choices(MultipleChoice):
    def __init__(self):
        """Without data."""


class Unable(Biographies):
    def question_prompt(self, question):
        return f"{question.text} {question.choices[0]}"


def test_a_pair_may_be_asked_as_the_task_asks_and_all_else_stays_text(llama):
    text = "A fact.\nQuestion: Where?\nAnswer: Oslo"
    asked = Generated(closed_book("Where?"), "Oslo")
    found = parse(text, pairs="asked").update
    assert found.sequences == ("Rivers\nA fact.", asked, PASSAGE)
    assert found.texts() == ("Rivers\nA fact.", closed_book("Where?") + "Oslo", PASSAGE)
    for name in ("training-data", "ia3", "full"):
        language = EDITS.load(name)
        language = language(type(language().config)(pairs="asked"))
        language.bind(llama, Biographies())
        asked = Generated("Question: Where?\nAnswer:", " Oslo")
        assert language.parse(text, PROBLEM).update.sequences[1] == asked


@pytest.mark.parametrize(
    "config",
    [{"passage": "middle"}, {"pairs": "both"}, {"max_sequences": 0}, {"max_characters": -1}],
)
def test_settings_are_checked(config):
    with pytest.raises(UserError, match=next(iter(config))):
        TrainingDataConfig(**config)
