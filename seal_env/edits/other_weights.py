"""Self-edit languages whose texts are learned by other weights than an adapter's: what they share.

A text is read as in `training-data`; what differs is the update, a kind of `Finetuning`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from seal_env.edits.base import EditLanguage, SelfEdit
from seal_env.edits.training_data import TrainingData, TrainingDataConfig
from seal_env.errors import UserError
from seal_env.tasks.base import Problem, Task
from seal_env.updates.finetuning import Finetuning, Training

if TYPE_CHECKING:
    from seal_env.engine.learner import Learner


@dataclass(frozen=True)
class OtherWeightsConfig(TrainingDataConfig):
    """Reading of a text, and settings of the training."""

    learning_rate: float = 1e-3
    """Learning rate of the first step, in place of the inner loop's, which is for adapters."""
    epochs: int | None = None
    """Passes over the data; None for as many as the inner loop's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise UserError(f"learning_rate={self.learning_rate} must be finite and not < 0")
        if self.epochs is not None and self.epochs < 1:
            raise UserError(f"epochs={self.epochs} must be at least 1")


class OtherWeights(EditLanguage):
    """Reads a self-edit as text to finetune on, by the kind of update that a subclass names."""

    update: ClassVar[type[Finetuning]]
    """The kind of update."""

    def __init__(self, config: OtherWeightsConfig) -> None:
        self.config = config
        self._texts = TrainingData(config)

    def bind(self, learner: Learner, task: Task | None = None) -> None:
        """See `EditLanguage.bind`."""
        self._texts.bind(learner, task)

    def parse(self, action: Any, problem: Problem) -> SelfEdit:
        """Reads a text as training sequences. Any string is legal; see `EditLanguage.parse`."""
        read = self._texts.parse(action, problem)
        if read.update is None:
            return read
        assert isinstance(read.update, Finetuning)
        training = Training(self.config.learning_rate, self.config.epochs)
        return SelfEdit(self.update(read.update.sequences, None, training), read.truncated)
