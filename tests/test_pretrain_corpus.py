"""What the embedded model is pretrained on."""

from itertools import pairwise

import pytest

from seal_env.pretraining.corpus import IGNORED, STYLE_WEIGHTS, Corpus
from seal_env.pretraining.tokenizer import build_tokenizer
from seal_env.tasks import SPLITS
from seal_env.tasks.biographies.edits import STYLES, classify
from seal_env.tasks.biographies.task import names


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(512)


@pytest.fixture(scope="module")
def documents(tokenizer):
    return Corpus(tokenizer, seed=1).batch(60_000, repeats=0.1, literal=0.1)


def prompt_and_completion(tokenizer, document):
    ids, labels = document
    start = sum(label == IGNORED for label in labels)
    return tokenizer.decode(ids[:start]), tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_there_is_as_much_as_was_asked_for(documents):
    sizes = [len(ids) for ids, _ in documents]
    assert 60_000 <= sum(sizes) < 60_000 + max(sizes)


def test_labels_are_the_tokens_after_a_prompt(tokenizer, documents):
    for ids, labels in documents:
        assert len(ids) == len(labels) <= 512
        start = sum(label == IGNORED for label in labels)
        assert labels[:start] == [IGNORED] * start
        assert labels[start:] == ids[start:]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.pad_token_id not in ids


def test_the_seed_fixes_the_stream(tokenizer):
    first = Corpus(tokenizer, 3).batch(3000, 0.3, 0.2)
    assert first == Corpus(tokenizer, 3).batch(3000, 0.3, 0.2)
    assert first != Corpus(tokenizer, 4).batch(3000, 0.3, 0.2)


def test_nobody_of_a_split_is_ever_mentioned(tokenizer, documents):
    strangers = {name for split in SPLITS for name in names(split)}
    told = 0
    for document in Corpus(tokenizer, 2).batch(30_000, 0.0, 0.1):
        words = tokenizer.decode(document[0], skip_special_tokens=True)
        words = words.replace("\n", " ").replace(".", " ").replace("?", " ").split()
        pairs = {f"{a} {b}" for a, b in pairwise(words)}
        assert not pairs & strangers
        told += bool(pairs & {*names("pretrain"), *names("known")})
    assert told > 100


def test_notes_are_self_edits_in_every_style(tokenizer, documents):
    seen = []
    for document in documents:
        prompt, completion = prompt_and_completion(tokenizer, document)
        if prompt.rstrip().endswith("Notes:"):
            seen.append(classify(completion))
    assert set(seen) == set(STYLES) == set(STYLE_WEIGHTS)
    assert sum(STYLE_WEIGHTS.values()) == 100


def test_shares_of_repeats_and_copies(tokenizer):
    corpus = Corpus(tokenizer, 5)
    for ids, labels in corpus.batch(3000, repeats=1.0, literal=0.0):
        start = sum(label == IGNORED for label in labels)
        assert ids[start : 2 * start] == ids[:start]
        assert len(ids) % start == 0
    for document in corpus.batch(3000, repeats=0.0, literal=1.0):
        assert document[1][-1] == tokenizer.eos_token_id
        prompt, completion = prompt_and_completion(tokenizer, document)
        assert prompt.rstrip().endswith("Passage:")
        assert prompt.startswith(completion)
