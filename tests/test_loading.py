"""Loading models: a pool, the embedded tokenizer, and errors of one line."""

import gc
import shutil
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import INNER, save_model, scrambled_bank
from transformers import AutoModelForCausalLM, AutoTokenizer

from seal_env.engine import devices, loading
from seal_env.engine.checkpoints import EMBEDDED
from seal_env.engine.devices import resolve_device, resolve_dtype
from seal_env.engine.loading import load_learner
from seal_env.engine.peft_io import save_peft
from seal_env.engine.shapes import ModelShape
from seal_env.errors import UserError
from seal_env.inner_loop import InnerLoop
from seal_env.pretraining.tokenizer import build_tokenizer, vocabulary
from seal_env.tasks.biographies.task import Biographies


def refused(*args, **kwargs):
    with pytest.raises(UserError) as error:
        load_learner(*args, **{"device": "cpu", **kwargs})
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_model_is_loaded_once(models, llama):
    assert load_learner(models["llama"], device="cpu") is llama
    assert load_learner(models["llama"], "float32", "cpu") is llama
    assert load_learner(models["llama"], "bfloat16", "cpu") is not llama


def test_a_learner_is_frozen_and_float32_on_a_cpu(learner):
    assert not learner.model.training
    assert not any(p.requires_grad for p in learner.model.parameters())
    assert {p.dtype for p in learner.model.parameters()} == {torch.float32}
    assert learner.max_length == 512
    assert learner.width == 64
    assert learner.end_ids == [learner.tokenizer.eos_token_id]
    assert learner.end_ids[0] in learner.stop_ids


def test_bfloat16_gives_about_the_same(models, llama):
    half = load_learner(models["llama"], "bfloat16", "cpu")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    ids = [[5, 6, 7, 8]], [[9, 10]]
    assert half.score(*ids, [0], None)[0] == pytest.approx(llama.score(*ids, [0], None)[0], abs=0.1)


def test_a_loaded_model_can_be_saved_again(models, llama, tmp_path):
    llama.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    first = AutoModelForCausalLM.from_pretrained(models["llama"], dtype=torch.float32)
    for (name, one), (other_name, other) in zip(
        first.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tyni", "tiny"),
        ("", "no such folder"),
        ("/no/such/folder", "no such folder"),
        ("./nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        ("missing.gguf", "no such file"),
        ("owner/name-that-is-not-there", "hub"),
    ],
)
def test_an_unknown_model_is_one_line(name, says):
    assert says in refused(name)


def test_a_folder_without_config_is_one_line(tmp_path):
    assert "config.json" in refused(str(tmp_path))


