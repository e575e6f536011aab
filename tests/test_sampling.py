"""What is sampled: its tokens, their log-probabilities, and where it ended."""

import copy

import numpy as np
import pytest
import torch
from helpers import random_ids
from transformers import AutoModelForCausalLM

from benchmarks.small_models import small_model
from seal_env.engine.generation import drawn, generate, sample
from seal_env.engine.loading import prepare
from seal_env.engine.sampling import Sampling
from seal_env.pretraining.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer(512)
LENGTHS = (5, 17, 40, 3)
SEEDS = [11, 12, 13, 14]


@pytest.fixture(scope="module")
def prompts():
    return [random_ids(n, n) for n in LENGTHS]


def by_transformers(reference, prompt, tokens, temperature, allowed=None):
    """Log-probabilities of the tokens after the prompt, in one pass over both."""
    with torch.no_grad():
        logits = reference(torch.tensor([[*prompt, *tokens]])).logits[0] / temperature
    if allowed is not None:
        logits[:, ~torch.from_numpy(allowed)] = -torch.inf
    rows = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return rows[range(len(tokens)), list(tokens)].tolist()


@pytest.mark.parametrize("shared", [None, list(LENGTHS)])
def test_log_probabilities_are_those_of_a_whole_pass(learner, prompts, shared):
    reference = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32).eval()
    given, lengths = [prompts[i // 2] for i in range(8)], [LENGTHS[i // 2] for i in range(8)]
    found = sample(learner, given, Sampling(12, 0.7), range(8), shared=lengths if shared else None)
    for prompt, one in zip(given, found, strict=True):
        expected = by_transformers(reference, prompt, one.tokens, 0.7)
        assert one.log_probs == pytest.approx(expected, abs=1e-4)


def test_the_tokens_are_those_of_generate_and_the_end_is_among_them(llama, prompts):
    sampling = Sampling(60, 3.0)  # so hot that some texts end before the limit
    given, seeds = prompts * 10, list(range(40))
    found = sample(llama, given, sampling, seeds)
    plain = generate(llama, given, sampling, seeds=seeds)
    assert {one.ended for one in found} == {True, False}
    for one, ids in zip(found, plain, strict=True):
        assert one.text == llama.decode(ids)
        if one.ended:
            assert list(one.tokens[:-1]) == ids and one.tokens[-1] in llama.stop_ids
        else:
            assert list(one.tokens) == ids and len(ids) == 60


class Few:
    """Allows the same few tokens at every step."""

    def __init__(self, mask):
        self.mask = mask

    def start(self):
        return self

    def allowed(self):
        return self.mask

    def take(self, token):
        pass


def test_a_constraint_is_part_of_the_distribution(llama, prompts):
    reference = AutoModelForCausalLM.from_pretrained(llama.name, dtype=torch.float32).eval()
    mask = np.zeros(llama.model.config.vocab_size, dtype=bool)
    mask[[7, 8, 9]] = True
    for prompt, one in zip(
        prompts, sample(llama, prompts, Sampling(6, 1.0), SEEDS, constraint=Few(mask)), strict=True
    ):
        expected = by_transformers(reference, prompt, one.tokens, 1.0, mask)
        assert set(one.tokens) <= {7, 8, 9}
        assert one.log_probs == pytest.approx(expected, abs=1e-4)


def test_nothing_is_drawn_at_temperature_0(llama, prompts):
    found = sample(llama, prompts, Sampling(6), SEEDS)
    assert [list(one.tokens) for one in found] == generate(llama, prompts, Sampling(6))
    assert {value for one in found for value in one.log_probs} == {0.0}
    assert sample(llama, [], Sampling(6), []) == []


@pytest.mark.parametrize("kind", ["gemma2", "gpt_oss", "mistral"])
def test_equal_prompts_share_a_cache_whatever_the_attention(kind):
    """Capped scores, sinks and windows, of the prompt and of what follows it."""
    reference = small_model(kind, len(TOKENIZER)).eval()
    learner = prepare(copy.deepcopy(reference), TOKENIZER, kind)
    given = [random_ids(n, n) for n in (40, 40, 7, 40, 20)]
    found = sample(learner, given, Sampling(24, 1.0), range(5))
    for prompt, one in zip(given, found, strict=True):
        expected = by_transformers(reference, prompt, one.tokens, 1.0)
        assert one.log_probs == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_equal_prompts_are_read_once_and_change_no_text(llama, prompts, monkeypatch):
    rows, hidden = [], llama.hidden
    monkeypatch.setattr(
        llama, "hidden", lambda row, *rest: (rows.append(len(row.ids)), hidden(row, *rest))[1]
    )
    given = [prompts[i] for i in (2, 0, 2, 1, 2, 2)]
    found = sample(llama, given, Sampling(40, 1.0), range(6))
    assert rows[0] == 64  # 40 + 5 + 17 tokens, and spare ones
    for i, prompt in enumerate(given):
        assert sample(llama, [prompt], Sampling(40, 1.0), [i]) == [found[i]]


def test_a_draw_inverts_the_cumulative_distribution():
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(64, 700, generator=generator, dtype=torch.float64)
    shares[torch.rand(shares.shape, generator=generator) < 0.9] = 0
    shares /= shares.sum(-1, keepdim=True)
    noise = torch.rand(64, generator=generator, dtype=torch.float64)
    noise[:4] = torch.tensor([0.0, 1 - 2**-53, 1 - 2**-53, 0.0])
    sums = shares.cumsum(-1)
    expected = torch.searchsorted(sums, noise[:, None] * sums[:, -1:], right=True)[:, 0]
    tokens = drawn(shares, noise)
    assert (tokens[4:] == expected[4:]).all()
    assert (shares.gather(1, tokens[:, None]) > 0).all()


class Then:
    """Allows two tokens, then only an end."""

    def __init__(self, stop, size):
        self.stop, self.size, self.count = stop, size, 0

    def start(self):
        return Then(self.stop, self.size)

    def allowed(self):
        mask = np.zeros(self.size, dtype=bool)
        mask[[7, 8] if self.count < 2 else [self.stop]] = True
        return mask

    def take(self, token):
        self.count += 1


@pytest.mark.parametrize("limit", [2, 3, 9])
def test_a_text_that_can_only_end_is_not_computed_further(llama, prompts, limit, monkeypatch):
    rows, hidden = [], llama.hidden
    monkeypatch.setattr(llama, "hidden", lambda *given: (rows.append(1), hidden(*given))[1])
    stop = int(llama.stop_ids[0])
    constraint = Then(stop, llama.model.config.vocab_size)
    for one in sample(llama, prompts, Sampling(limit, 1.0), SEEDS, constraint=constraint):
        assert one.ended == (limit > 2) and len(one.tokens) == min(limit, 3)
        assert len(one.log_probs) == len(one.tokens)
        if one.ended:
            assert one.tokens[-1] == stop and one.log_probs[-1] == 0
    assert len(rows) == 2  # the prompts, and the first token
