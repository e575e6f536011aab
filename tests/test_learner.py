"""Scoring, describing and continuing texts: as transformers does it, and each text on its own."""

import pytest
import torch
from helpers import random_ids, scrambled_bank
from transformers import AutoModelForCausalLM

from seal_env.engine.generation import generate, score_and_generate
from seal_env.engine.sampling import Sampling

LENGTHS = (5, 17, 40, 3, 33, 16, 70)


@pytest.fixture(scope="module")
def prompts():
    return [random_ids(n, n) for n in LENGTHS]


@pytest.mark.slow
def test_greedy_continuations_are_those_of_transformers(learner, prompts):
    reference = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32).eval()
    found = generate(learner, prompts, Sampling(40))
    for prompt, ids in zip(prompts, found, strict=True):
        given = torch.tensor([prompt])
        expected = reference.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=40, do_sample=False
        )[0, len(prompt) :].tolist()
        if learner.end_ids[0] in expected:
            expected = expected[: expected.index(learner.end_ids[0])]
        assert ids == expected


def test_scores_are_the_mean_log_probabilities_of_transformers(learner, prompts):
    reference = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32).eval()
    completions = [random_ids(1 + i, 90 + i) for i in range(len(prompts))]
    found = learner.score(prompts, completions, [0] * len(prompts), None)
    for prompt, completion, score in zip(prompts, completions, found, strict=True):
        with torch.no_grad():
            logits = reference(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
        expected = [float(logits[i, t]) for i, t in zip(places, completion, strict=True)]
        assert score == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_description_is_the_mean_state_and_the_loss(learner, prompts):
    reference = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32).eval()
    texts = [*prompts, [7]]
    means, losses = learner.describe(texts, [0] * len(texts), None)
    assert losses[-1] == 0.0
    for ids, mean, loss in zip(texts, means, losses, strict=True):
        given = torch.tensor([ids])
        with torch.no_grad():
            output = reference(given, labels=given, output_hidden_states=True)
        state = output.hidden_states[-1][0].mean(0)
        torch.testing.assert_close(torch.from_numpy(mean), state, rtol=1e-4, atol=1e-5)
        if len(ids) > 1:
            assert loss == pytest.approx(float(output.loss), abs=1e-4)


@pytest.mark.slow
def test_each_text_alone_gives_the_same_bits_under_its_adapter(learner, prompts):
    bank = scrambled_bank(learner, 4)
    owners = [3, 0, 1, 3, 2, 0, 1]
    completions = [random_ids(4, 50 + i) for i in range(len(prompts))]
    scores = learner.score(prompts, completions, owners, bank)
    means, losses = learner.describe(prompts, owners, bank)
    texts = generate(learner, prompts, Sampling(12), owners, bank)
    assert len(set(map(tuple, texts))) > 4
    for i, prompt in enumerate(prompts):
        one = [prompt]
        assert learner.score(one, [completions[i]], [owners[i]], bank) == [scores[i]]
        mean, loss = learner.describe(one, [owners[i]], bank)
        assert (mean[0] == means[i]).all()
        assert loss == [losses[i]]
        assert generate(learner, one, Sampling(12), [owners[i]], bank) == [texts[i]]


@pytest.mark.slow
def test_scoring_and_continuing_at_once_is_one_after_the_other(learner, prompts):
    bank = scrambled_bank(learner, 3)
    owners = [2, 0, 1, 1, 0, 2, 0]
    # Completions that are shorter and longer than what is written, up to the next bucket.
    completions = [random_ids(1 + 11 * i, 70 + i) for i in range(len(prompts))]
    sampling = Sampling(40)
    scores, texts = score_and_generate(learner, prompts, completions, sampling, owners, bank)
    assert scores == learner.score(prompts, completions, owners, bank)
    assert texts == generate(learner, prompts, sampling, owners, bank)
    for i, prompt in enumerate(prompts):
        one = score_and_generate(learner, [prompt], [completions[i]], sampling, [owners[i]], bank)
        assert one == ([scores[i]], [texts[i]])
    assert score_and_generate(learner, [], [], sampling, [], bank) == ([], [])


