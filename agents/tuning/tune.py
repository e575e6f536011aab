"""`seal-env tune`: a search for the inner loop's settings, and the preset file that comes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import build
from seal_agents.runner.configs import AUTO
from seal_agents.runner.contents import contents, described, dtype_note, with_dtype
from seal_agents.runner.progress import Bars
from seal_agents.tuning import report
from seal_agents.tuning.config import TuneConfig
from seal_agents.tuning.halving import Trial, inner_loops, rungs, search
from seal_agents.tuning.space import Candidate
from seal_agents.tuning.trials import Trials
from seal_env.config import make_task
from seal_env.engine.shapes import shape_of
from seal_env.episodes import Episodes
from seal_env.presets import ModelPreset, model_preset, read_preset
from seal_env.presets.files import preset_json
from seal_env.tasks.base import problem_at

PRESET, TABLE = "preset.json", "table.md"


def tune(config: TuneConfig, resume: bool, overwrite: bool, console: Console) -> ModelPreset:
    """Runs `seal-env tune`; returns the preset."""
    started = time.monotonic()
    model = Path(config.env.model).stem.lower()
    out = config.out or Path("runs") / f"tune-{config.env.task}-{model}"
    RunFolder.check(out, resume, overwrite)
    env = config.env
    task = make_task(env.task, env.data, env.task_options)
    split = env.split
    if split == AUTO:
        split = "validation" if task.size("train") is None else "all"
    inner = env.inner or model_preset(env.model).inner
    env = with_dtype(replace(env, inner=inner, split=split, horizon=1), out, resume)
    measured, config = config.env.dtype == "auto", replace(config, env=env)
    size = task.size(split)
    count = config.problems if size is None else min(config.problems, size)
    problems = [problem_at(task, split, i) for i in range(count)]
    episodes = Episodes(config.env, min(config.num_envs, count))
    config = _fitting(config, episodes)
    include = _included(config, episodes)
    bars = Bars(console)
    agent = build(config.policy, config.env, config.seed, bars.stage, config.options).agent
    used = contents(config.env, problems, [config.policy])
    run = RunFolder.open(out, described("tune", config, config.env, used), resume, overwrite)
    run.started = started
    for note in dtype_note(env) if measured else ():
        console.print(f"note: {note}", markup=False, highlight=False)
    total, done, begun = inner_loops(config, count), 0, time.monotonic()

    def tell(new: int) -> None:
        nonlocal done
        done += new
        bars.stage("inner loops", done, total)

    trials = Trials(config, episodes, problems, run, tell)
    steps = 1 + len(rungs(config, count)) * -(-config.trials // config.bracket)
    with bars.counting(steps):
        bars.advance("self-edits")
        trials.write(agent)

        def measure(candidates: Sequence[Candidate], level: int) -> list[float]:
            left = (time.monotonic() - begun) / done * (total - done) if done else None
            ahead = "" if left is None else f"; about {left / 60:.0f} min left"
            bars.advance(f"{len(candidates)} settings on {level} problems{ahead}")
            return trials.measure(candidates, level)

        found = search(config, count, measure, include)
    return _conclude(config, found, trials, run, console)


def _conclude(
    config: TuneConfig, found: Sequence[Trial], trials: Trials, run: RunFolder, console: Console
) -> ModelPreset:
    """Writes table, plot and preset; the preset is written last."""
    table = report.rows(found, trials)
    run.write_bytes(TABLE, report.markdown(table).encode())
    report.plot(found, run)
    best = found[0].candidate
    preset = ModelPreset(
        inner=replace(best.inner(trials.episodes.loop.config), tokens_per_pass=None),
        reward=config.env.reward,
        passage=best.passage,
        shape=shape_of(trials.episodes.loop.learner.model.config),
        source=f"seal-env tune, seed {config.seed}: {len(found)} settings, the best on "
        f"{found[0].problems} problems",
    )
    run.write_bytes(PRESET, preset_json(preset).encode())
    report.print_table(table, console)
    console.print(
        f"wrote {run.path}: {PRESET}, {TABLE}, trials.png; use it with "
        f"--preset {run.path / PRESET}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return preset


def _fitting(config: TuneConfig, episodes: Episodes) -> TuneConfig:
    """The search with the parts of its space that the model and the language have."""
    space = config.space
    if not episodes.loop.learner.renderer.uses_chat(None):
        space = replace(space, chat=())
    if config.env.edit != type(config.env).edit:
        space = replace(space, passages=("last",))
    return replace(config, space=space)


def _included(config: TuneConfig, episodes: Episodes) -> list[Candidate]:
    """Settings of the presets that are tried besides those that are drawn."""
    chat = True if episodes.loop.learner.renderer.uses_chat(None) else None
    found = [Candidate.of(read_preset(name), chat) for name in config.include]
    return list(dict.fromkeys(found))
