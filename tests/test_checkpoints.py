"""Reading models from files: all of it, as transformers reads it, or one line with the reason."""

import json
import shutil

import gguf
import numpy as np
import pytest
import torch
from helpers import MAX_LENGTH, random_ids, scrambled_bank
from safetensors.torch import load_file, save_file
from test_loading import refused
from test_lora import logits_of
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from seal_env.engine.loading import load_learner
from seal_env.engine.lora import LoraConfig, find_targets
from seal_env.engine.peft_io import save_peft
from seal_env.engine.shapes import read_shape, shape_of
from seal_env.pretraining.tokenizer import build_tokenizer

WEIGHTS = "model.safetensors"
IDS = torch.tensor([random_ids(23, 4)])


@pytest.fixture(params=["llama", "gpt2", "qwen2"])
def folder(request, models, tmp_path):
    """A copy of each small model, to be damaged."""
    return shutil.copytree(models[request.param], tmp_path / "model")


@pytest.fixture
def llama_folder(models, tmp_path):
    return shutil.copytree(models["llama"], tmp_path / "model")


def reconfigure(folder, file="config.json", **settings):
    described = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(described | settings))


def change(folder, edit):
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.slow
def test_any_missing_tensor_is_named(folder):
    whole = load_file(folder / WEIGHTS)
    for name in list(whole)[:: max(1, len(whole) // 7)]:
        save_file({k: v for k, v in whole.items() if k != name}, folder / WEIGHTS)
        assert f"{name}, which the file lacks" in refused(str(folder))


def test_a_missing_layer_is_named(folder):
    change(folder, lambda t: [t.pop(k) for k in list(t) if ".1." in k])
    message = refused(str(folder))
    assert ".1." in message
    assert "more, which the file lacks" in message


def test_more_layers_in_the_config_than_in_the_file(folder):
    reconfigure(folder, n_layer=3, num_hidden_layers=3, layer_types=None)
    assert "more, which the file lacks" in refused(str(folder))


def test_more_layers_in_the_file_than_in_the_config(folder):
    reconfigure(folder, n_layer=1, num_hidden_layers=1, layer_types=None)
    message = refused(str(folder))
    assert ".1." in message
    assert "no place for" in message


def test_a_file_of_which_nothing_fits(folder, models):
    other = {"llama": "gpt2", "gpt2": "llama", "qwen2": "gpt2"}
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    shutil.copy(f"{models[other[kind]]}/{WEIGHTS}", folder)
    assert "which the file lacks" in refused(str(folder))
    save_file({"x": torch.ones(2)}, folder / WEIGHTS, metadata={"format": "pt"})
    assert "which the file lacks" in refused(str(folder))


def test_a_tensor_of_another_shape_is_named_with_both(llama_folder):
    reconfigure(llama_folder, intermediate_size=160)
    message = refused(str(llama_folder))
    assert "mlp.down_proj.weight has shape (64, 128) in the file and (64, 160) by" in message
    assert "5 more do not fit" in message


def test_a_vocabulary_of_another_size_is_a_tensor_of_another_shape(folder):
    reconfigure(folder, vocab_size=700)
    assert "(700, 64)" in refused(str(folder))


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.1.self_attn.q_norm.weight",
        "model.layers.2.mlp.up_proj.weight",
        "lm_head.bias",
    ],
)
def test_a_tensor_that_the_model_would_leave_out_is_named(llama_folder, name):
    change(llama_folder, lambda t: t.update({name: torch.ones(64)}))
    assert f"{name}, which its config has no place for" in refused(str(llama_folder))


def test_parts_beside_the_language_model_and_obsolete_buffers_are_left_out(models, llama_folder):
    more = ("v_head.summary.weight", "model.layers.0.self_attn.rotary_emb.inv_freq")
    more += ("model.layers.1.attn.masked_bias", "vision_tower.layers.0.weight")
    change(llama_folder, lambda t: t.update({name: torch.ones(8) for name in more}))
    found = load_learner(str(llama_folder), device="cpu")
    torch.testing.assert_close(
        logits_of(found), logits_of(load_learner(models["llama"], device="cpu"))
    )


def test_a_missing_expert_is_refused(tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4}
    tokenizer = build_tokenizer(MAX_LENGTH)
    MixtralForCausalLM(MixtralConfig(vocab_size=len(tokenizer), **sizes, **heads)).save_pretrained(
        tmp_path
    )
    tokenizer.save_pretrained(tmp_path)
    change(tmp_path, lambda t: [t.pop(k) for k in list(t) if "experts.2." in k])
    assert "experts" in refused(str(tmp_path))


