"""Settings of training runs and agents per model and agent, where the usual ones do not fit.

They are the defaults of ``seal-env train``; what is given there counts. A module of your own, such
as that of your agent, may add some: ``PRESETS["my-org/*", "rest-em"] = Preset(...)``. Settings of
the environment per model are in `seal_env.presets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from seal_env.engine.config import FinetuneConfig


@dataclass(frozen=True)
class Preset:
    """Settings for an agent on a model."""

    run: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `TrainConfig` by name."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the agent's `Options` by name."""


# A clipped policy moves little per round, so it needs many (docs/lab-log.md).
_MANY_ROUNDS = {"rounds": 12, "problems": 8, "samples": 4}

PRESETS: dict[tuple[str, str], Preset] = {
    ("tiny", "ppo-choices"): Preset(_MANY_ROUNDS),
    # Test-time training takes several times as long as finetuning on a few lines, and a learner
    # that follows a writer of directives forgets how to read grids (docs/lab-log.md).
    ("tiny-grids", "*"): Preset({"problems": 16, "test_problems": 40, "learner": "fixed"}),
    # What counts on a grid is in three of the menu's ten numbers; beside a hidden state of more
    # than a hundred they are found out much later (docs/lab-log.md).
    ("tiny-grids", "ppo-choices"): Preset(_MANY_ROUNDS, {"read_state": False}),
    # Which tools a directive has depends on a remark some words before them: that takes more
    # passes over what was kept than the styles of `biographies` do (docs/lab-log.md).
    ("tiny-grids", "rest-em"): Preset(
        options={"finetune": FinetuneConfig(3e-3, epochs=16, batch_size=4)}
    ),
}
"""Patterns (as of `fnmatch`) of a model's and an agent's name to settings. All that fit are taken,
field by field; a later one overrides an earlier one."""


def preset(model: str, agent: str) -> Preset:
    """The settings for an agent on a model; fields that are not named keep their defaults.

    Args:
        model: The model's name or path.
        agent: The agent's name, without what may stand behind a colon.
    """
    run: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for (models, agents), found in PRESETS.items():
        if fnmatchcase(model, models) and fnmatchcase(agent, agents):
            run |= found.run
            options |= found.options
    return Preset(run, options)
