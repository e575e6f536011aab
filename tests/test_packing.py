"""Packed rows give transformers' own numbers, and no sequence feels its neighbors."""

import numpy as np
import pytest
import torch
from helpers import random_ids
from torch import nn
from transformers import AutoModelForCausalLM

from seal_env.engine.attention import Scoring, attend, attend_and_learn
from seal_env.engine.generation import BatchGenerator
from seal_env.engine.heads import HeadBlocks, Heads
from seal_env.engine.packing import Blocks, Layout, bucket, padded_rows, whole_blocks
from seal_env.engine.passes import IMPLEMENTATION, FullPass
from seal_env.engine.rounding import EvenActivation
from seal_env.engine.sampling import Sampling
from seal_env.pretraining.common import packed_loss

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


def head_blocks(lengths):
    rows = padded_rows(sum(lengths))
    return HeadBlocks(Blocks.build(np.array(lengths), rows, CPU), Heads(4, 2)), rows


def test_heads_are_taken_apart_and_put_together():
    lengths = (3, 20, 16, 1, 90)
    blocks, rows = head_blocks(lengths)
    x = torch.randn(rows, 8, 5)
    groups = blocks.apart(x)
    assert {tuple(q.shape[:3]) for q, _, _ in groups} == {
        (2, 4, 8), (1, 4, 32), (1, 4, 16), (1, 4, 96),
    }  # fmt: skip
    longest = next(group for group in groups if group[0].shape[2] == 96)
    for part, heads in zip(longest, (slice(0, 4), slice(4, 6), slice(6, 8)), strict=True):
        assert torch.equal(part[0, :, :90], x[40:130, heads].transpose(0, 1))
    for back, expected in (
        (blocks.together([q for q, _, _ in groups]), x[:, :4]),
        (blocks.apart_backward(groups), x),
    ):
        assert torch.equal(back[:130], expected[:130])
        assert not back[130:].any()
    queries = blocks.together_backward(x[:, :4].contiguous())
    assert all(torch.equal(q, group[0]) for q, group in zip(queries, groups, strict=True))


def test_a_nan_stays_in_its_own_rows_forward_and_backward():
    lengths = (20, 20, 5)
    blocks, rows = head_blocks(lengths)
    x = torch.randn(rows, 8, 6)
    clean = x.clone()
    x[:20] = torch.nan
    found, grads = [], []
    for some in (x, clean):
        pairs = [attend_and_learn(*group, Scoring()) for group in blocks.apart(some)]
        found.append(blocks.together([out for out, _ in pairs]))
        outer = blocks.together_backward(found[-1])
        inner = [back.run(grad, back.saved) for (_, back), grad in zip(pairs, outer, strict=True)]
        grads.append(blocks.apart_backward(inner))
    for broken, whole in (found, grads):
        assert broken[:20].isnan().all()
        assert torch.equal(broken[20:], whole[20:])
        assert not broken[45:].any()


def test_buckets_waste_little():
    for length in range(1, 5000):
        assert length <= bucket(length)
        assert bucket(length) % 8 == 0
        assert bucket(length) < length + (8 if length <= 8 else max(16, length // 4))
    assert len({bucket(n) for n in range(1, 5000)}) < 35


def test_there_are_few_buckets_on_a_gpu():
    gpu = torch.device("cuda")
    assert [bucket(n, gpu) for n in (1, 16, 17, 128, 129)] == [16, 16, 128, 128, 256]
    assert len({bucket(n, gpu) for n in range(1, 5000)}) < 20
    assert (whole_blocks(130, gpu), whole_blocks(127, gpu)) == (128, 16)


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
@pytest.mark.parametrize("length", [24, 96])
def test_the_last_queries_attend_as_they_do_among_all(dtype, length):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, length, 8, generator=generator).to(dtype) for n in (4, 2, 2))
    whole = attend(q, k, v, Scoring(), causal=True)
    last = attend(q[:, :, 16:], k, v, Scoring(), causal=True)
    torch.testing.assert_close(last, whole[:, :, 16:])


@pytest.mark.parametrize("length", [16, 96])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_both_ways_to_attend_give_the_same_gradients(length, scale, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, n, length, 8, generator=generator) for n in (6, 2, 2))
    outer = torch.randn(3, 6, length, 8, generator=generator)
    found = []
    for short in (0, 1 << 20):
        monkeypatch.setattr("seal_env.engine.attention.SHORT", short)
        out, backward = attend_and_learn(q, k, v, Scoring(scale))
        found.append((out, *backward.run(outer, backward.saved)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("window", [1, 5, 40, 1000])
@pytest.mark.parametrize(
    ("length", "dtype"), [(48, torch.float32), (96, torch.float32), (96, torch.bfloat16)]
)
def test_what_is_behind_a_window_gets_and_gives_nothing(length, dtype, window):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, n, length, 8, generator=generator).to(dtype) for n in (6, 2, 2))
    outer = torch.randn(3, 6, length, 8, generator=generator).to(dtype)
    out, back = attend_and_learn(q, k, v, Scoring(window=window))
    learned = back.run(outer, back.saved)
    wide = [x.double().requires_grad_() for x in (q, k, v)]
    keys, values = (x.repeat_interleave(3, dim=1) for x in wide[1:])
    scores = wide[0] @ keys.transpose(2, 3) / 8**0.5
    for query in range(length):
        scores[:, :, query, query + 1 :] = -torch.inf
        scores[:, :, query, : max(0, query - window + 1)] = -torch.inf
    expected = scores.softmax(-1) @ values
    grads = torch.autograd.grad(expected, wide, outer.double())
    tolerance = (
        {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.1}
    )
    for found, right in zip((out, *learned), (expected, *grads), strict=True):
        torch.testing.assert_close(found.double(), right, **tolerance)
    for i in range(3):  # and each text alone gets the same bits
        one = slice(i, i + 1)
        alone, alone_back = attend_and_learn(q[one], k[one], v[one], Scoring(window=window))
        assert torch.equal(alone, out[one])
        grads = alone_back.run(outer[one], alone_back.saved)
        assert all(torch.equal(a, b[one]) for a, b in zip(grads, learned, strict=True))
    assert torch.equal(attend(q, k, v, Scoring(window=window), causal=True), out)
    last = attend(q[:, :, 16:], k, v, Scoring(window=window), causal=True)
    torch.testing.assert_close(last, out[:, :, 16:])


def test_documents_of_all_lengths_are_learned_in_mixed_precision(models):
    documents = [(ids, ids) for ids in (random_ids(n, n) for n in (12, 60, 100))]
    grads = []
    for implementation in (IMPLEMENTATION, "eager"):
        model = AutoModelForCausalLM.from_pretrained(
            models["llama"], dtype=torch.float32, attn_implementation=implementation
        )
        if implementation == IMPLEMENTATION:
            loss = packed_loss(model, documents)
        else:
            each = [model(input_ids=torch.tensor([ids])).logits[0, :-1] for ids, _ in documents]
            labels = torch.cat([torch.tensor(ids[1:]) for ids, _ in documents])
            loss = torch.nn.functional.cross_entropy(torch.cat(each), labels)
        loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.nn.functional.cosine_similarity(*grads, dim=0) > 0.99


def test_a_cache_holds_keys_and_values_alone(learner):
    prompts = [random_ids(n, n) for n in (5, 20, 40)]
    decoder = BatchGenerator(learner, prompts, [0, 0, 0], None, Sampling(3), None)
    with torch.no_grad():
        decoder._prefill()
    for cache in decoder.caches:
        for tensor in (*cache.keys, *cache.values):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes
