"""Tokens per second of a policy's sampling, against `transformers.generate`.

    python -m benchmarks.sampling --model tiny --json OUT.json

Claim: the table under "Sampling" in docs/performance.md. Hardware: 2 cores of an AMD EPYC with
AVX-512 and bfloat16 products; other machines give other factors.

Both sample the same number of texts of the same prompts with the same weights at temperature 1,
in interleaved rounds of one process, as one batch; medians are reported. A token counts up to the
end of its text: transformers goes on computing ended texts until the last one ends.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.by_transformers import generate_with_transformers
from benchmarks.command import command
from benchmarks.timing import timed
from benchmarks.workload import model_name
from seal_agents.policies.writing import write_texts
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.engine.sampling import Sampling
from seal_env.errors import UserError
from seal_env.prompts import prompt_tokens
from seal_env.tasks.base import Problem, Task
from seal_env.tasks.biographies.task import Biographies
from seal_env.tasks.squad import Squad


@dataclass(frozen=True)
class Args:
    """Times the sampling of self-edits."""

    model: str = "tiny"
    """The policy."""
    texts: int = 64
    """Texts per batch."""
    group: int = 4
    """Texts per prompt."""
    max_new_tokens: int = 128
    """Length of the longest text, in tokens."""
    rounds: int = 3
    """Interleaved rounds; medians are reported."""
    data: str | None = None
    """File of passages; made-up people if left out."""
    prompt: str | None = None
    """Name of the prompt; the task's own if left out."""
    dtype: str = "auto"
    """Precision of both."""
    device: str = "auto"
    """Device of both."""
    json: Path | None = None
    """File of the figures."""


def make_prompts(args: Args, learner: Learner) -> list[list[int]]:
    """Token ids of the prompts, those of one problem next to each other."""
    task: Task = Squad(args.data) if args.data else Biographies()
    name = args.prompt or ("implications" if args.data else "notes")
    split = "all" if args.data else "train"
    longest = learner.max_length - args.max_new_tokens
    problems: list[Problem] = [task.problem(split, i // args.group) for i in range(args.texts)]
    return [prompt_tokens(learner.renderer, name, p.context, longest).ids for p in problems]


def ours(learner: Learner, prompts: Sequence[Sequence[int]], args: Args) -> int:
    """Samples the texts with this package; returns the number of tokens."""
    sampling = Sampling(args.max_new_tokens, 1.0)
    texts = write_texts(learner, prompts, sampling, range(len(prompts)), len(prompts))
    return sum(len(text.tokens) for text in texts)


def measure(args: Args, console: Console) -> dict[str, Any]:
    """Times both; returns the figures."""
    learner = load_learner(args.model, args.dtype, args.device)
    prompts = make_prompts(args, learner)
    network = learner.copy_model()
    network.set_attn_implementation("sdpa")
    stops, longest = learner.stop_ids.tolist(), args.max_new_tokens
    ways: dict[str, Callable[[], int]] = {
        "ours": lambda: ours(learner, prompts, args),
        "transformers": lambda: generate_with_transformers(network, stops, prompts, longest),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with console.status("sampling") as status:
        for number in range(args.rounds):
            for name, way in ways.items():
                status.update(f"round {number + 1} of {args.rounds}: {name}")
                counts: list[int] = []
                seconds = timed(lambda way=way, to=counts: to.append(way()), learner.device)  # type: ignore[misc]
                rates[name].append(counts[0] / seconds)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "model": model_name(args.model),
        "precision": str(learner.model.dtype).removeprefix("torch."),
        "texts": args.texts,
        "group": args.group,
        "max_new_tokens": args.max_new_tokens,
        "prompt_tokens": sum(map(len, prompts)),
        "threads": torch.get_num_threads(),
        **medians,
        "ratio": medians["ours"] / medians["transformers"],
    }


def run(args: Args, console: Console) -> int:
    """Measures, prints and writes the figures; returns the exit status."""
    if min(args.texts, args.group, args.max_new_tokens, args.rounds) < 1:
        raise UserError("texts, group, max_new_tokens and rounds must be at least 1")
    figures = measure(args, console)
    table = Table(title=f"{figures['model']}, {args.texts} texts, {figures['precision']}")
    for heading in ("sampler", "tokens/s"):
        table.add_column(heading)
    for name in ("transformers", "ours"):
        table.add_row(name, f"{figures[name]:,.0f}")
    console.print(table)
    console.print(f"ours is faster by {figures['ratio']:.1f}")
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--json {args.json}: cannot be written ({error.strerror})") from error
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "sampling", __doc__, run, argv)


if __name__ == "__main__":
    sys.exit(main())
