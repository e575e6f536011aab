"""Agents at equal budgets of inner-loop evaluations, measured on held-out problems.

    python -m benchmarks.agents --agents all
    python -m benchmarks.agents --agents ppo grpo --variants noise --table noise

Claim: the table "Agents at equal budgets" of the README. Hardware: 2 CPU cores, 47.5 minutes for
the first command; no GPU.

Every arm (an agent, or a variant of one) is trained once per seed by the code of `seal-env train`,
into its own folder under --out. The command can be stopped at any time and continues when it is
repeated; finished runs are not repeated. Table, figures and plot are updated after every run.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.agents_plot import plot
from benchmarks.agents_table import figures, markdown, print_table, read_runs
from benchmarks.arms import AGENTS, BASE, VARIANTS, Arm, arm
from benchmarks.command import command
from benchmarks.pool import Failed, in_processes
from seal_agents.run_folder import RunFolder
from seal_agents.runner.configs import EvaluateConfig, TrainConfig
from seal_agents.runner.train import evaluate, train
from seal_env.config import EnvConfig
from seal_env.errors import UserError


@dataclass(frozen=True)
class Args:
    """Compares agents at equal budgets of inner-loop evaluations."""

    agents: tuple[str, ...] = ("all",)
    """Arms: agents by name, with variants behind a plus as in grpo+noise; "all" is every agent."""
    variants: tuple[str, ...] = ()
    """Variants of each of the learning agents that are run beside them."""
    seeds: int = 5
    """Runs of each arm; they are numbered from 0."""
    budget: int = 400
    """Inner-loop evaluations that each run may spend on training."""
    test_problems: int = 50
    """Number of held-out problems, the same for all arms."""
    checks: int = 2
    """Times that an agent is evaluated on them before the end, the untrained one included."""
    learner: Literal["fixed", "follow"] = "fixed"
    """Whether self-edits are tried out on the base, or on what the policy has become."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(reward="accuracy + 0.3 * log_likelihood")
    )
    """The environment."""
    jobs: int = os.cpu_count() or 1
    """Runs side by side, each in a process with its share of the cores; 1 for this process."""
    table: str = "table"
    """Name of the table: NAME.md, NAME.json and, with its plot, NAME.png."""
    out: Path = Path("runs/agents")
    """Folder for the runs and the tables. Comparisons in one folder share the runs that they have
    in common."""

    def check(self) -> None:
        """Looks the numbers and names over.

        Raises:
            UserError: One cannot be used.
        """
        for name in ("seeds", "budget", "test_problems", "checks", "jobs"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1")
        if self.env.workers and self.jobs > 1:
            raise UserError(
                f"--workers with --jobs {self.jobs}: each of the runs side by side would have "
                f"workers of its own; give --jobs 1"
            )
        if not re.fullmatch(r"[\w-]+", self.table):
            raise UserError(f"--table {self.table}: letters, digits and hyphens only")
        for name in self.variants:
            if name not in VARIANTS:
                raise UserError(f"--variants {name}: unknown; known: {', '.join(VARIANTS)}")


@dataclass(frozen=True)
class Job:
    """One run of one arm."""

    arm: str
    """Its name."""
    seed: int
    """The run's seed."""
    config: TrainConfig | EvaluateConfig
    """What is run."""

    @property
    def lines(self) -> int:
        """Total number of self-edits that the run records."""
        config = self.config
        if isinstance(config, EvaluateConfig):
            return config.problems
        tried = config.rounds * config.problems * config.samples
        return tried + config.test_problems * (config.checks + 1)

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        assert self.config.out is not None
        return self.config.out


def chosen(args: Args) -> dict[str, Arm]:
    """The arms that were asked for, by name, and `base`, with which all are compared.

    Raises:
        UserError: An agent or a variant is unknown, or the two do not go together.
    """
    names = [BASE]
    for name in args.agents:
        names += AGENTS if name == "all" else [name]
    arms = {name: arm(name) for name in names}
    for name, one in list(arms.items()):
        for variant in args.variants if one.learns else ():
            arms[f"{name}+{variant}"] = arm(f"{name}+{variant}")
    return arms


def plan(args: Args, arms: dict[str, Arm]) -> list[Job]:
    """All runs, seed by seed, so that there is something of every arm early on."""
    jobs = []
    for seed in range(args.seeds):
        for name, one in arms.items():
            out = args.out / name.replace(":", ".") / f"seed-{seed}"
            config: TrainConfig | EvaluateConfig
            if one.learns:
                config = one.config(
                    args.env,
                    args.budget,
                    seed,
                    learner=args.learner,
                    test_problems=args.test_problems,
                    checks=args.checks,
                    out=out,
                )
            else:
                config = EvaluateConfig(
                    policies=(one.agent,),
                    env=replace(args.env, split="test"),
                    problems=args.test_problems,
                    fresh_test_seeds=True,
                    seed=seed,
                    out=out,
                )
            jobs.append(Job(name, seed, config))
    return jobs


def work(job: Job) -> None:
    """Does a run, or what is left of it, without a word."""
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere)
        if isinstance(job.config, TrainConfig):
            train(job.config, True, False, console)
        else:
            evaluate(job.config, True, False, console)


