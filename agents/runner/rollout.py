"""Rollouts: sample self-edits, step the environment, append the results to the run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from seal_agents.base import Action, Agent, Experience, Observation, Progress
from seal_agents.run_folder import MEASURES, Record, RunFolder
from seal_agents.runner.environment import base_of
from seal_agents.runner.experience import actions as act
from seal_agents.runner.experience import experience, text_of, tokens_of
from seal_agents.runner.screening import Candidate, Screening
from seal_env.errors import UserError
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
    """Problems in the order in which episodes use them."""
    samples: int
    """Episodes per stream of problems."""
    own_seeds: bool = False
    """Whether each episode has an inner seed of its own, the same for all policies; else all have
    the run's."""
    progress: float = 1.0
    """Progress of training from 0 to 1, passed as ``options["progress"]`` to `reset`."""
    adapter: str | None = None
    """Folder of the PEFT adapter that the learner starts from; None for the base."""


class Episode(NamedTuple):
    """One episode of a stage."""

    number: int
    """Index of its stream of problems."""
    sample: int
    """Index among the episodes on this stream."""
    problems: tuple[Problem, ...]
    """The stream."""
    first: int
    """Index of its first self-edit in the stage."""


def rollout(
    run: RunFolder,
    agent: Agent,
    stage: Stage,
    envs: VectorEnv[Any, Any, Any],
    seed: int,
    progress: Progress,
    screening: Screening | None = None,
) -> list[Experience]:
    """Plays the episodes of a stage and records every self-edit.

    Self-edits that the run folder already has are not sampled again. In an episode of several
    steps they are carried out again, up to the last step, since later observations depend on them.

    Args:
        run: Run folder that gets the records.
        agent: Agent that writes the self-edits.
        stage: Problems, samples and seeds.
        envs: The environment; see `seal_agents.runner.environment.make_environment`.
        seed: The run's seed, for sampling and the inner loop.
        progress: Progress callback.
        screening: Choice of the episodes that are played; None for all of them.

    Returns:
        The experiences: episode by episode, the samples of one stream of problems side by side,
        and step by step within an episode.
    """
    base = base_of(envs)
    base.use_adapter(stage.adapter)
    base.progress = progress
    episodes = episodes_of(stage, base.config.horizon)
    known = run.records(stage.phase, stage.policy, stage.round)
    chosen: Mapping[int, Candidate | None] = {}
    if screening is not None:
        chosen = _screened(run, agent, stage, envs, seed, episodes, screening)
        episodes = [episode for episode in episodes if episode.first in chosen]
    total = sum(len(episode.problems) for episode in episodes)
    if len(known) < total:
        progress("self-edits", len(known), total)
    experiences: list[Experience] = []
    for start in range(0, len(episodes), envs.num_envs):
        some = episodes[start : start + envs.num_envs]
        batch = _Batch(run, agent, stage, envs, seed, some, chosen)
        before = len(known)
        experiences += batch.play()
        if len(known) > before:
            progress("self-edits", len(known), total)
    return experiences


def _screened(
    run: RunFolder,
    agent: Agent,
    stage: Stage,
    envs: VectorEnv[Any, Any, Any],
    seed: int,
    episodes: Sequence[Episode],
    screening: Screening,
) -> dict[int, Candidate | None]:
    """The episodes of one step that are played, by index of their self-edit."""

    def write(indices: Sequence[int]) -> list[tuple[str, Action]]:
        drafts: list[tuple[str, Action]] = []
        for start in range(0, len(indices), envs.num_envs):
            some = [episodes[i] for i in indices[start : start + envs.num_envs]]
            drafts += _Batch(run, agent, stage, envs, seed, some).write()
        return drafts

    problems: dict[str, list[int]] = {}
    for episode in episodes:
        problems.setdefault(episode.problems[0].id, []).append(episode.first)
    known = run.records(stage.phase, stage.policy, stage.round)
    return screening.choose(problems, known, write)


def episodes_of(stage: Stage, horizon: int) -> list[Episode]:
    """The episodes of a stage; problems that do not fill a last one are left out.

    Raises:
        UserError: There are too few problems for one episode.
    """
    streams = [
        stage.problems[start : start + horizon]
        for start in range(0, len(stage.problems) - horizon + 1, horizon)
    ]
    if not streams:
        raise UserError(
            f"--horizon {horizon}: an episode takes so many problems, and to {stage.phase} there "
            f"are {len(stage.problems)}; use a shorter horizon or more problems"
        )
    pairs = [(number, sample) for number in range(len(streams)) for sample in range(stage.samples)]
    return [
        Episode(number, sample, streams[number], index * horizon)
        for index, (number, sample) in enumerate(pairs)
    ]


