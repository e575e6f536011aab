"""Streams: what is left of each self-edit after all of them, for each way of going on.

    python -m benchmarks.continual --steps 8 64 --json continual.json

Claim: the tables of docs/streams.md. Hardware: 2 CPU cores, no GPU; the lab log has the times.

For each way, streams of the same problems in several orders run side by side. After t self-edits
the earlier problems are asked again (a sample of them; at the end all), which makes the accuracy
matrix R of GEM (Lopez-Paz and Ranzato 2017, arXiv 1706.08840, section 3): R[t, j] is the
accuracy on problem j after t self-edits, b[j] that of the untouched learner. In the table

* right after: mean of R[j, j]; final: mean of R[T, j];
* BWT, backward transfer: mean over j < T of R[T, j] - R[j, j];
* FWT, forward transfer: mean over j > 1 of R[j-1, j] - b[j];
* old: questions about problems of the task's `known_split`, before the stream and after it;
* log-likelihood: of the gold answers, in nats per token: untouched, right after, and at the end.

Every step is a line in a file as soon as it is done. The command can be stopped at any moment; the
same command carries the known steps out again, checks that they come out the same to the bit, and
goes on.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.command import command
from benchmarks.continual_plot import plot
from benchmarks.continual_records import Records, slug
from seal_agents.base import AgentOptions
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import build
from seal_agents.runner.environment import base_of, make_environment
from seal_agents.runner.settings import read_part_pairs
from seal_env.config import EnvConfig, make_language
from seal_env.engine.banks import LearnerState
from seal_env.engine.memory import proc_field
from seal_env.engine.sampling import Completion
from seal_env.episodes import NO_OP, Episodes
from seal_env.errors import UserError
from seal_env.inner_loop import Request
from seal_env.menus.base import load_menu
from seal_env.menus.biographies import BiographyMenu
from seal_env.score import Score
from seal_env.streams import load_part, parse_stream, stream_names
from seal_env.tasks.base import Problem, problem_at

RULE = (3, 2, 1)
"""Combination of the menu `biographies` without a policy: questions, all facts, two wordings."""
FLOAT = 4
"""Bytes of a number."""


@dataclass(frozen=True)
class Args:
    """Compares the ways in which a learner goes on from self-edit to self-edit."""

    steps: tuple[int, ...] = (8,)
    """Lengths of streams."""
    seeds: int = 5
    """Orders of the problems, each with a seed of its own for adapters and data order."""
    ways: tuple[str, ...] = ("continue", "merge", "replay", "joint", "route", "continue + gate")
    """Streams, see docs/streams.md."""
    stream_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[PART.KEY=VALUE ...]")] = ()
    """Options of the streams' parts, such as gate.epsilon=0.05; each way takes those of its own."""
    known: int = 32
    """Problems of the task's `known_split`, which measure old knowledge."""
    policy: str | None = None
    """Who writes the self-edits: a policy of `seal-env evaluate`; None for two question-answer
    pairs per fact, by rule (task `biographies`)."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(split="validation", probe=16)
    )
    """The environment; `--probe` earlier problems are asked about at a step, all at the end."""
    out: Path = Path("runs/continual")
    """Folder for the records, the tables and the pictures."""
    json: Path | None = None
    """File for the figures; None for `table.json` in `out`."""

    def check(self) -> None:
        """Looks the settings over.

        Raises:
            UserError: One cannot be used.
        """
        if min((*self.steps, self.seeds, self.known), default=0) < 1:
            raise UserError("--steps, --seeds and --known start at 1")
        for way in self.ways:
            parse_stream(way, self.options(way))  # an unknown one is told before anything is done
        unused = set(self.env.stream_options).difference(*map(stream_names, self.ways))
        if unused:
            raise UserError(f"--stream-options: no way of --ways has {', '.join(sorted(unused))}")

    def options(self, way: str) -> dict[str, Mapping[str, Any]]:
        """Those of the stream options that one way takes."""
        names = stream_names(way)
        return {name: v for name, v in self.env.stream_options.items() if name in names}


def orders(problems: Sequence[Problem], seeds: int) -> list[list[Problem]]:
    """The same problems in an order for each seed; the first order is their own."""
    permuted = [np.random.default_rng(seed).permutation(len(problems)) for seed in range(seeds)]
    permuted[0] = np.arange(len(problems))
    return [[problems[i] for i in order] for order in permuted]


def run(args: Args, console: Console) -> dict[str, Any]:
    """Plays all streams, writes what came of it, and returns the figures."""
    args.check()
    found: dict[str, Any] = {}
    into = RunFolder(args.out)
    for count in args.steps:
        rows: dict[str, Any] = {}
        matrices: dict[str, np.ndarray] = {}
        for way in args.ways:
            records = Records(args.out / f"{count}-{slug(way)}.jsonl", _settings(args, count, way))
            play(args, count, way, records, console)
            rows[way], matrices[way] = figures(records, count)
        found[str(count)] = rows
        into.write_bytes(f"matrix-{count}.png", plot(matrices, count))
    into.write_json("table.json", found)
    into.write_bytes("table.md", markdown(found).encode())
    if args.json is not None:
        RunFolder(args.json.parent).write_json(args.json.name, found)
    return found


def _settings(args: Args, count: int, way: str) -> dict[str, Any]:
    settings = {"steps": count, "way": way, "seeds": args.seeds}
    described = settings | {"known": args.known, "policy": args.policy, "env": asdict(args.env)}
    settled: dict[str, Any] = json.loads(json.dumps(described))
    return settled


def play(args: Args, count: int, way: str, records: Records, console: Console) -> None:
    """Plays one way's streams, all orders side by side, and writes down every step."""
    if records.complete:
        return
    options = args.options(way)
    env = replace(args.env, horizon=count, stream=way, stream_options=options)
    envs = make_environment(env, args.seeds)
    episodes = base_of(envs).episodes
    streams = orders(_problems(episodes, env.split, count), args.seeds)
    seeds: Any = list(range(args.seeds))
    observations, _ = envs.reset(seed=seeds, options={"problems": streams})
    task = episodes.task
    known = _problems(episodes, task.known_split, args.known)
    untouched = [episodes.loop.baselines(stream) for stream in streams]
    scores = [[score.accuracy for score in some] for some in untouched]
    likely = [fmean(score.log_likelihood for score in some) for some in untouched]
    old = [s.accuracy for s in episodes.loop.baselines(known)]
    ids = [[problem.id for problem in stream] for stream in streams]
    records.add({"untouched": scores, "likely": likely, "old": fmean(old), "order": ids})
    write = _writer(args, env, episodes)
    started = time.monotonic()
    for step in range(count):
        texts = write(observations, step)
        used = time.process_time()
        observations, _, _, _, infos = envs.step(texts)
        states = [episode.state for episode in episodes.running if episode is not None]
        timed = {"cpu": time.process_time() - used, "bytes": _bytes(states)}
        timed["rss"] = proc_field(Path("/proc/self/status"), "VmRSS:") or 0
        told = {name: infos[name].tolist() for name in _TOLD}
        stream = infos["stream"]
        told |= {name: [list(x) for x in stream[name]] for name in ("earlier", "accuracy")} | {
            "own": told.pop("accuracy"),
            "rolled_back": stream["rolled_back"].tolist(),
            "norm": [0.0 if state is None else state.norm() for state in states],
        }
        records.add(told, timed)
        left = (time.monotonic() - started) / (step + 1) * (count - step - 1)
        console.print(
            f"{way}, step {step + 1} of {count}: right after {fmean(told['own']):.3f}, earlier "
            f"{_mean([a for x in told['accuracy'] for a in x]):.3f}, {left:.0f} s left",
            markup=False,
        )
    after = [fmean(s.accuracy for s in _asked(episodes, known, state)) for state in states]
    likely = [
        fmean(score.log_likelihood for score in _asked(episodes, stream, state))
        for stream, state in zip(streams, states, strict=True)
    ]
    records.add({"old": after, "likely": likely})
    records.finish()