def test_a_folder_without_weights_is_one_line(models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models["llama"], folder)
    (folder / "model.safetensors").unlink()
    assert "weights" in refused(str(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_broken_folder_is_one_line(models, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(models["llama"], folder)
    (folder / name).write_text("nonsense")
    assert str(folder) in refused(str(folder))


def test_a_broken_gguf_file_is_one_line(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF nonsense")
    assert "model.gguf" in refused(str(path))


def test_weights_that_need_unpickling_are_not_loaded(models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(models["llama"], folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "weights" in refused(str(folder))


def test_an_architecture_that_mixes_tokens_by_itself_is_refused(tmp_path):
    from transformers import MambaConfig, MambaForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "state_size": 4, "vocab_size": 600}
    MambaForCausalLM(MambaConfig(**sizes)).save_pretrained(tmp_path)
    build_tokenizer(64).save_pretrained(tmp_path)
    assert "cannot be used here" in refused(str(tmp_path))


def test_devices_and_precisions():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    assert resolve_dtype("auto", torch.device("cpu")) == torch.float32
    assert resolve_dtype("auto", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(UserError, match="unknown device"):
        resolve_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="not available"):
            resolve_device("cuda")
    with pytest.raises(UserError, match="unknown precision"):
        resolve_dtype("float16", torch.device("cpu"))


def test_adapter_errors_are_one_line(models, tmp_path):
    assert "adapter" in refused(models["llama"], adapter=str(tmp_path / "nowhere"))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / name).write_bytes(b"nonsense")
    assert str(tmp_path) in refused(models["llama"], adapter=str(tmp_path))


def loops(learner):
    """What an environment keeps of a learner."""
    return InnerLoop(learner, Biographies(), INNER)


@pytest.mark.slow
def test_merged_models_that_nobody_uses_are_freed(models, llama, tmp_path):
    bank, gone = scrambled_bank(llama, 6), []
    for i in range(6):
        save_peft(bank, i, tmp_path / str(i), "base")
        merged = load_learner(models["llama"], device="cpu", adapter=str(tmp_path / str(i)))
        loops(merged)
        gone.append(weakref.ref(merged))
        del merged
    gc.collect()
    assert [ref() is None for ref in gone] == [True] * 4 + [False] * 2
    assert load_learner(models["llama"], device="cpu") is llama
    last = load_learner(models["llama"], device="cpu", adapter=str(tmp_path / "5"))
    assert last is gone[5]()


@pytest.mark.slow
def test_models_that_nobody_uses_are_freed(tmp_path):
    gone = []
    for i in range(4):
        learner = load_learner(save_model("llama", tmp_path / str(i)), device="cpu")
        loops(learner)
        gone.append(weakref.ref(learner))
        del learner
    gc.collect()
    assert [ref() is None for ref in gone] == [True] * 2 + [False] * 2


def test_a_model_in_use_stays_shared_however_many_come_after_it(models, llama, tmp_path):
    save_peft(scrambled_bank(llama, 1), 0, tmp_path / "adapter", "base")
    given = {"device": "cpu", "adapter": str(tmp_path / "adapter")}
    first = load_learner(models["llama"], **given)
    for kind in ("llama", "gpt2", "qwen2"):
        again = save_model(kind, tmp_path / kind)
        load_learner(again, device="cpu")
    assert load_learner(models["llama"], device="cpu") is llama
    assert load_learner(models["llama"], **given) is first


def test_a_folder_that_was_written_again_is_loaded_again(tmp_path):
    folder = save_model("llama", tmp_path)
    first = load_learner(folder, device="cpu")
    assert load_learner(folder, device="cpu") is first
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(2)
    model.save_pretrained(folder)
    again = load_learner(folder, device="cpu")
    assert again is not first
    assert torch.equal(again.model.model.embed_tokens.weight, model.model.embed_tokens.weight)


def test_threads_share_one_model(tmp_path):
    folder = save_model("llama", tmp_path)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_learner(folder, device="cpu"), range(4)))
    assert all(learner is found[0] for learner in found)


@pytest.fixture
def product_times(monkeypatch):
    """Lets a test say how long products take in either precision, and reset what was measured."""
    seconds = {}
    monkeypatch.setattr(devices, "product_seconds", lambda dtype, *shape: seconds[dtype])
    for measured in (devices._warn_if_emulated, devices.speedup):
        measured.cache_clear()
    yield seconds
    for measured in (devices._warn_if_emulated, devices.speedup):
        measured.cache_clear()


def test_emulated_bfloat16_is_told_once_in_one_line(product_times, caplog):
    product_times |= {torch.float32: 0.0004, torch.bfloat16: 0.048}
    for _ in range(3):
        assert resolve_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "48 ms" in record.message
    assert "0.4 ms" in record.message
    assert "\n" not in record.message


def test_nothing_is_told_where_bfloat16_is_quick_or_not_asked_for(product_times, caplog):
    product_times |= {torch.float32: 0.0004, torch.bfloat16: 0.0008}
    resolve_dtype("bfloat16", torch.device("cpu"))
    devices._warn_if_emulated.cache_clear()
    product_times[torch.bfloat16] = 1.0
    resolve_dtype("auto", torch.device("cpu"))
    resolve_dtype("float32", torch.device("cpu"))
    resolve_dtype("bfloat16", torch.device("cuda"))
    assert not caplog.records


CPU, REAL_MODEL = torch.device("cpu"), ModelShape("llama", 576, 30)


@pytest.mark.parametrize(
    ("wide", "narrow", "chosen"),
    [(4.0, 1.0, "bfloat16"), (1.0, 0.8, "float32"), (1, 100, "float32")],
)
def test_auto_takes_bfloat16_where_it_is_clearly_quicker(
    product_times, caplog, wide, narrow, chosen
):
    product_times |= {torch.float32: wide, torch.bfloat16: narrow}
    assert resolve_dtype("auto", CPU, REAL_MODEL) == devices.DTYPES[chosen]
    assert resolve_dtype("auto", CPU, ModelShape("llama", 192, 4)) == torch.float32
    assert resolve_dtype("auto", CPU) == torch.float32 and not caplog.records


def test_products_of_the_models_shape_count_unless_bfloat16_is_emulated(monkeypatch):
    shapes, seconds = [], {torch.float32: 1.0, torch.bfloat16: 2.0}

    def timed(dtype, *shape):
        shapes.append(shape)
        return seconds[dtype] if not shape else 1.0

    monkeypatch.setattr(devices, "product_seconds", timed)
    assert devices.speedup.__wrapped__(576) == 1.0 and shapes == [(), (), *[(256, 576, 2304)] * 2]
    seconds[torch.bfloat16] = 50.0
    assert devices.speedup.__wrapped__(576) == 1 / 50 and shapes[4:] == [(), ()]


def test_a_model_that_its_check_refuses_in_bfloat16_is_loaded_in_float32(
    models, product_times, monkeypatch, tmp_path, caplog
):
    monkeypatch.setattr(devices, "REAL", 1)
    product_times |= {torch.float32: 4.0, torch.bfloat16: 1.0}
    folder = shutil.copytree(models["llama"], tmp_path / "model")
    assert load_learner(str(folder), device="cpu").model.dtype == torch.bfloat16
    assert load_learner("tiny", device="cpu").model.dtype == torch.float32
    real, tried = loading.checked, []

    def checked(network, learner):
        tried.append(network.dtype)
        if network.dtype == torch.bfloat16:
            raise UserError("its numbers differ")
        return real(network, learner)

    monkeypatch.setattr(loading, "checked", checked)
    folder = shutil.copytree(models["llama"], tmp_path / "other")
    for _ in range(2):
        assert load_learner(str(folder), device="cpu").model.dtype == torch.float32
    assert tried == [torch.bfloat16, torch.float32]
    assert "float32, since in bfloat16" in caplog.text and "its numbers differ" in caplog.text


def test_measuring_products_leaves_the_threads_alone():
    before = torch.get_num_threads()
    assert devices.product_seconds(torch.float32) > 0
    assert torch.get_num_threads() == before


def test_loading_leaves_global_randomness_alone(tmp_path):
    folder = save_model("llama", tmp_path)
    before = torch.get_rng_state()
    load_learner(folder, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_embedded_model_is_plain_transformers():
    learner = load_learner("tiny", device="cpu")
    AutoModelForCausalLM.from_pretrained(EMBEDDED["tiny"])
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["tiny"])
    assert tokenizer.get_vocab() == learner.tokenizer.get_vocab()
    assert sum(p.numel() for p in learner.model.parameters()) <= 3_000_000
    assert sum(f.stat().st_size for f in EMBEDDED["tiny"].iterdir()) <= 8_000_000


def test_every_word_of_the_vocabulary_is_one_token():
    tokenizer = build_tokenizer(512)
    words = vocabulary()
    assert len(words) == len(set(words)) == len(tokenizer)
    assert [tokenizer.convert_tokens_to_ids(word) for word in words] == list(range(len(words)))
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<pad>", "<unk>", "<s>", "</s>"]


@pytest.mark.parametrize(
    "text",
    [
        "Where was Ada Cho born?",
        "Ada Cho was born in Oslo.\nThe pet of Ada Cho is a goat.",
        "Question: What is the job of Ada Cho?\nAnswer: baker",
        "Oslo\n\nOslo",
    ],
)
def test_tokens_read_like_the_text_they_came_from(text):
    tokenizer = build_tokenizer(512)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer(text)["input_ids"]) >= len(text.split())


def test_words_from_elsewhere_are_unknown():
    tokenizer = build_tokenizer(512)
    assert tokenizer("antidisestablishmentarianism")["input_ids"] == [1]


def test_the_tokenizer_survives_saving(models):
    text = "Ada Cho was born in Oslo.\nQuestion: Where?"
    again = AutoTokenizer.from_pretrained(models["llama"])
    fresh = build_tokenizer(512)
    assert again(text)["input_ids"] == fresh(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text
    assert again.model_max_length == 512
