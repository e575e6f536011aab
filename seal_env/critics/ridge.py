"""Ridge regression in closed form.

Dimensions:
    - N: examples.
    - D: features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTIES = np.logspace(0, 6, 25)
"""Penalties among which the generalized cross-validation chooses."""


@dataclass(frozen=True)
class Ridge:
    """A linear prediction of standardized features."""

    mean: np.ndarray
    """Mean of each feature, shape (D,)."""
    scale: np.ndarray
    """Standard deviation of each feature, shape (D,); 1 for a constant one."""
    weights: np.ndarray
    """Weight of each standardized feature, shape (D,)."""
    bias: float
    """Prediction at the mean."""
    penalty: float
    """The penalty that was chosen."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (N,), of features, shape (N, D)."""
        # Summed example by example, so that none depends on the others.
        products = (features - self.mean) / self.scale * self.weights
        return np.asarray(products.sum(axis=1) + self.bias)


def fit_ridge(features: np.ndarray, targets: np.ndarray) -> Ridge:
    """Ridge regression (Hoerl and Kennard 1970) on standardized features, with an intercept.

    The penalty minimizes the generalized cross-validation (Golub, Heath and Wahba 1979, equation
    1.4), ``(|y - y'|^2 / N) / (1 - df / N)^2``, where df counts the degrees of freedom, that of the
    intercept included. scikit-learn's ``RidgeCV`` does the same; a package of its own for one
    singular value decomposition is not worth its size.

    Args:
        features: Shape (N, D).
        targets: Shape (N,).
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    mean, scale, bias = x.mean(axis=0), x.std(axis=0), float(y.mean())
    scale[scale < 1e-9] = 1.0
    left, sizes, right = np.linalg.svd((x - mean) / scale, full_matrices=False)
    projected = left.T @ (y - bias)
    best = (np.inf, float(PENALTIES[-1]))
    for penalty in PENALTIES:
        shrunk = sizes**2 / (sizes**2 + penalty)
        error = y - bias - left @ (shrunk * projected)
        free = 1 - (1 + shrunk.sum()) / len(y)
        best = min(best, (float(np.mean(error**2) / max(free, 1e-9) ** 2), float(penalty)))
    weights = right.T @ (sizes / (sizes**2 + best[1]) * projected)
    return Ridge(mean, scale, weights, bias, best[1])
