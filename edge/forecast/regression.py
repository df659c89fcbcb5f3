"""Linear quantile regression (Koenker and Bassett 1978) by iteratively reweighted least squares.

The pinball loss is majorised by a quadratic (Hunter and Lange 2000, "Quantile regression via an MM algorithm", section 2): with
residual r and weight 1 / (epsilon + |r|), one weighted least-squares solve per iteration and level lowers the loss monotonically.
With the features standardised, 25 iterations from the least-squares start suffice. One iteration of one level is one call of
`advance`, a few milliseconds, so that a controller can train between two control cycles without missing one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ITERATIONS = 25
RIDGE = 1e-4


class QuantileRegressionFit:
    """Training in small portions: construct, call `advance` until it returns True, read `weights` (features, levels).

    `features` (samples, features) contains its own constant column; rows with NaN must have been removed.
    """

    def __init__(self, features: Floats, targets: Floats, levels: Floats) -> None:
        self._levels = levels
        self._size = np.maximum(np.sqrt((features**2).mean(axis=0)), 1e-9)
        self._x = features / self._size
        self._y = targets
        self._epsilon = 1e-3 * max(float(np.abs(targets).mean()), 1e-9)
        self._penalty = RIDGE * np.eye(features.shape[1])
        # Scaled by the size of the weights, so that the ridge is a fixed small share of the data's own information.
        start = self._solve(np.ones(len(targets)), np.zeros(len(targets)))
        self._beta = np.tile(start[:, None], (1, len(levels)))
        self._level = 0
        self._iteration = 0

    def advance(self) -> bool:
        """One iteration of one level; True when all levels are done."""
        if self._level == len(self._levels):
            return True
        tau = self._levels[self._level]
        residual = self._y - self._x @ self._beta[:, self._level]
        weight = 1.0 / (self._epsilon + np.abs(residual))
        self._beta[:, self._level] = self._solve(weight, np.full(len(residual), 2.0 * tau - 1.0))
        self._iteration += 1
        if self._iteration == ITERATIONS:
            self._level, self._iteration = self._level + 1, 0
        return self._level == len(self._levels)

    @property
    def weights(self) -> Floats:
        return np.asarray(self._beta / self._size[:, None])

    def _solve(self, weight: Floats, tilt: Floats) -> Floats:
        """Minimises sum w r^2 / 2 - tilt r ... : the normal equations of the majoriser, X'WX b = X'(W y + tilt)."""
        weighted = self._x * weight[:, None]
        information = weighted.T @ self._x
        penalty = self._penalty * (np.trace(information) / len(information))
        return np.asarray(np.linalg.solve(information + penalty, weighted.T @ self._y + self._x.T @ tilt))
