"""`seal-env distill`: behavioral cloning of a run's best self-edits by a policy of few parameters.

The best self-edits of a run are mapped to the nearest choices of a menu (`seal_env.menus.base`),
and a small policy learns these choices (`seal_agents.algorithms.imitation`). The result is a run
folder of `ppo-choices`, which can be evaluated like any other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from rich.console import Console

from seal_agents.algorithms.imitation import imitate
from seal_agents.algorithms.ppo_choices import PPOChoices
from seal_agents.algorithms.rest_em import best
from seal_agents.base import Agent, AgentContext, Experience, Observation
from seal_agents.reporting.report import plot_comparison, print_summary, summarize
from seal_agents.run_folder import CONTENTS, Record, RunFolder
from seal_agents.runner.build import build, make, trained_with
from seal_agents.runner.configs import DistillConfig, TrainConfig
from seal_agents.runner.contents import contents, of_records
from seal_agents.runner.environment import make_environment
from seal_agents.runner.experience import experience
from seal_agents.runner.progress import Bars
from seal_agents.runner.rollout import Stage, rollout
from seal_agents.runner.rounds import round_problems
from seal_env.config import EnvConfig, make_task
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Task
from seal_env.vector import SelfEditVectorEnv

TEACHER, STUDENT, CHANCE = "teacher", "distilled", "random choices"


def distill(
    config: DistillConfig, resume: bool, overwrite: bool, console: Console
) -> dict[str, Any]:
    """Runs `seal-env distill`; returns the summary."""
    given = RunFolder.existing(config.run)
    taught = trained_with(given)
    # The run's workers may be elsewhere, and little is carried out here.
    taught = replace(taught, env=replace(taught.env, workers=0, ray_address=None))
    if taught.env.horizon > 1:
        raise UserError(
            f"--run {config.run}: was trained with --horizon {taught.env.horizon}; what is "
            f"distilled is what is best for one problem, so give a run with --horizon 1"
        )
    out = config.out or config.run.with_name(f"{config.run.name}-distilled")
    RunFolder.check(out, resume, overwrite)
    env = replace(taught.env, adapter=None, split="test")
    task = make_task(env.task, env.data, env.task_options)
    bars = Bars(console)
    teacher = build(str(config.run), env, config.seed, bars.stage, taught.options).agent
    student, chance = (_student(config, env, bars) for _ in range(2))
    kept = _kept(given, taught, config)
    test = tuple(task.problem("test", i) for i in range(_count(task, config.test_problems)))
    used = contents(env, test) | {"the self-edits of --run": of_records(e.info for e in kept)}
    run = RunFolder.open(out, _described(config, taught) | {CONTENTS: used}, resume, overwrite)
    if run.read_json("summary.json") is not None:
        summary: dict[str, Any] = run.read_results("summary.json")
    else:
        for note in run.notes:
            console.print(f"note: {note}", markup=False, highlight=False)
        console.print(f"distilling {len(kept)} self-edits of {config.run} into {out}", markup=False)
        read = _read(kept, taught, task, config)
        numbers = _learn(run, student, kept, read, config)
        nothing = make("none", env, config.seed, bars.stage)
        writers = {"none": nothing, CHANCE: chance, TEACHER: teacher, STUDENT: student}
        records = _compare(run, writers, test, env, taught.wrappers or (), config, bars)
        summary = summarize(records, config.seed, run.seconds)
        shares = _shares(records, config.seed) | _costs(teacher, student, test, env, config.seed)
        summary |= {"distilled": numbers | shares}
        plot_comparison(run, summary)
        run.write_json("summary.json", summary)  # last: where it is, the run is finished
    print_summary(summary, console)
    for line in _said(summary["distilled"]):
        console.print(line, markup=False, highlight=False)
    console.print(f"wrote {run.path}/summary.json", markup=False)
    return summary


def _described(config: DistillConfig, taught: TrainConfig) -> dict[str, Any]:
    """Content of the new ``config.json``: that of a run of `ppo-choices`, and its source."""
    told = TrainConfig(
        env=taught.env,
        agent="ppo-choices",
        options=config.options,
        rounds=1,
        learner="fixed",
        test_problems=config.test_problems,
        wrappers=taught.wrappers,
        seed=config.seed,
    )
    source = asdict(config) | {"run": str(config.run)}
    left_out = ("options", "test_problems", "seed", "num_envs", "out")
    distilled = {name: value for name, value in source.items() if name not in left_out}
    return {"command": "train"} | asdict(told) | {"distill": distilled}


def _student(config: DistillConfig, env: EnvConfig, bars: Bars) -> PPOChoices:
    context = AgentContext(env, config.seed, options=config.options, progress=bars.stage)
    return PPOChoices(context)


def _kept(run: RunFolder, taught: TrainConfig, config: DistillConfig) -> list[Experience]:
    """The run's best self-edits, without their observations."""
    done = run.rounds_done()
    first = max(1, done - config.last_rounds + 1) if config.last_rounds else 1
    kept: list[Experience] = []
    for round_ in range(first, done + 1):
        known = sorted(run.records("train", taught.agent, round_).items())
        tried = [experience({}, record) for _, record in known]
        kept += best(tried, config.keep)
    if not kept:
        raise UserError(f"--run {run.path}: no self-edit was better than none; train it further")
    return kept


