"""Interface of a critic's features, and the fingerprint of a model that makes them.

Dimensions:
    - D: features.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

SAMPLED = 64
"""Numbers per parameter of a model that its fingerprint is made of."""
Told = Callable[[int, int], None]
"""Progress callback: pairs done, pairs in all."""


class Features(ABC):
    """Numbers that describe a context with a self-edit."""

    kind: str
    """Name of the features in a critic's file."""
    model: str
    """Name or folder of the model that makes them."""
    width: int
    """D, their number."""

    @abstractmethod
    def measure(
        self, pairs: Sequence[tuple[str, str]], tell: Told = lambda done, total: None
    ) -> np.ndarray:
        """Features of pairs of context and self-edit, float64, shape (pairs, D).

        Those of a pair do not depend on the other pairs.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the model's weights."""


def fingerprint(model: nn.Module) -> str:
    """Hash of a model's shapes and of some of its weights, the same in float32 and bfloat16."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        last, count = max(flat.numel() - 1, 0), min(SAMPLED, flat.numel())
        places = torch.linspace(0, last, count, dtype=torch.float64).long()
        chosen = flat[places.to(flat.device)].to(torch.bfloat16).view(torch.int16)
        digest.update(f"{name}{tuple(parameter.shape)}".encode() + chosen.cpu().numpy().tobytes())
    return digest.hexdigest()
