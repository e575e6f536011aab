"""The self-edit language `subspace`: a step in a random low-dimensional subspace of the weights.

An action is n numbers from -1 to 1: coefficients of the vectors of a fixed, seeded basis of the
adapter's weights (`seal_env.engine.subspace`). Nothing is finetuned, so that a continuous-control
agent moves the learner's weights directly. Training in a random subspace is that of Li et al. 2018
(arXiv 1804.08838); here the agent takes the steps in place of a gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from seal_env.checks import check_fields
from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.errors import UserError
from seal_env.tasks.base import Problem
from seal_env.updates.subspace import SubspaceStep


@dataclass(frozen=True)
class SubspaceConfig:
    """Dimension of the subspace, and length of a step."""

    count: int = 8
    """n, numbers in an action: vectors of the basis."""
    reach: float = 0.1
    """Change of every adapted matrix by a coefficient of 1, as a share of the matrix's own norm
    (Frobenius norms, both)."""
    seed: int = 0
    """Seed of the basis."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.count < 1:
            raise UserError(f"subspace: count={self.count} must be at least 1")
        if not (math.isfinite(self.reach) and self.reach > 0):
            raise UserError(f"subspace: reach={self.reach} must be more than 0 and finite")


class Subspace(EditLanguage):
    """Reads a vector as a step in the adapter's weights.

    Anything that numpy makes a vector of `count` finite real numbers is an action, and so is a
    text that lists them (``[0.1, -0.5]`` or ``0.1 -0.5``). Numbers beyond -1 and 1 are cut off
    there, which counts as a cap (`SelfEdit.truncated`).
    """

    def __init__(self, config: SubspaceConfig = SubspaceConfig()) -> None:
        self.config = config

    def action_space(self) -> spaces.Box:
        """`count` numbers from -1 to 1."""
        return spaces.Box(-1.0, 1.0, (self.config.count,), np.float32)

    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads an action; see `EditLanguage.parse`."""
        numbers = _numbers(action, self.config.count)
        if isinstance(numbers, str):
            return SelfEdit(error=numbers)
        if numbers.shape != (self.config.count,):
            shape = f"shape {numbers.shape}, expected ({self.config.count},)"
            return SelfEdit(error=f"a vector of the wrong length: {shape}")
        if not np.isfinite(numbers).all():
            return SelfEdit(error="a vector with a number that is not finite")
        cut = np.clip(numbers, -1.0, 1.0)
        coefficients = tuple((cut * self.config.reach).tolist())
        truncated = bool((cut != numbers).any())
        return SelfEdit(SubspaceStep(coefficients, self.config.seed), truncated)


def _numbers(action: Any, most: int) -> np.ndarray | str:
    """An action as float64 numbers, or the reason why it is none."""
    try:
        if isinstance(action, str):
            # A number takes no more than some 25 characters; what is longer is not looked at.
            words = action[: 100 * most].strip(" []()").replace(",", " ").split()
            action = [float(word) for word in words]
        numbers = np.asarray(action)
        if numbers.dtype.kind not in "iuf":
            return "not a vector of numbers"
        return numbers.astype(np.float64)
    except Exception:  # whatever the action's own code raises: any action is legal
        return "not a vector of numbers"
