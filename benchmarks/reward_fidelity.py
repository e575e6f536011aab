"""How much of a reward is the self-edit: reliability of terms and of their sums.

    python -m benchmarks.reward_fidelity --json fidelity.json
    python -m benchmarks.reward_fidelity --data FILE --model M --dtype bfloat16 --json fidelity.json

Claim: the table of rewards in docs/rewards.md. Hardware: 2 CPU cores; no GPU.

Every self-edit is carried out under several adapter seeds, and all terms are taken of each inner
loop. For each reward: the reliability of one and of several inner loops (ICC), ties among the best,
what the best self-edit of a problem is worth on seeds and on questions that it was not chosen on,
and the rank correlation with the labelled accuracy. Without `--data` the task is `biographies` and
the self-edits are samples of the untrained policy; with it `squad`, and the self-edits are those of
the file. Of self-edits with a published accuracy per seed the same figures are computed. The
command can be stopped at any time and continues when it is repeated.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks import fidelity_stats as stats
from benchmarks.command import command
from benchmarks.fidelity_plot import plot
from benchmarks.fidelity_records import AGAIN, MAIN, Job, Records, measure, self_edits
from seal_agents.run_folder import finite_or_none
from seal_env.config import EnvConfig
from seal_env.errors import UserError
from seal_env.presets import model_preset
from seal_env.rewards import REWARDS, parse_reward

TERMS = (
    "accuracy", "log_likelihood", "exact_match", "f1", "bleu", "chrf", "cloze", "self_questions",
)  # fmt: skip
"""Terms that are measured where they are registered: those that rise with what was learned. Not
`vote`, which sees all questions and so cannot be chosen by half of them."""
SEAL = "accuracy"
"""SEAL's reward (arXiv 2506.10943, section 3.1); its seeds are random."""
DENSE = "accuracy + 0.3 * log_likelihood"
"""Reward of `benchmarks.agents`."""
SUMS = (DENSE, "accuracy + log_likelihood", "f1 + log_likelihood")
"""Sums whose figures are computed beside those of the terms."""
RUNS = (1, 2)
"""Inner loops per self-edit whose mean is the reward."""
QUESTION_COUNTS = (1, 2, 3, 4, 5, 7, 14)
"""Numbers of questions for which the reliability is computed."""


