"""The self-edit language `full`: text to learn, into all linear layers in place of an adapter."""

from __future__ import annotations

from dataclasses import dataclass

from seal_env.edits.other_weights import OtherWeights, OtherWeightsConfig
from seal_env.updates.full import FullFinetuning


@dataclass(frozen=True)
class FullConfig(OtherWeightsConfig):
    """Reading of a text, and settings of the training."""

    learning_rate: float = 3e-4
    """Learning rate of the first step; all weights take smaller ones than an adapter."""


class Full(OtherWeights):
    """Reads a self-edit as text to finetune all linear layers on; see `TrainingData`."""

    update = FullFinetuning

    def __init__(self, config: FullConfig = FullConfig()) -> None:
        super().__init__(config)
