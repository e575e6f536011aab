"""Self-edits for all passages, written by policies and kept in the run folder as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from seal_agents.base import Agent, Observation, Progress
from seal_agents.run_folder import Record, RunFolder
from seal_agents.runner.experience import actions, text_of
from seal_env.engine.learner import Learner
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem, Task

BATCH = 64
"""Self-edits that are written, and kept, at a time."""


def write_self_edits(
    run: RunFolder,
    agents: Mapping[str, Agent],
    problems: Sequence[Problem],
    task: Task,
    writer: Learner,
    samples: int,
    seed: int,
    progress: Progress,
) -> list[Record]:
    """Records of self-edits, `samples` per policy and problem; those in the run are not repeated.

    A record has the fields ``context`` and ``text``, so that ``edits:FILE`` can read it.

    Args:
        run: Run folder that has and gets the records.
        agents: Policies by their names.
        problems: The passages.
        task: Their task.
        writer: The model that writes.
        samples: Self-edits per policy and passage.
        seed: The run's seed.
        progress: Progress callback for the stage "self-edits".

    Returns:
        All records: by policy, then by passage.
    """
    count = len(problems) * samples
    for number, (name, agent) in enumerate(agents.items()):
        known = run.records("write", name, 0)
        for part in _parts([i for i in range(count) if i not in known]):
            read = [problems[i // samples] for i in part]
            seeds = [
                stable_hash(seed, "adapt", name, p.id, i % samples) for p, i in _pairs(read, part)
            ]
            written = actions(agent, _observations(read, task, writer), seeds)
            run.append(
                [
                    {
                        "phase": "write",
                        "policy": name,
                        "round": 0,
                        "index": i,
                        "problem": problem.id,
                        "context": task.reads(problem),
                        "text": text_of(action),
                    }
                    for (problem, i), action in zip(_pairs(read, part), written, strict=True)
                ]
            )
            progress("self-edits", number * count + len(known), len(agents) * count)
    groups = [run.records("write", name, 0) for name in agents]
    return [group[i] for group in groups for i in range(count)]


def _parts(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), BATCH):
        yield indices[start : start + BATCH]


def _pairs(problems: Sequence[Problem], indices: Sequence[int]) -> Iterator[tuple[Problem, int]]:
    return zip(problems, indices, strict=True)


def _observations(problems: Sequence[Problem], task: Task, writer: Learner) -> list[Observation]:
    """Observations as `SelfEditEnv` makes them at the start of an episode."""
    unique = list(dict.fromkeys(map(task.reads, problems)))
    ids = [writer.renderer.reading(text) for text in unique]
    states = {}
    for text, tokens in zip(unique, ids, strict=True):
        (hidden,), (loss,) = writer.describe([tokens], [0], None)
        states[text] = np.nan_to_num(np.concatenate([hidden, [loss, 0, 0, 1]]).astype(np.float32))
    return [
        {"context": text, "model_state": states[text].copy()} for text in map(task.reads, problems)
    ]
