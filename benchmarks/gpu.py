"""All GPU figures with one command: training, PEFT, share of the peak, memory, generation.

    python -m benchmarks.gpu --json gpu.json --model Qwen2.5-0.5B

Claim: the table of one GPU in docs/performance.md. A part begins no round after its
share of `--minutes`; loading, the peak and the last rounds come on top, so that the default of 7
leaves 2 of 9 minutes to them. It needs the engine, torch, transformers and peft alone, no
gymnasium. `--small` takes seconds on a CPU.

K adapters with random token sequences are trained side by side on a model of the size of
Qwen2.5-0.5B, with random weights and, if `--model` is given, with its own; a PEFT loop trains some
of the same adapters one after another (batch size 1, no padding), and is compared by tokens. The
peak is that of a large square matrix product. Times include the device's queue.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model
from torch import nn
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from benchmarks.by_transformers import generate_with_transformers
from benchmarks.peak_memory import PeakMemory
from benchmarks.timing import timed
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.engine.devices import DTYPES, resolve_device
from seal_env.engine.generation import sample
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner, prepare
from seal_env.engine.lora import AdapterBank, find_targets
from seal_env.engine.sampling import Sampling
from seal_env.engine.training import Dataset, Example, finetune
from seal_env.errors import UserError


@dataclass(frozen=True)
class Size:
    """Amounts of work."""

    adapters: int = 64
    """K, adapters side by side."""
    sequences: int = 8
    """Training sequences per adapter."""
    shortest: int = 32
    """Length of the shortest sequence, in tokens."""
    longest: int = 128
    """Length of the longest sequence, in tokens."""
    epochs: int = 4
    """Passes over the sequences."""
    batch: int = 8
    """Sequences per adapter and optimizer step where passes are to be full, beside 1 as in SEAL."""
    peft_adapters: int = 1
    """Adapters that the PEFT loop trains."""
    peak: int = 8192
    """Rows and columns of the matrices whose product gives the peak."""
    prompts: int = 16
    """Prompts of generation, with 4 texts each."""
    new_tokens: int = 128
    """Tokens per text."""
    rounds: int = 3
    """Rounds at most; medians are reported."""


SMALL = Size(3, 2, 6, 12, 1, 2, 1, 128, 2, 4, 1)
"""Amounts for a test on a CPU."""
TARGETS = ("q_proj", "v_proj")
LORA = LoraConfig(rank=32, alpha=64, targets=TARGETS)


def random_model(small: bool, vocabulary: int, dtype: torch.dtype) -> PreTrainedModel:
    """Model of the size of Qwen2.5-0.5B with random weights; a tiny one if `small`."""
    shape: dict[str, Any] = (
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary}
        if small
        else {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
        | {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936}
    )
    config = Qwen2Config(**shape, tie_word_embeddings=True, max_position_embeddings=4096)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = Qwen2ForCausalLM(config)
        return network.to(dtype)


def make_datasets(size: Size, vocabulary: int, batch: int = 1) -> list[Dataset]:
    """Random training sequences of each adapter, with `batch` of them per optimizer step."""
    random = np.random.default_rng(0)
    config = FinetuneConfig(1e-4, epochs=size.epochs, batch_size=batch)
    return [
        Dataset(
            [
                Example(tuple(random.integers(5, vocabulary, length).tolist()))
                for length in random.integers(size.shortest, size.longest + 1, size.sequences)
            ],
            config,
            seed,
        )
        for seed in range(size.adapters)
    ]


def medians(
    ways: dict[str, Callable[[], Any]], device: torch.device, rounds: int, seconds: float
) -> dict[str, float]:
    """Median seconds of each, in turns after one warm-up, with at least one round.

    Args:
        ways: Work to time, by name.
        device: Device of the work.
        rounds: Rounds at most.
        seconds: Bound on the time; no round is begun after it.
    """
    started = time.perf_counter()
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        if number and time.perf_counter() - started > seconds:
            break
        for name, way in ways.items():
            times[name].append(timed(way, device))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_rate(size: Size, dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations per second of a large matrix product."""
    x = torch.randn(size.peak, size.peak, device=device).to(dtype)
    y = torch.randn(size.peak, size.peak, device=device).to(dtype)
    for _ in range(3):
        x @ y
    times = [timed(lambda: x @ y, device) for _ in range(10)]
    return 2.0 * size.peak**3 / statistics.median(times)


def training_flops(learner: Learner, datasets: Sequence[Dataset]) -> float:
    """Useful operations of training, of real tokens alone (see `benchmarks.throughput`)."""
    model, config = learner.model, learner.model.config
    head: Any = model.get_output_embeddings()
    linear = sum(
        m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head
    )
    adapter = sum((t.inputs + t.outputs) * LORA.rank for t in find_targets(model, LORA))
    heads = int(config.num_attention_heads)
    width = heads * int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    total = 0.0
    for data in datasets:
        for example in data.examples:
            length = len(example.ids) - 1
            total += length * (4 * linear + 6 * adapter + 4 * head.weight.numel())
            total += 6 * length * length * width * int(config.num_hidden_layers)
    return total * datasets[0].config.epochs


def train_side_by_side(learner: Learner, datasets: Sequence[Dataset]) -> None:
    """Trains all adapters side by side."""
    targets = find_targets(learner.model, LORA)
    bank = AdapterBank(targets, LORA, len(datasets), learner.device)
    bank.initialize([0] * len(datasets))  # drawn once, as by the PEFT loop
    finetune(learner, bank, datasets, tokens_per_pass=32768)


