"""Letting an agent write self-edits, finding out what they are worth, and keeping it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from seal_agents.base import Agent, Experience, Observation, Progress
from seal_agents.run_folder import Record, RunFolder
from seal_agents.runner.experience import actions, experience, text_of, tokens_of
from seal_env.config import EnvConfig
from seal_env.curriculum import Curriculum
from seal_env.episodes import Episodes, Step
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem


@dataclass(frozen=True)
class Stage:
    """A part of a run: one policy on some problems."""

    phase: str
    """``"train"`` or ``"evaluate"``."""
    policy: str
    """The policy's name."""
    round: int
    """The round of training, from 1; 0 for an evaluation."""
    problems: tuple[Problem, ...]
    """What the policy gets to read."""
    samples: int
    """Self-edits a problem."""
    own_seeds: bool = False
    """Whether each self-edit has an inner seed of its own, the same for all policies; else all
    have the run's."""
    curriculum: Curriculum | None = None
    """How long a self-edit may be; None for any length."""
    progress: float = 0.0
    """How far training has come, from 0 to 1, for the curriculum."""


def rollout(
    run: RunFolder,
    agent: Agent,
    stage: Stage,
    env: EnvConfig,
    seed: int,
    num_envs: int,
    progress: Progress,
) -> list[Experience]:
    """Lets an agent write self-edits for a stage's problems and carries them out.

    What the run folder already knows is not done again.

    Args:
        run: Where every self-edit is written down.
        agent: Who writes.
        stage: On what.
        env: The environment's settings.
        seed: The run's seed: fixes what is sampled and the inner loop.
        num_envs: Self-edits carried out in one pass.
        progress: Told how it is getting on.

    Returns:
        The experiences, problem by problem.
    """
    observations: list[Observation] = []
    for start in range(0, len(stage.problems), num_envs):
        observations += _observations(stage.problems[start : start + num_envs], env, seed)
    slots = [(p, s) for p in range(len(stage.problems)) for s in range(stage.samples)]
    known = run.records(stage.phase, stage.policy, stage.round)
    missing = [i for i in range(len(slots)) if i not in known]
    if missing:
        seeds = [
            stable_hash(seed, stage.phase, stage.round, stage.problems[p].id, sample)
            for p, sample in (slots[i] for i in missing)
        ]
        inner = [seed] * len(missing)
        if stage.own_seeds:
            inner = [stable_hash("inner", s) for s in seeds]
        before = agent.evaluations
        written = actions(agent, [observations[slots[i][0]] for i in missing], seeds)
        texts = [text_of(action) for action in written]
        own = (agent.evaluations - before) / len(missing)
        unread = {p: agent.truncated(observations[p]) for p in {slots[i][0] for i in missing}}
        done = len(slots) - len(missing)
        for start in range(0, len(missing), num_envs):
            chunk = missing[start : start + num_envs]
            part = slice(start, start + num_envs)
            problems = [stage.problems[slots[i][0]] for i in chunk]
            progress("self-edits", done, len(slots))
            carried = _carry_out(problems, texts[part], inner[part], env, stage, progress)
            run.append(
                [
                    _record(stage, i, slots[i][1], own, one)
                    | {"truncated_context": unread[slots[i][0]]}
                    | (tokens_of(action) if stage.phase == "train" else {})
                    for i, one, action in zip(chunk, carried, written[part], strict=True)
                ]
            )
            done += len(chunk)
        progress("self-edits", done, len(slots))
    return [experience(observations[p], known[i]) for i, (p, _) in enumerate(slots)]


def _observations(problems: Sequence[Problem], env: EnvConfig, seed: int) -> list[Observation]:
    episodes = Episodes(env, len(problems))
    for slot, problem in enumerate(problems):
        episodes.begin(slot, episodes.resolve(problem), seed)
    return list(episodes.observe(range(len(problems))))


class _Carried(NamedTuple):
    """A self-edit, and what it was worth."""

    text: str | None
    """What was carried out: what was written, as far as it was allowed."""
    written: str | None
    """What was written."""
    step: Step
    nothing: Step
    """What doing nothing is worth."""
    style: str | None


def _carry_out(
    problems: Sequence[Problem],
    texts: Sequence[str | None],
    seeds: Sequence[int],
    env: EnvConfig,
    stage: Stage,
    progress: Progress,
) -> list[_Carried]:
    """What the self-edits are worth (None leaves the learner as it is), and what nothing is.

    Nobody looks at the learner afterwards, so unlike a step of the environment this does not
    describe its new state.
    """
    episodes = Episodes(env, len(texts))
    learner, task = episodes.loop.learner, episodes.task
    allowed = list(texts)
    if stage.curriculum is not None:
        cut = partial(stage.curriculum.cut, progress=stage.progress, learner=learner)
        allowed = [None if text is None else cut(text) for text in texts]
    written = [(i, text) for i, text in enumerate(allowed) if text is not None]
    for slot, (i, _) in enumerate(written):
        episodes.begin(slot, episodes.resolve(problems[i]), seeds[i])
    found = episodes.step([text for _, text in written], progress)
    steps = {i: step for (i, _), step in zip(written, found, strict=True)}
    nothing = episodes.idle(problems, progress)
    return [
        _Carried(
            text,
            texts[i],
            steps.get(i, nothing[i]),
            nothing[i],
            None if text is None else task.style(text),
        )
        for i, text in enumerate(allowed)
    ]


def _record(stage: Stage, index: int, sample: int, own: float, carried: _Carried) -> Record:
    return {
        "phase": stage.phase,
        "policy": stage.policy,
        "round": stage.round,
        "index": index,
        "sample": sample,
        "text": carried.text,
        **({} if carried.text == carried.written else {"written": carried.written}),
        "style": carried.style,
        "evaluations": (carried.text is not None) + (int(own) if own == int(own) else own),
        "reward": carried.step.reward,
        "reward_before": carried.nothing.reward,
        **{key: value for key, value in carried.step.info.items() if key != "sequences"},
    }
