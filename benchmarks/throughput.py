"""Throughput of self-edits: SEAL's loop, a PEFT loop without padding, and this package.

    python -m benchmarks.throughput --model tiny --adapters 64 --json OUT.json

Claim: the factors under "Throughput" in the README. Hardware: 2 cores of an AMD EPYC with AVX-512
and bfloat16 products (docs/performance.md); other machines give other factors.

All loops train the same adapters on the same self-edits of the same problems with the same
settings, in interleaved rounds of one process (the reference in the first round only); the tables
have medians. ``reference`` and ``peft`` are in `benchmarks.loops`; ``ours`` is
`seal_env.inner_loop`, with all adapters side by side.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers.pytorch_utils import Conv1D

from benchmarks.loops import PeftLoop, ReferenceLoop
from benchmarks.peak_memory import PeakMemory
from benchmarks.timing import timed
from benchmarks.workload import (
    ThroughputConfig,
    Workload,
    evaluate_ours,
    make_workload,
    model_name,
    train_ours,
)
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError


def training_flops(work: Workload) -> float:
    """Useful floating-point operations of training: those of real tokens alone.

    A token costs 2P forward and 2P for the gradient of activations in the frozen linear layers
    (P: their weights; the head's only where there is a label), 2p forward and 4p backward in the
    adapters, and causal attention 2LW forward and 4LW backward in each layer (L: length, W: width
    of all heads).
    """
    learner, epochs = work.loop.learner, work.loop.config.finetune.epochs
    model = learner.model
    head = model.get_output_embeddings()
    linear = sum(
        m.weight.numel()
        for m in model.modules()
        if isinstance(m, nn.Linear | Conv1D) and m is not head
    )
    context = work.loop.context
    adapter = sum((t.inputs + t.outputs) * context.lora.rank for t in context.targets)
    shape = model.config
    heads = int(shape.num_attention_heads)
    width = heads * int(getattr(shape, "head_dim", None) or shape.hidden_size // heads)
    total = 0.0
    for data in work.datasets:
        for example in data.examples:
            length = len(example.ids) - 1  # nothing follows the last token, so it is not read
            total += length * (4 * linear + 6 * adapter)
            total += length * 4 * head.weight.numel()
            total += 6 * length * length * width * int(shape.num_hidden_layers)
    return total * epochs


def matmul_rate(learner: Learner, seconds: float = 0.4) -> float:
    """Floating-point operations a second of matrix products at the model's precision.

    The fastest of the model's own linear layers and a square of 2,048, at 1,024 rows.
    """
    shapes = {
        tuple(m.weight.shape) for m in learner.model.modules() if isinstance(m, nn.Linear | Conv1D)
    }
    best = 0.0
    for rows, columns in sorted(shapes | {(2048, 2048)}):
        weight = torch.randn(rows, columns, device=learner.device, dtype=learner.model.dtype)
        x = torch.randn(1024, columns, device=learner.device, dtype=learner.model.dtype)
        F.linear(x, weight)
        times: list[float] = []
        started = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - started < seconds:
            times.append(timed(lambda x=x, w=weight: F.linear(x, w), learner.device))  # type: ignore[misc]
        best = max(best, 2.0 * 1024 * rows * columns / statistics.median(times))
    return best


def measure(config: ThroughputConfig, console: Console) -> dict[str, Any]:
    """Times all loops; returns the figures."""
    learner = load_learner(config.model, config.dtype, config.device)
    work = make_workload(config, learner)
    pad_to = config.pad_to or min(learner.max_length, 2048)
    peft, reference = PeftLoop(work), ReferenceLoop(work, pad_to)
    loops: dict[str, tuple[PeftLoop, int]] = {
        "reference": (reference, min(config.reference_edits, config.adapters)),
        "peft": (peft, min(config.peft_edits or config.adapters, config.adapters)),
    }
    if config.peft_float32:
        wide = make_workload(config, load_learner(config.model, "float32", config.device))
        loops["peft_float32"] = (PeftLoop(wide), loops["peft"][1])
    rates: dict[str, list[float]] = {"matmul": []}
    device = learner.device
    with console.status("warming up") as status:
        with PeakMemory(device) as peak:
            train_ours(work)
        peft.train(0)
        for round_ in range(config.rounds):
            status.update(f"round {round_ + 1} of {config.rounds}: matrix products")
            rates["matmul"].append(matmul_rate(learner))
            status.update(f"round {round_ + 1} of {config.rounds}: ours")
            seconds = timed(lambda: train_ours(work), device)
            rates.setdefault("ours", []).append(config.adapters / seconds)
            if config.evaluation:
                seconds = timed(lambda: evaluate_ours(work), device)
                rates.setdefault("ours, evaluation", []).append(config.adapters / seconds)
            for name, (loop, count) in loops.items():
                if name == "reference" and round_ > 0:
                    continue  # so slow that noise is no matter
                status.update(f"round {round_ + 1} of {config.rounds}: {name}")
                trained = answered = 0.0
                for index in range(count):
                    trained += timed(lambda i=index, p=loop: p.train(i), device)  # type: ignore[misc]
                    if config.evaluation:
                        answered += timed(lambda i=index, p=loop: p.answer(i), device)  # type: ignore[misc]
                # The first self-edits may be longer or shorter than all: compare by tokens.
                share = sum(work.tokens[:count]) / sum(work.tokens)
                rates.setdefault(name, []).append(config.adapters * share / trained)
                if config.evaluation:
                    both = trained + answered
                    rates.setdefault(f"{name}, evaluation", []).append(
                        config.adapters * share / both
                    )
    return _figures(config, work, rates, peak.megabytes)


def _figures(
    config: ThroughputConfig, work: Workload, rates: dict[str, list[float]], memory: float
) -> dict[str, Any]:
    found = {name: statistics.median(values) for name, values in rates.items()}
    learner = work.loop.learner
    seconds = config.adapters / found["ours"]
    figures: dict[str, Any] = {
        "reference": found["reference"],
        "peft": found["peft"],
        "ours": found["ours"],
        "ratio_reference": found["ours"] / found["reference"],
        "ratio_peft": found["ours"] / found["peft"],
        "tokens_per_second": sum(work.tokens) / seconds,
        "fraction_of_peak": training_flops(work) / seconds / found["matmul"],
        "matmul_gflops": found["matmul"] / 1e9,
        "peak_memory_mb": memory,
        "adapters": config.adapters,
        "model": model_name(config.model),
        "precision": str(learner.model.dtype).removeprefix("torch."),
        "device": _device_name(learner.device),
        "threads": torch.get_num_threads(),
        "rounds": config.rounds,
    }
    if "peft_float32" in found:
        figures["peft_float32"] = found["peft_float32"]
        figures["ratio_peft_float32"] = found["ours"] / found["peft_float32"]
    if config.evaluation:
        names = ("reference", "peft", "peft_float32", "ours")
        whole = {n: found[f"{n}, evaluation"] for n in names if f"{n}, evaluation" in found}
        for name in list(whole)[:-1]:
            whole[f"ratio_{name}"] = whole["ours"] / whole[name]
        figures["evaluation"] = whole
    return figures


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def show(figures: dict[str, Any], console: Console) -> None:
    """Prints the figures."""
    title = f"{figures['model']}, {figures['adapters']} adapters, {figures['precision']} on "
    kinds = [("training", figures)]
    if "evaluation" in figures:
        kinds.append(("training and answering", figures["evaluation"]))
    for kind, rates in kinds:
        table = Table(title=f"{title}{figures['device']}: {kind}")
        table.add_column("loop")
        for heading in ("self-edits/s", "s/self-edit", "ours is faster by"):
            table.add_column(heading, justify="right")
        for name in ("reference", "peft", "peft_float32", "ours"):
            if name in rates:
                ratio = rates["ours"] / rates[name]
                table.add_row(
                    name.replace("_", ", "), f"{rates[name]:.3g}", f"{1 / rates[name]:.3g}",
                    "" if name == "ours" else f"{ratio:.1f}",
                )  # fmt: skip
        console.print(table)
    console.print(
        f"ours: {figures['tokens_per_second']:,.0f} tokens/s, "
        f"{figures['fraction_of_peak']:.2f} of {figures['matmul_gflops']:,.0f} GFLOP/s, "
        f"peak memory {figures['peak_memory_mb']:,.0f} MB above the start"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    try:
        config = tyro.cli(ThroughputConfig, args=argv, prog="python -m benchmarks.throughput")
        config.check()
        console = Console()
        if config.sweep is not None:
            from benchmarks.sweep import sweep

            figures = sweep(config, console)
        else:
            figures = measure(config, console)
            show(figures, console)
        if config.json is not None:
            _write(config.json, figures)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _write(path: Path, result: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json {path}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    sys.exit(main())
