"""The throughput benchmark: that its loops do the same work, and what it writes."""

import json

import pytest
from rich.console import Console

from benchmarks.loops import PeftLoop, ReferenceLoop
from benchmarks.throughput import main, training_flops
from benchmarks.workload import ThroughputConfig, make_workload
from seal_env.engine.loading import load_learner
from seal_env.engine.training import finetune

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def work():
    return make_workload(ThroughputConfig(adapters=3, epochs=1), load_learner("tiny"))


def trained_by(loop, index):
    loop.train(index)
    return {name: weight.detach().clone() for name, weight in loop.weights.items()}


def ours(work, index, trained=True):
    bank = work.loop.context.new_bank(len(work.datasets))
    bank.initialize([request.seed for request in work.requests])
    if trained:
        finetune(work.loop.learner, bank, work.datasets)
    return {
        f"base_model.model.{target.name}.lora_{letter}.default.weight": matrix[index]
        for target in bank.targets
        for letter, matrix in zip("AB", bank.matrices[target.name], strict=True)
    }


def distance(work, found, expected):
    """How far two adapters are apart, as a share of what training changed; the worst matrix.

    Not element by element: Adam's steps are of one size however small a gradient is, so where it
    is nearly nothing, rounding decides about the sign.
    """
    start = ours(work, 1, trained=False)
    assert found.keys() == expected.keys() == start.keys()
    return max(
        float((found[name] - expected[name]).norm() / (expected[name] - start[name]).norm())
        for name in found
    )


def test_the_peft_loop_trains_the_same_adapters(work):
    expected, found = ours(work, 1), trained_by(PeftLoop(work), 1)
    assert distance(work, found, expected) < 5e-3


def test_the_reference_trains_on_padding_too(work):
    found = trained_by(ReferenceLoop(work, 96), 1)
    assert distance(work, found, ours(work, 1)) > 0.5  # the padding is in its loss
    padded = ReferenceLoop(work, 96)._padded(work.datasets[1].examples)
    assert {len(row["input_ids"]) for row in padded} == {96}
    assert (padded[0]["labels"] == padded[0]["input_ids"]).all()


def test_flops_grow_with_real_tokens_alone(work):
    tokens = sum(work.tokens)
    model = work.loop.learner.model
    weights = sum(p.numel() for p in model.model.layers.parameters())
    assert 4 * weights < training_flops(work) / tokens < 6 * weights


def test_a_run_writes_the_figures(tmp_path, capsys):
    path = tmp_path / "figures.json"
    flags = ["--adapters", "2", "--rounds", "1", "--epochs", "1", "--pad-to", "64"]
    assert main([*flags, "--reference-edits", "1", "--json", str(path)]) == 0
    figures = json.loads(path.read_text())
    named = {"reference", "peft", "ours", "ratio_reference", "ratio_peft", "tokens_per_second"}
    named |= {"fraction_of_peak", "peak_memory_mb", "adapters", "model", "precision", "device"}
    assert named <= figures.keys()
    assert figures["ratio_peft"] == pytest.approx(figures["ours"] / figures["peft"])
    assert figures["adapters"] == 2
    assert figures["precision"] == "float32"
    # Positive and no more: on a busy machine no time is below another for certain.
    assert figures["fraction_of_peak"] > 0
    assert figures["evaluation"]["ours"] > 0
    assert "training and answering" in capsys.readouterr().out


def test_a_sweep_draws_and_counts_memory(tmp_path, monkeypatch):
    from benchmarks import sweep

    path = tmp_path / "sweep.png"
    config = ThroughputConfig(adapters=2, rounds=1, epochs=1, sweep=path)
    figures = sweep.sweep(config, Console(quiet=True))
    assert list(figures["seconds_per_edit"]) == [1, 2]
    assert all(seconds > 0 for seconds in figures["seconds_per_edit"].values())
    assert figures["memory_mb"][1] > 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--adapters", "0"], "must be at least 1"),
        (["--model", "nowhere"], "unknown model"),
        (["--data", "missing.json"], "missing.json"),
        (["--dtype", "int3"], "unknown precision"),
    ],
)
def test_bad_settings_are_one_line(flags, message, capsys):
    assert main(flags) == 2
    assert message in capsys.readouterr().err
