"""Continued pretraining: many passages in one adapter, by who wrote what it is trained on.

    make train
    python -m benchmarks.continued_pretraining --policies none passage base runs/main

SEAL's other setting (Zweiger et al. 2025, arXiv 2506.10943, table 2): the self-edits of n passages
are trained together, and the questions about all of them are asked afterwards. Claim: the table of
docs/streams.md. Hardware: 2 CPU cores, no GPU; the lab log has the times.

A policy writes one self-edit per passage, the same for every n. They are trained `joint`, all
sequences in random order, or `stream`, passage after passage with one adapter, which is what a
stream of the kind `continue` does. The learner is the base. `--edit full --edit-options
config.learning_rate=1e-3` trains all linear layers in place of an adapter.

Texts and results are files as soon as they are there; a stopped benchmark goes on from them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from benchmarks.command import command
from benchmarks.continual_records import slug
from seal_agents.adapt.training import make_loop, train
from seal_agents.base import AgentOptions
from seal_agents.reporting.stats import bootstrap_mean
from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import build
from seal_agents.runner.settings import read_pairs
from seal_env.config import EnvConfig, make_language, make_task
from seal_env.edits import EDITS
from seal_env.edits.base import EditLanguage
from seal_env.engine.banks import LearnerState
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.inner_loop import InnerLoop
from seal_env.presets import model_preset
from seal_env.tasks.base import Problem, first_problems
from seal_env.updates.finetuning import Finetuning

Mode = Literal["joint", "stream"]
CHUNK = 20
"""Self-edits that are written at once."""


@dataclass(frozen=True)
class Args:
    """Trains one adapter on the self-edits of many passages."""

    passages: tuple[int, ...] = (20, 200)
    """Numbers of passages."""
    policies: tuple[str, ...] = ("none", "passage", "base")
    """Who writes: agents by name, or folders of training runs."""
    modes: tuple[Mode, ...] = ("joint", "stream")
    """All sequences together, or passage after passage."""
    batch_size: int = 8
    """Sequences per optimizer step."""
    known: int = 32
    """Problems of the task's `known_split`, which measure old knowledge."""
    seed: int = 0
    """Seed of the policy's samples, of the adapter and of the order of the data."""
    edit_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[KEY=VALUE ...]")] = ()
    """Options of the self-edit language, such as config.learning_rate=1e-3."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(split="test")
    )
    """The environment."""
    out: Path = Path("runs/continued-pretraining")
    """Folder of the texts, the results and the table."""
    json: Path | None = None
    """File for the figures; None for `table.json` in `out`."""

    def check(self) -> None:
        """Looks the settings over.

        Raises:
            UserError: One cannot be used.
        """
        if min((*self.passages, self.batch_size, self.known), default=0) < 1:
            raise UserError("--passages, --batch-size and --known start at 1")


def run(args: Args, console: Console) -> dict[str, Any]:
    """Measures what is missing; returns the figures."""
    args.check()
    env = args.env
    learner = load_learner(env.model, env.dtype, env.device, env.adapter, env.trust_remote_code)
    task = make_task(env.task, env.data, env.task_options)
    inner = env.inner or model_preset(env.model).inner
    finetune = replace(inner.finetune, batch_size=args.batch_size)
    loop = make_loop(learner, task, replace(inner, finetune=finetune))
    language = make_language(env)
    language.bind(learner, task)
    problems = first_problems(task, env.split, max(args.passages))
    if len(problems) < max(args.passages):
        raise UserError(f"split {env.split!r} has {len(problems)} problems; give fewer --passages")
    known = first_problems(task, task.known_split, args.known)
    into = RunFolder(args.out)
    table: dict[str, Any] = {}
    for policy in args.policies:
        texts = written(args, policy, problems, into, console)
        changing = any(text is not None for text in texts)
        for count in args.passages:
            for mode in args.modes if changing else args.modes[:1]:
                name = f"{count}-{slug(policy)}-{mode}-{env.edit}.json"
                row = into.read_json(name)
                if row is None:
                    console.print(f"{policy}, {count} passages, {mode}", markup=False)
                    some = list(zip(problems[:count], texts, strict=False))
                    row = measured(loop, language, some, known, mode, args.seed)
                    into.write_json(name, row)
                shown = f"{Path(policy).name}, {mode}" if changing else policy
                table.setdefault(str(count), {})[shown] = row
    into.write_json("table.json", table)
    into.write_bytes("table.md", markdown(table).encode())
    if args.json is not None:
        RunFolder(args.json.parent).write_json(args.json.name, table)
    return table


def written(
    args: Args, policy: str, problems: Sequence[Problem], into: RunFolder, console: Console
) -> list[str | None]:
    """A policy's self-edits for problems; None for one that changes nothing."""
    name = f"texts-{slug(policy)}.json"
    texts: list[str | None] = into.read_json(name) or []
    if len(texts) >= len(problems):
        return texts
    agent = build(policy, args.env, args.seed, lambda *_: None, AgentOptions()).agent
    task = make_task(args.env.task, args.env.data, args.env.task_options)
    while len(texts) < len(problems):
        places = range(len(texts), min(len(texts) + CHUNK, len(problems)))
        seen = [{"context": task.reads(problems[i])} for i in places]
        seeds = [stable_hash("continued pretraining", args.seed, i) for i in places]
        found: Sequence[Any] = agent.act(seen, seeds)
        texts += [None if one is None else str(getattr(one, "text", one)) for one in found]
        into.write_json(name, texts)
        console.print(f"{policy}: {len(texts)} of {len(problems)} self-edits", markup=False)
    return texts


