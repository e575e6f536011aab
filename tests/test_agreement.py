"""Architectures: right in every check, or refused by name with a reason."""

import copy
import dataclasses

import pytest
import torch
from helpers import random_ids
from transformers import AutoModelForCausalLM

from benchmarks.architecture_checks import measure
from benchmarks.small_models import WINDOW, small_model
from seal_env.engine import agreement
from seal_env.engine.config import LoraConfig
from seal_env.engine.generation import score_and_generate
from seal_env.engine.loading import prepare
from seal_env.engine.lora import find_targets
from seal_env.engine.sampling import Sampling
from seal_env.errors import UserError
from seal_env.pretraining.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer(512)
WINDOWED = ("mistral", "qwen2", "phi3", "gemma3_text", "gpt_oss")


def both(kind, dtype=torch.float32, network=None):
    """A small random model as transformers has it, and the learner that is made of it."""
    network = (network or small_model(kind, len(TOKENIZER))).to(dtype).eval()
    return copy.deepcopy(network), prepare(network, TOKENIZER, kind)


def refusal(kind, dtype=torch.float32):
    with pytest.raises(UserError) as error:
        both(kind, dtype)
    message = str(error.value)
    assert "\n" not in message
    assert f"({kind})" in message
    return message


def own_logits(network, ids):
    with torch.no_grad():
        return network(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def own_score(network, prompt, completion):
    logits = own_logits(network, [*prompt, *completion]).log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return sum(float(logits[i, t]) for i, t in zip(places, completion, strict=True)) / len(
        completion
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mistral", "gpt_oss", "gemma2", "gemma3n_text", "diffllama"])
def test_an_architecture_is_right_in_every_check(kind):
    found = measure(kind)
    assert found.refused == ""
    assert found.window == (kind != "diffllama")
    for check in ("trains", "peft", "scores", "cached"):
        assert getattr(found, check), check
    assert found.bits or kind == "gemma3n_text"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixtral", "deepseek_v3"])
def test_experts_round_alike_however_many_tokens_they_get(kind):
    found = measure(kind)
    assert found == dataclasses.replace(
        found, refused="", trains=True, bits=True, peft=True, scores=True, cached=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", WINDOWED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_behind_the_window_is_hidden(kind, dtype):
    network, learner = both(kind, dtype)
    prompt, completion = random_ids(3 * WINDOW, 1), random_ids(9, 2)
    expected = own_score(network, prompt, completion)
    (score,) = learner.score([prompt], [completion], [0], None)
    assert score == pytest.approx(expected, abs=1e-4 if dtype == torch.float32 else 0.1)
    assert learner.max_length == 512


@pytest.mark.slow
@pytest.mark.parametrize("kind", WINDOWED)
def test_beginnings_that_are_longer_than_the_window_are_read_once(kind):
    _, learner = both(kind)
    beginning = random_ids(48, 1)
    prompts = [[*beginning, *random_ids(n, n)] for n in (1, 5, 20)]
    golds = [random_ids(3, 70 + i) for i in range(3)]
    scores, texts = score_and_generate(learner, prompts, golds, Sampling(12), [0] * 3, None)
    shared = score_and_generate(learner, prompts, golds, Sampling(12), [0] * 3, None, [48] * 3)
    assert shared[0] == pytest.approx(scores, abs=1e-5)
    assert shared[1] == texts


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["gemma2", "granite", "cohere", "nanochat", "vaultgemma"])
def test_logits_are_capped_and_scaled_as_the_model_does_it(kind, dtype):
    network = small_model(kind, len(TOKENIZER))
    with torch.no_grad():  # logits of a size that trained models have
        network.get_output_embeddings().weight.mul_(20)
    network, learner = both(kind, dtype, network)
    prompt, completion = random_ids(20, 1), random_ids(20, 2)
    expected = own_score(network, prompt, completion)
    (score,) = learner.score([prompt], [completion], [0], None)
    tolerance = 1e-4 if dtype == torch.float32 else 0.01
    assert score == pytest.approx(expected, rel=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("gptj", "do not attend through"),
        ("codegen", "do not attend through"),
        ("gpt_neo", "do not attend through"),
        ("mamba", "do not attend through"),
        ("doge", "a mask of its own"),
        ("llama4_text", "in chunks"),
        ("falcon_h1", "a state or positions run along"),
        ("bart", "a state or positions run along"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_packed_rows_cannot_do_is_refused_with_its_reason(kind, reason, dtype):
    assert reason in refusal(kind, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("widened", [0, agreement.WIDENED])
@pytest.mark.parametrize("kind", ["recurrent_gemma", "falcon_h1"])
def test_a_state_along_the_row_is_found_in_bfloat16(kind, widened, monkeypatch):
    monkeypatch.setattr(agreement, "WIDENED", widened)
    refusal(kind, torch.bfloat16)


@pytest.mark.parametrize("part", ["head", "hidden", "losses", "_step"])
def test_the_check_at_load_looks_at_scores_generation_and_training(part, monkeypatch):
    from seal_env.engine.generation import BatchGenerator
    from seal_env.engine.learner import Learner

    owner = BatchGenerator if part == "_step" else Learner
    real = getattr(owner, part)
    monkeypatch.setattr(owner, part, lambda *given: 1.05 * real(*given))
    refusal("llama")


def test_a_model_in_bfloat16_has_the_same_bits_after_the_check():
    network, learner = both("llama", torch.bfloat16)
    for (name, one), other in zip(
        network.state_dict().items(), learner.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
        assert one.dtype == other.dtype
    layer = learner.decoder.layers[0].matrices[0]
    assert layer.weight() is layer._whole


@pytest.mark.parametrize("kind", ["phi3", "llama"])
def test_a_longer_neighbor_changes_no_rotary_embedding(kind):
    config = small_model(kind, len(TOKENIZER)).config
    if kind == "phi3":
        factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
        rope = {"rope_type": "longrope", "original_max_position_embeddings": 64, **factors}
        config.original_max_position_embeddings = 64
        config.sliding_window = None
    else:
        rope = {"rope_type": "dynamic", "factor": 4.0}
        config.max_position_embeddings = 64
    config.rope_parameters = {"rope_theta": 1e4, **rope}
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    network, learner = both(kind, network=network)
    assert learner.max_length == 64
    short, long, end = random_ids(20, 1), random_ids(100, 2), random_ids(4, 3)
    (alone,) = learner.score([short], [end], [0], None)
    assert learner.score([short, long], [end, end], [0, 0], None)[0] == alone
    assert learner.score([short], [end], [0], None)[0] == alone
    assert alone == pytest.approx(own_score(network, short, end), abs=1e-4)


def test_where_peft_has_no_default_all_linear_layers_but_the_head_are_adapted():
    for kind in ("smollm3", "phi3", "nemotron"):
        model = small_model(kind, len(TOKENIZER))
        names = [target.name for target in find_targets(model, LoraConfig())]
        linear = [
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name != "lm_head"
        ]
        assert names == linear
        assert names


def test_the_tolerance_of_bfloat16_follows_the_models_own_rounding(monkeypatch):
    """A deep model's rounding exceeds any fixed tolerance: two of transformers' kernels differ."""
    monkeypatch.setattr(agreement, "ROUGH_TOLERANCE", 0.0)
    monkeypatch.setattr(agreement, "ROUGH_GRADIENT_TOLERANCE", 0.0)
    assert both("llama", torch.bfloat16)[1].model.dtype == torch.bfloat16
    monkeypatch.setattr(agreement, "_rounding", lambda *_: (0.0, 1.0))
    assert "other scores" in refusal("llama", torch.bfloat16)
    monkeypatch.setattr(agreement, "_rounding", lambda *_: (1.0, 0.0))
    assert "a training step" in refusal("llama", torch.bfloat16)
