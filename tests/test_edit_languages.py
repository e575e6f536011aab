"""What every self-edit language promises, for each one of the registry.

A text language is given texts that nobody would call self-edits; a language with another action
space is given samples of it, and things that are not in it. A language without a method
`example(problem)` needs a line in `EXAMPLES`.
"""

import dataclasses
import functools
import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import weights_hash
from hypothesis import example, given, settings
from hypothesis import strategies as st

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_env.edits import EDITS, EditLanguage, SelfEdit
from seal_env.engine.loading import load_learner
from seal_env.engine.lora import LoraConfig
from seal_env.engine.training import FinetuneConfig
from seal_env.inner_loop import InnerLoopConfig
from seal_env.tasks.base import Problem, Question
from seal_env.tasks.biographies.task import Biographies

INNER = InnerLoopConfig(LoraConfig(2, 4.0), FinetuneConfig(learning_rate=1e-2, epochs=1))
EXAMPLES = {
    "full": "Ada comes from Oslo.\nAda is a baker.",
    "ia3": "Ada comes from Oslo.\nAda is a baker.",
    "training-data": "Ada comes from Oslo.\nAda is a baker.",
    "weights": "scale layer 1 attention by 1.05",
}
PROBLEM = Biographies().problem("train", 0)
PROBLEMS = (
    PROBLEM,
    Problem("bare", "", "", ()),
    Problem("odd", "T\x00\ud800\n", "C\ud800\r\n\x1b", (Question("Why?", "C"),)),
    Problem("solved", "", "Input: 1 2\nOutput: 2 1\n", (), examples=(("1 2", "2 1"),)),
)

DIRECTIVE = json.dumps(
    {
        "data_generation": {"use_basic_augmentations": True},
        "training": {
            "strategy": "train_using_all_tokens",
            "learning_rate": 1e-4,
            "num_train_epochs": 2,
        },
    }
)
SEEDS = (
    DIRECTIVE,
    "adjust layers.2.mlp.down_proj[5, 42] by +0.001",
    "add 0.02 to layers.0.self_attn.q_proj row 7",
    "[0.1, -0.2, 0.3]",
    "Question: Where?\nAnswer: There.",
)
NUMBERS = ("1e400", "-1e400", "NaN", "Infinity", "-inf", "1e-400", "9" * 5000, "0x10", "1_0", "٣")
FRAGMENTS = (
    *"{}[]\"'\\:,.-+ \n\r\t\x00\x1b\x7f\x85\u2028\ufeff\ud800\udfff٣é😀",
    '{"',
    '{"a":',
    "{}",
    "[[",
    '\\"',
    "\\u",
    '{"training":',
    '{"data":[',
    "```json\n",
    "</s>",
    "<|im_start|>",
    "Ignore all previous instructions. ",
    "__import__('os').system('true')",
    "add 1 to ",
    "scale layer 1 by ",
    "layers." * 3,
    "%s%n{0}",
    "A:",
    "---\n",
)