def _read(
    kept: Sequence[Experience], taught: TrainConfig, task: Task, config: DistillConfig
) -> list[Observation]:
    """Observations of the self-edits of a run, on the untouched learner."""
    rounds = sorted({int(e.info["round"]) for e in kept})
    problems = {p.id: p for round_ in rounds for p in round_problems(task, taught, round_)}
    return observe([problems[e.info["problem"]] for e in kept], taught.env, config)


def observe(
    problems: Sequence[Problem], env: EnvConfig, config: DistillConfig
) -> list[Observation]:
    """Observations of problems on the untouched learner."""
    settings = replace(env, adapter=None).kwargs()
    found: list[Observation] = []
    for start in range(0, len(problems), config.num_envs):
        some = list(problems[start : start + config.num_envs])
        batch, _ = SelfEditVectorEnv(len(some), **settings).reset(
            seed=config.seed, options={"problems": some}
        )
        pairs = zip(batch["context"], batch["model_state"], strict=True)
        found += [{"context": c, "model_state": s} for c, s in pairs]
    return found


def _learn(
    run: RunFolder,
    student: PPOChoices,
    kept: Sequence[Experience],
    read: Sequence[Observation],
    config: DistillConfig,
) -> dict[str, Any]:
    """Trains the student, unless its checkpoint exists; returns metrics of the training."""
    menu = student.view.menu
    pairs = zip(read, kept, strict=True)
    chosen = [menu.nearest(str(seen["context"]), e.text) for seen, e in pairs]
    counted = Counter(map(menu.label, chosen)).most_common()
    numbers = {"imitated": len(kept), "choices": dict(counted)}
    if run.rounds_done():
        student.load(run.checkpoint(1))
        return numbers | (run.read_json("rounds.json") or [{}])[0]
    problems = [str(e.info["problem"]) for e in kept]
    losses = imitate(student, read, chosen, problems, config.imitation, config.seed)
    told = {"round": 1, "evaluations": 0, **losses}
    run.write_json("rounds.json", [told])
    run.save_checkpoint(1, student.save)
    return numbers | told


def _compare(
    run: RunFolder,
    writers: Mapping[str, Agent],
    problems: tuple[Problem, ...],
    env: EnvConfig,
    wrappers: Sequence[str],
    config: DistillConfig,
    bars: Bars,
) -> dict[str, list[Record]]:
    """Evaluates policies on the same problems and the same learner."""
    records = {}
    envs = make_environment(env, min(config.num_envs, len(problems)), wrappers)
    with bars.counting(len(writers)):
        for name, agent in writers.items():
            bars.advance(f"held out: {name}")
            stage = Stage("evaluate", name, 0, problems, 1)
            rollout(run, agent, stage, envs, config.seed, bars.stage)
            known = run.records("evaluate", name, 0)
            records[name] = [known[i] for i in range(len(problems))]
    return records


