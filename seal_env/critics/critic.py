"""The critic: a linear prediction of the reward from features of a context and a self-edit.

It takes one forward pass, where the reward takes an inner loop. A model of the reward that is
trained on comparisons is that of RLHF (Stiennon et al. 2020, arXiv 2009.01325, section 3.4); here
measured rewards take the place of people's judgment, and the features are frozen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from seal_env.critics.base import Features, Told
from seal_env.critics.classifier import ClassifierScore
from seal_env.critics.hidden_states import HiddenStates
from seal_env.critics.ridge import Ridge, fit_ridge
from seal_env.engine.learner import Learner
from seal_env.errors import UserError, printable, reason

CONFIG, WEIGHTS = "critic.json", "critic.safetensors"
"""Files of a critic's folder."""
_ARRAYS = ("mean", "scale", "weights")


@dataclass(frozen=True)
class Critic:
    """A prediction of the reward of self-edits."""

    features: Features
    """The features."""
    head: Ridge
    """The regression of the reward on them."""
    nothing: float
    """Mean reward of no self-edit on the problems of the training."""

    @classmethod
    def fit(
        cls,
        features: Features,
        pairs: Sequence[tuple[str, str]],
        rewards: Sequence[float],
        nothing: float,
        tell: Told = lambda done, total: None,
    ) -> Critic:
        """Critic trained on rewarded self-edits.

        Args:
            features: The features.
            pairs: Context and self-edit of each.
            rewards: Reward of each.
            nothing: Mean reward of no self-edit on these problems.
            tell: Progress callback.
        """
        return cls(features, fit_ridge(features.measure(pairs, tell), np.array(rewards)), nothing)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Predicted reward of each pair of context and self-edit, finite.

        The result of a pair does not depend on the other pairs.
        """
        if not pairs:
            return []
        predicted = self.head.predict(self.features.measure(pairs))
        return [float(v) if math.isfinite(v) else self.nothing for v in predicted]

    def save(self, folder: Path, told: Mapping[str, Any]) -> None:
        """Writes ``critic.json`` and ``critic.safetensors``.

        Args:
            folder: The folder, which exists.
            told: Further entries of the JSON file.
        """
        config = {
            "features": self.features.kind,
            "model": self.features.model,
            "fingerprint": self.features.fingerprint(),
            "bias": self.head.bias,
            "penalty": self.head.penalty,
            "nothing": self.nothing,
            **told,
        }
        arrays = {name: np.ascontiguousarray(getattr(self.head, name)) for name in _ARRAYS}
        save_file(arrays, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def check_critic(path: str | Path) -> None:
    """Checks that a folder holds a critic, without reading it.

    Raises:
        UserError: It does not.
    """
    try:
        known = (Path(path).expanduser() / CONFIG).is_file()
    except (OSError, ValueError, RuntimeError):  # a name that no file can have
        known = False
    if not known:
        raise UserError(
            f"critic {printable(str(Path(path)), 200)}: no critic here; give a folder that "
            f"seal-env train-critic wrote"
        )


def load_critic(path: str | Path, learner: Learner) -> Critic:
    """Critic from a folder that ``seal-env train-critic`` wrote.

    Args:
        path: The folder.
        learner: Model whose self-edits are judged, without adapters.

    Raises:
        UserError: There is no critic, it is damaged, or it was trained for another model.
    """
    check_critic(path)
    folder, shown = Path(path).expanduser(), printable(str(path), 200)
    try:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        kind, model, known = (str(config[n]) for n in ("features", "model", "fingerprint"))
        bias, penalty, nothing = (_finite(config[n]) for n in ("bias", "penalty", "nothing"))
        arrays = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else reason(error)
        raise UserError(f"critic {shown}: cannot be read ({what}); train it again") from error
    if kind not in (HiddenStates.kind, ClassifierScore.kind):
        raise UserError(
            f"critic {shown}: has features {printable(kind)!r}, which are not known here; train "
            f"it again"
        )
    features: Features = (
        HiddenStates(learner)
        if kind == HiddenStates.kind
        else ClassifierScore(model, learner.device.type)
    )
    if known != features.fingerprint():
        raise UserError(
            f"critic {shown}: was trained for the model {printable(model, 200)} with other "
            f"weights than {printable(features.model, 200)} has; train one with seal-env "
            f"train-critic on runs of this model"
        )
    if not all(_fits(arrays.get(name), features.width) for name in _ARRAYS):
        raise UserError(
            f"critic {shown}: {WEIGHTS} does not hold {features.width} finite numbers each of "
            f"{', '.join(_ARRAYS)}; train it again"
        )
    mean, scale, weights = (arrays[name] for name in _ARRAYS)
    return Critic(features, Ridge(mean, scale, weights, bias, penalty), nothing)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not finite")
    return number


def _fits(array: np.ndarray | None, width: int) -> bool:
    return array is not None and array.shape == (width,) and bool(np.isfinite(array).all())
