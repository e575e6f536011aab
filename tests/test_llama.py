"""The decoder layer that is written out: the numbers and gradients of transformers' own."""

import json

import pytest
import torch
from helpers import LORA, dataset, new_bank, random_ids, save_model, scrambled_bank
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from seal_env.engine.llama import is_supported
from seal_env.engine.loading import load_learner
from seal_env.engine.lora import AdapterBank, LoraConfig, find_targets
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.training import Dataset, FinetuneConfig, finetune

EVERYTHING = LoraConfig(rank=4, alpha=8.0, targets=("all-linear",))
UPPER = LoraConfig(rank=4, alpha=8.0, targets=("gate_proj", "o_proj", "k_proj"))
LENGTHS = (5, 33, 1, 70)


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def both(request, models, tmp_path_factory):
    """A learner as it is, and one of the same weights that runs through transformers' layers."""
    written = load_learner(models[request.param], device="cpu")
    folder = save_model(request.param, tmp_path_factory.mktemp("same"))
    theirs = load_learner(folder, device="cpu")
    assert theirs is not written
    theirs.decoder = None
    return written, theirs


def hidden(learner, bank):
    sequences = [random_ids(n, n) for n in LENGTHS]
    layout = Layout(sequences, range(len(sequences)), learner.device)
    with torch.no_grad():
        return learner.hidden(layout.row, FullPass(layout), bank)[: sum(LENGTHS)]


def test_it_is_used_where_the_architecture_allows(learner):
    assert (learner.decoder is not None) == (learner.model.config.model_type != "gpt2")


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "gelu"},
        {"model_type": "granite"},
        {"rope_parameters": {"rope_type": "dynamic"}},
    ],
)
def test_other_architectures_keep_their_own_layers(llama, change, monkeypatch):
    assert is_supported(llama.model)
    for name, value in change.items():
        monkeypatch.setattr(llama.model.config, name, value, raising=False)
    assert not is_supported(llama.model)


@pytest.mark.parametrize("lora", [None, EVERYTHING, UPPER])
def test_hidden_states_are_those_of_transformers(both, lora):
    found, expected = (
        hidden(x, None if lora is None else scrambled_bank(x, len(LENGTHS), lora)) for x in both
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lora", [EVERYTHING, UPPER, LoraConfig(4, 8.0)])
def test_gradients_are_those_of_transformers(both, lora):
    grads = []
    for learner in both:
        bank = scrambled_bank(learner, len(LENGTHS), lora)
        bank.require_grads()
        layout = Layout([random_ids(n, n) for n in LENGTHS], range(len(LENGTHS)), learner.device)
        out = learner.hidden(layout.row, FullPass(layout), bank)[: sum(LENGTHS)]
        weight = torch.linspace(-1, 1, out.numel()).view_as(out)
        (out * weight).sum().backward()
        grads.append(bank.grads)
    assert grads[0].abs().max() > 0.1
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-4 * grads[1].abs().max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "has_window"), [("llama", False), ("mistral", True), ("qwen2", False)]
)
def test_a_window_counts_where_the_architecture_has_one(kind, has_window, tmp_path):
    """Configs keep what they no longer mean: Llama's after Mistral's, Qwen2's switched off."""
    model = save_model("qwen2" if kind == "qwen2" else "llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": kind, "sliding_window": 40, "use_sliding_window": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    learner = load_learner(model, device="cpu")
    text = random_ids(90, 0)
    layout = Layout([text], [0], learner.device)
    own = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.no_grad():
        found = learner.head(learner.hidden(layout.row, FullPass(layout), None))[: len(text)]
        torch.testing.assert_close(found, own(torch.tensor([text])).logits[0], rtol=0, atol=1e-4)
    assert learner.decoder is not None
    assert any(layer.scoring.window for layer in learner.decoder.layers) == has_window


def test_adapters_in_the_last_layer_alone_learn(both):
    config = FinetuneConfig(1e-3, epochs=2)
    weights = []
    for learner in both:
        every = find_targets(learner.model, LORA)
        targets = [target for target in every if "layers.1" in target.name]
        assert 0 < len(targets) < len(every)
        bank = AdapterBank(targets, LORA, 2, learner.device)
        bank.initialize([0, 1])
        before = bank.weights.clone()
        data = [Dataset(dataset([9, 30], 1), config, 0), Dataset(dataset([12], 2), config, 1)]
        finetune(learner, bank, data)
        assert not torch.equal(before, bank.weights)
        weights.append(bank.weights)
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-5)


def test_a_layers_memory_is_freed_on_the_way_back(llama):
    bank = new_bank(llama, [0])
    bank.require_grads()
    layout = Layout([random_ids(20, 1)], [0], llama.device)
    out = llama.hidden(layout.row, FullPass(layout), bank)
    node = out.grad_fn
    while type(node).__name__ != "_DecoderLayerBackward":
        node = next(inner for inner, _ in node.next_functions if inner is not None)
    assert node.pieces is not None
    out.sum().backward()
    assert node.pieces is None


def test_matrices_laid_together_are_still_the_models_own(both, tmp_path):
    written, theirs = both
    attention = written.model.base_model.layers[0].self_attn
    pointers = [part.weight.data_ptr() for part in (attention.q_proj, attention.k_proj)]
    assert pointers[1] - pointers[0] == attention.q_proj.weight.nbytes
    written.model.save_pretrained(tmp_path)
    loaded = load_file(tmp_path / "model.safetensors")
    for name, weight in theirs.model.state_dict().items():
        if name in loaded:
            assert torch.equal(loaded[name], weight)
    assert any("k_proj" in name for name in loaded)


def test_other_weights_given_to_a_module_count(both, monkeypatch):
    weight = torch.randn(both[0].model.base_model.layers[1].self_attn.v_proj.weight.shape)
    before = hidden(both[0], None)
    for learner in both:
        module = learner.model.base_model.layers[1].self_attn.v_proj
        monkeypatch.setattr(module.weight, "data", weight.clone())
    found, expected = (hidden(learner, None) for learner in both)
    monkeypatch.undo()
    assert not torch.allclose(found, before, atol=1e-2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(hidden(both[0], None), before)
