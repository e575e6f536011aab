"""Reliability of one inner loop: the fraction of variance due to the self-edit, not to the seed.

    python -m benchmarks.reliability --run runs/main

Claim: 0.88 for the embedded world, against 0.13 for SEAL's published results per seed (README).
Hardware: 2 CPU cores; no GPU.

The self-edits of a run's first round are carried out under several adapter seeds and data orders.
The result is the intraclass correlation of a single result within problems, ICC(1,1) of Shrout &
Fleiss (1979): 1 if all seeds give one result per self-edit, 0 if the seed decides.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console

from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import trained_with
from seal_agents.runner.rounds import round_problems
from seal_env.episodes import Episodes
from seal_env.errors import UserError


@dataclass(frozen=True)
class Args:
    """Measures how reliable a single inner loop is."""

    run: Path
    """A folder that `seal-env train` wrote."""
    seeds: int = 4
    """Number of inner loops per self-edit, each with another adapter seed and data order."""
    edits: int = 200
    """Most self-edits."""

    def check(self) -> None:
        """Looks the numbers over.

        Raises:
            UserError: One cannot be used.
        """
        if self.seeds < 2 or self.edits < 2:
            raise UserError("--seeds and --edits start at 2")


def measure(args: Args, console: Console) -> dict[str, float]:
    """Carries the self-edits out; returns the correlations of both reward terms."""
    args.check()
    run = RunFolder.existing(args.run)
    config = trained_with(run)
    found_in = run.records("train", config.agent, 1).values()
    records = [record for record in found_in if not record["error"]]
    records = records[: args.edits]
    names = np.array([record["problem"] for record in records])
    if len(names) - len(set(names)) < 1:
        raise UserError(f"--run {args.run}: has no problem with several valid self-edits")
    episodes = Episodes(config.env, len(records))
    of_round = round_problems(episodes.task, config, 1)
    problems = {problem.id: problem for problem in of_round}
    found: dict[str, list[list[float]]] = {"accuracy": [], "log_likelihood": []}
    for seed in range(args.seeds):
        with console.status(f"inner loops, seed {seed + 1} of {args.seeds}"):
            for slot, record in enumerate(records):
                of_its_own = seed * len(records) + slot
                episodes.begin(slot, (problems[record["problem"]],), of_its_own)
            steps = episodes.step([record["text"] for record in records])
        for term, rows in found.items():
            rows.append([float(step.info[term]) for step in steps])
    return {term: reliability(np.array(rows), names) for term, rows in found.items()}


def reliability(results: np.ndarray, groups: np.ndarray) -> float:
    """ICC(1,1) of results, with the means of groups taken out.

    Args:
        results: Shape (repetitions, items).
        groups: The group of each item.
    """
    x = results.T.astype(float)
    for group in set(groups.tolist()):
        x[groups == group] -= x[groups == group].mean()
    items, times = x.shape
    between = times * (x.mean(axis=1) ** 2).sum() / (items - len(set(groups.tolist())))
    within = ((x - x.mean(axis=1, keepdims=True)) ** 2).sum() / (items * (times - 1))
    total = between + (times - 1) * within
    return float((between - within) / total) if total else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    console = Console()
    try:
        args = tyro.cli(Args, args=argv, prog="python -m benchmarks.reliability")
        found = measure(args, console)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for term, value in found.items():
        console.print(f"{term}: reliability of one inner loop {value:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