@dataclass(frozen=True)
class Args:
    """Measures the reliability of rewards."""

    model: str = "tiny"
    """Learner, as of `seal-env train`."""
    dtype: str = "auto"
    """Precision of the frozen weights."""
    data: str | None = None
    """File of passages with self-edits, for the task squad; None for the task biographies."""
    passages: int = 50
    """Problems."""
    edits: int = 5
    """Self-edits per problem."""
    seeds: int = 3
    """Adapter seeds; 3 or more."""
    again: int = 20
    """Inner loops that are repeated in another process, in another order and batch."""
    terms: tuple[str, ...] | None = None
    """Terms; None for all that make sense."""
    rewards: tuple[str, ...] = SUMS
    """Sums of them whose figures are computed, too."""
    default: str | None = None
    """Reward that stands for the task in the file; None for the dense sum on biographies and for
    the preset of the model on squad."""
    num_envs: int = 64
    """Inner loops side by side."""
    records: Path = Path("runs/reward_fidelity")
    """Folder of the inner loops' results."""
    json: Path | None = None
    """File that gets the figures; those of other tasks and models in it are left as they are."""
    plot: Path | None = None
    """Picture that gets the reliabilities."""
    only_statistics: bool = False
    """Whether only what is recorded is evaluated, and no inner loop is run."""

    def check(self) -> None:
        """Checks the numbers.

        Raises:
            UserError: One cannot be used.
        """
        least = {"passages": 1, "edits": 2, "seeds": 3, "again": 0, "num_envs": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UserError(f"--{name.replace('_', '-')} must be at least {value}")

    @property
    def env(self) -> EnvConfig:
        """The environment."""
        task = "biographies" if self.data is None else "squad"
        split = "train" if self.data is None else "all"
        return EnvConfig(task, self.model, split=split, data=self.data, dtype=self.dtype)


class Measured:
    """Measurements of complete problems: every self-edit under every seed.

    Args:
        problems: Lines of the file: per problem, per self-edit, per seed.
    """

    def __init__(self, problems: Sequence[Sequence[Sequence[Mapping[str, Any]]]]) -> None:
        self.problems = problems

    def values(self, reward: str, number: int, questions: Sequence[int] | None) -> np.ndarray:
        """Values of a reward of a problem's self-edits, shape (E, S).

        Args:
            reward: Sum of terms.
            number: Index of the problem.
            questions: Questions that count, for the terms that are means over them; None for all.
        """
        total = np.zeros((len(self.problems[number]), len(self.problems[number][0])))
        for name, weight, _ in parse_reward(reward).terms:
            one = self.questions(name, number)
            if questions is None or one is None:
                term = [[line["terms"][name] for line in edit] for edit in self.problems[number]]
                total += weight * np.array(term)
            else:
                total += weight * one[:, :, list(questions)].mean(axis=2)
        return total

    def questions(self, term: str, number: int) -> np.ndarray | None:
        """Values of a term per question, shape (E, S, Q); None if it is no mean over questions."""
        lines = self.problems[number]
        if any(term not in line["questions"] for edit in lines for line in edit):
            return None
        return np.array([[line["questions"][term] for line in edit] for edit in lines])


def complete(
    records: Records, edits: Mapping[Any, Sequence[str]], seeds: int, terms: Sequence[str]
) -> Measured:
    """Problems of which at least two valid self-edits were carried out under every seed."""
    problems = []
    for problem, texts in edits.items():
        rows = []
        for text in texts:
            found = [records.known.get(Job(problem, text, s).key) for s in range(seeds)]
            lines = [one for one in found if one and not one["error"]]
            if len(lines) == seeds and all(set(terms) <= set(one["terms"]) for one in lines):
                rows.append(lines)
        if len(rows) > 1:
            problems.append(rows)
    if not problems:
        raise UserError("no problem has two valid self-edits that were carried out under all seeds")
    return Measured(problems)


def reliability(groups: Sequence[np.ndarray]) -> dict[str, Any]:
    """How far a reward is the self-edit's and not the seed's, and its ties.

    Args:
        groups: Values per problem, shape (E, S) each.
    """
    one = stats.icc_interval(groups)
    common = stats.icc_interval(groups, common_seeds=True)
    halves = stats.seed_halves(groups)
    return {
        "icc_over_seeds": one.value,
        "icc_interval": [one.low, one.high],
        "icc_common_seeds": common.value,
        "icc_common_seeds_interval": [common.low, common.high],
        "icc_of_mean": {str(m): stats.spearman_brown(one.value, m) for m in (2, 3)},
        "halves_correlation": halves[0],
        "halves_predicted": halves[1],
        "ties": stats.ties(groups),
    }


def figures(measured: Measured, reward: str) -> dict[str, Any]:
    """Figures of one reward."""
    numbers = range(len(measured.problems))
    groups = [measured.values(reward, i, None) for i in numbers]
    right = [measured.questions("accuracy", i) for i in numbers]
    accuracies = [x for x in right if x is not None]
    found: dict[str, Any] = {**reliability(groups), "runs": {}}
    for runs in RUNS:
        gains = stats.best_of(lambda i, q: measured.values(reward, i, q), accuracies, runs)
        agree = stats.agreement(groups, [x.mean(axis=2) for x in accuracies], runs)
        found["runs"][str(runs)] = {"best": gains._asdict(), **agree._asdict()}
    return found


def by_questions(measured: Measured, term: str) -> dict[str, float]:
    """Reliability of one inner loop by the number of questions."""
    values = [measured.questions(term, i) for i in range(len(measured.problems))]
    groups = [x for x in values if x is not None]
    most = max((x.shape[2] for x in groups), default=0)
    counts = [count for count in QUESTION_COUNTS if count <= most]
    return {str(count): stats.fewer_questions(groups, count) for count in counts}


def over_processes(
    records: Records, measured: Measured, again: Sequence[Job], reward: str
) -> float:
    """ICC of the inner loops that were repeated in another process, order and batch."""
    parsed = parse_reward(reward).terms
    groups: dict[str, list[list[float]]] = {}
    for job in again:
        pair = [records.known.get(job._replace(kind=kind).key) for kind in (MAIN, AGAIN)]
        lines = [one for one in pair if one and not one["error"]]
        if len(lines) == 2:
            values = [sum(w * one["terms"][n] for n, w, _ in parsed) for one in lines]
            groups.setdefault(job.problem.id, []).append(values)
    some = [np.array(rows) for rows in groups.values() if len(rows) > 1]
    return stats.icc(some) if some else math.nan


def published(path: str) -> dict[str, Any] | None:
    """The same figures of accuracies per seed that came with the data; None if none did.

    They are of whole problems, so nothing is known of their questions.
    """
    try:
        passages = json.loads(Path(path).read_text("utf-8"))
        groups = [
            np.array([one["accuracy_by_seed"] for one in passage["completions"]])
            for passage in passages
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    means = [x.mean(axis=1, keepdims=True) for x in groups]
    found: dict[str, Any] = {
        **reliability(groups),
        "ties_of_mean": stats.ties(means),
        "runs": {},
    }
    for runs in RUNS:
        gains = stats.best_of(lambda i, q: groups[i], [x[:, :, None] for x in groups], runs)
        agree = stats.agreement(groups, groups, runs)
        found["runs"][str(runs)] = {"best": gains._asdict(), **agree._asdict()}
    return {
        "reward": SEAL,
        "icc_over_seeds": found["icc_over_seeds"],
        "ties": found["ties"],
        "problems": len(groups),
        "seeds": groups[0].shape[1],
        "rewards": {SEAL: found},
    }


def run(args: Args, console: Console) -> dict[str, Any]:
    """Measures, evaluates and writes; returns the figures of the task."""
    args.check()
    env = args.env
    terms = [t for t in TERMS if t in REWARDS] if args.terms is None else list(args.terms)
    default = args.default or (DENSE if args.data is None else model_preset(args.model).reward)
    for reward in (default, *args.rewards):
        if unknown := set(parse_reward(reward).names) - set(terms):
            raise UserError(f"reward {reward!r}: --terms has no {sorted(unknown)[0]!r}; add it")
    edits = self_edits(env, args.passages, args.edits)
    jobs = [Job(p, t, s) for p, texts in edits.items() for s in range(args.seeds) for t in texts]
    again = [job._replace(kind=AGAIN) for job in jobs if job.seed == 0][: args.again]
    name = f"{env.task}-{Path(args.model).stem}-{args.dtype}.jsonl"
    settings = {"task": env.task, "model": Path(args.model).name, "dtype": args.dtype}
    records = Records(args.records / name, settings)
    if not args.only_statistics:
        missing = len(records.missing([*jobs, *again], terms))
        if missing:
            console.print(f"{missing} inner loops, into {records.path}", markup=False)
        measure(env, terms, [*jobs, *again], records, args.num_envs, _teller(console))
    measured = complete(records, edits, args.seeds, terms)
    rewards = {r: figures(measured, r) for r in dict.fromkeys([*terms, *args.rewards, default])}
    chosen = rewards[default]
    seconds = [line["seconds"] for line in records.known.values() if line["kind"] == MAIN]
    found = {
        "reward": default,
        "icc": over_processes(records, measured, again, default),
        "icc_over_seeds": chosen["icc_over_seeds"],
        "ties": chosen["ties"],
        "problems": len(measured.problems),
        "edits": sum(len(rows) for rows in measured.problems),
        "seeds": args.seeds,
        "seconds_per_inner_loop": float(np.median(seconds)),
        "rewards": rewards,
        "questions": {t: by_questions(measured, t) for t in (SEAL, "log_likelihood")},
    }
    _show(found, f"{env.task}, {Path(args.model).name}", console)
    known = {} if args.data is None else {"published (Qwen2.5-7B)": published(args.data)}
    for title, one in known.items():
        if one:
            _show(one, title, console)
    if args.plot:
        args.plot.write_bytes(plot(found, {k: v for k, v in known.items() if v}))
    if args.json:
        _write(args, found, known)
    return found


def _write(args: Args, found: dict[str, Any], known: Mapping[str, Any]) -> None:
    assert args.json is not None
    whole = json.loads(args.json.read_text("utf-8")) if args.json.exists() else {}
    if args.data is None:
        key = "default" if args.model == "tiny" else Path(args.model).name
        whole.setdefault("biographies", {})[key] = found
    else:
        own = {Path(args.model).name: found, **{k: v for k, v in known.items() if v}}
        whole.setdefault("squad", {}).update(own)
    args.json.write_text(json.dumps(finite_or_none(whole), indent=1), "utf-8")


def _teller(console: Console) -> Any:
    begun = time.monotonic()

    def tell(done: int, total: int) -> None:
        left = (time.monotonic() - begun) / done * (total - done)
        minutes, seconds = divmod(round(left), 60)
        console.print(f"{done} of {total} inner loops, {minutes}:{seconds:02d} left", markup=False)

    return tell


def _show(found: Mapping[str, Any], title: str, console: Console) -> None:
    """Prints the figures as a table."""
    heading = f"{title}: {found['problems']} problems, {found['seeds']} adapter seeds"
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in (
        "reward", "runs", "ICC", "95%", "common seeds", "halves (pred.)", "ties", "best: same",
        "other seeds", "other questions", "both", "Spearman (corr.)",
    ):  # fmt: skip
        table.add_column(name, justify="left" if name == "reward" else "right")
    for reward, one in found["rewards"].items():
        for runs, own in one["runs"].items():
            first = runs == "1"
            low, high = (stats.spearman_brown(x, int(runs)) for x in one["icc_interval"])
            best = own["best"]
            table.add_row(
                reward if first else "",
                runs,
                f"{stats.spearman_brown(one['icc_over_seeds'], int(runs)):.3f}",
                f"[{low:.2f}, {high:.2f}]",
                f"{stats.spearman_brown(one['icc_common_seeds'], int(runs)):.3f}",
                f"{one['halves_correlation']:.2f} ({one['halves_predicted']:.2f})" if first else "",
                f"{one['ties']:.2f}" if first else "",
                *(
                    f"{best[k]:+.3f}"
                    for k in ("same", "other_seeds", "other_questions", "other_both")
                ),
                f"{own['spearman']:.2f} ({own['corrected']:.2f})",
            )
    console.print(table)
    for term, counts in found.get("questions", {}).items():
        listed = ", ".join(f"{count}: {value:.2f}" for count, value in counts.items())
        console.print(f"{term}: ICC by number of questions {listed}", markup=False)
    if "icc" in found:
        console.print(
            f"{found['reward']}: ICC over processes and batch positions {found['icc']:.3f}, "
            f"over seeds {found['icc_over_seeds']:.3f}, ties {found['ties']:.3f}; "
            f"{found['seconds_per_inner_loop']:.2f} s per inner loop",
            markup=False,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""

    def work(args: Args, console: Console) -> int:
        run(args, console)
        return 0

    return command(Args, "reward_fidelity", __doc__, work, argv)


if __name__ == "__main__":
    sys.exit(main())
