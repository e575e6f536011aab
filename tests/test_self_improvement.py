"""What a run tells about a policy that improves itself: drift, diversity, resets."""

import io
from statistics import fmean

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from test_train import scripted, states
from transformers import AutoModelForCausalLM

from seal_agents.reporting.checks_table import print_checks
from seal_agents.reporting.diversity import diversity
from seal_agents.run_folder import RunFolder
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.drift import KNOWN, drifts
from seal_env.engine.config import LoraConfig
from seal_env.engine.lora import AdapterBank, find_targets
from seal_env.engine.peft_io import save_peft
from seal_env.env import SelfEditEnv
from seal_env.errors import UserError
from seal_env.probes.texts import suited_texts


def test_diversity_by_hand():
    texts = ["a b c d", "a b c", "a b c e", None, "x"]
    styles = ["one", "one", "one", None, "two"]
    records = [{"text": t, "style": s} for t, s in zip(texts, styles, strict=True)]
    found = diversity(records)
    assert found["distinct_3"] == 3 / 5  # abc three times, bcd, bce
    assert found["largest_style"] == 3 / 4
    assert found["styles"] == pytest.approx(4 / 3**0.75)
    assert diversity([{"text": None, "style": None}]) == {}
    assert diversity([{"text": "a"}]) == {"distinct_3": 0.0}


@pytest.mark.slow
def test_drift_is_that_of_pefts_model(models, tmp_path):
    loop = SelfEditEnv(task="helpers:Parity", model=models["llama"]).episodes.loop
    learner = loop.learner
    targets = find_targets(learner.model, LoraConfig(4, 8.0, ("all-linear",)))
    bank = AdapterBank(targets, LoraConfig(4, 8.0, ("all-linear",)), 1, learner.device)
    bank.weights.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    run = RunFolder(tmp_path)
    save_peft(bank, 0, run.checkpoint(3) / "adapter", learner.name)
    start, after, none = drifts(run, loop, [0, 3, 2])
    plain = AutoModelForCausalLM.from_pretrained(models["llama"], dtype=torch.float32)
    adapted = AutoModelForCausalLM.from_pretrained(models["llama"], dtype=torch.float32)
    adapted = PeftModel.from_pretrained(adapted, run.checkpoint(3) / "adapter").eval()
    sums, count = 0.0, 0
    for text in suited_texts(learner.name):
        ids = torch.tensor([learner.renderer.reading(text)])
        with torch.no_grad():
            old, new = (m(input_ids=ids).logits[0, :-1].log_softmax(-1) for m in (plain, adapted))
        sums += float((new.exp() * (new - old)).sum())
        count += len(old)
    assert after["kl_to_start"] == pytest.approx(sums / count, rel=1e-3) and sums / count > 1e-3
    assert start["kl_to_start"] == none["kl_to_start"] == 0.0
    known = [loop.task.problem(loop.task.known_split, i) for i in range(KNOWN)]
    assert start["old_knowledge"] == fmean(s.accuracy for s in loop.baselines(known))
    scores = loop.evaluator.evaluate(known, [0] * KNOWN, bank)
    assert after["old_knowledge"] == fmean(s.accuracy for s in scores) != start["old_knowledge"]
    assert drifts(run, loop, [0, 1]) == [{}, {}]


@pytest.mark.slow
def test_a_reset_learns_from_the_untrained_policy_on(models, tmp_path):
    scripted(models, tmp_path, reset_every=3)
    assert states(tmp_path) == list("1231231")


def test_resets_that_cannot_be_are_one_line(models, tmp_path):
    with pytest.raises(UserError, match="--reset-to-best and --reset-every"):
        TrainConfig(reset_to_best=1, reset_every=1)
    with pytest.raises(UserError, match="--reset-every -1"):
        TrainConfig(reset_every=-1)


def test_the_table_has_a_row_per_check_and_no_column_without_numbers():
    checks = [{"round": r, "accuracy": 0.1 * r, "kl_to_start": 0.01 * r} for r in range(3)]
    shown = io.StringIO()
    print_checks(checks, Console(file=shown, width=120))
    told = shown.getvalue()
    assert "0.200" in told and "0.020" in told and "old knowledge" not in told
    alone = io.StringIO()
    print_checks(checks[:1], Console(file=alone))
    assert alone.getvalue() == ""
