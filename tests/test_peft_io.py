"""Adapter folders that PEFT wrote: merged to PEFT's own logits, or refused with the reason."""

import json

import peft
import pytest
import torch
from helpers import new_bank, random_ids
from safetensors.torch import load_file, save_file
from test_lora import logits_of, one_line
from transformers import AutoModelForCausalLM

from seal_env.engine.loading import load_learner
from seal_env.engine.peft_io import CONFIG, MERGED_TYPES, WEIGHTS, load_peft, save_peft
from seal_env.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns of much that is meant here
IDS = torch.tensor([random_ids(23, 4)])

LORA = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora", "target_modules": ["q_proj", "up_proj"]},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "eva": {"init_lora_weights": "eva"},
    "mica": {"init_lora_weights": "mica"},
    "dora": {"use_dora": True},
    "dora by pissa": {"use_dora": True, "init_lora_weights": "pissa"},
    "mixed ranks": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "biases": {"bias": "all"},
    "biases of LoRA": {"bias": "lora_only"},
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "embeddings of its own": {"modules_to_save": ["embed_tokens"]},
    "a norm of its own": {"modules_to_save": ["input_layernorm"]},
    "an adapted embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "an adapted head": {"target_modules": ["lm_head", "q_proj"]},
    "one layer": {
        "target_modules": ["v_proj"],
        "layers_to_transform": [1],
        "layers_pattern": "layers",
    },
    "all but one": {"exclude_modules": ["o_proj"]},
    "a pattern of names": {"target_modules": r".*\.1\..*proj"},
    "new tokens": {"trainable_token_indices": [5, 7]},
}
OTHERS = {
    "ADALORA": peft.AdaLoraConfig(total_step=10, target_modules=["q_proj"]),
    "BOFT": peft.BOFTConfig(boft_block_size=4, target_modules=["q_proj"]),
    "FOURIERFT": peft.FourierFTConfig(n_frequency=50, target_modules=["q_proj"]),
    "HRA": peft.HRAConfig(target_modules=["q_proj"]),
    "IA3": peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
    "LN_TUNING": peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "LOHA": peft.LoHaConfig(target_modules=["q_proj"]),
    "LOKR": peft.LoKrConfig(target_modules=["q_proj"]),
    "MISS": peft.MissConfig(target_modules=["q_proj"], r=4),
    "OFT": peft.OFTConfig(target_modules=["q_proj"], oft_block_size=4),
    "VERA": peft.VeraConfig(target_modules=["q_proj"], r=4),
}


def base_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits[0]


def trained(base, config, folder):
    """Writes an adapter in which every weight has been trained; returns the model with it."""
    torch.manual_seed(0)
    model = peft.get_peft_model(base_of(base), config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return model


def adapter(kind, **settings):
    usual = {"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", "target_modules": "all-linear"}
    return peft.LoraConfig(**usual | settings)


def check(base, config, folder, tmp_path):
    """The merged learner, and what it saves, give the logits of PEFT and of what was trained."""
    expected = logits(trained(base, config, folder))
    loaded = logits(peft.PeftModel.from_pretrained(base_of(base), folder).eval())
    merged = load_learner(base, device="cpu", adapter=str(folder))
    torch.testing.assert_close(loaded, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-4, atol=1e-4)
    assert (expected - logits(base_of(base))).abs().max() > 0.002
    merged.model.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(base_of(tmp_path / "merged")), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", LORA)
def test_lora_of_every_kind_is_merged_as_peft_has_it(models, tmp_path, name):
    check(models["llama"], adapter(name, **LORA[name]), tmp_path / "adapter", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_adapters_of_other_types_are_merged_as_peft_has_them(models, tmp_path, name):
    check(models["llama"], OTHERS[name], tmp_path / "adapter", tmp_path)


def test_every_type_that_is_merged_is_tested():
    assert set(OTHERS) | {"LORA"} == MERGED_TYPES


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"use_dora": True}, {"bias": "all"}, {"init_lora_weights": "pissa"}]
)
def test_transposed_layers_are_merged_too(models, tmp_path, settings):
    config = adapter("gpt2", target_modules=["c_attn", "c_fc"], **settings)
    check(models["gpt2"], config, tmp_path / "adapter", tmp_path)


def test_trained_biases_of_lora_are_merged_where_the_layer_has_one(models, tmp_path):
    config = adapter("bias", target_modules=["q_proj"], lora_bias=True)
    check(models["qwen2"], config, tmp_path / "adapter", tmp_path)


def test_a_tied_head_stays_tied_unless_the_adapter_parts_it(models, tmp_path):
    for name, tied in (("plain", True), ("new tokens", True), ("an adapted head", False)):
        trained(models["llama"], adapter(name, **LORA[name]), tmp_path / name)
        model = load_learner(models["llama"], device="cpu", adapter=str(tmp_path / name)).model
        assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
        assert model.config.tie_word_embeddings == tied


