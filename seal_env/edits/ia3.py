"""The self-edit language `ia3`: text to learn, into rescaling vectors in place of an adapter."""

from __future__ import annotations

from dataclasses import dataclass

from seal_env.edits.other_weights import OtherWeights, OtherWeightsConfig
from seal_env.engine.learner import Learner
from seal_env.tasks.base import Task
from seal_env.updates.ia3 import IA3Finetuning, rescaled_modules


@dataclass(frozen=True)
class IA3Config(OtherWeightsConfig):
    """Reading of a text, and settings of the training."""

    learning_rate: float = 0.03
    """Learning rate of the first step; rescaling vectors take larger ones than adapters."""


class IA3(OtherWeights):
    """Reads a self-edit as text to finetune rescaling vectors on; see `TrainingData`."""

    update = IA3Finetuning

    def __init__(self, config: IA3Config = IA3Config()) -> None:
        super().__init__(config)

    def bind(self, learner: Learner, task: Task | None = None) -> None:
        """See `EditLanguage.bind`.

        Raises:
            UserError: The model has no modules to rescale.
        """
        super().bind(learner, task)
        rescaled_modules(learner.model)
