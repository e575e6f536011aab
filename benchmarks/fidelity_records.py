"""Inner loops of `benchmarks.reward_fidelity`: each one's terms, as a line of a file.

Every self-edit of a problem is carried out under the same adapter seeds. A line has the value of
every term and, for the terms that are means over the questions, the value of each question, so that
any statistic can be computed again without an inner loop. Lines are written after each batch; what
the file has is not measured again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from seal_agents.runner.build import make
from seal_agents.runner.experience import text_of
from seal_env.config import EnvConfig, make_task
from seal_env.episodes import Episodes
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.rewards.base import RewardInputs, TermValue
from seal_env.tasks.base import Problem, problem_at

MAIN, AGAIN = "main", "again"
"""Inner loops of the measurement; some of them again, in another process, order and batch."""
SAMPLING = 4
"""Self-edits that are sampled per self-edit that is wanted, since equal ones count once."""

Tell = Callable[[int, int], None]
"""Callback with the inner loops done and their number."""


class Questions:
    """Reward term of value 0 whose parts are the numbers of every question.

    `accuracy`: 1 for a right answer, else 0. `log_likelihood`: that of the gold answer, in nats per
    token.
    """

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        after = measured.after
        parts = {
            "accuracy": [float(verdict) for verdict in after.verdicts],
            "log_likelihood": list(after.log_likelihoods),
        }
        return TermValue(0.0, parts)


QUESTIONS = f"{__name__}:{Questions.__name__}"


class Job(NamedTuple):
    """One inner loop."""

    problem: Problem
    """Problem."""
    text: str
    """Self-edit."""
    seed: int
    """Adapter seed and data order."""
    kind: str = MAIN
    """`MAIN` or `AGAIN`."""

    @property
    def key(self) -> tuple[str, int, int, str]:
        """Identity of the inner loop in a file."""
        return self.problem.id, stable_hash(self.text), self.seed, self.kind


@dataclass
class Records:
    """Inner loops in a file.

    Args:
        path: JSONL file; created by the first line.
        settings: Settings that decide a result; a file of others is refused.

    Raises:
        UserError: The file has other settings, or a damaged line that is not its last.
    """

    path: Path
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        self.known: dict[tuple[str, int, int, str], dict[str, Any]] = {}
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            content = b""
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # stopped while a line was written
            self.path.write_bytes(whole)
        for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], 1):
            try:
                self._read(json.loads(line), number)
            except UserError:
                raise
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path}, line {number}: is damaged; delete the line, and it is "
                    f"measured again"
                ) from error
        if not whole:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._write([{"settings": self.settings}])

    def _read(self, line: dict[str, Any], number: int) -> None:
        if number > 1:
            key = line["problem"], line["text"], line["seed"], line["kind"]
            self.known[key] = line
        elif line["settings"] != json.loads(json.dumps(self.settings)):
            raise UserError(
                f"--records {self.path}: has inner loops of other settings; name another file"
            )

    def missing(self, jobs: Sequence[Job], terms: Sequence[str]) -> list[Job]:
        """Jobs that the file does not have with all of the terms."""
        return [
            job
            for job in jobs
            if job.key not in self.known
            or not (self.known[job.key]["error"] or set(terms) <= set(self.known[job.key]["terms"]))
        ]

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Appends inner loops."""
        self._write(lines)
        for line in lines:
            self._read(line, 2)

    def _write(self, lines: Sequence[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


def self_edits(env: EnvConfig, problems: int, count: int) -> dict[Problem, list[str]]:
    """The problems of a split and self-edits of each, all different.

    They are those that came with the data, else samples of the untrained policy. Problems with
    fewer than two are left out.
    """
    task = make_task(env.task, env.data, env.task_options)
    size = task.size(env.split)
    chosen = [
        problem_at(task, env.split, i)
        for i in range(problems if size is None else min(size, problems))
    ]
    texts = [list(problem.edits.values()) for problem in chosen]
    if not any(texts):
        agent = make("base", replace(env, reward="accuracy", reward_options={}), 0, _quiet)
        drawn = [(i, sample) for i in range(len(chosen)) for sample in range(SAMPLING * count)]
        seen = [{"context": task.reads(chosen[i]), "model_state": None} for i, _ in drawn]
        seeds = [stable_hash("fidelity", chosen[i].id, sample) for i, sample in drawn]
        for (i, _), action in zip(drawn, agent.act(seen, seeds), strict=True):
            texts[i].append(text_of(action) or "")
    different = [list(dict.fromkeys(some))[:count] for some in texts]
    found = {p: some for p, some in zip(chosen, different, strict=True) if len(some) > 1}
    if not found:
        raise UserError("no problem has two different self-edits to compare")
    return found


def _quiet(stage: str, done: int, total: int) -> None:
    """Progress that nobody is told of."""


def measure(
    env: EnvConfig,
    terms: Sequence[str],
    jobs: Sequence[Job],
    records: Records,
    batch: int,
    tell: Tell,
) -> None:
    """Carries jobs out, those of one kind together, and records them.

    Args:
        env: The environment; its reward is not used.
        terms: Names of the reward terms.
        jobs: The inner loops.
        records: File that gets them.
        batch: Inner loops side by side.
        tell: Progress callback.
    """
    missing = records.missing(jobs, terms)
    done = 0
    for kind in (MAIN, AGAIN):
        some = [job for job in missing if job.kind == kind]
        if kind == AGAIN and some:
            Random(0).shuffle(some)
            batch = max(batch // 2, 1) + 1
        for lines in _batches(env, terms, some, batch, kind == AGAIN):
            records.add(lines)
            done += len(lines)
            tell(done, len(missing))


def _batches(
    env: EnvConfig, terms: Sequence[str], jobs: Sequence[Job], batch: int, elsewhere: bool
) -> Iterator[list[dict[str, Any]]]:
    """Lines of jobs, batch by batch."""
    env = replace(env, reward=" + ".join((*terms, QUESTIONS)))
    starts = range(0, len(jobs), batch)
    if not elsewhere:
        episodes = Episodes(env, batch) if jobs else None
        for start in starts:
            assert episodes is not None
            yield _carried_out(episodes, jobs[start : start + batch])
    elif jobs:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            for start in starts:
                yield process.submit(_in_process, env, jobs[start : start + batch]).result()


def _in_process(env: EnvConfig, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    return _carried_out(Episodes(env, len(jobs)), jobs)


def _carried_out(episodes: Episodes, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Inner loops side by side, as lines of a file."""
    begun = time.monotonic()
    for slot, job in enumerate(jobs):
        episodes.begin(slot, (job.problem,), job.seed)
    steps = episodes.step([job.text for job in jobs])
    seconds = (time.monotonic() - begun) / len(jobs)
    lines = []
    for job, step in zip(jobs, steps, strict=True):
        terms, parts = dict(step.info["terms"]), dict(step.info["parts"])
        terms.pop(QUESTIONS)
        questions = parts.pop(QUESTIONS)
        questions |= {
            name: own["per_question"] for name, own in parts.items() if "per_question" in own
        }
        problem, text, seed, kind = job.key
        lines.append(
            {
                "problem": problem,
                "text": text,
                "seed": seed,
                "kind": kind,
                "error": step.info["error"],
                "tokens": step.info["tokens"],
                "seconds": round(seconds, 3),
                "terms": terms,
                "questions": questions,
            }
        )
    return lines