_TOLD = (
    "accuracy",
    "accuracy_before",
    "log_likelihood",
    "log_likelihood_before",
    "error",
    "tokens",
)
"""Entries of an info that are written down."""


def _problems(episodes: Episodes, split: str, count: int) -> list[Problem]:
    size = episodes.task.size(split)
    if size is not None and size < count:
        raise UserError(f"split {split!r} has {size} problems; a stream of {count} needs so many")
    return [problem_at(episodes.task, split, i) for i in range(count)]


def _writer(args: Args, env: EnvConfig, episodes: Episodes) -> Any:
    """Function that writes the self-edits of a step."""
    if args.policy is not None:
        named = build(args.policy, env, 0, lambda *_: None, AgentOptions()).agent

        def by_policy(observations: Mapping[str, Any], step: int) -> list[str | None]:
            one_by_one = [{"context": context} for context in observations["context"]]
            written = named.act(one_by_one, [step] * len(one_by_one))
            return [text.text if isinstance(text, Completion) else text for text in written]

        return by_policy
    menu = load_menu(None, episodes.task, make_language(env), (env.edit, env.task))
    if not isinstance(menu, BiographyMenu):
        raise UserError(f"--task {env.task}: say who writes self-edits, as in --policy passage")
    return lambda observations, _: [menu.render(c, RULE) for c in observations["context"]]


