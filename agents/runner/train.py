"""`seal-env train` and `seal-env evaluate`."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv
from rich.console import Console

from seal_agents import AGENTS
from seal_agents.base import Agent
from seal_agents.reporting.diversity import diversity
from seal_agents.reporting.invalid import counted, note
from seal_agents.reporting.report import (
    mean_terms,
    plot_comparison,
    plot_learning,
    print_summary,
    summarize,
)
from seal_agents.reporting.samples import plot_styles, split_of, write_samples
from seal_agents.run_folder import Record, RunFolder
from seal_agents.runner.adapter import write_adapter
from seal_agents.runner.build import agent_class, build, load, make, parted, restored
from seal_agents.runner.configs import AUTO, EvaluateConfig, TrainConfig
from seal_agents.runner.contents import (
    contents,
    described,
    dtype_note,
    training_problems,
    with_dtype,
)
from seal_agents.runner.drift import drifts
from seal_agents.runner.environment import base_of, make_environment
from seal_agents.runner.experience import check_record
from seal_agents.runner.notes import unknown_words
from seal_agents.runner.progress import Bars
from seal_agents.runner.rollout import Stage, episodes_of, rollout
from seal_agents.runner.rounds import (
    adapter_after,
    check_rounds,
    evaluations,
    play_round,
    train_stage,
)
from seal_env.assembly import make_learner
from seal_env.config import (
    EnvConfig,
    InnerLoopConfig,
    default_prompt,
    make_language,
    make_task,
    takes_text,
)
from seal_env.critics import load_critic
from seal_env.curriculum import Curriculum
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError
from seal_env.presets import model_preset
from seal_env.tasks.base import Problem, Task, problem_at

__all__ = ["EvaluateConfig", "TrainConfig", "agent_class", "evaluate", "restored", "train"]

TRAINED = "trained"
FIXED = " (base learner)"
"""Suffix of the row of a policy whose learner followed it in training, evaluated on the base."""


def train(config: TrainConfig, resume: bool, overwrite: bool, console: Console) -> dict[str, Any]:
    """Runs `seal-env train`; returns the summary."""
    started = time.monotonic()
    out = config.out or Path("runs") / f"{_slug(config.env.task, config.agent)}-seed{config.seed}"
    RunFolder.check(out, resume, overwrite)
    # Errors in the settings are raised here, before the folder is touched.
    config = replace(config, env=replace(config.env, inner=_inner(config.env)))
    task = make_task(config.env.task, config.env.data, config.env.task_options)
    test = _problems(task, "test", config.test_problems)
    measured = config.env.dtype == "auto"
    config = replace(config, env=with_dtype(config.env, out, resume))
    stages = [_held_out("none", test, 1, config), train_stage(RunFolder(out), task, config, 1)]
    curriculum = config.lengths if config.curriculum else None
    envs = _environment(config, stages, curriculum)
    bars = Bars(console)
    agent = make(config.agent, config.env, config.seed, bars.stage, asdict(config.options))
    _check_screening(agent, config)
    _check_reset(agent, config)
    env = replace(config.env, split="test")
    names = _usual(env, test[0]) if config.references is None else config.references
    policies = _policies(names, env, config, bars)
    used = contents(config.env, [*test, *training_problems(task, config)], names, config.critic)
    run = RunFolder.open(out, described("train", config, config.env, used), resume, overwrite)
    run.started = started
    if run.read_json("summary.json") is not None:
        return _finished(run, console)
    console.print(f"training {config.agent} on {config.env.task}, in {out}", markup=False)
    told = [*_task_notes(task, test, config.env), *run.notes, *_small(task, config)]
    _tell([*told, *(dtype_note(config.env) if measured else ())], console)
    _tell(_biased(agent, config), console)
    done = run.rounds_done()
    if done:
        load(agent, run.checkpoint(done))
    due = [r for r in check_rounds(config) if r >= done]
    with bars.counting(config.rounds - done + len(due) + len(policies) + 1):
        for round_ in range(done, config.rounds):
            if round_ in due:
                adapter = adapter_after(run, config, round_)
                stage = _held_out(check_name(round_), test, 1, config, adapter)
                bars.advance(f"held out: {stage.policy}")
                _evaluate(run, agent, stage, envs, config, bars)
            bars.advance(f"round {round_ + 1} of {config.rounds}")
            play_round(run, agent, envs, config, round_ + 1, bars.stage)
            tried = counted(run.records("train", config.agent, round_ + 1).values())
            _tell(filter(None, [note(f"round {round_ + 1}", tried)]), console)
        policies[TRAINED] = (agent, adapter_after(run, config, config.rounds))
        records = _compare(run, policies, test, 1, envs, config, bars)
    summary = summarize(records, config.seed, run.seconds) | {
        "evaluations": evaluations(run, config.rounds),
        **({} if config.screen is None else {"saved": evaluations(run, config.rounds, "saved")}),
        "checks": _checks(run, config, records[TRAINED], envs),
    }
    usual = default_prompt(task, make_language(config.env))
    write_adapter(run, run.checkpoint(config.rounds), summary, usual)
    return _conclude(run, summary, console)


def evaluate(
    config: EvaluateConfig, resume: bool, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Runs `seal-env evaluate`; returns the summary."""
    started = time.monotonic()
    out = config.out or Path("runs") / f"evaluate-{_slug(config.env.task)}"
    RunFolder.check(out, resume, overwrite)
    task = make_task(config.env.task, config.env.data, config.env.task_options)
    split = config.env.split
    if split == AUTO:
        split = "test" if task.size("train") is None else "all"
    problems = _problems(task, split, config.problems)
    measured = config.env.dtype == "auto"
    env = replace(config.env, inner=_inner(config.env), split=split)
    env = with_dtype(env, out, resume)
    config = replace(config, env=env)
    envs = _environment(config, [_held_out("none", problems, config.samples, config)])
    bars = Bars(console)
    names = _usual(env, problems[0]) if config.policies is None else config.policies
    policies = _policies(names, env, config, bars)
    settings = described("evaluate", config, env, contents(env, problems, names))
    run = RunFolder.open(out, settings, resume, overwrite)
    run.started = started
    if run.read_json("summary.json") is not None:
        return _finished(run, console)
    count = len(policies)
    those = "1 policy" if count == 1 else f"{count} policies"
    console.print(f"evaluating {those} on {config.env.task}, in {out}", markup=False)
    told = [*_task_notes(task, problems, env), *run.notes, *_trained_on(names, split)]
    _tell([*told, *(dtype_note(env) if measured else ())], console)
    with bars.counting(count):
        records = _compare(run, policies, problems, config.samples, envs, config, bars)
    return _conclude(run, summarize(records, config.seed, run.seconds), console)