def _one_by_one(jobs: Sequence[Job]) -> Iterable[tuple[Job, Failed | None]]:
    for job in jobs:
        try:
            work(job)
            yield job, None
        except UserError as error:
            yield job, Failed(error)


def run(args: Args, console: Console) -> list[tuple[Job, Failed]]:
    """Does all runs and writes what came of them; returns those that failed."""
    args.check()
    arms = chosen(args)
    jobs = plan(args, arms)
    for job in jobs:
        RunFolder.check(job.folder, True, False)  # before an hour has gone by
    failures: list[tuple[Job, Failed]] = []
    began = time.monotonic()
    with _Bar(jobs, console):
        ended = _one_by_one(jobs) if args.jobs == 1 else in_processes(work, jobs, args.jobs)
        for done, (job, failed) in enumerate(ended, 1):
            if failed is not None:
                failures.append((job, failed))
            said = f"failed: {failed}" if failed is not None else "done"
            minutes = (time.monotonic() - began) / 60
            console.print(
                f"[{done}/{len(jobs)}] {job.arm}, seed {job.seed}: {said} ({minutes:.1f} min)",
                markup=False,
                highlight=False,
            )
            write(args, arms)
    return failures


def write(args: Args, arms: dict[str, Arm]) -> dict[str, Any] | None:
    """Writes the figures, the table and the plot of what is there so far, if there is anything."""
    learns = {name: one.learns for name, one in arms.items()}
    folders = {
        name: [args.out / name.replace(":", ".") / f"seed-{s}" for s in range(args.seeds)]
        for name in arms
    }
    runs = {name: read_runs(some) for name, some in folders.items()}
    if not any(runs.values()):
        return None
    found = figures(runs, learns, args.budget)
    into = RunFolder(args.out)
    into.write_json(f"{args.table}.json", found)
    into.write_bytes(f"{args.table}.md", markdown(found).encode())
    into.write_bytes(f"{args.table}.png", plot(found))
    return found


class _Bar:
    """Progress of all runs together, by the lines that they have written."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self.files = [job.folder / "episodes.jsonl" for job in jobs]
        self.progress = Progress(
            TextColumn("self-edits"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,} of {task.total:,}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("", total=sum(job.lines for job in jobs))
        self.ended = threading.Event()

    def __enter__(self) -> _Bar:
        if not self.progress.disable:
            self.progress.start()
            threading.Thread(target=self._count, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.progress.stop()

    def _count(self) -> None:
        while not self.ended.wait(2.0):
            done = sum(f.read_bytes().count(b"\n") for f in self.files if f.is_file())
            self.progress.update(self.task, completed=done)


def _tell(args: Args, console: Console) -> int:
    failures = run(args, console)
    found = write(args, chosen(args))
    if found is not None:
        print_table(found, console)
        console.print(f"wrote {args.out}/{args.table}.md, .json and .png", markup=False)
    for job, failed in failures:
        print(f"error: {job.arm}, seed {job.seed}: {failed}", file=sys.stderr)
    return 1 if failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where an agent of one's own lies
    return command(Args, "agents", __doc__, _tell, argv)


if __name__ == "__main__":
    sys.exit(main())
