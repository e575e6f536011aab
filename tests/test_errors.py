"""Messages for people are one line that a terminal shows as it is."""

import copy
import pickle
import unicodedata

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seal_env  # noqa: F401
from seal_env.edits import EditLanguage, SelfEdit
from seal_env.errors import MAX_LINE, MAX_MARKS, UserError, one_line, printable


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("task 'x': unknown", "task 'x': unknown"),
        ("two  spaces stay", "two  spaces stay"),
        ("a\n  b\r\nc\td\u2028e", "a b c d e"),
        ("red \x1b[31m", r"red \x1b[31m"),
        ("turned \u202eround", r"turned \u202eround"),
        ("joined \u200d", r"joined \u200d"),
        ("half \ud800", r"half \ud800"),
        ("zero\0", r"zero\x00"),
        ("quoted '\u0301x'", r"quoted '\u0301x'"),
        ("\u0301 first", r"\u0301 first"),
        ("café, cafe\u0301, राम, ภาษา, 東京", "café, cafe\u0301, राम, ภาษา, 東京"),
    ],
)
def test_what_a_terminal_would_not_show_is_escaped(text, line):
    assert str(UserError(text)) == line == one_line(text)


def test_marks_do_not_pile_up():
    shown = one_line("Z" + "\u0301" * 50)
    assert shown == "Z" + "\u0301" * MAX_MARKS + r"\u0301" * (50 - MAX_MARKS)


def test_of_a_long_message_beginning_and_end_stay():
    message = str(UserError(f"file: {'x' * 10**6} is odd; give another"))
    assert len(message) <= MAX_LINE
    assert message.startswith("file: xxx") and message.endswith("is odd; give another")
    assert " … " in message


@given(st.text(st.characters()), st.integers(20, 100))
def test_any_text_becomes_one_line(text, most):
    line = one_line(text, most)
    assert line.isprintable() and len(line) <= most
    assert one_line(line, most) == line
    assert not line or not unicodedata.category(line[0]).startswith("M")


def test_an_error_is_an_ordinary_exception():
    error = UserError("a\nb")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is UserError and str(other) == "a b" and other.args == error.args
    assert isinstance(error, ValueError)


def test_quoted_values_show_their_line_breaks():
    assert printable("a\nb\x1b") == r"a\nb\x1b"
    assert printable("x" * 100, 5) == "xxxxx..."


class Echo(EditLanguage):
    """Refuses every text, and quotes it as it is."""

    def parse(self, action, problem):
        return SelfEdit(error=f"no self-edit: {action}")


def test_so_does_the_error_of_an_invalid_self_edit():
    env = gym.make("SelfEdit-v0", task="biographies", model="tiny", edit=f"{__name__}:Echo")
    env.reset(seed=0)
    info = env.step("two\nlines \x1b[2J\u202e")[-1]
    assert info["error"] == r"no self-edit: two lines \x1b[2J\u202e"