def check_name(round_: int) -> str:
    """Name of the agent's row when it is evaluated after a round of training."""
    return f"after round {round_}"


def _checks(
    run: RunFolder,
    config: TrainConfig,
    trained: Sequence[Record],
    envs: VectorEnv[Any, Any, Any],
) -> list[dict[str, float]]:
    """Results on held-out problems during training and at its end, and the policy's drift."""
    found = []
    rounds = [*check_rounds(config), config.rounds]
    drift: list[dict[str, float]] = [{} for _ in rounds]
    if config.checks:
        base = base_of(envs).episodes
        base.use_adapter(config.env.adapter)
        drift = drifts(run, base.loop, rounds)
    for round_, moved in zip(rounds, drift, strict=True):
        some: Sequence[Record] = trained
        if round_ < config.rounds:
            some = list(run.records("evaluate", check_name(round_), 0).values())
        means = {
            name: sum(r[name] for r in some) / len(some)
            for name in ("accuracy", "log_likelihood", "reward")
        }
        spent = {"round": round_, "evaluations": evaluations(run, round_)}
        found.append(mean_terms(some) | spent | means | moved | diversity(some))
    return found


def _usual(env: EnvConfig, problem: Problem) -> tuple[str, ...]:
    """Default baselines of a comparison."""
    language = make_language(env)
    passage = ("passage",) if language.parse("", problem).error is None else ()
    base = ("base",) if takes_text(language) else ()
    return ("none", *passage, *base)


