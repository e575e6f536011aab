"""Packed rows give transformers' own numbers, and no sequence feels its neighbours."""

import numpy as np
import pytest
import torch
from helpers import random_ids
from torch import nn
from transformers import AutoModelForCausalLM

from seal_env.attention import scaled_attention
from seal_env.packing import (
    Blocks,
    FullPass,
    Layout,
    bucket,
    padded_rows,
    to_blocks,
    to_rows,
)
from seal_env.rounding import EvenActivation

LENGTHS = (5, 17, 1, 40, 3, 33, 64, 16, 130)
CPU = torch.device("cpu")


def hidden_of(learner, sequences):
    layout = Layout(sequences, [0] * len(sequences), learner.device)
    with torch.no_grad():
        hidden = learner.hidden(layout.row, FullPass(layout), None)
    return [hidden[a : a + len(s)] for a, s in zip(layout.starts, sequences, strict=True)]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_hidden_states_and_logits_are_those_of_transformers(learner, attention):
    reference = AutoModelForCausalLM.from_pretrained(
        learner.name, dtype=torch.float32, attn_implementation=attention
    ).eval()
    sequences = [random_ids(n, n) for n in LENGTHS]
    with torch.no_grad():
        for ids, found in zip(sequences, hidden_of(learner, sequences), strict=True):
            output = reference(input_ids=torch.tensor([ids]), output_hidden_states=True)
            torch.testing.assert_close(found, output.hidden_states[-1][0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(learner.head(found), output.logits[0], rtol=1e-4, atol=1e-4)


def test_a_sequence_has_the_same_bits_whatever_is_beside_it(learner):
    sequences = [random_ids(n, n) for n in LENGTHS]
    together = hidden_of(learner, sequences)
    backwards = hidden_of(learner, sequences[::-1])[::-1]
    for ids, one, other in zip(sequences, together, backwards, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, hidden_of(learner, [ids])[0])


def test_sequences_are_laid_out_by_owner_and_found_where_starts_says():
    sequences, owners = [[1, 2], [3], [4, 5, 6], [7]], [2, 0, 2, 1]
    layout = Layout(sequences, owners, CPU)
    assert layout.row.ids[:7].tolist() == [3, 7, 1, 2, 4, 5, 6]
    assert layout.row.positions[:7].tolist() == [0, 0, 0, 1, 0, 1, 2]
    assert layout.starts.tolist() == [2, 0, 4, 1]
    assert layout.owners.tolist() == [0, 1, 2]
    assert len(layout.row.ids) == 16


def test_rows_to_blocks_and_back():
    lengths = np.array([3, 20, 16, 1, 90])
    rows = padded_rows(int(lengths.sum()))
    blocks = Blocks.build(lengths, rows, CPU)
    x = torch.randn(rows, 4, requires_grad=True)
    parts = to_blocks(x, blocks)
    assert {tuple(part.shape[:2]) for part in parts} == {(2, 8), (1, 24), (1, 16), (1, 96)}
    back = to_rows(parts, blocks)
    assert torch.equal(back[:130], x[:130])
    assert not back[130:].any()
    back[:130].square().sum().backward()
    assert torch.equal(x.grad[:130], 2 * x[:130])
    assert not x.grad[130:].any()


def test_a_nan_stays_in_its_own_rows_forward_and_backward():
    lengths = np.array([20, 20, 5])
    blocks = Blocks.build(lengths, padded_rows(45), CPU)
    x = torch.randn(padded_rows(45), 3)
    x[:20] = torch.nan
    x.requires_grad_(True)
    back = to_rows([part * part for part in to_blocks(x, blocks)], blocks)
    assert back[:20].isnan().all()
    assert back[20:].isfinite().all()
    back.backward(torch.where(back.isnan(), torch.nan, torch.ones(())))
    assert x.grad[:20].isnan().all()
    assert torch.equal(x.grad[20:45], 2 * x[20:45].detach())
    assert not x.grad[45:].any()


def test_buckets_waste_little():
    for length in range(1, 5000):
        assert length <= bucket(length)
        assert bucket(length) % 8 == 0
        assert bucket(length) < length + max(8 if length <= 32 else 16, length // 4)
    assert len({bucket(n) for n in range(1, 5000)}) < 35


def test_there_is_always_a_spare_row():
    assert [padded_rows(n) for n in (0, 1, 15, 16, 17)] == [16, 16, 16, 32, 32]


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("inner", [nn.SiLU(), nn.GELU(approximate="tanh")])
def test_activations_round_alike_everywhere_on_any_number_of_threads(threads, inner):
    kept = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = torch.randn(1, 1504, 128, requires_grad=True)
        whole = EvenActivation(inner)(x)
        whole.sum().backward()
        for start in range(0, 1504, 16):
            piece = x.detach()[:, start : start + 16].clone().requires_grad_(True)
            alone = EvenActivation(inner)(piece)
            alone.sum().backward()
            assert torch.equal(whole[:, start : start + 16], alone)
            assert torch.equal(x.grad[:, start : start + 16], piece.grad)
    finally:
        torch.set_num_threads(kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_queries_attend_as_they_do_among_all(dtype):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 24, n, 8, generator=generator).to(dtype) for n in (4, 2, 2))
    whole = scaled_attention(q, k, v, None, causal=True)
    last = scaled_attention(q[:, 16:], k, v, None, causal=True)
    torch.testing.assert_close(last, whole[:, 16:])