def _asked(
    episodes: Episodes, problems: Sequence[Problem], state: LearnerState | None
) -> list[Score]:
    """Scores of a learner on problems."""
    request = Request(problems[0], NO_OP, 0, state, tuple(problems[1:]))
    (found,) = episodes.loop.no_op([request])
    return [found.after, *(after for _, after in found.earlier)]


def _bytes(states: Sequence[LearnerState | None]) -> float:
    """Mean size of a learner beyond the base."""
    return fmean(0 if state is None else FLOAT * state.size for state in states)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else float("nan")


def figures(records: Records, count: int) -> tuple[dict[str, Any], np.ndarray]:
    """Figures of one way, and its accuracy matrix: means over the orders, NaN where none asked."""
    head, *steps, tail = records.lines
    seeds = len(head["untouched"])
    matrix = np.full((seeds, count, count), np.nan)
    for t, told in enumerate(steps):
        for s in range(seeds):
            matrix[s, t, t] = told["own"][s]
            matrix[s, t, told["earlier"][s]] = told["accuracy"][s]
    own = np.array([np.diagonal(m) for m in matrix])
    final, untouched = matrix[:, -1], np.array(head["untouched"])
    before = np.array([told["accuracy_before"] for told in steps]).T
    ids = sorted({name for order in head["order"] for name in order})
    by_problem: dict[str, list[float]] = {name: [] for name in ids}
    for s, order in enumerate(head["order"]):
        for j, name in enumerate(order):
            by_problem[name].append(float(final[s, j]))
    interval = bootstrap_mean([fmean(values) for values in by_problem.values()])
    timed = records.timed
    early, late = timed[: max(1, count // 8)], timed[-max(1, count // 8) :]
    numbers = {
        "untouched": untouched.mean(),
        "right_after": own.mean(),
        "final": final.mean(),
        "ci_final": [interval.low, interval.high],
        "kept": final.mean() / own.mean(),
        "final_by_seed": final.mean(axis=1).tolist(),
        "bwt": (final - own)[:, :-1].mean() if count > 1 else 0.0,
        "fwt": (before - untouched)[:, 1:].mean() if count > 1 else 0.0,
        "old_before": head["old"],
        "old_after": fmean(tail["old"]),
        "rolled_back": fmean(bool(x) for told in steps for x in told["rolled_back"]),
        "errors": fmean(bool(x) for told in steps for x in told["error"]),
        "log_likelihood": [
            fmean(head["likely"]),
            fmean(x for told in steps for x in told["log_likelihood"]),
            fmean(tail["likely"]),
        ],
        "cpu_per_step": [fmean(x["cpu"] for x in part) for part in (early, late)],
        "bytes": [timed[0]["bytes"], timed[-1]["bytes"]],
        "rss": [timed[min(7, count - 1)]["rss"], timed[-1]["rss"]],
    }
    rounded = json.loads(json.dumps(numbers), parse_float=lambda x: round(float(x), 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # entries that no order asked
        return rounded, np.nanmean(matrix, axis=0)


HEADINGS = (
    "stream", "untouched", "right after", "final [95%]", "kept", "BWT", "FWT", "old",
    "log-likelihood", "MB",
)  # fmt: skip


def lines(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The table for one length, row by row; see `HEADINGS`."""
    return [
        (
            way,
            f"{row['untouched']:.3f}",
            f"{row['right_after']:.3f}",
            "{:.3f} [{:.3f}, {:.3f}]".format(row["final"], *row["ci_final"]),
            f"{row['kept']:.2f}",
            f"{row['bwt']:+.3f}",
            f"{row['fwt']:+.3f}",
            f"{row['old_before']:.3f} → {row['old_after']:.3f}",
            ", ".join(f"{value:.2f}" for value in row["log_likelihood"]),
            f"{row['bytes'][-1] / 1e6:.1f}",
        )
        for way, row in rows.items()
    ]


def markdown(found: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    parts = []
    for count, rows in found.items():
        table = [f"| {' | '.join(row)} |" for row in (HEADINGS, *lines(rows))]
        table.insert(1, "|" + "---|" * len(HEADINGS))
        parts.append("\n".join([f"T = {count}", "", *table]))
    return "\n\n".join(parts) + "\n"


def _tell(args: Args, console: Console) -> int:
    options = read_part_pairs("--stream-options", args.stream_options, load_part)
    args = replace(args, env=replace(args.env, stream_options=options))
    for count, rows in run(args, console).items():
        table = Table(*HEADINGS, title=f"T = {count}")
        for line in lines(rows):
            table.add_row(*line)
        console.print(table)
    console.print(f"wrote {args.out}/table.md, table.json and the matrices", markup=False)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "continual", __doc__, _tell, argv)


if __name__ == "__main__":
    sys.exit(main())
