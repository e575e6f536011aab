"""Settings of `seal-env tune`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from seal_agents.policies.options import PolicyOptions
from seal_agents.runner.configs import AUTO
from seal_agents.tuning.space import SearchSpace
from seal_env.config import EnvConfig
from seal_env.errors import UserError
from seal_env.presets import DENSE


@dataclass(frozen=True)
class TuneConfig:
    """Settings of a search for the inner loop's settings."""

    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(reward=DENSE, split=AUTO)
    )
    """The environment. Split auto is the split validation of an endless task, and all of a file:
    give a file whose passages nothing is reported on."""
    policy: str = "base"
    """Policy whose self-edits the settings are tried with, named as for evaluate: base, or
    edits:NAME for self-edits that came with the data."""
    options: PolicyOptions = field(default_factory=PolicyOptions)
    """Options of the prompted policy `base`."""
    space: SearchSpace = field(default_factory=SearchSpace)
    """The settings that are tried."""
    include: tuple[str, ...] = ("seal",)
    """Presets, by name or file, that are tried in the first bracket as well."""
    trials: int = 24
    """Settings that are tried besides these."""
    bracket: int = 12
    """Settings per bracket. Those of the first are drawn at random; those of a later one by what
    the ones before it showed."""
    reduction: int = 3
    """Of the settings of a rung one in so many goes on to the next, with so many times the
    problems."""
    problems: int = 36
    """Problems of the last rung; at most as many as the data holds."""
    seed: int = 0
    """Seed of everything random."""
    num_envs: int = 32
    """Self-edits evaluated per pass of the inner loop."""
    out: Path | None = None
    """Run folder; runs/tune-TASK-MODEL by default."""

    def __post_init__(self) -> None:
        if self.env.workers:
            raise UserError(
                f"--workers {self.env.workers}: tune carries self-edits of several settings out "
                f"side by side, in its own process; leave it out"
            )
        for name in ("trials", "bracket", "problems", "num_envs"):
            if not 1 <= getattr(self, name) <= 100_000:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} {getattr(self, name)}: must be from 1 to 100000")
        if self.reduction < 2:
            raise UserError(f"--reduction {self.reduction}: must be at least 2")
        if not 0 <= self.seed < 1 << 32:
            raise UserError(f"--seed {self.seed}: must be from 0 to 2 to the 32, less 1")
