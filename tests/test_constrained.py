"""Constrained decoding: whatever is drawn among what is allowed, the text has the form."""

import re

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from seal_env.constrained import PatternConstraint
from seal_env.edits.directives import Directives
from seal_env.errors import UserError
from seal_env.pretraining.tokenizer import build_tokenizer
from seal_env.tasks.base import Problem

LANGUAGE = Directives(tools=("basic", "colors"))
PROBLEM = Problem("p", "", "", (), examples=("one",))
TEXT = LANGUAGE.example(PROBLEM)


def byte_level():
    """Byte pairs, as most language models have them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")


def word_level(*more):
    """Whole words, with spaces between them when they are decoded."""
    words = re.findall(r'"\w+"|[\w.]+|[{}:,]', TEXT)
    listed = ["</s>", "<unk>", *dict.fromkeys([*words, *more])]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(listed)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def write(tokenizer, constraint, seed, most=400):
    """A text of random tokens among the allowed ones."""
    random, guide, ids = np.random.default_rng(seed), constraint.start(), []
    for _ in range(most):
        token = int(random.choice(np.flatnonzero(guide.allowed())))
        if token == tokenizer.eos_token_id:
            return tokenizer.decode(ids)
        guide.take(token)
        ids.append(token)
    raise AssertionError(f"no end after {most} tokens: {tokenizer.decode(ids)!r}")


# The second one has words that a number could begin with, but none to go on with.
@pytest.mark.parametrize(
    "tokenizer", [byte_level(), word_level("0", "1", "1e-4", "12")], ids=["bytes", "words"]
)
def test_only_directives_are_written(tokenizer):
    constraint = PatternConstraint(tokenizer, LANGUAGE.pattern(), len(tokenizer) + 60)
    edits = set()
    for seed in range(25):
        edit = LANGUAGE.parse(write(tokenizer, constraint, seed), PROBLEM)
        assert edit.error is None
        edits.add(edit)
    assert len(edits) > 5
    assert {e.update.tools for e in edits} == {(), ("basic",), ("colors",), ("basic", "colors")}


def test_a_given_directive_can_be_written_and_then_it_may_end():
    tokenizer = byte_level()
    guide = PatternConstraint(tokenizer, LANGUAGE.pattern(), len(tokenizer)).start()
    for token in tokenizer(TEXT)["input_ids"]:
        allowed = guide.allowed()
        assert allowed[token] and not allowed[tokenizer.eos_token_id]
        guide.take(token)
    allowed = guide.allowed()
    assert allowed[tokenizer.eos_token_id]
    assert all(not tokenizer.decode([t]).strip() for t in np.flatnonzero(allowed) if t > 1)


def test_guides_do_not_disturb_each_other():
    tokenizer = byte_level()
    constraint = PatternConstraint(tokenizer, LANGUAGE.pattern(), len(tokenizer))
    first, second = constraint.start(), constraint.start()
    before = second.allowed()
    for token in tokenizer(TEXT)["input_ids"]:
        first.take(token)
    assert (second.allowed() == before).all()
    assert (first.allowed() != before).any()
    assert write(tokenizer, constraint, 3) == write(tokenizer, constraint, 3)


def test_rows_of_the_model_that_no_token_has_are_never_allowed():
    tokenizer = byte_level()
    allowed = PatternConstraint(tokenizer, "(a|b)+", len(tokenizer) + 7).start().allowed()
    assert allowed.shape == (len(tokenizer) + 7,)
    assert not allowed[-7:].any()
    assert {tokenizer.decode([t]) for t in np.flatnonzero(allowed)} >= {"a", "b"}


def test_several_tokens_can_end_a_text():
    tokenizer = byte_level()
    guide = PatternConstraint(tokenizer, "x", len(tokenizer), stop_ids=[1, 0]).start()
    guide.take(tokenizer.convert_tokens_to_ids("x"))
    assert np.flatnonzero(guide.allowed()).tolist() == [0, 1]


def test_a_tokenizer_without_the_words_is_an_error():
    tokenizer = build_tokenizer(64)
    constraint = PatternConstraint(tokenizer, LANGUAGE.pattern(), len(tokenizer))
    with pytest.raises(UserError, match="cannot spell"):
        write(tokenizer, constraint, 0)


def test_a_wrong_pattern_is_an_error():
    tokenizer = byte_level()
    with pytest.raises(UserError, match="constrained decoding") as error:
        PatternConstraint(tokenizer, "(", len(tokenizer))
    assert "\n" not in str(error.value)
