"""Whether self-edits that a model commits to its weights hurt it as a writer of the next ones.

    python -m benchmarks.committed_writer
    python -m benchmarks.committed_writer --adapter runs/main/adapter

Policy and learner are one model in SEAL, and a stream changes the learner for good. Here a model
commits t self-edits about other people (by rule, merged one after the other), then writes
self-edits about new ones. These are carried out on the model without commits, so that what is
measured is the writing alone. Hardware: 2 CPU cores, no GPU.

Every row is a line in a file as soon as it is there; a stopped benchmark goes on from it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from benchmarks.command import command
from benchmarks.continual import RULE
from seal_agents.policies.options import PolicyOptions
from seal_agents.policies.writing import write_texts
from seal_agents.reporting.diversity import diversity
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.run_folder import RunFolder
from seal_env.config import EnvConfig, default_prompt
from seal_env.engine.banks import LearnerState
from seal_env.engine.sampling import Sampling
from seal_env.episodes import Episodes
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.inner_loop import Request
from seal_env.menus.biographies import BiographyMenu
from seal_env.tasks.base import Problem, first_problems
from seal_env.wrappers.sb3.tokens import TextTokens

FIGURES = ("accuracy", "invalid", "distinct_3", "styles", "largest_style", "words")
"""Figures of a writer."""


@dataclass(frozen=True)
class Args:
    """Lets a model write self-edits after it has committed some."""

    commits: tuple[int, ...] = (0, 1, 2, 4, 8)
    """Numbers of committed self-edits."""
    seeds: int = 3
    """Orders of the committed self-edits, each with a seed of its own for adapters and samples."""
    problems: int = 24
    """Problems that are written about, of the split `test`."""
    options: PolicyOptions = field(default_factory=PolicyOptions)
    """Options of sampling."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(split="validation", stream="merge")
    )
    """The environment; `--stream` says how self-edits are committed, `--adapter` which policy's
    model it is."""
    out: Path = Path("runs/committed-writer")
    """Folder of the results and the table."""

    def check(self) -> None:
        """Looks the settings over.

        Raises:
            UserError: One cannot be used.
        """
        if min(self.commits, default=-1) < 0 or min(self.seeds, self.problems) < 1:
            raise UserError("--commits start at 0, --seeds and --problems at 1")


def run(args: Args, console: Console) -> dict[str, Any]:
    """Measures what is missing; returns the figures."""
    args.check()
    most = max(args.commits)
    episodes = Episodes(replace(args.env, horizon=max(2, most)), args.seeds)
    told = first_problems(episodes.task, args.env.split, most)
    asked = first_problems(episodes.task, "test", args.problems)
    into = RunFolder(args.out)
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in range(args.seeds):
        order = np.random.default_rng(seed).permutation(most).tolist() if seed else range(most)
        state: LearnerState | None = None
        history: Any = ()
        for done in range(most + 1):
            if done:
                problem = told[order[done - 1]]
                text = BiographyMenu().render(episodes.task.reads(problem), RULE)
                edit = episodes.language.parse(text, problem)
                request = Request(problem, edit, stable_hash(seed, done), state, history=history)
                (result,) = episodes.loop.run([request])
                state, history = result.state, result.history
            if done not in args.commits:
                continue
            name = f"{done}-{seed}.json"
            row = into.read_json(name) or measured(args, episodes, asked, state, seed)
            into.write_json(name, row)
            console.print(f"{done} commits, order {seed}: {row['accuracy']:.3f}", markup=False)
            for figure in FIGURES:
                rows.setdefault(str(done), {}).setdefault(figure, []).append(row.get(figure, 0.0))
    table = summarize(rows)
    into.write_json("table.json", table)
    into.write_bytes("table.md", markdown(table).encode())
    return table


def measured(
    args: Args,
    episodes: Episodes,
    problems: Sequence[Problem],
    state: LearnerState | None,
    seed: int,
) -> dict[str, float]:
    """Figures of what a model in some state writes, carried out on the model without it."""
    loop, options = episodes.loop, args.options
    prompt = options.prompt or default_prompt(episodes.task, episodes.language)
    tokens = TextTokens(loop.learner, prompt, options.max_new_tokens)
    written = write_texts(
        loop.learner,
        [tokens.prompt(episodes.task.reads(problem)) for problem in problems],
        Sampling(options.max_new_tokens, options.temperature),
        [stable_hash("committed writer", seed, i) for i in range(len(problems))],
        options.generation_batch_size,
        loop.bank_of([state]),
    )
    texts = [one.text for one in written]
    pairs = list(zip(problems, texts, strict=True))
    edits = [(problem, episodes.language.parse(text, problem)) for problem, text in pairs]
    results = loop.run([Request(problem, edit, seed) for problem, edit in edits])
    styles = [episodes.task.style(text) for text in texts]
    records = [{"text": t, "style": s} for t, s in zip(texts, styles, strict=True)]
    return diversity(records) | {
        "accuracy": fmean(result.after.accuracy for result in results),
        "invalid": fmean(result.error is not None for result in results),
        "words": fmean(len(text.split()) for text in texts),
    }


def summarize(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Means over orders, and the accuracy's interval."""
    table: dict[str, Any] = {}
    for done, row in rows.items():
        accuracy = bootstrap_mean(row["accuracy"])
        means = {name: fmean(values) for name, values in row.items()}
        table[done] = means | {"ci": [accuracy.low, accuracy.high]}
    return table


def markdown(table: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as Markdown."""
    head = ["commits", "accuracy of what it writes [95%]", "invalid", "distinct 3-grams"]
    lines = [[*head, "styles", "largest style", "words"], ["---"] * 7]
    for done, row in table.items():
        low, high = row["ci"]
        cells = [done, f"{row['accuracy']:.3f} [{low:.3f}, {high:.3f}]"]
        cells += [f"{row[name]:.3f}" for name in ("invalid", "distinct_3")]
        cells += [f"{row[name]:.2f}" for name in ("styles", "largest_style")]
        lines.append([*cells, f"{row['words']:.0f}"])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _tell(args: Args, console: Console) -> int:
    console.print(markdown(run(args, console)), markup=False, highlight=False, soft_wrap=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "committed_writer", __doc__, _tell, argv)


if __name__ == "__main__":
    sys.exit(main())