def _policies(
    names: Sequence[str], env: EnvConfig, config: TrainConfig | EvaluateConfig, bars: Bars
) -> dict[str, tuple[Agent, str | None]]:
    """Policies and the adapters of their learners, by the name of their row.

    A policy whose learner followed it in training has two rows, with that learner and with the
    base, unless --adapter names another learner.
    """
    policies: dict[str, tuple[Agent, str | None]] = {}
    for name in names:
        if name in policies:
            raise UserError(f"policy {name!r}: is named twice; name each once")
        built = build(name, env, config.seed, bars.stage, config.options)
        if built.follows is None or env.adapter is not None:
            policies[name] = (built.agent, env.adapter)
        else:
            policies[name] = (built.agent, built.follows)
            policies[name + FIXED] = (built.agent, None)
    return policies


def _small(task: Task, config: TrainConfig) -> Iterator[str]:
    """Note on a split that has fewer problems than a round is to have."""
    size = task.size(config.env.split)
    if size is not None and size < config.problems:
        count = "1 problem" if size == 1 else f"{size} problems"
        split = f"split {config.env.split!r} has {count}; a round has {size}"
        yield f"--problems {config.problems}: {split}"


def _check_screening(agent: Agent, config: TrainConfig) -> None:
    """Checks that candidates can be screened for an agent, and by the critic that is named."""
    if config.screen is None:
        return
    if hasattr(agent.options, "screen"):
        raise UserError(
            f"--screen: agent {config.agent} ranks candidates of its own; give --options.screen "
            f"and --options.critic instead"
        )
    if config.critic is not None:
        env = config.env
        load_critic(
            config.critic,
            load_learner(env.model, env.dtype, env.device, None, env.trust_remote_code),
        )


def _check_reset(agent: Agent, config: TrainConfig) -> None:
    """Checks that an agent can learn from what another policy wrote, as it has to after a reset."""
    if config.reset_every and agent.on_policy:
        raise UserError(
            f"--reset-every {config.reset_every}: agent {config.agent} learns from samples of its "
            f"own policy, and after a reset they are another's; take rest-em, or leave it out"
        )


def _biased(agent: Agent, config: TrainConfig) -> Iterator[str]:
    """Note on screening where what is learned from should be samples of the policy."""
    if config.screen is not None and agent.on_policy:
        yield (
            f"--screen {config.screen:g}: agent {config.agent} learns from self-edits as samples "
            f"of its policy, and those that a critic chose are none: its gradient is biased "
            f"towards what the critic prefers"
        )


def _trained_on(names: Sequence[str], split: str) -> Iterator[str]:
    """Notes on the policies that may have been trained on the problems of a split."""
    for name in names:
        if parted(name)[0] not in AGENTS and Path(name).is_dir():
            config = RunFolder(Path(name)).read_json("config.json")
            if split in ("all", config["env"]["split"]):
                yield (
                    f"split {split!r} has problems that {name} may have been trained on; "
                    f"--split test has none of them"
                )


def _slug(*names: str) -> str:
    """Folder name from names of parts; of a user's own, the class name."""
    short = [name.rpartition(":")[2] if "." in name.partition(":")[0] else name for name in names]
    return "-".join(re.sub(r"[^\w.-]+", "-", name).strip("-.") or "own" for name in short)


def _tell(notes: Iterable[str], console: Console) -> None:
    """Prints notes on the data and the run."""
    for one in notes:
        console.print(f"note: {one}", markup=False, highlight=False)


def _task_notes(task: Task, problems: Sequence[Problem], env: EnvConfig) -> tuple[str, ...]:
    """Notes of a task, and on its problems with the run's model."""
    return (*task.notes, *unknown_words(task, problems, make_learner(env)))