@pytest.mark.slow
def test_what_prompts_begin_with_is_read_once_an_adapter(learner, monkeypatch):
    bank = scrambled_bank(learner, 2)
    beginnings = [random_ids(n, n) for n in (50, 16, 10, 135)]
    pairs = [(b, random_ids(e, e)) for b in beginnings for e in (1, 9, 30)]
    pairs.append((beginnings[0], []))  # nothing but what is shared
    prompts = [[*b, *e] for b, e in pairs] * 2
    shared = [len(b) for b, _ in pairs] * 2
    owners = [0] * len(pairs) + [1] * len(pairs)
    golds = [random_ids(1 + i % 5, 70 + i) for i in range(len(prompts))]
    plain = score_and_generate(learner, prompts, golds, Sampling(40), owners, bank)

    rows = []
    hidden = learner.hidden
    monkeypatch.setattr(
        learner, "hidden", lambda row, *rest: (rows.append(row), hidden(row, *rest))[1]
    )
    scores, texts = score_and_generate(learner, prompts, golds, Sampling(40), owners, bank, shared)
    all_tokens = sum(map(len, prompts)) + sum(map(len, golds))
    saved = 2 * (3 * 48 + 2 * 16 + 0 + 2 * 128)
    assert all_tokens - saved < len(rows[0].ids) <= all_tokens - saved + 16
    assert texts == plain[1]
    assert scores == pytest.approx(plain[0], abs=1e-5)
    assert texts == generate(learner, prompts, Sampling(40), owners, bank, shared=shared)
    for i, prompt in enumerate(prompts):
        given = [prompt], [golds[i]], Sampling(40), [owners[i]], bank, [shared[i]]
        assert score_and_generate(learner, *given) == ([scores[i]], [texts[i]])


def test_adapters_matter(llama, prompts):
    bank = scrambled_bank(llama, 2)
    plain = generate(llama, prompts, Sampling(12))
    first = generate(llama, prompts, Sampling(12), [0] * len(prompts), bank)
    second = generate(llama, prompts, Sampling(12), [1] * len(prompts), bank)
    assert plain != first != second != plain


def test_what_is_sampled_depends_on_its_seed_alone(llama, prompts):
    sampling = Sampling(15, temperature=1.0)
    seeds = [11, 12, 13, 14, 15, 16, 17]
    before = torch.get_rng_state()
    texts = generate(llama, prompts, sampling, seeds=seeds)
    assert torch.equal(before, torch.get_rng_state())
    assert texts == generate(llama, prompts[::-1], sampling, seeds=seeds[::-1])[::-1]
    for prompt, seed, text in zip(prompts, seeds, texts, strict=True):
        assert generate(llama, [prompt], sampling, seeds=[seed]) == [text]
    same_prompt = generate(llama, [prompts[0]] * 8, sampling, seeds=range(8))
    assert len(set(map(tuple, same_prompt))) > 6


def test_samples_follow_the_model_at_its_temperature(llama):
    prompt = random_ids(6, 1)
    reference = AutoModelForCausalLM.from_pretrained(llama.name, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = reference(torch.tensor([prompt])).logits[0, -1]
    for temperature in (0.3, 1.0):
        drawn = generate(
            llama, [prompt] * 2000, Sampling(1, temperature=temperature), seeds=range(2000)
        )
        counts = torch.zeros(len(logits))
        for ids in drawn:
            counts[ids[0] if ids else llama.end_ids[0]] += 1
        expected = (logits / temperature).softmax(-1)
        # The mean total variation of 2,000 draws from 600 words is below 0.25.
        assert float((counts / 2000 - expected).abs().sum() / 2) < 0.3
        likeliest = int(expected.argmax())
        assert float(counts[likeliest]) / 2000 == pytest.approx(
            float(expected[likeliest]), abs=0.05
        )


def test_sampling_without_seeds_is_refused(llama):
    with pytest.raises(ValueError, match="seed"):
        generate(llama, [[5]], Sampling(1, temperature=1.0))


def test_a_line_break_ends_a_continuation_once_something_was_written(llama):
    newline = llama.tokenizer.convert_tokens_to_ids("\n")
    assert llama.ends_line(torch.tensor([newline, 7])).tolist() == [True, False]
    prompts = [random_ids(6, i) for i in range(200)]
    sampling = Sampling(8, temperature=3.0, stop_at_newline=True)
    for ids in generate(llama, prompts, sampling, seeds=range(200)):
        assert newline not in ids[1:]


def test_progress_counts_the_prompts_that_are_done(llama, prompts):
    told = []
    generate(llama, prompts, Sampling(5), progress=told.append)
    assert told == sorted(told)
    assert 1 <= len(told) <= 5


def test_any_text_is_encoded_and_text_that_spells_a_token_stays_text(llama):
    for text in ("", "</s>", "<s> <pad>", "\ud800 \x00 é", "Oslo\n\nOslo"):
        ids = llama.encode(text)
        assert not set(ids) & {0, 2, 3}, text
        assert all(isinstance(i, int) for i in ids)
    assert llama.decode(llama.encode("Where was Ada Cho born?")) == "Where was Ada Cho born?"


def test_nothing_runs_past_the_longest_input(models):
    from seal_env.engine.loading import load_learner

    learner = load_learner(models["gpt2"], device="cpu")
    prompt = random_ids(learner.max_length - 3, 0)
    (ids,) = generate(learner, [prompt], Sampling(20))
    assert len(ids) <= 4


def test_no_prompts_no_answers(llama):
    assert generate(llama, [], Sampling(3)) == []
    assert llama.score([], [], [], None) == []