def test_a_missing_shard_is_one_line(models, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(models["llama"])
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    build_tokenizer(MAX_LENGTH).save_pretrained(tmp_path)
    assert load_learner(str(tmp_path), device="cpu").width == 64
    shutil.copytree(tmp_path, tmp_path / "less")
    sorted((tmp_path / "less").glob("model-*"))[1].unlink()
    assert "model-00002" in refused(str(tmp_path / "less"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_no_numbers_are_named(llama_folder, value, dtype):
    name = "model.layers.1.mlp.up_proj.weight"
    change(llama_folder, lambda t: t[name][3, 4].fill_(value))
    assert f"infinite or NaN weights in {name}" in refused(str(llama_folder), dtype=dtype)


def test_an_adapter_is_no_model(models, llama_folder):
    (llama_folder / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in refused(str(llama_folder))


@pytest.mark.parametrize("length", [0, 1, -7, 15, 99.5, True, "512", [512], float("nan")])
def test_a_longest_input_that_makes_no_sense_is_one_line(llama_folder, length):
    reconfigure(llama_folder, "tokenizer_config.json", model_max_length=length)
    assert "model_max_length is" in refused(str(llama_folder))


@pytest.mark.parametrize(
    ("length", "found"), [(64, 64), (64.0, 64), (1e30, 512), (None, 512), (float("inf"), 512)]
)
def test_a_longest_input_may_be_a_number_or_none(llama_folder, length, found):
    reconfigure(llama_folder, "tokenizer_config.json", model_max_length=length)
    assert load_learner(str(llama_folder), device="cpu").max_length == found


@pytest.mark.parametrize("positions", [0, -4, 3])
def test_positions_that_make_no_sense_are_one_line(llama_folder, positions):
    reconfigure(llama_folder, max_position_embeddings=positions)
    assert "max_position_embeddings" in refused(str(llama_folder))


def test_the_tokenizer_of_another_model_is_one_line(tmp_path, models):
    small = tmp_path / "small"
    model = AutoModelForCausalLM.from_pretrained(models["llama"])
    model.resize_token_embeddings(100)
    model.save_pretrained(small)
    build_tokenizer(MAX_LENGTH).save_pretrained(small)
    assert "tokens and the model 100" in refused(str(small))


def test_an_end_token_beyond_the_vocabulary_is_one_line(llama_folder):
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.add_special_tokens({"eos_token": "<end of all>"})
    tokenizer.save_pretrained(llama_folder)
    assert "end token" in refused(str(llama_folder))


@pytest.mark.parametrize("end", [99_999, -1, [3, 600], True, 2.5, "x", {}])
def test_end_tokens_that_the_model_has_not_are_one_line(llama_folder, end):
    reconfigure(llama_folder, "generation_config.json", eos_token_id=end)
    assert "its end token is number" in refused(str(llama_folder))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"hidden_act": "nonsense"}, "KeyError 'nonsense'"),
        ({"num_attention_heads": 3}, "attention heads (3)"),
        ({"eos_token_id": "x"}, "eos_token_id"),
        ({"max_position_embeddings": "512"}, "max_position_embeddings"),
        ({"vocab_size": -3}, "-3"),
        ({"model_type": "nonsense"}, "nonsense"),
    ],
)
def test_a_config_that_makes_no_sense_is_one_line(llama_folder, settings, says):
    reconfigure(llama_folder, **settings)
    assert says in refused(str(llama_folder))


def test_a_model_that_is_no_causal_language_model_is_one_line(llama_folder):
    reconfigure(llama_folder, model_type="t5")
    assert "causal language model of kind t5" in refused(str(llama_folder))


TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.08,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def with_vision(kind):
    """A random model of text and images."""
    text = TEXT | {"vocab_size": len(build_tokenizer(MAX_LENGTH)), "eos_token_id": 3}
    if kind == "gemma3":
        text |= {"head_dim": 16, "sliding_window": MAX_LENGTH}
        return Gemma3ForConditionalGeneration(
            Gemma3Config(text_config=text, vision_config=VISION, mm_tokens_per_image=4)
        )
    if kind == "mistral3":
        return Mistral3ForConditionalGeneration(
            Mistral3Config(
                text_config=text | {"model_type": "mistral", "sliding_window": None},
                vision_config=VISION | {"model_type": "pixtral"},
                image_token_index=5,
            )
        )
    if kind == "qwen2.5-vl":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
        vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 64}
        return Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text | {"rope_parameters": rope}, vision_config=vision)
        )
    return LlavaForConditionalGeneration(
        LlavaConfig(
            text_config=text | {"model_type": "llama", "tie_word_embeddings": kind == "tied"},
            vision_config=VISION | {"model_type": "clip_vision_model"},
            image_token_index=5,
        )
    )


@pytest.fixture
def saved_with_vision(request, tmp_path):
    kept = torch.get_rng_state()
    torch.manual_seed(0)
    with_vision(request.param).save_pretrained(tmp_path)
    torch.set_rng_state(kept)
    build_tokenizer(MAX_LENGTH).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("new_names", [False, True])
