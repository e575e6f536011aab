"""One round of training: write, try out, learn or go back, save."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from gymnasium.vector import VectorEnv

from seal_agents.base import Agent, Experience, Progress
from seal_agents.policies.options import ADAPTER
from seal_agents.reporting.events import write_scalars
from seal_agents.reporting.invalid import check_not_all, counted, share
from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import load
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.environment import base_of
from seal_agents.runner.rollout import Stage, rollout
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem, Task


def play_round(
    run: RunFolder,
    agent: Agent,
    envs: VectorEnv[Any, Any, Any],
    config: TrainConfig,
    round_: int,
    progress: Progress,
) -> None:
    """Plays a round of training and leaves its checkpoint.

    Args:
        run: Where everything is written down.
        agent: Who learns, as it was after the round before.
        envs: The environment on which self-edits are tried out.
        config: The run's settings, `EnvConfig.inner` filled in.
        round_: Which round, from 1.
        progress: Told how it is getting on.
    """
    if config.reset_to_best and not run.checkpoint(0).is_dir():
        run.save_checkpoint(0, agent.save)
    stage = train_stage(run, base_of(envs).episodes.task, config, round_)
    experiences = rollout(run, agent, stage, envs, config.seed, progress)
    check_not_all(run, config.agent, config.env.edit, round_, config.rounds)
    before = agent.evaluations
    numbers = _learn_or_go_back(run, agent, config, round_, experiences)
    extra = agent.evaluations - before
    done = [n for n in run.read_json("rounds.json") or [] if n["round"] < round_]
    spent = (done[-1]["evaluations"] if done else 0) + extra
    spent += sum(e.info["evaluations"] for e in experiences)
    numbers = _means(experiences) | {"evaluations": spent} | numbers
    run.write_json("rounds.json", [*done, {"round": round_, **numbers}])
    write_scalars(run, round_, numbers)
    run.save_checkpoint(round_, agent.save)  # last: what has a checkpoint is not done again


def train_stage(run: RunFolder, task: Task, config: TrainConfig, round_: int) -> Stage:
    """What is tried out in a round."""
    return Stage(
        "train",
        config.agent,
        round_,
        round_problems(task, config, round_),
        config.samples,
        own_seeds=not config.common_random_numbers,
        progress=(round_ - 1) / config.rounds,
        adapter=adapter_after(run, config, round_ - 1),
    )


def _learn_or_go_back(
    run: RunFolder,
    agent: Agent,
    config: TrainConfig,
    round_: int,
    experiences: Sequence[Experience],
) -> dict[str, float]:
    if config.reset_to_best:
        rewards = [_mean_reward(run, config.agent, r) for r in range(1, round_ + 1)]
        best = resets(rewards, config.reset_to_best)[-1]
        if best is not None:
            load(agent, run.checkpoint(best))
            return {"went_back_to": float(best)}
    # A user's own agent may well return nothing from `learn`.
    return {name: float(value) for name, value in (agent.learn(experiences) or {}).items()}


def resets(rewards: Sequence[float], patience: int) -> list[int | None]:
    """After which rounds an agent goes back, and to which checkpoint.

    What was written in round r was written by checkpoint r - 1 (0 is the untrained agent), so
    that one is gone back to if round r is the best. The rounds of the bad stretch are not
    learned from. Counting starts anew after each return.

    Args:
        rewards: Mean reward of each round so far.
        patience: Rounds in a row below the best one, at least 1.

    Returns:
        For each round the checkpoint that is loaded after it, None where there is none.
    """
    best, below = 0, 0
    found: list[int | None] = []
    for index, reward in enumerate(rewards):
        if index == 0 or reward >= rewards[best]:
            best, below = index, 0
        else:
            below += 1
        back = below >= patience
        found.append(best if back else None)
        below = 0 if back else below
    return found


def _mean_reward(run: RunFolder, agent: str, round_: int) -> float:
    records = run.records("train", agent, round_).values()
    return sum(r["reward"] for r in records) / len(records)


def _means(experiences: Sequence[Experience]) -> dict[str, float]:
    names = ("accuracy", "log_likelihood", "accuracy_before")
    count = len(experiences)
    means = {name: sum(e.info[name] for e in experiences) / count for name in names}
    invalid = share(counted(e.info for e in experiences))
    return means | {
        "reward": sum(e.reward for e in experiences) / count,
        **({} if invalid is None else {"invalid": invalid}),
    }


def adapter_after(run: RunFolder, config: TrainConfig, round_: int) -> str | None:
    """Folder of the learner's adapter after a round (0: before the first); None for the base."""
    place = run.checkpoint(round_) / ADAPTER
    followed = config.learner == "follow" and round_ > 0 and place.is_dir()
    return str(place) if followed else config.env.adapter


def evaluations(run: RunFolder, round_: int) -> int:
    """Inner loops that were spent on training up to a round, by the run and by the agent."""
    known: list[dict[str, Any]] = run.read_json("rounds.json") or []
    return next((n["evaluations"] for n in known if n["round"] == round_), 0)


def check_rounds(config: TrainConfig) -> list[int]:
    """The rounds after which the agent is evaluated on the way; 0 is before the first."""
    return [config.rounds * i // config.checks for i in range(config.checks)]


def round_problems(task: Task, config: TrainConfig, round_: int) -> tuple[Problem, ...]:
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