def measured(
    loop: InnerLoop,
    language: EditLanguage,
    pairs: Sequence[tuple[Problem, str | None]],
    known: Sequence[Problem],
    mode: Mode,
    seed: int,
) -> dict[str, Any]:
    """Figures of one training on the self-edits of problems."""
    problems = [problem for problem, _ in pairs]
    updates = [None if text is None else language.parse(text, p).update for p, text in pairs]
    carried = [update for update in updates if isinstance(update, Finetuning)]
    state: LearnerState | None = None
    tokens = 0
    if carried:
        sequences = [u.sequences if isinstance(u, Finetuning) else () for u in updates]
        adapted = train(loop, sequences, problems, mode, seed, lambda *_: None, carried[0])
        state, tokens = adapted.state, adapted.tokens
    bank = loop.bank_of([state])
    asked = [*problems, *known]
    scores = loop.evaluator.evaluate(asked, [0] * len(asked), bank)
    accuracy = bootstrap_mean([score.accuracy for score in scores[: len(problems)]])
    return {
        "accuracy": accuracy.mean,
        "ci": [accuracy.low, accuracy.high],
        "log_likelihood": fmean(score.log_likelihood for score in scores[: len(problems)]),
        "old": fmean(score.accuracy for score in scores[len(problems) :]),
        "tokens": tokens,
        "invalid": sum(text is not None for _, text in pairs) - len(carried),
    }


def markdown(table: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| passages | trained on | accuracy [95%] | log-likelihood | old knowledge | tokens |",
        "|---|---|---|---|---|---|",
    ]
    for count, rows in table.items():
        for name, row in rows.items():
            low, high = row["ci"]
            cells = [count, name, f"{row['accuracy']:.3f} [{low:.3f}, {high:.3f}]"]
            cells += [f"{row['log_likelihood']:.2f}", f"{row['old']:.3f}", f"{row['tokens']:,}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _tell(args: Args, console: Console) -> int:
    options = read_pairs("--edit-options", args.edit_options, EDITS.load(args.env.edit))
    args = replace(args, env=replace(args.env, edit_options=options))
    console.print(markdown(run(args, console)), markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote {args.out}/table.md, table.json", markup=False)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "continued_pretraining", __doc__, _tell, argv)


if __name__ == "__main__":
    sys.exit(main())
