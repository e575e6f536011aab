"""The space of all texts: any string, small, and equal to its copies."""

import copy
import pickle

import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from seal_env.spaces import PRINTABLE, AnyText


@pytest.mark.parametrize("text", ["", "a", "\n\t", "\ud800", "\x00", "é\U0010ffff", "x" * 100])
def test_any_string_is_in_it(text):
    assert text in AnyText(100)


@pytest.mark.parametrize("thing", [None, 3, b"bytes", ["a"], "x" * 101])
def test_nothing_else_is(thing):
    assert thing not in AnyText(100)


def test_samples_are_short_printable_and_seeded():
    space, other = AnyText(1 << 30, seed=5), AnyText(1 << 30, seed=5)
    samples = [space.sample() for _ in range(200)]
    assert all(sample in space for sample in samples)
    assert all(len(sample) <= 200 and set(sample) <= set(PRINTABLE) for sample in samples)
    assert len({len(sample) for sample in samples}) > 50
    assert samples == [other.sample() for _ in range(200)]
    assert all(len(AnyText(3, seed=i).sample()) <= 3 for i in range(20))


def test_it_says_how_long_a_text_may_be():
    assert AnyText(1 << 30).max_length == 1 << 30
    assert AnyText(1 << 30).min_length == 0


def test_copies_are_small_and_equal():
    space = AnyText(1 << 30)
    for twin in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert twin == space
        assert "\ud800" in twin
        assert isinstance(twin.sample(), str)
    assert len(pickle.dumps(space)) < 10_000


def test_it_equals_what_holds_the_same_texts():
    assert AnyText(5) == AnyText(5, sample_length=2)
    assert AnyText(5) != AnyText(6)
    assert AnyText(5) != spaces.Text(5)
    assert repr(AnyText(5)) == "AnyText(5)"


def test_it_can_be_batched():
    batch = batch_space(AnyText(50), 3)
    assert batch.sample() in batch
    assert ("", "\ud800", "x") in batch
