"""Penalties chosen by leaving out one training sample at a time, as scikit-learn's RidgeCV does.

The fit on all training samples has residuals r = (I - H) y; without sample i it would err there by r_i / (1 - H_ii)
(Golub, Heath & Wahba, 1979). Neighbouring samples of a slow signal know each other's values: on timed data this chooses
penalties that are far too small, and R2 suffers (SCIENCE.md, 4.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from brainalign.encoding.backends import Backend
from brainalign.encoding.metrics import is_constant
from brainalign.encoding.penalties import Baseline, Grid, Indices, Scored, joint_system, score_of
from brainalign.types import Floats

__all__ = ["LeaveOneOut"]

# As in downdating: what multiplies the rounding of residuals in float32.
AMPLIFICATION = 1e3


class LeaveOneOut:
    """One training set, each of its samples held out in turn; parameters as for `HeldOut`, with `u` (n, k)."""

    def __init__(
        self,
        train: Indices,
        s: Any,
        u: Any,
        grid: Grid,
        backend: Backend,
        dtype: str,
        baseline: Baseline | None = None,
    ) -> None:
        self.train, self.s, self.u, self.grid, self.backend, self.baseline = train, s, u, grid, backend, baseline
        self.inverse = 1.0 / (s * s + backend.array(grid.alphas)[:, None])
        self._hats = self.inverse * s * s  # (a, k)
        # Means are taken off too: an intercept is a part of every fit.
        self._kept = 1.0 - 1.0 / len(train) - (u * u) @ self._hats.T  # (n, a)
        self.dtype = "float64" if float(backend.xp.min(self._kept)) < 1.0 / AMPLIFICATION else dtype

    def score(self, responses: np.ndarray, mean: np.ndarray, z: Any) -> Scored:
        """Score each penalty; parameters as for `HeldOut.score`."""
        xp = self.backend.xp
        observed = responses[self.train]
        centred = observed - mean
        defined = ~is_constant(observed)
        power = np.where(defined, np.einsum("nv,nv->v", centred, centred, dtype=np.float64), 1.0)
        y = self.backend.array(centred, self.dtype)
        alone, joint = [], []
        for number in range(len(self.grid.alphas)):
            residual = y - xp.astype(self.u * self._hats[number], y.dtype) @ z
            kept = self._kept[:, number, None]
            alone.append(self._score(residual, kept, y, power))
            if self.baseline is not None:
                joint += [
                    self._score(*without, y, power) for without in self._joint(number, residual, kept, y, self.baseline)
                ]
        return Scored(np.stack(alone), np.stack(joint) if joint else None, defined)

    def _score(self, residual: Any, kept: Any, y: Any, power: Floats) -> Floats:
        xp = self.backend.xp
        predicted = y - residual * xp.astype(1.0 / kept, y.dtype)
        if self.grid.selection == "r":
            predicted = predicted - xp.mean(predicted, axis=0)
        sums = (self.backend.dots(predicted, other) for other in (predicted, y))
        square, product = (self.backend.to_numpy(values).astype(np.float64) for values in sums)
        return score_of(square, product, power, self.grid.selection)

    def _joint(self, number: int, residual: Any, kept: Any, y: Any, baseline: Baseline) -> list[tuple[Any, Any]]:
        """Residuals and what is kept of them with the baseline beside the features, for each of its penalties."""
        xp = self.backend.xp
        inverse = self.inverse[number : number + 1]
        systems, _ = joint_system(self.backend, self.s, inverse, baseline, self.grid.betas)
        # M B, what the features leave of the baseline.
        left = baseline.train - (self.u * self._hats[number]) @ baseline.reduced
        pairs = []
        for system in systems[0]:
            weights = xp.astype(system @ left.T, y.dtype) @ y
            joint = residual - xp.astype(left, y.dtype) @ weights
            pairs.append((joint, kept - xp.sum((left @ system) * left, axis=1)[:, None]))
        return pairs
