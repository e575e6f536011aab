"""`seal-env train` and `seal-env evaluate`: the loops around agents."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import gymnasium as gym
import torch
import tyro
from rich.console import Console

from seal_agents import AGENTS
from seal_agents.base import Agent, AgentContext, AgentOptions, Experience
from seal_agents.collect import Stage, collect
from seal_agents.events import write_scalars
from seal_agents.policy import ADAPTER, PolicyOptions
from seal_agents.progress import Bars
from seal_agents.report import plot_comparison, plot_learning, print_summary, summarise
from seal_agents.run import Record, RunFolder
from seal_env.episodes import EnvConfig, make_task
from seal_env.errors import UserError
from seal_env.models.loading import load_learner
from seal_env.recipes import recipe
from seal_env.tasks.base import Problem, Task, stable_hash

HELD_OUT = ("test", "all")
"""Splits that hold problems of the final comparison, so that nothing is trained on them."""
TRAINED, TRAINED_FIXED = "trained", "trained (base learner)"


@dataclass(frozen=True)
class TrainConfig:
    """Trains an agent and compares it with doing without, on held-out problems."""

    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(default_factory=EnvConfig)
    """The environment."""
    agent: str = "rest-em"
    """Who learns: a name in `seal_agents.AGENTS`, or "package.module:Name"."""
    options: AgentOptions = field(default_factory=AgentOptions)
    """The agent's own settings."""
    rounds: int = 3
    """Rounds of writing, trying out and learning."""
    problems: int = 32
    """Problems in a round."""
    samples: int = 8
    """Self-edits that are tried for each problem."""
    learner: Literal["follow", "fixed"] = "follow"
    """Whether the learner is the policy's model after each round, as in SEAL, or stays the base."""
    test_problems: int = 200
    """Held-out problems in the final comparison."""
    seed: int = 0
    """Fixes everything random."""
    parallel: int = 64
    """Self-edits that are carried out in one pass."""
    out: Path | None = None
    """The run's folder; runs/TASK-AGENT-seedN if left out."""

    def __post_init__(self) -> None:
        _check_numbers(self, "rounds", "problems", "samples", "test_problems", "parallel")
        if self.env.horizon != 1:
            raise UserError(f"--horizon {self.env.horizon}: train handles episodes of 1 problem")
        if self.env.split in HELD_OUT:
            raise UserError(
                f"--split {self.env.split}: the final comparison is made on it; train on another"
            )
        if self.env.adapter is not None and self.learner == "follow":
            raise UserError(
                "--adapter: the learner follows the policy, which has an adapter of its own; "
                "give --learner fixed as well, or leave --adapter out"
            )


@dataclass(frozen=True)
class EvaluateConfig:
    """Compares any number of policies on the same problems."""

    policies: tuple[str, ...] = ("none", "passage", "base")
    """Agents by name, such as none, passage, base, edits:gpt4_1, or folders of trained runs, or
    "package.module:Name"."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(default_factory=EnvConfig)
    """The environment. Split "train" stands for the test split (of a file: all of it)."""
    options: PolicyOptions = field(default_factory=PolicyOptions)
    """How policies that are prompted (`base`) read and write."""
    problems: int = 100
    """Problems; of a file at most as many as it holds."""
    samples: int = 1
    """Self-edits that each policy writes for a problem."""
    seed: int = 0
    """Fixes everything random."""
    parallel: int = 64
    """Self-edits that are carried out in one pass."""
    out: Path | None = None
    """The run's folder; runs/evaluate-TASK if left out."""

    def __post_init__(self) -> None:
        _check_numbers(self, "problems", "samples", "parallel")
        if not self.policies:
            raise UserError("--policies: name at least one")
        if self.env.horizon != 1:
            raise UserError(f"--horizon {self.env.horizon}: evaluate handles episodes of 1 problem")


def train(config: TrainConfig, resume: bool, overwrite: bool, console: Console) -> dict[str, Any]:
    """Runs `seal-env train`; returns the summary."""
    started = time.monotonic()
    name = config.agent.rpartition(":")[2]
    out = config.out or Path("runs") / f"{config.env.task}-{name}-seed{config.seed}"
    RunFolder.check(out, resume, overwrite)
    # Whatever can be wrong with the settings comes out here, before the folder is touched.
    config = replace(config, env=_resolved(config.env))
    task = make_task(config.env.task, config.env.data, config.env.task_options)
    test = _problems(task, "test", config.test_problems)
    _round_problems(task, config, 1)
    rows = ("none", "passage", "base", TRAINED)
    bars = Bars(console)
    agent = _make(config.agent, "", config.env, config.seed, bars, asdict(config.options))
    others = {row: _build(row, config.env, config.seed, bars, config.options) for row in rows[:3]}
    run = RunFolder.open(out, _described("train", config), resume, overwrite)
    if run.read_json("summary.json") is not None:
        return _finished(run, console)
    console.print(f"training {config.agent} on {config.env.task}, in {out}", markup=False)
    done = run.rounds_done()
    if done:
        agent.load(run.checkpoint(done))
    with bars.counting(config.rounds - done + len(rows) + (config.learner == "follow")):
        for round_ in range(done + 1, config.rounds + 1):
            bars.advance(f"round {round_} of {config.rounds}")
            _round(run, agent, task, config, round_, bars)
        env = replace(config.env, split="test")
        learned = run.checkpoint(config.rounds)
        policies = {row: (other, env) for row, other in others.items()}
        policies[TRAINED] = (agent, replace(env, adapter=_followed(config, learned)))
        if config.learner == "follow":
            policies[TRAINED_FIXED] = (agent, env)
        records = _compare(run, policies, test, 1, config.seed, config.parallel, bars)
    if (learned / ADAPTER).is_dir():
        for file in sorted((learned / ADAPTER).iterdir()):
            run.write_bytes(f"{ADAPTER}/{file.name}", file.read_bytes())
    return _conclude(run, records, config.seed, started, console)


