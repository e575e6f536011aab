"""Adapters: initial weights, PEFT in and out, merging, errors."""

import json
import shutil

import peft
import pytest
import torch
from helpers import LORA, new_bank, random_ids, scrambled_bank
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from seal_env.engine.loading import load_learner
from seal_env.engine.lora import LoraConfig, find_targets
from seal_env.engine.packing import Layout
from seal_env.engine.passes import FullPass
from seal_env.engine.peft_io import load_peft, save_peft
from seal_env.errors import UserError

IDS = random_ids(23, 4)
CPU = torch.device("cpu")


def logits_of(learner, bank=None, owner=0):
    layout = Layout([IDS], [owner], CPU)
    with torch.no_grad():
        return learner.head(learner.hidden(layout.row, FullPass(layout), bank))[: len(IDS)]


def one_line(error):
    return "\n" not in str(error.value) and len(str(error.value)) > 20


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_peft_reads_what_we_save_and_gives_the_same_logits(learner, tmp_path):
    bank = scrambled_bank(learner, 3)
    save_peft(bank, 1, tmp_path, learner.name)
    base = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([IDS])).logits[0]
    found = logits_of(learner, bank, owner=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - logits_of(learner)).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("rslora", [False, True])
def test_we_read_what_peft_saves(learner, tmp_path, rslora):
    base = AutoModelForCausalLM.from_pretrained(learner.name, dtype=torch.float32)
    wanted = peft.LoraConfig(
        r=4, lora_alpha=6, task_type="CAUSAL_LM", target_modules="all-linear", use_rslora=rslora
    )
    model = peft.get_peft_model(base, wanted).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
        expected = model(input_ids=torch.tensor([IDS])).logits[0]
    model.save_pretrained(tmp_path)
    bank = load_peft(tmp_path, learner.model, CPU)
    torch.testing.assert_close(logits_of(learner, bank), expected, rtol=1e-4, atol=1e-3)


def test_round_trip(learner, tmp_path):
    bank = scrambled_bank(learner, 2)
    save_peft(bank, 1, tmp_path / "new" / "folder", "base")
    again = load_peft(tmp_path / "new" / "folder", learner.model, CPU)
    assert again.count == 1
    assert again.config.rank == LORA.rank
    assert again.config.alpha == LORA.alpha
    assert torch.equal(again.weights[0], bank.weights[1])


def test_a_merged_adapter_gives_the_same_logits(learner, tmp_path):
    bank = scrambled_bank(learner, 1)
    save_peft(bank, 0, tmp_path, learner.name)
    merged = load_learner(learner.name, device="cpu", adapter=str(tmp_path))
    torch.testing.assert_close(logits_of(merged), logits_of(learner, bank), rtol=1e-3, atol=1e-3)
    assert merged is load_learner(learner.name, device="cpu", adapter=str(tmp_path))
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    described["lora_alpha"] *= 2
    (tmp_path / "adapter_config.json").write_text(json.dumps(described))
    stronger = load_learner(learner.name, device="cpu", adapter=str(tmp_path))
    assert (logits_of(stronger) - logits_of(merged)).abs().max() > 0.01


def test_initial_weights_change_nothing_and_come_from_the_seed_alone(llama):
    bank = new_bank(llama, [3, 4, 3])
    assert torch.equal(logits_of(llama, bank, 1), logits_of(llama))
    assert torch.equal(bank.weights[0], bank.weights[2])
    assert not torch.equal(bank.weights[0], bank.weights[1])
    assert torch.equal(bank.weights[1], new_bank(llama, [4]).weights[0])
    for target in bank.targets:
        a, b = bank.matrices[target.name]
        assert not b.any()
        bound = target.inputs**-0.5
        assert 0.9 * bound < a.abs().max() <= bound


def test_targets_default_to_pefts(learner):
    base = AutoModelForCausalLM.from_pretrained(learner.name)
    wrapped = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM"))
    expected = [name for name, m in base.named_modules() if hasattr(m, "lora_A")]
    assert [t.name for t in find_targets(learner.model, LoraConfig())] == expected
    assert wrapped is not None


def test_all_linear_leaves_out_the_head(learner):
    names = [t.name for t in find_targets(learner.model, LoraConfig(targets=("all-linear",)))]
    assert "lm_head" not in names
    assert len(names) in (8, 14)


def test_unknown_targets_are_refused(llama):
    with pytest.raises(UserError, match="nonsense") as error:
        find_targets(llama.model, LoraConfig(targets=("nonsense",)))
    assert one_line(error)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": float("inf")}])
def test_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UserError):
        LoraConfig(**wrong)


@pytest.fixture
def saved(llama, tmp_path):
    save_peft(new_bank(llama, [1]), 0, tmp_path, "base")
    return tmp_path


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "garbage", "empty"])
def test_a_broken_folder_is_one_line(llama, saved, name, damage):
    if damage == "missing":
        (saved / name).unlink()
    else:
        (saved / name).write_bytes(b"\xff\x00 nonsense" if damage == "garbage" else b"")
    with pytest.raises(UserError, match=saved.name) as error:
        load_peft(saved, llama.model, CPU)
    assert one_line(error)


@pytest.mark.parametrize(
    "text", ["[]", "3", "{}", '{"r": null, "lora_alpha": 1}', '{"r": 0, "lora_alpha": 1}']
)
def test_a_config_of_another_kind_is_one_line(llama, saved, text):
    (saved / "adapter_config.json").write_text(text)
    with pytest.raises(UserError) as error:
        load_peft(saved, llama.model, CPU)
    assert one_line(error)


def test_an_adapter_with_mixed_ranks_is_refused(llama, saved):
    described = json.loads((saved / "adapter_config.json").read_text())
    described["rank_pattern"] = {"q_proj": 2}
    (saved / "adapter_config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="rank_pattern") as error:
        load_peft(saved, llama.model, CPU)
    assert one_line(error)


def test_the_wrong_base_is_one_line(llama, models, saved, tmp_path):
    gpt2 = load_learner(models["gpt2"], device="cpu")
    with pytest.raises(UserError, match="wrong base") as error:
        load_peft(saved, gpt2.model, CPU)
    assert one_line(error)
    other = tmp_path / "other"
    shutil.copytree(saved, other, ignore=shutil.ignore_patterns("other"))
    tensors = load_file(other / "adapter_model.safetensors")
    wider = {k: torch.zeros(v.shape[0], v.shape[1] + 1) for k, v in tensors.items()}
    save_file(wider, other / "adapter_model.safetensors")
    with pytest.raises(UserError, match="does not fit") as error:
        load_peft(other, llama.model, CPU)
    assert one_line(error)


def test_an_adapted_model_is_not_called_outside_of_a_pass(llama):
    bank = new_bank(llama, [1])
    with bank.attached(llama.model):
        adapted = [m for m in llama.model.modules() if "forward" in vars(m)]
        assert len(adapted) == len(bank.targets)
        with pytest.raises(AssertionError, match="outside of a pass"):
            adapted[0](torch.zeros(1, 1, adapted[0].in_features))
    assert not any("forward" in vars(m) for m in llama.model.modules())
