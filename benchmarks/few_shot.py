"""Few-shot learning: do policies learn to choose a training recipe per task?

    python -m benchmarks.few_shot

Claim: the table for `directives` in the README. Hardware: 2 CPU cores, about 4 minutes per training
run; no GPU.

Rows as in SEAL's table (arXiv 2506.10943, section 4.2): the learner with the demonstrations in its
prompt only; a fixed recipe; the untrained policy; the trained policy; and the best of all recipes
per task, an upper bound for any choice made without the answers. Problems, adapter seeds and data
order are the same for all rows. The command can be stopped at any time and continues when it is
repeated; finished runs are not repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.command import command
from benchmarks.few_shot_plot import plot
from seal_agents.presets import preset
from seal_agents.reporting.invalid import counted, percent, share
from seal_agents.reporting.stats import Estimate, bootstrap_mean
from seal_agents.run_folder import Record, RunFolder
from seal_agents.runner.build import agent_class
from seal_agents.runner.configs import EvaluateConfig, TrainConfig
from seal_agents.runner.train import evaluate, train
from seal_env.config import EnvConfig, make_language, make_task
from seal_env.errors import UserError
from seal_env.menus.base import load_menu
from seal_env.menus.directives import DirectiveMenu
from seal_env.presets import model_preset

UNTRAINED = "after round 0"
"""Name in `train` of an agent that is evaluated before it has learned."""
ORACLE, FIXED, NONE = "oracle recipe", "fixed recipe", "none (in context)"


@dataclass(frozen=True)
class Args:
    """Compares recipes of test-time training: none, fixed, chosen by a policy, the best."""

    agents: tuple[str, ...] = ("rest-em", "ppo-choices")
    """Agents that are trained."""
    seeds: int = 3
    """Runs of each; they are numbered from 0."""
    rounds: int | None = None
    """Rounds of each run; this and the next two are what `seal-env train` takes if left out."""
    problems: int | None = None
    """Problems in a round."""
    samples: int | None = None
    """Self-edits tried for each."""
    test_problems: int = 20
    """Number of held-out problems."""
    fixed: int | None = None
    """Index of the fixed recipe on the menu, from 0; None for all tools with the middle rate and
    the middle number of epochs."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(
            task="few-shot",
            model="tiny-grids",
            edit="directives",
            reward=model_preset("tiny-grids").reward,
        )
    )
    """The environment."""
    out: Path = Path("runs/few_shot")
    """Folder for the runs, the table and the picture."""

    def check(self) -> None:
        """Looks the numbers over.

        Raises:
            UserError: One cannot be used.
        """
        for name in ("seeds", "rounds", "problems", "samples", "test_problems"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1")
        for agent in self.agents:
            agent_class(agent)  # an unknown one is told before anything is done


def recipes(env: EnvConfig) -> tuple[list[str], int]:
    """Every recipe on the task's menu as a directive, and which of them is the middling one.

    That is what one takes who knows nothing of the tasks: all tools, the middle rate, the middle
    number of epochs.

    Raises:
        UserError: The task's menu is none of recipes.
    """
    task = make_task(env.task, env.data, env.task_options)
    menu = load_menu(None, task, make_language(env), (env.edit, env.task))
    if not isinstance(menu, DirectiveMenu):
        raise UserError(f"--edit {env.edit}: the benchmark is about directives")
    grid, every = menu.grid, list(menu.combinations())
    rate, epochs = ((len(options) - 1) // 2 for options in (grid.learning_rates, grid.epochs))
    middling = (*(1 for _ in grid.tools), rate, epochs, 0)
    return [menu.render("", chosen) for chosen in every], every.index(middling)


def run(args: Args, console: Console) -> dict[str, Any]:
    """Trains, evaluates and writes what came of it; returns the figures."""
    args.check()
    written, middle = recipes(args.env)
    middle = middle if args.fixed is None else args.fixed
    if not 0 <= middle < len(written):
        raise UserError(f"--fixed {middle}: the menu has {len(written)} recipes")
    files = [f"{args.out}/recipes/{index}.json" for index in range(len(written))]
    folder = RunFolder(args.out)
    _write(args.out / "recipes", written)
    for seed in range(args.seeds):
        for agent in args.agents:
            train(_config(args, agent, seed), True, False, console)
    grid = EvaluateConfig(
        policies=("none", *(f"always:{file}" for file in files)),
        env=replace(args.env, split="test"),
        problems=args.test_problems,
        out=args.out / "grid",
    )
    evaluate(grid, True, False, console)
    found = figures(args, middle, len(files))
    folder.write_json("table.json", found)
    folder.write_bytes("table.md", markdown(found).encode())
    folder.write_bytes("tools.png", plot(found))
    return found


def _write(folder: Path, written: Sequence[str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, text in enumerate(written):
            (folder / f"{index}.json").write_text(text + "\n")
    except OSError as error:
        raise UserError(f"--out {folder.parent}: cannot be written ({error.strerror})") from error


def _config(args: Args, agent: str, seed: int) -> TrainConfig:
    sizes = {name: getattr(args, name) for name in ("rounds", "problems", "samples")}
    given = {name: size for name, size in sizes.items() if size is not None}
    usual = preset(args.env.model, agent)
    settings = {
        **usual.run,
        **given,
        "env": args.env,
        "agent": agent,
        "options": agent_class(agent).Options(**usual.options),
        "test_problems": args.test_problems,
        "references": (),
        "checks": 1,
        "seed": seed,
        "out": args.out / agent / f"seed-{seed}",
    }
    return TrainConfig(**settings)


def _tried(config: TrainConfig) -> int:
    return config.rounds * config.problems * config.samples


def figures(args: Args, middle: int, count: int) -> dict[str, Any]:
    """Results of the runs.

    Accuracies are means over the held-out problems and, for agents, over all seeds. Intervals and
    paired differences are bootstrapped over problems.
    """
    env = args.env
    task = make_task(env.task, env.data, env.task_options)
    problems = [task.problem("test", i) for i in range(args.test_problems)]
    families = [problem.questions[0].subject for problem in problems]
    grid = RunFolder.existing(args.out / "grid")
    of_recipes = [_rows(grid, f"always:{args.out}/recipes/{i}.json") for i in range(count)]
    accuracy = np.array([[r["accuracy"] for r in rows] for rows in of_recipes])
    best = np.argwhere(accuracy == accuracy.max(axis=0))
    none = _rows(grid, "none")
    rows: dict[str, dict[str, Any]] = {
        NONE: {"accuracy": np.array([r["accuracy"] for r in none]), "records": none},
        FIXED: {"accuracy": accuracy[middle], "records": of_recipes[middle]},
        "best single recipe": {
            "accuracy": accuracy[accuracy.mean(axis=1).argmax()],
            "records": of_recipes[int(accuracy.mean(axis=1).argmax())],
        },
    }
    seconds = {}
    for agent in args.agents:
        places = [args.out / agent / f"seed-{seed}" for seed in range(args.seeds)]
        runs = [RunFolder.existing(place) for place in places]
        for row, policy in ((f"{agent}, untrained", UNTRAINED), (f"{agent}, trained", "trained")):
            records = [_rows(run, policy) for run in runs]
            each = np.array([[r["accuracy"] for r in some] for some in records])
            rows[row] = {
                "accuracy": each.mean(axis=0),
                "seeds": each.mean(axis=1).tolist(),
                "records": [r for some in records for r in some],
            }
        seconds[agent] = [float(run.read_json("summary.json")["seconds"]) for run in runs]
    rows[ORACLE] = {
        "accuracy": accuracy.max(axis=0),
        "records": [of_recipes[recipe][i] for recipe, i in best],  # all that are equally good
    }
    return {
        "problems": args.test_problems,
        "recipes": count,
        "evaluations": {agent: _tried(_config(args, agent, 0)) for agent in args.agents},
        "seconds": seconds,
        "rows": {name: _row(rows[name], families) for name in rows},
        "comparisons": {agent: _compared(rows, agent) for agent in args.agents},
    }


def _rows(run: RunFolder, policy: str) -> list[Record]:
    known = run.records("evaluate", policy, 0)
    return [known[i] for i in sorted(known)]


def _row(row: Mapping[str, Any], families: Sequence[str]) -> dict[str, Any]:
    chosen: dict[str, dict[str, int]] = {}
    for record in row["records"]:
        family = families[record["index"]]
        tools = (record["style"] or "none").split()[0]
        by_family = chosen.setdefault(family, {})
        by_family[tools] = by_family.get(tools, 0) + 1
    return {
        "accuracy": _described(bootstrap_mean(row["accuracy"])),
        "invalid": share(counted(row["records"])),
        "seeds": row.get("seeds"),
        "tools": chosen,
    }


def _compared(rows: Mapping[str, Mapping[str, Any]], agent: str) -> dict[str, Any]:
    """The trained policy against the others, problem by problem."""
    before, after = (rows[f"{agent}, {state}"] for state in ("untrained", "trained"))
    fixed, oracle = rows[FIXED]["accuracy"], rows[ORACLE]["accuracy"]
    way = oracle.mean() - before["accuracy"].mean()
    pairs = zip(before["seeds"], after["seeds"], strict=True)
    return {
        "less untrained": _described(bootstrap_mean(after["accuracy"] - before["accuracy"])),
        "less fixed recipe": _described(bootstrap_mean(after["accuracy"] - fixed)),
        "seeds above untrained": sum(a > b for b, a in pairs),
        "seeds above fixed recipe": sum(a > float(fixed.mean()) for a in after["seeds"]),
        "share of the way to the oracle": float(
            (after["accuracy"].mean() - before["accuracy"].mean()) / way
        )
        if way > 0
        else None,
    }


def _described(estimate: Estimate) -> list[float]:
    return [round(x, 4) for x in (estimate.mean, estimate.low, estimate.high)]


def lines(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table, row by row; see `HEADINGS`."""
    table: list[tuple[str, ...]] = []
    for name, row in found["rows"].items():
        mean, low, high = row["accuracy"]
        seeds = " ".join(f"{x:.3f}" for x in row["seeds"] or ())
        invalid = percent(row["invalid"])
        table.append((name, f"{mean:.3f} [{low:.3f}, {high:.3f}]", invalid, seeds))
    return table


HEADINGS = ("row", "accuracy [95%]", "invalid", "each seed")


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The comparisons, in words."""
    said = []
    for agent, one in found["comparisons"].items():
        parts = [
            "{} {:+.3f} [{:+.3f}, {:+.3f}]".format(name, *one[name])
            for name in ("less untrained", "less fixed recipe")
        ]
        way = one["share of the way to the oracle"]
        parts.append("no way to go" if way is None else f"{way:.0%} of the way to the oracle")
        seconds = ", ".join(f"{s:.0f}" for s in found["seconds"][agent])
        said.append(f"{agent}, trained: {'; '.join(parts)}; seconds {seconds}")
    return said


def markdown(found: Mapping[str, Any]) -> str:
    """The table and the comparisons as Markdown."""
    table = [f"| {' | '.join(row)} |" for row in (HEADINGS, *lines(found))]
    table.insert(1, "|" + "---|" * len(HEADINGS))
    said = [f"* {sentence}" for sentence in sentences(found)]
    return "\n".join([*table, "", *said]) + "\n"


def show(found: Mapping[str, Any], console: Console) -> None:
    """Prints the table and the comparisons."""
    table = Table(*HEADINGS)
    for line in lines(found):
        table.add_row(*line)
    console.print(table)
    for sentence in sentences(found):
        console.print(sentence, markup=False, highlight=False)


def _tell(args: Args, console: Console) -> int:
    show(run(args, console), console)
    console.print(f"wrote {args.out}/table.md, table.json and tools.png", markup=False)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "few_shot", __doc__, _tell, argv)


if __name__ == "__main__":
    sys.exit(main())
