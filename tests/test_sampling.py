"""What is sampled: its tokens, their log-probabilities, and where it ended."""

import numpy as np
import pytest
import torch
from helpers import random_ids
from transformers import AutoModelForCausalLM

from seal_env.engine.generation import generate, sample
from seal_env.engine.sampling import Sampling

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
