"""The self-edit language `ia3`: text to learn, into rescaling vectors in place of an adapter.

A text is read as in `training-data`; what differs is the update (`seal_env.updates.ia3`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.edits.training_data import TrainingData, TrainingDataConfig
from seal_env.engine.learner import Learner
from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Task
from seal_env.updates.finetuning import Training
from seal_env.updates.ia3 import IA3Finetuning, rescaled_modules


@dataclass(frozen=True)
class IA3Config(TrainingDataConfig):
    """Reading of a text, and settings of the training."""

    learning_rate: float = 0.03
    """Learning rate of the first step; rescaling vectors take larger ones than adapters."""
    epochs: int | None = None
    """Passes over the data; None for as many as the inner loop's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise UserError(f"ia3: learning_rate={self.learning_rate} must be finite and not < 0")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"ia3: epochs={self.epochs} must be at least 1")


class IA3(EditLanguage):
    """Reads a self-edit as text to finetune rescaling vectors on; see `TrainingData`."""

    def __init__(self, config: IA3Config = IA3Config()) -> None:
        self.config = config
        self._texts = TrainingData(config)

    def bind(self, learner: Learner, task: Task | None = None) -> None:
        """Makes sure that the model has modules to rescale.

        Raises:
            UserError: It has none.
        """
        rescaled_modules(learner.model)

    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads a text as training sequences. Any string is legal; see `EditLanguage.parse`."""
        edit = self._texts.parse(action, problem)
        if edit.update is None:
            return edit
        training = Training(self.config.learning_rate, self.config.epochs)
        return SelfEdit(IA3Finetuning(edit.update.texts(), None, training), edit.truncated)
