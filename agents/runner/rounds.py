"""One round of training: rollout, update or reload, checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from gymnasium.vector import VectorEnv

from seal_agents.base import Agent, Experience, Progress
from seal_agents.policies.options import ADAPTER
from seal_agents.reporting.costs import judge_cost
from seal_agents.reporting.diversity import diversity
from seal_agents.reporting.events import write_scalars
from seal_agents.reporting.halves import best_accuracies
from seal_agents.reporting.invalid import check_not_all, counted, share
from seal_agents.reporting.report import mean_terms
from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import load
from seal_agents.runner.configs import TrainConfig
from seal_agents.runner.environment import base_of
from seal_agents.runner.experience import learned
from seal_agents.runner.rollout import Stage, rollout
from seal_agents.runner.screening import screening
from seal_env.errors import UserError
from seal_env.hashing import stable_hash
from seal_env.tasks.base import Problem, Task, problem_at


def play_round(
    run: RunFolder,
    agent: Agent,
    envs: VectorEnv[Any, Any, Any],
    config: TrainConfig,
    round_: int,
    progress: Progress,
) -> None:
    """Plays one round of training and writes its checkpoint.

    Args:
        run: Run folder.
        agent: Agent in its state after the previous round.
        envs: The environment of the rollouts.
        config: The run's settings, with `EnvConfig.inner` set.
        round_: Number of the round, from 1.
        progress: Progress callback.
    """
    name = f"agent {config.agent}"
    if (config.reset_to_best or config.reset_every) and not run.checkpoint(0).is_dir():
        run.save_checkpoint(0, agent.save, name)
    task = base_of(envs).episodes.task
    stage = train_stage(run, task, config, round_)
    earlier = {r: round_problems(task, config, r) for r in range(1, round_)}
    screen = screening(run, task, config, earlier)
    experiences = rollout(run, agent, stage, envs, config.seed, progress, screen)
    check_not_all(run, config.agent, config.env.edit, round_, config.rounds)
    before = agent.evaluations
    numbers = _learn_or_go_back(run, agent, config, round_, experiences)
    extra = agent.evaluations - before
    done = [n for n in run.read_json("rounds.json") or [] if n["round"] < round_]
    spent = (done[-1]["evaluations"] if done else 0) + extra
    spent += sum(e.info["evaluations"] for e in experiences)
    told: dict[str, float] = {"evaluations": spent}
    if screen is not None:
        saved = len(stage.problems) * stage.samples - len(experiences)
        told["saved"] = (done[-1].get("saved", 0) if done else 0) + saved
    numbers = _means(experiences) | told | numbers
    run.write_json("rounds.json", [*done, {"round": round_, **numbers}])
    write_scalars(run, round_, numbers)
    # Last: what has a checkpoint is not done again.
    run.save_checkpoint(round_, agent.save, name)


def train_stage(run: RunFolder, task: Task, config: TrainConfig, round_: int) -> Stage:
    """The stage of one round."""
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
    if config.reset_every and round_ > 1 and (round_ - 1) % config.reset_every == 0:
        load(agent, run.checkpoint(0))
    return learned(agent, experiences)


def resets(rewards: Sequence[float], patience: int) -> list[int | None]:
    """Checkpoints that are reloaded after rounds without improvement.

    The self-edits of round r are those of checkpoint r - 1 (0 is the untrained agent), so that
    checkpoint is reloaded if round r is the best. Counting restarts after each reload.

    Args:
        rewards: Mean reward per round so far.
        patience: Consecutive rounds below the best one before a reload, at least 1.

    Returns:
        Per round the checkpoint that is reloaded after it, or None.
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
    best = best_accuracies([e.info for e in experiences])
    return (
        mean_terms([e.info for e in experiences])
        | diversity([e.info for e in experiences])
        | judge_cost(e.info for e in experiences)
        | means
        | {
            "reward": sum(e.reward for e in experiences) / count,
            **({"best_accuracy": sum(best) / len(best)} if best else {}),
            **({} if invalid is None else {"invalid": invalid}),
        }
    )


def adapter_after(run: RunFolder, config: TrainConfig, round_: int) -> str | None:
    """Folder of the learner's adapter after a round (0: before the first); None for the base."""
    place = run.checkpoint(round_) / ADAPTER
    followed = config.learner == "follow" and round_ > 0 and place.is_dir()
    return str(place) if followed else config.env.adapter


def evaluations(run: RunFolder, round_: int, name: str = "evaluations") -> int:
    """Inner loops spent on training up to a round, those of the agent itself included.

    Args:
        run: Run folder.
        round_: Number of the round.
        name: "evaluations", or "saved" for those that screening left out.
    """
    known: list[dict[str, Any]] = run.read_json("rounds.json") or []
    return next((n.get(name, 0) for n in known if n["round"] == round_), 0)


def check_rounds(config: TrainConfig) -> list[int]:
    """Rounds after which the agent is evaluated during training; 0 precedes the first."""
    return [config.rounds * i // config.checks for i in range(config.checks)]


def round_problems(task: Task, config: TrainConfig, round_: int) -> tuple[Problem, ...]:
    """Problems of a round: new ones from an endless split, shuffled epochs over a finite one."""
    split = config.env.split
    size = task.size(split)
    if size is None:
        offset = stable_hash("offset", config.seed) % 1_000_000
        first = offset + (round_ - 1) * config.problems
        return tuple(problem_at(task, split, first + i) for i in range(config.problems))
    if size < 1:
        raise UserError(f"split {split!r} of the data holds no problem to train on")
    order: list[int] = []
    epoch = 0
    while len(order) < round_ * config.problems:
        order += Random(stable_hash("epoch", config.seed, epoch)).sample(range(size), size)
        epoch += 1
    chosen = order[(round_ - 1) * config.problems : round_ * config.problems]
    # Each problem occurs once per round: its self-edits are one group.
    return tuple(problem_at(task, split, i) for i in dict.fromkeys(chosen))