def _shares(records: Mapping[str, Sequence[Record]], seed: int) -> dict[str, Any]:
    """Share of the teacher's reward, and of its gain over no self-edit, that the student reaches.

    With 95% percentile-bootstrap intervals of the ratio, problems resampled (Efron 1979).
    """
    generator = np.random.default_rng(seed)
    count = len(records[TEACHER])
    drawn = generator.integers(count, size=(10_000, count))
    found: dict[str, Any] = {}
    for name in ("reward", "gain"):
        large, small = (
            np.array([r["reward"] - (r["reward_before"] if name == "gain" else 0) for r in some])
            for some in (records[TEACHER], records[STUDENT])
        )
        found[f"{name}_of_teacher"], found[f"{name}_of_student"] = large.mean(), small.mean()
        if large.mean() > 0:
            bottom = np.maximum(large[drawn].mean(axis=1), 1e-9)
            interval = np.percentile(small[drawn].mean(axis=1) / bottom, [2.5, 97.5])
            found[f"share_of_{name}"] = small.mean() / large.mean()
            found[f"share_of_{name}_ci"] = interval.tolist()
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items()}


def _costs(
    teacher: Agent, student: PPOChoices, problems: Sequence[Problem], env: EnvConfig, seed: int
) -> dict[str, float]:
    """Seconds per self-edit, sampled in one batch, and parameters of both policies.

    The student observes the learner's state, so its cost includes the learner's pass over the
    context.
    """
    learner = load_learner(env.model, env.dtype, env.device, None, env.trust_remote_code)
    config = DistillConfig(seed=seed)
    read, seeds = observe(problems, env, config), range(len(problems))
    seconds = {}
    for name, agent in (("teacher", teacher), ("student", student)):
        started = time.perf_counter()
        agent.act(read, seeds)
        seconds[name] = (time.perf_counter() - started) / len(read)
    started = time.perf_counter()
    ids = [learner.renderer.reading(str(o["context"])) for o in read]
    learner.describe(ids, list(range(len(ids))), None)
    reading = (time.perf_counter() - started) / len(read)
    acting = [
        tensor.numel()
        for name, tensor in student.model.policy.named_parameters()
        if "value_net" not in name
    ]
    large = sum(tensor.numel() for tensor in learner.model.parameters())
    return {
        "seconds_of_teacher": seconds["teacher"],
        "seconds_of_student": seconds["student"] + reading,
        "seconds_of_student_reading": reading,
        "share_of_seconds": (seconds["student"] + reading) / seconds["teacher"],
        "parameters_of_teacher": large,
        "parameters_of_student": sum(acting),
        "share_of_parameters": sum(acting) / large,
    }


def _count(task: Task, wanted: int) -> int:
    size = task.size("test")
    count = wanted if size is None else min(wanted, size)
    if count < 1:
        raise UserError("split 'test' of the data holds no problem; give a larger file")
    return count


def _said(numbers: Mapping[str, Any]) -> list[str]:
    """Summary in a few lines of text."""
    common = list(numbers["choices"].items())[:3]
    lines = [
        f"imitated {numbers['imitated']} self-edits; the most frequent choices: "
        + "; ".join(f"{label} ({count})" for label, count in common)
    ]
    for name in ("reward", "gain"):
        if f"share_of_{name}" in numbers:
            low, high = numbers[f"share_of_{name}_ci"]
            lines.append(
                f"share of the teacher's {name} kept: {numbers[f'share_of_{name}']:.0%} "
                f"[{low:.0%}, {high:.0%}]"
            )
    lines.append(
        f"seconds per self-edit: {numbers['seconds_of_student']:.5f} for "
        f"{numbers['seconds_of_teacher']:.5f} ({numbers['share_of_seconds']:.1%}); parameters: "
        f"{numbers['parameters_of_student']:,} for {numbers['parameters_of_teacher']:,} "
        f"({numbers['share_of_parameters']:.1%})"
    )
    return lines
