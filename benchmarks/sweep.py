"""Time and memory of the inner loop as functions of K, the number of adapters side by side.

    python -m benchmarks.throughput --model tiny --sweep sweep.png --json sweep.json

Claim: "Cost as a function of K" in docs/performance.md. Hardware: there.

Times are medians over interleaved rounds of one process, over the same self-edits in groups of K.
Memory is the peak above the loaded model, in one process per K.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import replace
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import workload
from benchmarks.peak_memory import PeakMemory
from benchmarks.timing import timed
from benchmarks.workload import ThroughputConfig, Workload
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError

STATES = 4
"""An adapter's weights, their gradients and Adam's two moments."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def sweep(config: ThroughputConfig, console: Console) -> dict[str, Any]:
    """Measures, prints and draws; returns the figures."""
    sizes = [k for k in SIZES if k <= config.adapters]
    config = replace(config, adapters=sizes[-1])
    learner = load_learner(config.model, config.dtype, config.device)
    work = workload.make_workload(config, learner)
    seconds: dict[int, list[float]] = {k: [] for k in sizes}
    with console.status("") as status:
        workload.train_ours(_some(work, 0, min(16, sizes[-1])))
        for round_ in range(config.rounds):
            for k in sizes:
                status.update(f"round {round_ + 1} of {config.rounds}: K = {k}")
                # The same 32 self-edits for every K up to there, and whole groups beyond.
                starts = range(0, max(k, min(32, sizes[-1])), k)
                spent = sum(
                    timed(
                        lambda s=s, k=k: workload.train_ours(_some(work, s, k)),  # type: ignore[misc]
                        learner.device,
                    )
                    for s in starts
                )
                tokens = sum(sum(_some(work, s, k).tokens) for s in starts)
                seconds[k].append(spent / tokens * sum(work.tokens) / len(work.tokens))
        memory = {}
        for k in sizes:
            status.update(f"memory: K = {k}")
            memory[k] = _memory_of(config, k)
    found = {k: statistics.median(values) for k, values in seconds.items()}
    bank = work.loop.context.new_bank(1)
    state = STATES * 4 * bank.size / (1 << 20)
    figures = _figures(found, memory, state, config, _full(work))
    _show(figures, console)
    assert config.sweep is not None
    _draw(figures, config)
    return figures


def _some(work: Workload, start: int, count: int) -> Workload:
    place = slice(start, start + count)
    return Workload(work.loop, work.requests[place], work.datasets[place])


def _full(work: Workload) -> float:
    """From how many adapters on a step fills the pass of every thread."""
    steps = sum(data.steps for data in work.datasets)
    learner, limit = work.loop.learner, work.loop.context.tokens_per_pass
    return learner.workers(len(work.datasets)) * limit * steps / sum(work.tokens)


def _memory_of(config: ThroughputConfig, adapters: int) -> float:
    """Peak memory of training K adapters in a fresh process, in MB above the loaded model."""
    settings = {
        name: getattr(config, name)
        for name in ("model", "data", "epochs", "dtype", "device")
        if getattr(config, name) is not None
    }
    script = "from benchmarks.sweep import print_memory; print_memory()"
    result = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(settings | {"adapters": adapters}),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"measuring the memory of {adapters} adapters failed: {reason}")
    return float(result.stdout.split()[-1])


def print_memory() -> None:
    """Work of the processes of `_memory_of`."""
    config = ThroughputConfig(**json.load(sys.stdin))
    learner = load_learner(config.model, config.dtype, config.device)
    work = workload.make_workload(config, learner)
    with PeakMemory(learner.device) as peak:
        workload.train_ours(work)
    print(peak.megabytes)


def _figures(
    seconds: dict[int, float],
    memory: dict[int, float],
    state: float,
    config: ThroughputConfig,
    full: float,
) -> dict[str, Any]:
    sizes = np.array(list(memory))
    megabytes = np.array(list(memory.values()))
    large = sizes >= min(full, sizes[-2:][0])
    slope = float(np.polyfit(sizes[large], megabytes[large], 1)[0]) if large.sum() > 1 else 0.0
    flat = [seconds[int(k)] for k in sizes[large]]
    return {
        "passes_full_from": full,
        "seconds_per_edit": seconds,
        "memory_mb": memory,
        "memory_slope_mb": slope,
        "state_mb": state,
        "slope_over_state": slope / state,
        "spread": max(flat) / min(flat) - 1,
        "model": workload.model_name(config.model),
    }


def _show(figures: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{figures['model']}: training K adapters side by side")
    for heading in ("K", "s/self-edit", "peak MB"):
        table.add_column(heading, justify="right")
    for k, seconds in figures["seconds_per_edit"].items():
        table.add_row(str(k), f"{seconds:.3g}", f"{figures['memory_mb'][k]:,.0f}")
    console.print(table)
    console.print(
        f"passes are full from K = {figures['passes_full_from']:.0f} on; there memory grows by "
        f"{figures['memory_slope_mb']:.2f} MB an adapter, {figures['slope_over_state']:.2f} times "
        f"its weights, gradients and Adam moments, and the slowest K takes "
        f"{figures['spread']:.0%} longer than the quickest"
    )


def _draw(figures: dict[str, Any], config: ThroughputConfig) -> None:
    sizes = list(figures["seconds_per_edit"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.plot(sizes, figures["seconds_per_edit"].values(), "o-", color="#0072b2")
    left.set_ylabel("seconds per self-edit")
    left.set_ylim(bottom=0)
    right.plot(sizes, figures["memory_mb"].values(), "o", color="#d55e00", label="measured")
    start = min(figures["memory_mb"].values())
    state = [start + figures["state_mb"] * (k - sizes[0]) for k in sizes]
    right.plot(sizes, state, "--", color="gray", label="weights, gradients, Adam moments")
    right.set_ylabel("peak memory above the model, MB")
    right.set_ylim(bottom=0)
    right.legend(frameon=False)
    for axis in (left, right):
        axis.set_xlabel("K, adapters side by side")
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(k) for k in sizes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    right.set_xscale("linear")
    right.set_xticks([k for k in sizes if 8 * k >= sizes[-1]])
    figure.suptitle(f"Training K adapters of {figures['model']} side by side")
    path = config.sweep
    assert path is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"--sweep {path}: cannot be written ({error})") from error
    finally:
        plt.close(figure)