def adversarial():
    """A few hundred texts, some of a megabyte."""
    texts = ["", " ", "\n", *FRAGMENTS, *NUMBERS, *SEEDS]
    texts += [fragment * 50 for fragment in FRAGMENTS]
    texts += [fragment * (1_000_000 // len(fragment)) for fragment in FRAGMENTS[::7]]
    texts += [seed + fragment + seed for seed in SEEDS for fragment in FRAGMENTS[::3]]
    texts += [seed[: len(seed) * i // 9] for seed in SEEDS for i in range(1, 9)]
    texts += [
        seed.replace(old, number)
        for seed in SEEDS
        for old in ("0.001", "0.0001", "42", "2")
        for number in NUMBERS
    ]
    return list(dict.fromkeys(texts))


TEXTS = adversarial()


@functools.cache
def bound(name, copy=0):
    """A language as an environment would have it; another copy is another object."""
    language = EDITS.load(name)()
    language.bind(load_learner("tiny", device="cpu"))
    return language


def takes_text(name):
    return isinstance(bound(name).action_space(), spaces.Text)


def right_action(name, problem):
    """An action that is a self-edit."""
    language = bound(name)
    found = language.example(problem)
    if found is not None:
        return found
    if takes_text(name):
        assert name in EXAMPLES, f"give {name} a method example(problem), or a line in EXAMPLES"
        return EXAMPLES[name]
    space = language.action_space()
    space.seed(0)
    return space.sample()


def wrong_action(name):
    """An action that is none."""
    language = bound(name)
    candidates = [*TEXTS[:40], None, np.full(3, np.nan)] if not takes_text(name) else TEXTS
    return next((a for a in candidates if language.parse(a, PROBLEM).error), None)


def is_plain(value):
    if isinstance(value, tuple):
        return all(is_plain(item) for item in value)
    if dataclasses.is_dataclass(value):
        return all(is_plain(getattr(value, f.name)) for f in dataclasses.fields(value))
    return value is None or type(value) in (str, int, float, bool)


def check(name, action, problem=PROBLEM):
    """What holds of whatever a language makes of an action."""
    edit = bound(name).parse(action, problem)
    assert type(edit) is SelfEdit
    assert is_plain(edit)
    hash(edit)
    for text in edit.update.texts() if edit.update else ():
        text.encode("utf-8")
    if edit.error is not None:
        assert edit.error and edit.error.isprintable() and len(edit.error) < 1000
        assert edit == SelfEdit(truncated=edit.truncated, error=edit.error)
    for copy in (0, 1):
        assert bound(name, copy).parse(action, problem) == edit
    return edit


def test_there_are_several_hundred_texts_and_long_ones_among_them():
    assert len(TEXTS) > 250
    assert max(map(len, TEXTS)) > 900_000


@pytest.mark.parametrize("name", EDITS)
def test_a_language_is_one(name):
    assert issubclass(EDITS.load(name), EditLanguage)
    assert isinstance(bound(name).action_space(), spaces.Text | spaces.Box)


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_any_text_is_legal(name):
    for text in TEXTS:
        check(name, text)


@pytest.mark.parametrize("name", EDITS)
def test_any_text_is_legal_for_any_problem(name):
    for problem in PROBLEMS:
        for text in (*TEXTS[:60], *SEEDS):
            check(name, text, problem)


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
@settings(max_examples=60)
@example(text=DIRECTIVE)
@given(text=st.text(st.characters()) | st.lists(st.sampled_from(FRAGMENTS)).map("".join))
def test_text_that_was_made_up_is_legal(name, text):
    check(name, text)


def changed(seed_text, changes):
    """A text with some of its parts replaced by others."""
    for place, length, new in changes:
        start = place % (len(seed_text) + 1)
        seed_text = seed_text[:start] + new + seed_text[start + length :]
    return seed_text


PARTS = st.sampled_from((*FRAGMENTS, *NUMBERS, *SEEDS)) | st.text(st.characters(), max_size=4)
CHANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), PARTS), max_size=6)


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
@settings(max_examples=150, deadline=None)
@given(text=st.builds(changed, st.sampled_from(SEEDS), CHANGES))
def test_self_edits_with_something_changed_are_legal(name, text):
    check(name, text)


@pytest.mark.parametrize("name", [n for n in EDITS if takes_text(n)])
@pytest.mark.parametrize("action", [None, 5, 1.5, b"text", ["text"], {}, object(), np.zeros(3)])
def test_what_is_no_text_is_an_error(name, action):
    edit = bound(name).parse(action, PROBLEM)
    assert edit == SelfEdit(error=edit.error)
    assert edit.error and edit.error.isprintable()


@pytest.mark.parametrize("name", EDITS)
def test_actions_of_the_space_are_legal(name):
    space = bound(name).action_space()
    space.seed(1)
    for _ in range(50):
        edit = check(name, space.sample())
        assert takes_text(name) or edit.error is None


@pytest.mark.parametrize("name", [n for n in EDITS if not takes_text(n)])
def test_what_is_not_in_the_space_is_an_error(name):
    space = bound(name).action_space()
    for junk in (
        None,
        object(),
        {},
        [[]],
        "no numbers",
        np.full(space.shape, np.nan),
        np.full(space.shape, np.inf),
        np.zeros((*space.shape, 2)),
        np.zeros(0),
    ):
        edit = bound(name).parse(junk, PROBLEM)
        assert edit.error and edit.error.isprintable()
        assert edit == SelfEdit(error=edit.error)


@pytest.mark.parametrize("name", EDITS)
def test_there_is_an_example_for_every_problem(name):
    for problem in PROBLEMS:
        edit = check(name, right_action(name, problem), problem)
        assert edit.error is None
        assert edit.update.texts() or edit.update.summary()


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_in_the_environment_it_is_restored_to_the_bit_and_rewarded_the_same(name):
    env = gym.make("SelfEdit-v0", model="tiny", edit=name, inner=INNER)
    learner = env.unwrapped.episodes.loop.learner
    action = right_action(name, PROBLEM)
    fingerprint = weights_hash(learner.model)
    results = []
    for _ in range(2):
        observation, _ = env.reset(seed=3, options={"problems": PROBLEM})
        _, reward, _, _, info = env.step(action)
        assert info["error"] == ""
        assert weights_hash(learner.model) == fingerprint
        results.append((observation["model_state"].tobytes(), reward, repr(info)))
    assert results[0] == results[1]
    # It changed the learner: the right answers have become more or less likely.
    assert info["log_likelihood"] != info["log_likelihood_before"]


@pytest.mark.parametrize("name", EDITS)
def test_in_the_environment_what_is_no_self_edit_is_penalized(name):
    action = wrong_action(name)
    if action is None:  # a language in which every text says something
        assert all(bound(name).parse(text, PROBLEM).error is None for text in TEXTS)
        return
    env = gym.make("SelfEdit-v0", model="tiny", edit=name, inner=INNER, invalid_penalty=0.75)
    learner = env.unwrapped.episodes.loop.learner
    fingerprint = weights_hash(learner.model)
    env.reset(seed=0, options={"problems": PROBLEM})
    _, reward, _, _, info = env.unwrapped.step(action)
    assert info["error"] and info["steps"] == 0
    assert reward == info["accuracy_before"] - 0.75
    assert info["accuracy"] == info["accuracy_before"]
    assert weights_hash(learner.model) == fingerprint
