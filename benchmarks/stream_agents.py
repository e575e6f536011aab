"""Streams: an agent trained on a stream's reward against one trained on single problems.

    python -m benchmarks.stream_agents --seeds 5 --json stream_agents.json

Claim: the table of docs/streams.md. Hardware: 2 CPU cores, no GPU; the lab log has the times.

Both agents have the same settings, seed, problems and number of inner loops, and differ in the
horizon of their training alone: in a stream they are paid for what earlier problems lose, too
(`accuracy + retention`). Both see the context alone: what a stream's observation adds has no
counterpart in single problems. Both write for the same streams of the test split afterwards; in the
table, final is the mean accuracy on all problems of a stream after its last step.

Runs are in a folder per seed and agent; a stopped benchmark goes on from there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import tyro
from rich.console import Console

from benchmarks.command import command
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.run_folder import Record, RunFolder
from seal_agents.runner.build import agent_class
from seal_agents.runner.configs import EvaluateConfig, TrainConfig
from seal_agents.runner.train import evaluate, train
from seal_env.config import EnvConfig
from seal_env.errors import UserError

ARMS = ("single", "stream")
"""Names of the agents: trained on single problems, and in streams."""
BASELINES = ("none", "passage")
"""Policies without training that write for the same streams, in the first comparison."""
MEASURED = ("final", "right_after", "words")
"""Figures of a policy."""


@dataclass(frozen=True)
class Args:
    """Compares agents that were trained with and without a stream's reward."""

    agent: str = "ppo-choices"
    """The agent."""
    seeds: int = 5
    """Number of runs of each agent."""
    rounds: int = 6
    """Rounds of training."""
    problems: int = 8
    """Problems per round."""
    samples: int = 8
    """Self-edits per problem; in a stream, episodes per sequence of problems."""
    test_problems: int = 40
    """Problems of the comparison, in streams of `--horizon`."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(horizon=8, probe=2)
    )
    """The environment; `--horizon` is the length of a stream, `--stream` how learners go on, and
    `--probe` earlier problems are asked at a step, all at the last one."""
    out: Path = Path("runs/stream-agents")
    """Folder of the runs and the table."""
    json: Path | None = None
    """File for the figures; None for `table.json` in `out`."""

    def check(self) -> None:
        """Looks the settings over.

        Raises:
            UserError: One cannot be used.
        """
        if self.env.horizon < 2 or self.seeds < 1:
            raise UserError("--horizon starts at 2, --seeds at 1")
        if min(self.problems, self.test_problems) < self.env.horizon:
            raise UserError("--problems and --test-problems: at least one stream of --horizon")


def run(args: Args, console: Console) -> dict[str, Any]:
    """Trains and compares the agents, as far as that is not done; returns the figures."""
    args.check()
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(args.seeds):
        folders = {arm: args.out / f"{arm}-{seed}" for arm in ARMS}
        for arm, folder in folders.items():
            train(_training(args, arm, seed, folder), True, False, console)
        compared = args.out / f"compared-{seed}"
        baselines = () if seed else BASELINES
        policies = (*baselines, *(str(folder) for folder in folders.values()))
        env = replace(args.env, split="test")
        config = EvaluateConfig(
            policies=policies, env=env, problems=args.test_problems, seed=seed, out=compared
        )
        evaluate(config, True, False, console)
        groups: dict[str, list[Record]] = {}
        for record in RunFolder.existing(compared).every_record():
            groups.setdefault(record["policy"], []).append(record)
        names = {str(folder): arm for arm, folder in folders.items()}
        for policy, records in groups.items():
            row = found.setdefault(names.get(policy, policy), {name: [] for name in MEASURED})
            for name, value in figures(records).items():
                row[name].append(value)
    table = summarize(found)
    into = RunFolder(args.out)
    into.write_json("table.json", table)
    into.write_bytes("table.md", markdown(table).encode())
    if args.json is not None:
        RunFolder(args.json.parent).write_json(args.json.name, table)
    return table


def _training(args: Args, arm: str, seed: int, folder: Path) -> TrainConfig:
    horizon = args.env.horizon
    options: Any = agent_class(args.agent).Options()
    return TrainConfig(
        env=args.env if arm == "stream" else replace(args.env, horizon=1),
        agent=args.agent,
        options=replace(options, read_state=False) if hasattr(options, "read_state") else options,
        rounds=args.rounds,
        problems=args.problems,
        samples=args.samples,
        test_problems=horizon,
        references=(),
        seed=seed,
        out=folder,
    )


def figures(records: Sequence[Record]) -> dict[str, float]:
    """Means of one policy over the steps of its streams."""
    last = max(r["step"] for r in records)
    ends = [[r["accuracy"], *r["stream"]["accuracy"]] for r in records if r["step"] == last]
    return {
        "final": fmean(accuracy for end in ends for accuracy in end),
        "right_after": fmean(r["accuracy"] for r in records),
        "words": fmean(len((r["text"] or "").split()) for r in records),
    }


def summarize(found: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Rows with means over seeds, and the difference of the agents, paired by seed."""
    rows: dict[str, Any] = {}
    for policy, row in found.items():
        final = bootstrap_mean(row["final"])
        means = {name: fmean(values) for name, values in row.items()}
        rows[policy] = means | {"ci_final": [final.low, final.high], "by_seed": list(row["final"])}
    pairs = zip(found["stream"]["final"], found["single"]["final"], strict=True)
    gap = bootstrap_mean([stream - single for stream, single in pairs])
    return {"rows": rows, "difference": {"mean": gap.mean, "ci": [gap.low, gap.high]}}


def markdown(table: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| policy | final [95%] | right after | words |", "|---|---|---|---|"]
    for policy, row in table["rows"].items():
        low, high = row["ci_final"]
        final = f"{row['final']:.3f} [{low:.3f}, {high:.3f}]"
        lines.append(f"| {policy} | {final} | {row['right_after']:.3f} | {row['words']:.0f} |")
    gap = table["difference"]
    low, high = gap["ci"]
    said = f"stream less single, final: {gap['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
    return "\n".join([*lines, "", said]) + "\n"


def _tell(args: Args, console: Console) -> int:
    console.print(markdown(run(args, console)), markup=False, highlight=False)
    console.print(f"wrote {args.out}/table.md, table.json", markup=False)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "stream_agents", __doc__, _tell, argv)


if __name__ == "__main__":
    sys.exit(main())
