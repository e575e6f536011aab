r"""Single passages: what a learner knows after training on each policy's self-edits.

    python -m benchmarks.knowledge --model MODEL --data seal_eval_edits.json \
        --policies none passage edits:base edits:iter2 edits:gpt4_1 --json knowledge.json

SEAL's table of single passages (Zweiger et al. 2025, arXiv 2506.10943, table 2), for any model.
Claim: the table of real passages in the README. Hardware: one NVIDIA H200; the lab log has the
commands.

Every policy is evaluated on the same passages with the same adapter seeds; a passage's result is
its mean over the seeds. Intervals are 95% bootstrap intervals over passages, those of differences
paired. Raw results are in one run folder per seed, and a stopped benchmark goes on from there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console

from benchmarks.command import command
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.run_folder import Record, RunFolder
from seal_agents.runner.configs import EvaluateConfig
from seal_agents.runner.train import evaluate
from seal_env.config import EnvConfig
from seal_env.edits import PairForm
from seal_env.errors import UserError
from seal_env.presets import ModelPreset, model_preset, read_preset
from seal_env.tasks.io.reading import parse_json

MEASURED = ("accuracy", "log_likelihood")
WRITERS = {"passage": "naive"}
"""Names of policies to those that SEAL's file has for them; ``edits:NAME`` is NAME there."""
PUBLISHED = "published_accuracy"
"""Field of a passage in SEAL's file: accuracy of Qwen2.5-7B after training, by writer."""


@dataclass(frozen=True)
class Args:
    """Compares policies on single passages."""

    model: str
    """The learner, and the model behind the policy base."""
    data: str
    """Passages, such as SEAL's published evaluation file."""
    problems: int = 100
    """Passages; at most as many as the data holds."""
    policies: tuple[str, ...] = ("none", "passage", "base")
    """Policies as for evaluate: agents by name, base:PROMPT, edits:NAME, folders of runs."""
    seeds: int = 1
    """Adapter seeds and data orders per self-edit."""
    preset: str | None = None
    """Preset by name or file; seal for the paper's settings, None for what suits the model."""
    pairs: PairForm = "text"
    """Whether questions with answers that a policy wrote are trained on as text, as in SEAL, or as
    they are asked."""
    terms: tuple[str, ...] = ()
    """Further reward terms to measure, such as f1."""
    dtype: str = "auto"
    """Precision of the frozen weights."""
    device: str = "auto"
    """Device of the learner."""
    num_envs: int = 16
    """Self-edits per pass of the inner loop; after each of them results are on the disk."""
    out: Path = Path("runs/knowledge")
    """Folder of the raw results, the table and the picture."""
    json: Path | None = None
    """File of the figures."""

    def check(self) -> None:
        """Raises UserError where a setting makes no sense."""
        if min(self.problems, self.seeds, self.num_envs) < 1:
            raise UserError("--problems, --seeds and --num-envs start at 1")


def measure(args: Args, console: Console) -> dict[str, Any]:
    """Runs what is missing; returns the figures."""
    args.check()
    preset = read_preset(args.preset) if args.preset else model_preset(args.model)
    results: dict[str, list[list[Record]]] = {}
    for seed in range(args.seeds):
        config = _config(args, preset, seed)
        assert config.out is not None
        evaluate(config, resume=True, overwrite=False, console=console)
        run = RunFolder.existing(config.out)
        groups: dict[str, list[Record]] = {}
        for record in run.every_record():
            groups.setdefault(record["policy"], []).append(record)
        for name, records in groups.items():
            results.setdefault(name, []).append(sorted(records, key=lambda r: int(r["index"])))
    return summarize(results) | {
        "published": _published(args, list(results)),
        "model": Path(args.model).name,
        "seeds": args.seeds,
        "preset": args.preset or preset.source,
    }


def _config(args: Args, preset: ModelPreset, seed: int) -> EvaluateConfig:
    """Settings of the evaluation under one seed."""
    reward = " + ".join(["accuracy", *(f"0 * {term}" for term in args.terms)])
    env = EnvConfig(
        task="squad",
        model=args.model,
        data=args.data,
        split="all",
        reward=reward,
        inner=preset.inner,
        edit_options={"config": {"passage": preset.passage, "pairs": args.pairs}},
        dtype=args.dtype,
        device=args.device,
    )
    return EvaluateConfig(
        policies=args.policies,
        env=env,
        problems=args.problems,
        seed=seed,
        num_envs=args.num_envs,
        out=args.out / f"seed-{seed}",
    )