def evaluate(
    config: EvaluateConfig, resume: bool, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Runs `seal-env evaluate`; returns the summary."""
    started = time.monotonic()
    out = config.out or Path("runs") / f"evaluate-{config.env.task}"
    RunFolder.check(out, resume, overwrite)
    task = make_task(config.env.task, config.env.data, config.env.task_options)
    endless = task.size("train") is None
    split = config.env.split if config.env.split != "train" else "test" if endless else "all"
    problems = _problems(task, split, config.problems)
    env = replace(_resolved(config.env), split=split)
    bars = Bars(console)
    policies = {
        name: (_build(name, env, config.seed, bars, config.options), env)
        for name in config.policies
    }
    run = RunFolder.open(out, _described("evaluate", replace(config, env=env)), resume, overwrite)
    if run.read_json("summary.json") is not None:
        return _finished(run, console)
    count = len(policies)
    console.print(f"evaluating {count} policies on {config.env.task}, in {out}", markup=False)
    with bars.counting(count):
        records = _compare(
            run, policies, problems, config.samples, config.seed, config.parallel, bars
        )
    return _conclude(run, records, config.seed, started, console)


def _round(
    run: RunFolder,
    agent: Agent,
    task: Task,
    config: TrainConfig,
    round_: int,
    bars: Bars,
) -> None:
    """One round: write, carry out, learn, save."""
    problems = _round_problems(task, config, round_)
    stage = Stage("train", config.agent, round_, problems, config.samples)
    adapter = _followed(config, run.checkpoint(round_ - 1)) if round_ > 1 else config.env.adapter
    env = replace(config.env, adapter=adapter)
    experiences = collect(run, agent, stage, env, config.seed, config.parallel, bars.stage)
    # A user's own agent may well return nothing from `learn`.
    numbers = {name: float(value) for name, value in (agent.learn(experiences) or {}).items()}
    write_scalars(run, round_, _means(experiences) | numbers)
    run.save_checkpoint(round_, agent.save)  # last: what has a checkpoint is not done again


def _round_problems(task: Task, config: TrainConfig, round_: int) -> tuple[Problem, ...]:
    """The problems of a round: ever new ones, or random ones where there are few."""
    split = config.env.split
    size = task.size(split)
    if size is None:
        offset = stable_hash("offset", config.seed) % 1_000_000
        first = offset + (round_ - 1) * config.problems
        return tuple(task.problem(split, first + i) for i in range(config.problems))
    if size < 1:
        raise UserError(f"split {split!r} of the data holds no problem to train on")
    order: list[int] = []
    epoch = 0
    while len(order) < round_ * config.problems:
        order += Random(stable_hash("epoch", config.seed, epoch)).sample(range(size), size)
        epoch += 1
    chosen = order[(round_ - 1) * config.problems : round_ * config.problems]
    # A problem stands once in a round: its self-edits are one group.
    return tuple(task.problem(split, i) for i in dict.fromkeys(chosen))


def _problems(task: Task, split: str, count: int) -> tuple[Problem, ...]:
    size = task.size(split)
    count = count if size is None else min(count, size)
    if count < 1:
        raise UserError(f"split {split!r} of the data holds no problem; give a larger file")
    return tuple(task.problem(split, i) for i in range(count))


def _followed(config: TrainConfig, checkpoint: Path) -> str | None:
    """The adapter of the learner after a checkpoint, if the learner follows the policy."""
    if config.learner == "follow" and (checkpoint / ADAPTER).is_dir():
        return str(checkpoint / ADAPTER)
    return config.env.adapter


def agent_class(name: str) -> type[Agent]:
    """The class behind an agent's name.

    Raises:
        UserError: There is none, or it is no agent.
    """
    kind = AGENTS.load(name)
    if not (isinstance(kind, type) and issubclass(kind, Agent)):
        raise UserError(f"agent {name!r} is not a subclass of seal_agents.Agent")
    return kind


def _build(name: str, env: EnvConfig, seed: int, bars: Bars, options: AgentOptions) -> Agent:
    """An agent by name or by the folder of a run that trained it.

    Args:
        name: Which.
        env: The environment's settings.
        seed: The run's seed.
        bars: Where its progress is shown.
        options: Where these are a prompted policy's, `base` reads and writes by them.
    """
    head, _, argument = name.partition(":")
    if head in AGENTS:
        shared = {}
        if agent_class(head).Options is PolicyOptions and isinstance(options, PolicyOptions):
            shared = {f.name: getattr(options, f.name) for f in fields(PolicyOptions)}
        return _make(head, argument, env, seed, bars, shared)
    if Path(name).is_dir():
        return _trained(Path(name), env, seed, bars)
    if ":" not in name:
        known = ", ".join(sorted(AGENTS))
        raise UserError(
            f"policy {name!r}: neither a folder of a trained run nor an agent; known: {known}; or "
            f"give your own as 'package.module:Name'"
        )
    return _make(name, "", env, seed, bars)


def _trained(folder: Path, env: EnvConfig, seed: int, bars: Bars) -> Agent:
    """The agent that a run trained, as of its last checkpoint."""
    run = RunFolder.existing(folder)
    config = run.read_json("config.json")
    if config["command"] != "train":
        raise UserError(f"policy {str(folder)!r}: that run evaluated others and trained nothing")
    if not run.rounds_done():
        raise UserError(f"policy {str(folder)!r}: the run has no checkpoint yet")
    model = str(config["env"]["model"])
    if model != env.model and Path(model).resolve() != Path(env.model).resolve():
        raise UserError(
            f"policy {str(folder)!r}: was trained on --model {model}, and this is {env.model}"
        )
    agent = _make(config["agent"], "", env, seed, bars, config["options"])
    agent.load(run.checkpoint(run.rounds_done()))
    return agent


def _make(
    name: str,
    argument: str,
    env: EnvConfig,
    seed: int,
    bars: Bars,
    options: Mapping[str, Any] | None = None,
) -> Agent:
    kind = agent_class(name)
    chosen = restored(kind.Options, options or {})
    return kind(AgentContext(env, seed, argument, chosen, bars.stage))


def restored(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A dataclass instance from what `asdict` made of it, as read from a JSON file.

    Raises:
        UserError: The values do not fit.
    """
    default = kind()
    known = {}
    for name, value in values.items():
        inner = getattr(default, name, None)
        known[name] = (
            restored(type(inner), value)
            if is_dataclass(inner)
            else tuple(value)
            if isinstance(value, list)
            else value
        )
    try:
        return kind(**known)
    except TypeError as error:
        raise UserError(f"settings do not fit {kind.__name__}: {error}") from error


def _compare(
    run: RunFolder,
    policies: Mapping[str, tuple[Agent, EnvConfig]],
    problems: tuple[Problem, ...],
    samples: int,
    seed: int,
    parallel: int,
    bars: Bars,
) -> dict[str, list[Record]]:
    """Evaluates policies on the same problems, with the same seeds."""
    records = {}
    for name, (agent, env) in policies.items():
        bars.advance(f"held out: {name}")
        stage = Stage("evaluate", name, 0, problems, samples)
        collect(run, agent, stage, env, seed, parallel, bars.stage)
        known = run.records("evaluate", name, 0)
        records[name] = [known[i] for i in range(len(problems) * samples)]
    return records


def _conclude(
    run: RunFolder,
    records: Mapping[str, Sequence[Record]],
    seed: int,
    started: float,
    console: Console,
) -> dict[str, Any]:
    summary = summarise(records, seed, time.monotonic() - started)
    plot_learning(run, summary)
    plot_comparison(run, summary)
    run.write_json("summary.json", summary)  # last: where it is, the run is finished
    print_summary(summary, console)
    took = f"wrote {run.path}/summary.json, took {summary['seconds']:.0f} s"
    console.print(took, markup=False)
    return summary


def _finished(run: RunFolder, console: Console) -> dict[str, Any]:
    summary: dict[str, Any] = run.read_json("summary.json")
    console.print(f"the run in {run.path} is finished already", markup=False)
    print_summary(summary, console)
    return summary


def _means(experiences: Sequence[Experience]) -> dict[str, float]:
    names = ("accuracy", "log_likelihood", "accuracy_before")
    count = len(experiences)
    means = {name: sum(e.info[name] for e in experiences) / count for name in names}
    return means | {"reward": sum(e.reward for e in experiences) / count}


def _resolved(env: EnvConfig) -> EnvConfig:
    """The settings with what the model's recipe fills in, tried out.

    Raises:
        UserError: The environment cannot be made of them.
    """
    env = replace(env, inner=env.inner or recipe(env.model))
    gym.make_vec("SelfEdit-v0", num_envs=1, **{f.name: getattr(env, f.name) for f in fields(env)})
    return env


def _described(command: str, config: TrainConfig | EvaluateConfig) -> dict[str, Any]:
    """What goes into ``config.json``: the settings, and what was chosen at run time."""
    env = config.env
    model = load_learner(env.model, env.dtype, env.device, env.adapter).model
    chosen = {
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    return {"command": command} | asdict(config) | {"run_time": chosen}


def _check_numbers(config: TrainConfig | EvaluateConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} {getattr(config, name)}: must be at least 1")
    if not 0 <= config.seed < 1 << 63:
        raise UserError(f"--seed {config.seed}: must be 0 or more, and less than 2 to the 63")