@pytest.mark.parametrize(
    "saved_with_vision", ["gemma3", "mistral3", "llava", "tied"], indirect=True
)
def test_of_a_model_of_text_and_images_the_language_model_is_loaded(
    saved_with_vision, tmp_path, new_names
):
    whole = AutoModelForImageTextToText.from_pretrained(saved_with_vision, dtype=torch.float32)
    ids = torch.tensor([random_ids(23, 4)])
    with torch.no_grad():
        expected = whole.eval()(input_ids=ids).logits[0]
    if new_names:
        state = {k: v.clone() for k, v in whole.state_dict().items()}
        save_file(state, saved_with_vision / WEIGHTS, metadata={"format": "pt"})
    learner = load_learner(str(saved_with_vision), device="cpu")
    torch.testing.assert_close(logits_of(learner), expected, rtol=1e-4, atol=1e-4)
    assert find_targets(learner.model, LoraConfig(targets=("q_proj",)))
    learner.model.save_pretrained(tmp_path / "text")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "text", dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("saved_with_vision", ["gemma3"], indirect=True)
def test_the_language_model_must_be_complete_too(saved_with_vision):
    whole = load_file(saved_with_vision / WEIGHTS)
    name = next(name for name in whole if "language_model" in name and ".1." in name)
    change(saved_with_vision, lambda t: t.pop(name))
    assert name.rpartition("layers")[2] in refused(str(saved_with_vision))
    save_file(whole, saved_with_vision / WEIGHTS, metadata={"format": "pt"})
    settings = json.loads((saved_with_vision / "config.json").read_text())["text_config"]
    settings |= {"num_hidden_layers": 1, "layer_types": settings["layer_types"][:1]}
    reconfigure(saved_with_vision, text_config=settings)
    assert "no place for" in refused(str(saved_with_vision))


@pytest.mark.parametrize("saved_with_vision", ["qwen2.5-vl"], indirect=True)
def test_a_language_model_that_transformers_has_not_alone_is_one_line(saved_with_vision):
    assert "causal language model of kind qwen2_5_vl_text" in refused(str(saved_with_vision))


def save_gguf(folder, tmp_path):
    """The small Llama of a folder as a GGUF file of float32 numbers, with byte-level tokens."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, path = model.config, tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    letters = [chr(i) if 33 <= i < 127 else chr(256 + i) for i in range(256)]
    tokens = ["<pad>", "<unk>", "<s>", "</s>", "ab", *letters]
    tokens += [f"<extra{i}>" for i in range(config.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.model.state_dict(prefix="model.").items():
        rows = tensor.numpy()
        for kind, count in heads.items():
            if kind in name:  # GGUF has the two halves of a rotary head interleaved
                halves = rows.reshape(count, 2, len(rows) // count // 2, -1)
                rows = halves.swapaxes(1, 2).reshape(rows.shape)
        found = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(found, np.ascontiguousarray(rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def gguf_file(models, tmp_path):
    return save_gguf(models["llama"], tmp_path)


def test_a_gguf_file_is_the_model_that_was_written(gguf_file, llama):
    learner = load_learner(str(gguf_file), device="cpu")
    torch.testing.assert_close(logits_of(learner), logits_of(llama), rtol=1e-4, atol=1e-5)
    assert learner.decode(learner.encode("cab and b")) == "cab and b"
    assert learner.end_ids == [3]
    shape = read_shape(str(gguf_file))
    assert shape is not None and shape == shape_of(learner.model.config)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_merged_into_a_gguf_file_can_be_saved(gguf_file, tmp_path, dtype):
    base = load_learner(str(gguf_file), dtype, "cpu")
    save_peft(scrambled_bank(base, 1), 0, tmp_path / "adapter", str(gguf_file))
    merged = load_learner(str(gguf_file), dtype, "cpu", adapter=str(tmp_path / "adapter"))
    for learner in (base, merged):
        learner.model.save_pretrained(tmp_path / "saved")
        learner.tokenizer.save_pretrained(tmp_path / "saved")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
        assert again.dtype == learner.model.dtype
        for name, tensor in learner.model.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name
        assert logits_of(load_learner(str(tmp_path / "saved"), dtype, "cpu")).equal(
            logits_of(learner)
        )
        shutil.rmtree(tmp_path / "saved")
    assert not logits_of(merged).equal(logits_of(base))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["blk.1.attn_q.weight", "blk.0.ffn_norm.weight", "token_embd.weight"]
)
def test_a_gguf_file_without_a_tensor_is_refused(models, tmp_path, name, monkeypatch):
    add = gguf.GGUFWriter.add_tensor
    monkeypatch.setattr(
        gguf.GGUFWriter,
        "add_tensor",
        lambda self, found, rows: None if found == name else add(self, found, rows),
    )
    assert "which the file lacks" in refused(str(save_gguf(models["llama"], tmp_path)))


def test_a_gguf_file_with_a_layer_too_many_is_refused(models, tmp_path, monkeypatch):
    monkeypatch.setattr(
        gguf.GGUFWriter,
        "add_block_count",
        lambda self, count: self.add_uint32("llama.block_count", count - 1),
    )
    assert "no place for" in refused(str(save_gguf(models["llama"], tmp_path)))