def summarize(results: Mapping[str, Sequence[Sequence[Record]]]) -> dict[str, Any]:
    """Rows of policies and their paired differences.

    Args:
        results: Records by policy, then by seed, in the order of the passages.
    """
    rows: dict[str, Any] = {}
    means: dict[str, dict[str, list[float]]] = {}
    for name, seeds in results.items():
        columns = list(zip(*seeds, strict=True))
        means[name] = {
            field: [fmean(record[field] for record in column) for column in columns]
            for field in MEASURED
        }
        accuracy, likelihood = (bootstrap_mean(means[name][field]) for field in MEASURED)
        rows[name] = {
            "accuracy": accuracy.mean,
            "ci": [accuracy.low, accuracy.high],
            "log_likelihood": likelihood.mean,
            "ci_log_likelihood": [likelihood.low, likelihood.high],
            "tokens": fmean(record["tokens"] for one in seeds for record in one),
            "problems": len(columns),
            "terms": {
                term: fmean(record["terms"][term] for one in seeds for record in one)
                for term in seeds[0][0]["terms"]
            },
        }
    differences = {
        f"{name} - {other}": {
            field: _gap(means[name][field], means[other][field]) for field in MEASURED
        }
        for name in means
        for other in means
        if name != other
    }
    return {"rows": rows, "differences": differences}


def _gap(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Mean difference, paired by passage, with its interval."""
    found = bootstrap_mean([a - b for a, b in zip(values, others, strict=True)])
    return [found.mean, found.low, found.high]


def _published(args: Args, policies: Sequence[str]) -> dict[str, float]:
    """Published accuracies of SEAL's 7B model on the same passages, where the file has them."""
    try:
        passages = parse_json(Path(args.data).read_text("utf-8-sig"))
    except (OSError, ValueError):  # not a file of SEAL's kind
        return {}
    if not isinstance(passages, list):
        return {}
    found = {}
    for policy in policies:
        name = WRITERS.get(policy, policy.removeprefix("edits:"))
        entries = [p.get(PUBLISHED) if isinstance(p, dict) else None for p in passages]
        values = [e[name] for e in entries[: args.problems] if isinstance(e, dict) and name in e]
        if len(values) == min(args.problems, len(passages)):
            found[policy] = fmean(values)
    return found


def markdown(figures: Mapping[str, Any]) -> str:
    """The figures as a table."""
    published = figures["published"]
    reference = next(iter(figures["rows"]))
    head = ["policy", "accuracy [95%]", "log-likelihood [95%]", f"accuracy less `{reference}`"]
    head += ["tokens", *(["Qwen2.5-7B, published"] if published else [])]
    lines = [head, ["---"] * len(head)]
    for name, row in figures["rows"].items():
        gap = figures["differences"].get(f"{name} - {reference}")
        cells = [name]
        for field, interval in (("accuracy", "ci"), ("log_likelihood", "ci_log_likelihood")):
            low, high = row[interval]
            cells.append(f"{row[field]:.3f} [{low:.3f}, {high:.3f}]")
        cells.append("" if gap is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*gap["accuracy"]))
        cells.append(f"{row['tokens']:,.0f}")
        if published:
            cells.append(f"{published[name]:.3f}" if name in published else "")
        lines.append(cells)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Draws accuracy and log-likelihood of each policy with their intervals."""
    names = list(figures["rows"])[::-1]
    figure, panels = plt.subplots(
        1, 2, sharey=True, figsize=(10, 1.4 + 0.5 * len(names)), layout="constrained"
    )
    labels = ("accuracy", "log-likelihood, nats per token")
    for axes, field, interval, label in zip(
        panels, MEASURED, ("ci", "ci_log_likelihood"), labels, strict=True
    ):
        rows = [figures["rows"][name] for name in names]
        means = [row[field] for row in rows]
        errors = [
            [m - row[interval][0] for m, row in zip(means, rows, strict=True)],
            [row[interval][1] - m for m, row in zip(means, rows, strict=True)],
        ]
        axes.errorbar(means, range(len(names)), xerr=errors, fmt="o", color="#0072b2", capsize=3)
        axes.set(xlabel=f"{label} (95% interval)")
        axes.grid(alpha=0.3)
    panels[0].set_yticks(range(len(names)), names)
    count = figures["rows"][names[0]]["problems"]
    figure.suptitle(f"{figures['model']} on {count} passages, seeds: {figures['seeds']}")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def run(args: Args, console: Console) -> int:
    """Measures, prints, draws and writes; returns the exit status."""
    figures = measure(args, console)
    table = markdown(figures)
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    place: Path | None = args.out
    try:
        (args.out / "table.md").write_text(table, "utf-8")
        draw(figures, args.out / "knowledge.png")
        place = args.json
        if args.json is not None:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error})") from error
    console.print(f"wrote {args.out}: table.md, knowledge.png", markup=False, highlight=False)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "knowledge", __doc__, run, argv)


if __name__ == "__main__":
    sys.exit(main())
