"""What `seal-env train`, `evaluate` and `distill` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seal_agents.algorithms.choice_options import Imitation, PPOChoicesOptions
from seal_agents.base import AgentOptions
from seal_agents.policies.options import PolicyOptions
from seal_env.config import EnvConfig
from seal_env.curriculum import Curriculum
from seal_env.errors import UserError

HELD_OUT = ("test", "all")
"""Splits that hold problems of the final comparison, so that nothing is trained on them."""
MOST = 1_000_000
"""Rounds, problems, samples and the like: more would fill the memory before the run begins."""


@dataclass(frozen=True)
class TrainConfig:
    """Trains an agent and compares it with doing without, on held-out problems."""

    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(default_factory=EnvConfig)
    """The environment."""
    agent: str = "rest-em"
    """Who learns: a name in `seal_agents.AGENTS`, or "package.module:Name"."""
    options: AgentOptions = field(default_factory=AgentOptions)
    """The agent's own settings."""
    rounds: int = 3
    """Rounds of writing, trying out and learning."""
    problems: int = 32
    """Problems in a round. With --horizon T they make episodes of T; what is left over is not
    used."""
    samples: int = 8
    """Self-edits that are tried for each problem, with --horizon T each in an episode of its
    own."""
    learner: Literal["follow", "fixed"] = "follow"
    """Whether the learner is the policy's model after each round, as in SEAL, or stays the base."""
    common_random_numbers: bool = True
    """Whether all self-edits of training are tried out with the same adapter seed and data order,
    so that their rewards can be compared; if not, each with ones of its own, as in SEAL."""
    reset_to_best: int = 0
    """Go back to the checkpoint that wrote the best round after so many rounds in a row with a
    lower mean reward; 0 never does."""
    wrappers: tuple[str, ...] | None = None
    """Wrappers around the environment, as "package.module:Name" of a subclass of
    gymnasium.vector.VectorWrapper, the innermost first: what they make of texts and rewards is what
    the agent learns from and what is written down."""
    curriculum: bool = False
    """Whether the self-edits of training are cut short at first, by lengths. What an agent learns
    from is what was left of them; `info["written"]` has the whole."""
    lengths: Curriculum = field(default_factory=Curriculum)
    """The curriculum; progress is the share of the rounds that are done."""
    test_problems: int = 200
    """Held-out problems in the final comparison."""
    references: tuple[str, ...] | None = None
    """Who is compared with the trained agent in the end; anything that evaluate takes. None for
    none and base, and passage where an empty self-edit means to train on the passage."""
    checks: int = 0
    """How often the agent is evaluated on the held-out problems on the way, evenly spread over the
    rounds and first before them all."""
    fresh_test_seeds: bool = False
    """Whether each held-out problem has an adapter seed and a data order of its own, the same for
    all policies; if not, all have those on which the policy was trained."""
    seed: int = 0
    """Fixes everything random."""
    num_envs: int = 256
    """Self-edits that are carried out in one pass."""
    out: Path | None = None
    """The run's folder; runs/TASK-AGENT-seedN if left out."""

    def __post_init__(self) -> None:
        _within(1, self, "rounds", "problems", "samples", "test_problems", "num_envs")
        _within(0, self, "reset_to_best", "checks")
        _check_seed(self.seed)
        if self.env.split in HELD_OUT:
            raise UserError(
                f"--split {self.env.split}: the final comparison is made on it; train on another"
            )
        if self.env.adapter is not None and self.learner == "follow":
            raise UserError(
                "--adapter: the learner follows the policy, which has an adapter of its own; "
                "give --learner fixed as well, or leave --adapter out"
            )
        if self.checks > self.rounds:
            raise UserError(
                f"--checks {self.checks}: at most one a round, and there are {self.rounds} rounds"
            )


@dataclass(frozen=True)
class EvaluateConfig:
    """Compares any number of policies on the same problems."""

    policies: tuple[str, ...] | None = None
    """Agents by name, such as none, passage, base, edits:gpt4_1, always:FILE, or folders of trained
    runs, or "package.module:Name". None for none and base, and passage where an empty self-edit
    means to train on the passage."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(default_factory=EnvConfig)
    """The environment. Split "train" stands for the test split (of a file: all of it)."""
    options: PolicyOptions = field(default_factory=PolicyOptions)
    """How policies that are prompted (`base`) read and write."""
    problems: int = 100
    """Problems; of a file at most as many as it holds."""
    samples: int = 1
    """Self-edits that each policy writes for a problem."""
    wrappers: tuple[str, ...] | None = None
    """Wrappers around the environment, as for train; a trained run's own are not taken over."""
    fresh_test_seeds: bool = False
    """Whether each problem has an adapter seed and a data order of its own, the same for all
    policies; if not, all have those of the run."""
    seed: int = 0
    """Fixes everything random."""
    num_envs: int = 256
    """Self-edits that are carried out in one pass."""
    out: Path | None = None
    """The run's folder; runs/evaluate-TASK if left out."""

    def __post_init__(self) -> None:
        _within(1, self, "problems", "samples", "num_envs")
        _check_seed(self.seed)
        if self.policies == ():
            raise UserError("--policies: name at least one")


@dataclass(frozen=True)
class DistillConfig:
    """Trains a small policy that chooses from a menu on a run's best self-edits."""

    run: Path = Path("runs/main")
    """The run of an agent that writes text."""
    keep: int = 1
    """Self-edits imitated of each problem, the best ones (as rest-em keeps them)."""
    last_rounds: int = 0
    """Imitate those of so many last rounds only; 0 of all."""
    imitation: Imitation = field(default_factory=Imitation)
    """How."""
    options: PPOChoicesOptions = field(default_factory=PPOChoicesOptions)
    """The small policy, and how it would learn further."""
    test_problems: int = 200
    """Held-out problems on which the two are compared."""
    seed: int = 0
    """Fixes everything random."""
    num_envs: int = 64
    """Self-edits that are carried out in one pass."""
    out: Path | None = None
    """The new run's folder; RUN-distilled if left out."""

    def __post_init__(self) -> None:
        _within(1, self, "keep", "test_problems", "num_envs")
        _within(0, self, "last_rounds")
        _check_seed(self.seed)


def _within(least: int, config: TrainConfig | EvaluateConfig | DistillConfig, *names: str) -> None:
    for name in names:
        value, flag = getattr(config, name), name.replace("_", "-")
        if value < least:
            raise UserError(f"--{flag} {value}: must be at least {least}")
        if value > MOST:
            raise UserError(f"--{flag} {value}: must be at most {MOST}")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed {seed}: must be 0 or more, and less than 2 to the 63")