def test_merging_leaves_the_base_and_global_randomness_alone(models, llama, tmp_path):
    trained(models["llama"], adapter("pissa", init_lora_weights="pissa"), tmp_path)
    before, state = logits_of(llama), torch.get_rng_state()
    load_learner(models["llama"], device="cpu", adapter=str(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits_of(llama), before)
    assert load_learner(models["llama"], device="cpu") is llama


@pytest.mark.slow
def test_an_adapter_is_merged_in_bfloat16(models, tmp_path):
    expected = logits(trained(models["llama"], adapter("dora", use_dora=True), tmp_path))
    merged = load_learner(models["llama"], "bfloat16", "cpu", adapter=str(tmp_path))
    error = (logits_of(merged) - expected).square().mean().sqrt()
    assert error < 0.05 * expected.std()


def test_merged_weights_are_rounded_once(models, tmp_path):
    trained(models["llama"], adapter("plain"), tmp_path)
    base = load_learner(models["llama"], "bfloat16", "cpu").model
    merged = load_learner(models["llama"], "bfloat16", "cpu", adapter=str(tmp_path)).model
    bank = load_peft(tmp_path, base, torch.device("cpu"))
    for name, addend in bank.state_of(0).addends().items():
        exact = base.get_submodule(name).weight.float() + addend
        assert torch.equal(merged.get_submodule(name).weight, exact.bfloat16())


def refused(base, folder):
    with pytest.raises(UserError) as error:
        load_learner(base, device="cpu", adapter=str(folder))
    assert one_line(error)
    assert len(str(error.value)) < 400
    return str(error.value)


def rewrite(folder, **settings):
    described = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(described | settings))


@pytest.fixture
def saved(llama, tmp_path):
    save_peft(new_bank(llama, [1]), 0, tmp_path, "base")
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": "lora_ga"}, "lora_ga"),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, "loftq"),
        ({"init_lora_weights": "of a later year"}, "later year"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"alora_invocation_tokens": [5, 6]}, "alora_invocation_tokens"),
        ({"use_qalora": True}, "use_qalora"),
        ({"kasa_config": {"beta": 0.1}}, "kasa_config"),
        ({"arrow_config": {}}, "arrow_config"),
        ({"invented_later": 3}, "invented_later"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        ({"peft_type": "XLORA"}, "XLORA"),
        ({"peft_type": "NONSENSE"}, "NONSENSE"),
        ({"peft_type": None}, "None"),
        ({"peft_type": ["LORA"]}, "LORA"),
        ({"target_modules": ["nowhere"]}, "nowhere"),
        ({"r": 3}, "size mismatch"),
        ({"r": 10**5}, "size mismatch"),
        ({"r": "four"}, "PEFT cannot"),
        ({"lora_alpha": "much"}, "PEFT cannot"),
        ({"bias": "some"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "lacks"),
        ({"use_dora": True}, "lacks"),
        ({"layers_to_transform": [0], "target_modules": ["q_proj"]}, "no place for"),
    ],
)
def test_what_cannot_be_had_exactly_is_refused_with_the_reason(models, saved, settings, says):
    rewrite(saved, **settings)
    assert says in refused(models["llama"], saved)


@pytest.mark.parametrize("config", [peft.PromptTuningConfig, peft.PrefixTuningConfig])
def test_prompts_that_are_learned_are_refused_by_their_type(models, tmp_path, config):
    model = peft.get_peft_model(
        base_of(models["llama"]), config(task_type="CAUSAL_LM", num_virtual_tokens=3)
    )
    model.save_pretrained(tmp_path)
    assert "TUNING cannot be merged" in refused(models["llama"], tmp_path)


def test_an_adapter_of_replicated_layers_that_peft_saved_is_refused(models, tmp_path):
    config = adapter("longer", layer_replication=[[0, 2], [0, 2]], target_modules=["q_proj"])
    trained(models["llama"], config, tmp_path)
    assert "layer_replication" in refused(models["llama"], tmp_path)


def damage(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors, next(iter(tensors)))
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors, name: tensors.pop(name), "lacks"),
        (lambda tensors, name: tensors.clear(), "no weights"),
        (lambda tensors, name: tensors.update(more=torch.ones(2)), "no place for 'more'"),
        (lambda tensors, name: tensors[name].fill_(torch.nan), "NaN weights in"),
        (lambda tensors, name: tensors[name][0].fill_(torch.inf), "NaN weights in"),
        (lambda tensors, name: tensors.update({name: torch.ones(4, 65)}), "size mismatch"),
        (lambda tensors, name: tensors.update({name: torch.ones(4)}), "size mismatch"),
    ],
)
def test_damaged_weights_are_one_line(models, saved, change, says):
    damage(saved, change)
    assert says in refused(models["llama"], saved)


def test_weights_that_need_unpickling_are_not_read(models, saved):
    (saved / WEIGHTS).rename(saved / "adapter_model.bin")
    assert WEIGHTS in refused(models["llama"], saved)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "7", "[" * 100_000, '{"peft_type": "LORA"}', "\0"]
)
def test_a_config_of_another_kind_is_one_line(models, saved, text):
    (saved / CONFIG).write_text(text)
    assert saved.name in refused(models["llama"], saved)


def test_an_adapter_of_another_model_is_refused(models, saved):
    assert "q_proj" in refused(models["gpt2"], saved)


@pytest.mark.parametrize("name", ["dora", "pissa", "olora", "mixed ranks", "biases", "new tokens"])
def test_training_goes_on_from_plain_lora_alone(models, llama, tmp_path, name):
    trained(models["llama"], adapter(name, **LORA[name]), tmp_path)
    with pytest.raises(UserError, match="=") as error:
        load_peft(tmp_path, llama.model, torch.device("cpu"))
    assert one_line(error)
    assert "wrong base" not in str(error.value)
