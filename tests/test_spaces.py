"""The space of all texts: any string, small, and equal to its copies."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.spaces import flatdim, flatten, flatten_space, unflatten
from gymnasium.vector.utils import (
    batch_space,
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)
from helpers import INNER

from seal_env.errors import UserError
from seal_env.spaces import LONGEST_TEXT, PRINTABLE, AnyText


@pytest.mark.parametrize("text", ["", "a", "\n\t", "\ud800", "\x00", "é\U0010ffff", "x" * 100])
def test_any_string_is_in_it(text):
    assert text in AnyText(100)


@pytest.mark.parametrize("thing", [None, 3, b"bytes", ["a"], "x" * 101])
def test_nothing_else_is(thing):
    assert thing not in AnyText(100)


def test_samples_are_short_printable_and_seeded():
    space, other = AnyText(LONGEST_TEXT, seed=5), AnyText(LONGEST_TEXT, seed=5)
    samples = [space.sample() for _ in range(200)]
    assert all(sample in space for sample in samples)
    assert all(len(sample) <= 200 and set(sample) <= set(PRINTABLE) for sample in samples)
    assert len({len(sample) for sample in samples}) > 50
    assert samples == [other.sample() for _ in range(200)]
    assert all(len(AnyText(3, seed=i).sample()) <= 3 for i in range(20))


def test_it_says_how_long_a_text_may_be():
    assert AnyText(LONGEST_TEXT).max_length == LONGEST_TEXT
    assert AnyText(LONGEST_TEXT).min_length == 0


def test_copies_are_small_and_equal():
    space = AnyText(LONGEST_TEXT)
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


def test_shared_memory_holds_any_text_and_is_of_bounded_size():
    space = AnyText(LONGEST_TEXT)
    memory = create_shared_memory(space, 2)
    assert len(memory.get_obj()) * 4 <= 2 * (4 << 20) + 8
    long = "\U0010ffff" * LONGEST_TEXT
    seen = read_from_shared_memory(space, memory, 2)
    for pair in (("", "a"), ("\ud800\x00", "é\t"), (long, ""), ("x" * 5, "\n")):
        for index, text in enumerate(pair):
            write_to_shared_memory(space, index, text, memory)
        assert copy.deepcopy(seen) == tuple(seen) == seen[:] == pair
        assert (len(seen), seen[1], seen[-2]) == (2, pair[1], pair[0])
    with pytest.raises(UserError, match="shared_memory=False"):
        write_to_shared_memory(space, 0, long + "x", memory)


def test_a_text_is_not_flattened(models):
    space, env = AnyText(9), gym.make("SelfEdit-v0", model=models["llama"], inner=INNER)
    for call in (
        lambda: flatten_space(space),
        lambda: flatdim(space),
        lambda: flatten(space, "a"),
        lambda: unflatten(space, np.zeros(9)),
        lambda: flatten_space(spaces.Dict({"a": space, "b": spaces.Discrete(2)})),
        lambda: flatdim(spaces.Tuple([space])),
        lambda: gym.wrappers.FlattenObservation(env),
    ):
        with pytest.raises(UserError, match="FilterObservation") as error:
            call()
        assert "\n" not in str(error.value)
    env = gym.wrappers.FlattenObservation(gym.wrappers.FilterObservation(env, ["model_state"]))
    assert env.reset(seed=0)[0] in env.observation_space


def test_plain_text_spaces_are_flattened_as_before():
    assert flatten(spaces.Text(3), "ab").shape == (3,)
