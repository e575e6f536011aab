"""Divergence of many learners from others on the same texts."""

import math
from dataclasses import astuple

import pytest
import torch
from helpers import new_bank, random_ids, scrambled_bank

from seal_env.engine.divergence import divergences
from seal_env.engine.lora import AdapterBank

TEXTS = [random_ids(n, n) for n in (2, 9, 40, 17)]


def compare(learner, new, old=None, count=3, texts=TEXTS, tokens=1 << 14):
    return divergences(learner, texts, count, new, old, tokens)


def only(bank, *chosen):
    """A bank with some of the adapters of another."""
    alone = AdapterBank(bank.targets, bank.config, len(chosen), bank.weights.device)
    for place, index in enumerate(chosen):
        alone.weights[place] = bank.weights[index]
    return alone


def plain_log_probs(learner, bank, index):
    """Next-token log-probabilities before each scored token, by the model itself, text by text."""
    model = learner.copy_model()
    model.set_attn_implementation("eager")
    if bank is not None:
        only(bank, index).merge_into(model)
    with torch.no_grad():
        logits = [model(torch.tensor([text])).logits[0, :-1].double() for text in TEXTS]
    return torch.cat(logits).log_softmax(-1)


def test_numbers_are_those_of_the_whole_softmax(learner):
    new, old = scrambled_bank(learner, 2), scrambled_bank(learner, 3)
    old = only(old, 2, 0)
    labels = torch.tensor([t for text in TEXTS for t in text[1:]])
    for given in (None, old):
        for index, found in enumerate(compare(learner, new, given, 2)):
            after = plain_log_probs(learner, new, index)
            before = plain_log_probs(learner, given, index)
            kl = (after.exp() * (after - before)).sum(-1).mean()
            losses = [-x.gather(1, labels[:, None]).mean() for x in (before, after)]
            expected = [float(x) for x in (kl, *losses)]
            assert astuple(found) == pytest.approx(expected, rel=1e-3, abs=1e-5)
            assert found.kl > 0.05


def test_the_same_bits_alone_and_beside_others_in_any_order_and_any_pieces(learner):
    new, old = scrambled_bank(learner, 3), only(scrambled_bank(learner, 4), 3, 2, 1)
    for given in (None, old):
        together = compare(learner, new, given)
        for tokens in (1, 150):
            assert compare(learner, new, given, tokens=tokens) == together
        order = (2, 0)
        some = None if given is None else only(given, *order)
        assert compare(learner, only(new, *order), some, 2) == [together[i] for i in order]
        first = None if given is None else only(given, 0)
        assert compare(learner, only(new, 0), first, 1) == together[:1]


def test_an_untouched_learner_has_not_moved(llama):
    fresh = new_bank(llama, [0, 1, 2])  # one of the two matrices is zero
    for found in (*compare(llama, None), *compare(llama, fresh), *compare(llama, fresh, fresh)):
        assert found.kl == 0
        assert found.old_loss == found.new_loss


def test_a_token_that_cannot_come_changes_nothing_and_a_broken_learner_shows(llama, monkeypatch):
    bank = scrambled_bank(llama, 2)
    head = llama.head

    def masked(hidden):
        logits = head(hidden).clone()
        logits[:, 510:] = -math.inf
        return logits

    monkeypatch.setattr(llama, "head", masked)
    assert all(math.isfinite(x) for d in compare(llama, bank, count=2) for x in astuple(d))
    bank.weights[1] = math.nan
    fine, broken = compare(llama, bank, count=2)
    assert all(map(math.isfinite, astuple(fine)))
    assert not math.isfinite(broken.kl) and not math.isfinite(broken.new_loss)


def test_few_logits_are_in_memory_at_a_time(llama, monkeypatch):
    rows = []
    head = llama.head
    monkeypatch.setattr(llama, "head_rows", 32)
    monkeypatch.setattr(llama, "head", lambda hidden: rows.append(len(hidden)) or head(hidden))
    compare(llama, scrambled_bank(llama, 3))
    assert max(rows) == 32 and sum(rows) > 32