def train_by_peft(network: PreTrainedModel, datasets: Sequence[Dataset]) -> None:
    """Trains adapters one after another, one sequence per step."""
    model: Any = get_peft_model(
        network,
        PeftConfig(
            r=LORA.rank,
            lora_alpha=int(LORA.alpha),
            target_modules=list(TARGETS),
            task_type="CAUSAL_LM",
        ),
    )
    for data in datasets:
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=data.config.learning_rate)
        for _ in range(data.config.epochs):
            for example in data.examples:
                ids = torch.tensor([example.ids], device=network.device)
                model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
                nn.utils.clip_grad_norm_(parameters, data.config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
    model.unload()


def measure(learner: Learner, size: Size, peak: float, seconds: float) -> dict[str, float]:
    """Figures of one model."""
    device, vocabulary = learner.device, int(learner.model.config.vocab_size)
    datasets = make_datasets(size, vocabulary)
    batches = make_datasets(size, vocabulary, size.batch)
    network = learner.copy_model()
    network.set_attn_implementation("sdpa")
    some = datasets[: size.peft_adapters]
    with PeakMemory(device) as memory:
        train_side_by_side(learner, datasets)
    times = medians(
        {
            "ours": lambda: train_side_by_side(learner, datasets),
            "batches": lambda: train_side_by_side(learner, batches),
            "peft": lambda: train_by_peft(network, some),
        },
        device,
        size.rounds,
        0.6 * seconds,
    )
    tokens, flops = sum(data.tokens for data in datasets), training_flops(learner, datasets)
    ours = tokens / times["ours"]
    peft = sum(data.tokens for data in some) / times["peft"]

    random = np.random.default_rng(1)
    lengths = random.integers(2 * size.shortest, 2 * size.longest + 1, size.prompts)
    prompts = [random.integers(5, vocabulary, n).tolist() for n in lengths for _ in range(4)]
    sampling, stops = Sampling(size.new_tokens, 1.0), learner.stop_ids.tolist()
    network = learner.copy_model()
    network.set_attn_implementation("sdpa")
    counts: dict[str, int] = {}

    def write() -> None:
        texts = sample(learner, prompts, sampling, range(len(prompts)))
        counts["ours"] = sum(len(text.tokens) for text in texts)

    def write_by_transformers() -> None:
        counts["transformers"] = generate_with_transformers(
            network, stops, prompts, size.new_tokens
        )

    writing = medians(
        {"ours": write, "transformers": write_by_transformers}, device, size.rounds, 0.4 * seconds
    )
    return {
        "training_tokens_per_second": ours,
        "peft_tokens_per_second": peft,
        "training_ratio": ours / peft,
        "fraction_of_peak": flops / times["ours"] / peak,
        "training_tokens_per_second_in_batches": tokens / times["batches"],
        "fraction_of_peak_in_batches": flops / times["batches"] / peak,
        "training_memory_mb": memory.megabytes,
        "generated_tokens_per_second": counts["ours"] / writing["ours"],
        "transformers_tokens_per_second": counts["transformers"] / writing["transformers"],
        "generation_ratio": counts["ours"]
        / writing["ours"]
        / (counts["transformers"] / writing["transformers"]),
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measures all models; returns the figures."""
    size = SMALL if args.small else Size()
    device = resolve_device(args.device)
    dtype = DTYPES[args.dtype or ("float32" if device.type == "cpu" else "bfloat16")]
    tokenizer = load_learner("tiny", "float32", "cpu").tokenizer
    network = random_model(args.small, len(tokenizer), dtype).to(device)  # type: ignore[arg-type]
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "size": asdict(size),
    }
    peak = figures["peak_flops_per_second"] = peak_rate(size, dtype, device)
    seconds = 60 * args.minutes / (2 if args.model else 1)
    models: dict[str, Callable[[], Learner]] = {
        "random weights": lambda: prepare(network, tokenizer, "random weights")
    }
    if args.model:
        name = str(dtype).removeprefix("torch.")
        models[Path(args.model).name] = lambda: load_learner(args.model, name, args.device)
    figures["models"] = {}
    for label, load in models.items():
        figures["models"][label] = measure(load(), size, peak, seconds)
        _write(args.json, figures)  # what is known outlasts a later failure
    return figures


def _write(path: Path | None, figures: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json {path}: cannot be written ({error.strerror})") from error


def show(figures: dict[str, Any]) -> None:
    """Prints the figures as a table in Markdown."""
    peak = figures["peak_flops_per_second"] / 1e12
    print(f"{figures['device']}, {figures['precision']}, peak {peak:.3g} TFLOP/s\n")
    models = figures["models"]
    print("|", " | ".join(["figure", *models]), "|")
    print("|---" * (len(models) + 1) + "|")
    for name in next(iter(models.values())):
        print(
            "|",
            " | ".join([name.replace("_", " "), *(f"{m[name]:.3g}" for m in models.values())]),
            "|",
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu")
    parser.add_argument("--dtype", choices=sorted(DTYPES), help="bfloat16 on a GPU if left out")
    parser.add_argument("--model", help="folder or file of a model whose own weights are used, too")
    parser.add_argument("--minutes", type=float, default=7.0, help="after it no round begins")
    parser.add_argument("--small", action="store_true", help="little work, for a test")
    parser.add_argument("--json", type=Path, help="file of the figures")
    try:
        figures = run(parser.parse_args(argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