class _Batch:
    """Episodes that are played in parallel."""

    def __init__(
        self,
        run: RunFolder,
        agent: Agent,
        stage: Stage,
        envs: VectorEnv[Any, Any, Any],
        seed: int,
        episodes: Sequence[Episode],
        chosen: Mapping[int, Candidate | None] | None = None,
    ) -> None:
        self.run, self.agent, self.stage, self.envs, self.seed = run, agent, stage, envs, seed
        self.episodes = episodes
        self.chosen = chosen or {}
        self.known = run.records(stage.phase, stage.policy, stage.round)
        base = base_of(envs)
        self.task, self.horizon = base.episodes.task, base.config.horizon

    def play(self) -> list[Experience]:
        """Plays them to their end; returns what is learned from, episode by episode."""
        observations = self._reset()
        steps: list[list[Experience]] = []
        for step in range(self.horizon):
            observed = [_entry(observations, i) for i in range(len(self.episodes))]
            observations = self._step(step, observed)
            steps.append(
                [
                    experience(observation, self.known[episode.first + step])
                    for observation, episode in zip(observed, self.episodes, strict=True)
                ]
            )
        return [step[i] for i in range(len(self.episodes)) for step in steps]

    def write(self) -> list[tuple[str, Action]]:
        """Context and self-edit of each episode's first step, which is not carried out."""
        observations = self._reset()
        observed = [_entry(observations, i) for i in range(len(self.episodes))]
        seeds = [self._seed(episode, 0) for episode in self.episodes]
        contexts = [self.task.reads(episode.problems[0]) for episode in self.episodes]
        return list(zip(contexts, act(self.agent, observed, seeds), strict=True))

    def _reset(self) -> Mapping[str, Any]:
        """Starts the episodes; where there are fewer than places, the first one fills the rest."""
        inner = [self.seed] * len(self.episodes)
        if self.stage.own_seeds:
            inner = [stable_hash("inner", self._seed(episode, 0)) for episode in self.episodes]
        problems = [list(episode.problems) for episode in self.episodes]
        rest = self.envs.num_envs - len(self.episodes)
        options = {
            "problems": problems + problems[:1] * rest,
            "progress": self.stage.progress,
        }
        seeds: Any = inner + inner[:1] * rest
        observations: Mapping[str, Any] = self.envs.reset(seed=seeds, options=options)[0]
        return observations

    def _step(self, step: int, observed: Sequence[Observation]) -> Mapping[str, Any]:
        """Plays one step and writes it down; returns the observations after it."""
        records = [self.known.get(episode.first + step) for episode in self.episodes]
        missing = [i for i, record in enumerate(records) if record is None]
        last = step + 1 == self.horizon
        if last and not missing:
            return {}
        # A known self-edit is carried out again for what comes after it.
        actions = [None if r is None or last else r.get("written", r["text"]) for r in records]
        before = self.agent.evaluations
        written = self._written(missing, step, observed)
        own = (self.agent.evaluations - before) / max(len(missing), 1)
        for i, action in zip(missing, written, strict=True):
            actions[i] = text_of(action)
        rest = [None] * (self.envs.num_envs - len(actions))
        observations, rewards, _, _, infos = self.envs.step([*actions, *rest])
        if not isinstance(infos, Mapping) or not {"text", "reward_before"} <= infos.keys():
            raise UserError(
                "--wrappers: a step's infos have no 'text' or 'reward_before'; a wrapper must pass "
                "on those of the environment below it, and add to them"
            )
        if not np.isfinite([*rewards, *infos["reward_before"]]).all():
            raise UserError(
                "--wrappers: a reward is infinite or NaN; a wrapper must return finite numbers"
            )
        cut: dict[str, int] = {}
        for i in missing:
            context = str(observed[i]["context"])
            if context not in cut:
                cut[context] = self.agent.truncated(observed[i])
        self.run.append(
            [
                self._record(i, step, actions[i], float(rewards[i]), _entry(infos, i), own)
                | {"truncated_context": cut[str(observed[i]["context"])]}
                | (tokens_of(action) if self.stage.phase == "train" else {})
                for i, action in zip(missing, written, strict=True)
            ]
        )
        return observations

    def _written(
        self, missing: Sequence[int], step: int, observed: Sequence[Observation]
    ) -> list[Action]:
        """The self-edits of some episodes: of those that were screened what was written then."""
        drafts = [self.chosen.get(self.episodes[i].first) for i in missing]
        if drafts and all(draft is not None for draft in drafts):
            return [draft.action for draft in drafts if draft is not None]
        seeds = [self._seed(self.episodes[i], step) for i in missing]
        return list(act(self.agent, [observed[i] for i in missing], seeds)) if missing else []

    def _seed(self, episode: Episode, step: int) -> int:
        """Fixes what the agent samples at a step of an episode."""
        stage, problem = self.stage, episode.problems[step]
        return stable_hash(self.seed, stage.phase, stage.round, problem.id, episode.sample)

    def _record(
        self,
        index: int,
        step: int,
        written: str | None,
        reward: float,
        info: Mapping[str, Any],
        own: float,
    ) -> Record:
        """A self-edit and what it was worth, as one line of the run."""
        stage, episode = self.stage, self.episodes[index]
        text, draft = info["text"], self.chosen.get(episode.first)
        record = {
            "phase": stage.phase,
            "policy": stage.policy,
            "round": stage.round,
            "index": episode.first + step,
            "sample": episode.sample,
            **({"episode": episode.number, "step": step} if self.horizon > 1 else {}),
            "text": text,
            **({} if text == written else {"written": written}),
            **({} if draft is None else {"critic": draft.score}),
            "style": None if text is None else self.task.style(text),
            "evaluations": (text is not None) + (int(own) if own == int(own) else own),
            "reward": reward,
            "reward_before": info["reward_before"],
        }
        # Of what a user's wrapper adds, nothing stands in for the run's own fields.
        told = {key: _plain(value) for key, value in info.items() if key != "sequences"}
        # Where nothing is asked there is no accuracy; as NaN it goes through all means and tables.
        told |= {key: math.nan for key in MEASURES if told.get(key, math.nan) is None}
        return record | {key: value for key, value in told.items() if key not in record}


def _plain(value: Any) -> Any:
    """A value of an info without arrays, which JSON has none of."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _entry(batch: Mapping[str, Any], index: int) -> dict[str, Any]:
    """One sub-environment's part of batched observations or infos, numbers as Python's own."""
    entry: dict[str, Any] = {}
    for name, values in batch.items():
        mask = batch.get(f"_{name}")
        if name.startswith("_") or (mask is not None and not mask[index]):
            continue
        value = _entry(values, index) if isinstance(values, Mapping) else values[index]
        entry[name] = value.item() if isinstance(value, np.generic) else value
    return entry
