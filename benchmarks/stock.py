"""Unmodified algorithms of stable-baselines3 and sb3-contrib that choose self-edits from a menu.

    python -m benchmarks.stock

Claim: the table of docs/choices.md. Hardware: 2 CPU cores; no GPU.

Each algorithm, with its own standard policy on `ChoiceVecEnv`, learns for --steps self-edits, and
then chooses one per held-out problem. Random choices are the baseline. Problems, adapter seeds and
data order are the same for all. The command can be stopped at any time and continues when it is
repeated; finished runs are not repeated.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from benchmarks.command import command
from seal_agents.reporting.invalid import percent
from seal_agents.reporting.stats import Estimate, bootstrap_mean
from seal_agents.run_folder import RunFolder
from seal_env.config import EnvConfig
from seal_env.errors import UserError
from seal_env.wrappers.sb3.choice_vec import ChoiceVecEnv


@dataclass(frozen=True)
class Algorithm:
    """An algorithm, and what of its settings a run of 2,000 steps needs otherwise."""

    kind: type[BaseAlgorithm]
    """The class."""
    settings: Mapping[str, Any]
    """Its arguments: few steps of many environments, where SB3 expects many of one."""
    policy: str = "MultiInputPolicy"
    """Its stock policy."""
    discrete: bool = False
    """Whether it takes one choice among all combinations only."""


ROLLOUT = {"n_steps": 2, "batch_size": 50}
ALGORITHMS = {
    "PPO": Algorithm(PPO, ROLLOUT | {"learning_rate": 1e-3}),
    "A2C": Algorithm(A2C, {"n_steps": 1}),
    "DQN": Algorithm(
        DQN,
        {"learning_starts": 200, "target_update_interval": 200, "train_freq": 1}
        | {"gradient_steps": -1},
        discrete=True,
    ),
    "TRPO": Algorithm(TRPO, ROLLOUT),
    "RecurrentPPO": Algorithm(RecurrentPPO, ROLLOUT, "MultiInputLstmPolicy"),
}
"""By name; what is not said is the class's own default."""
RANDOM = "random choice"


@dataclass(frozen=True)
class Args:
    """Trains stock algorithms on choices and compares them with choosing at random."""

    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    """Names of the algorithms."""
    seeds: int = 3
    """Runs of each; they are numbered from 0."""
    steps: int = 2000
    """Self-edits that each may try."""
    envs: int = 100
    """Self-edits side by side."""
    test_problems: int = 50
    """Number of held-out problems."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(reward="accuracy + 0.3 * log_likelihood")
    )
    """The environment."""
    out: Path = Path("runs/stock")
    """Folder for the figures."""

    def check(self) -> None:
        """Looks the settings over.

        Raises:
            UserError: One cannot be used.
        """
        for name in ("seeds", "steps", "envs", "test_problems"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1")
        for name in self.algorithms:
            if name not in ALGORITHMS:
                known = ", ".join(ALGORITHMS)
                raise UserError(f"--algorithms {name}: unknown; known: {known}")


def run(args: Args, console: Console) -> dict[str, Any]:
    """Trains and evaluates what is missing; returns the figures."""
    args.check()
    folder = RunFolder(args.out)
    accuracies: dict[str, list[list[float]]] = {}
    invalid: dict[str, list[float]] = {}
    for name in (RANDOM, *args.algorithms):
        for seed in range(args.seeds):
            file = f"{name.replace(' ', '-')}-{seed}.json"
            found = folder.read_json(file)
            if found is None:
                with console.status(f"{name}, seed {seed}"):
                    found = _one(args, ALGORITHMS.get(name), seed)
                folder.write_json(file, found)
            accuracies.setdefault(name, []).append(found["accuracy"])
            invalid.setdefault(name, []).append(found["invalid"])
            console.print(f"{name}, seed {seed}: {np.mean(found['accuracy']):.3f}")
    found = figures(accuracies, invalid)
    folder.write_json("table.json", found)
    folder.write_bytes("table.md", markdown(found).encode())
    return found


def _one(args: Args, algorithm: Algorithm | None, seed: int) -> dict[str, Any]:
    """Accuracy on each held-out problem after learning, and the share of invalid self-edits.

    None for an algorithm chooses at random.
    """
    settings = args.env.kwargs()
    discrete = algorithm is not None and algorithm.discrete
    test = gym.make_vec("SelfEdit-v0", num_envs=args.test_problems, **settings | {"split": "test"})
    view = ChoiceVecEnv(test, discrete=discrete)
    seen, _ = test.reset(seed=0, options={"problems": list(range(args.test_problems))})
    if algorithm is None:
        view.action_space.seed(seed)
        actions = np.stack([view.action_space.sample() for _ in range(args.test_problems)])
    else:
        envs = ChoiceVecEnv(
            gym.make_vec("SelfEdit-v0", num_envs=args.envs, **settings), discrete=discrete
        )
        model = algorithm.kind(algorithm.policy, envs, seed=seed, **algorithm.settings)
        model.learn(args.steps)
        numbers: Any = view.read(seen)
        actions, _ = model.predict(numbers, deterministic=True)
    *_, infos = test.step(view.write(actions, seen))
    final = infos["final_info"]
    return {
        "accuracy": [float(x) for x in final["accuracy"]],
        "invalid": float(np.mean([bool(error) for error in final["error"]])),
    }


def figures(
    accuracies: Mapping[str, Sequence[Sequence[float]]], invalid: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Means over problems and seeds; intervals and paired differences over problems."""
    rows = {name: np.array(runs) for name, runs in accuracies.items()}
    chance = rows[RANDOM].mean(axis=0)
    return {
        name: {
            "accuracy": _described(bootstrap_mean(runs.mean(axis=0))),
            "invalid": float(np.mean(invalid[name])),
            "seeds": [round(x, 4) for x in runs.mean(axis=1).tolist()],
            "less random": None
            if name == RANDOM
            else _described(bootstrap_mean(runs.mean(axis=0) - chance)),
        }
        for name, runs in rows.items()
    }


def _described(estimate: Estimate) -> list[float]:
    return [round(x, 4) for x in (estimate.mean, estimate.low, estimate.high)]


def lines(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table, row by row; see `HEADINGS`."""
    table: list[tuple[str, ...]] = []
    for name, row in found.items():
        less = row["less random"]
        table.append(
            (
                name,
                "{:.3f} [{:.3f}, {:.3f}]".format(*row["accuracy"]),
                percent(row["invalid"]),
                " ".join(f"{x:.3f}" for x in row["seeds"]),
                "" if less is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*less),
            )
        )
    return table


HEADINGS = ("who chooses", "accuracy [95%]", "invalid", "each seed", f"less {RANDOM}")


def markdown(found: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *lines(found)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _tell(args: Args, console: Console) -> int:
    table = Table(*HEADINGS)
    for line in lines(run(args, console)):
        table.add_row(*line)
    console.print(table)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    return command(Args, "stock", __doc__, _tell, argv)


if __name__ == "__main__":
    sys.exit(main())