def _problems(task: Task, split: str, count: int) -> tuple[Problem, ...]:
    size = task.size(split)
    count = count if size is None else min(count, size)
    if count < 1:
        raise UserError(f"split {split!r} of the data holds no problem; give a larger file")
    return tuple(problem_at(task, split, i) for i in range(count))


def _held_out(
    policy: str,
    problems: tuple[Problem, ...],
    samples: int,
    config: TrainConfig | EvaluateConfig,
    adapter: str | None = None,
) -> Stage:
    own = config.fresh_test_seeds
    return Stage("evaluate", policy, 0, problems, samples, own_seeds=own, adapter=adapter)


def _environment(
    config: TrainConfig | EvaluateConfig,
    stages: Sequence[Stage],
    curriculum: Curriculum | None = None,
) -> VectorEnv[Any, Any, Any]:
    """The run's environment, with sub-environments for the largest of its stages.

    Raises:
        UserError: It cannot be made, or a stage holds no whole episode.
    """
    most = max(len(episodes_of(stage, config.env.horizon)) for stage in stages)
    count = min(config.num_envs, most)
    return make_environment(config.env, count, config.wrappers or (), curriculum)


def _evaluate(
    run: RunFolder,
    agent: Agent,
    stage: Stage,
    envs: VectorEnv[Any, Any, Any],
    config: TrainConfig | EvaluateConfig,
    bars: Bars,
) -> list[Record]:
    """Records of an evaluation stage; one that is complete in the run folder is not repeated."""
    known = run.records(stage.phase, stage.policy, stage.round)
    episodes = episodes_of(stage, config.env.horizon)
    if len(known) < sum(len(episode.problems) for episode in episodes):
        rollout(run, agent, stage, envs, config.seed, bars.stage)
    records = [known[i] for i in sorted(known)]
    for record in records:
        check_record(record)
    return records


def _compare(
    run: RunFolder,
    policies: Mapping[str, tuple[Agent, str | None]],
    problems: tuple[Problem, ...],
    samples: int,
    envs: VectorEnv[Any, Any, Any],
    config: TrainConfig | EvaluateConfig,
    bars: Bars,
) -> dict[str, list[Record]]:
    """Evaluates policies on the same problems, with the same seeds."""
    records = {}
    for name, (agent, adapter) in policies.items():
        bars.advance(f"evaluation: {name}")
        stage = _held_out(name, problems, samples, config, adapter)
        records[name] = _evaluate(run, agent, stage, envs, config, bars)
    return records


def _conclude(run: RunFolder, summary: dict[str, Any], console: Console) -> dict[str, Any]:
    write_samples(run)
    plot_styles(run)
    plot_learning(run, summary)
    plot_comparison(run, summary)
    run.write_json("summary.json", summary)  # last: where it is, the run is finished
    print_summary(summary, console, split_of(run))
    console.print(f"took {summary['seconds']:.0f} s", markup=False)
    return _pointed(run, console, summary)


def _finished(run: RunFolder, console: Console) -> dict[str, Any]:
    summary: dict[str, Any] = run.read_results("summary.json")
    console.print(f"the run in {run.path} is finished already", markup=False)
    print_summary(summary, console, split_of(run))
    return _pointed(run, console, summary)


def _pointed(run: RunFolder, console: Console, summary: dict[str, Any]) -> dict[str, Any]:
    """Prints the run's files as its last line."""
    pictures = sorted(place.name for place in run.path.glob("*.png"))
    console.print(
        f"wrote {run.path}: summary.json, samples.md, {', '.join(pictures)}; to see table and "
        f"self-edits again: seal-env report {shlex.quote(str(run.path))}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return summary


def _inner(env: EnvConfig) -> InnerLoopConfig:
    """The inner loop's settings; those of the model's preset by default."""
    return env.inner or model_preset(env.model).inner
