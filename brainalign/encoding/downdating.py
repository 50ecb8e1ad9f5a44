"""Held-out predictions of many folds from one fit on all samples.

A ridge with an unpenalised intercept is a linear smoother: fitted on all samples, it leaves r = (I - H) y with

    H = 1/n + K,  K = U diag(s^2 / (s^2 + alpha)) U'.

Leaving the samples S out of training and predicting them then errs by exactly e_S = (I - H_SS)^-1 r_S, the block form
of the leave-one-out identity (Golub, Heath & Wahba, 1979). Taken from the responses, such an error would leave little
but rounding of a prediction that a large penalty shrinks. With f = Ky and m the mean of the others, the prediction is

    m + f_S + (I - H_SS)^-1 (1 (1'f_S) / n - K_SS (y_S - m - f_S)),

of which all terms but m are as small as the prediction about m. It needs the penalty to be the same for all folds:
columns may be centred, not scaled, on each fold's training samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.encoding.backends import Backend

__all__ = ["Downdate"]

Indices = NDArray[np.intp]


# What K_SS multiplies carries float32's rounding (6e-8 of the target's standard deviation); where that would be
# multiplied by more than this, products are in float64.
AMPLIFICATION = 1e3


class Downdate:
    """One penalty's fit on all samples, and what it says of the samples left out.

    Parameters
    ----------
    u : array (n, k), float64
        Left singular vectors of the centred features, an array of the backend.
    s : array (k,)
    alpha : float
    sets : sequence of index arrays
        What the folds leave out.
    backend : Backend
    dtype : {"float32", "float64"}
        Of products with responses.
    """

    def __init__(self, u: Any, s: Any, alpha: float, sets: Sequence[Indices], backend: Backend, dtype: str) -> None:
        xp = backend.xp
        root = s / xp.sqrt(s * s + alpha)
        half = u * root
        self._xp, self._sets = xp, sets
        parts = list(backend.map(lambda index: _left_out(half[backend.index(index)], len(u), backend), sets))
        amplified = max(float(xp.max(xp.sum(xp.abs(of_samples), axis=1))) for of_samples, _ in parts)
        self.dtype = "float64" if amplified > AMPLIFICATION else dtype
        number = getattr(xp, self.dtype)
        self._smoother = xp.astype(half * root, number)
        self._parts = [(xp.astype(of_samples, number), xp.astype(of_mean, number)) for of_samples, of_mean in parts]

    def fitted(self, z: Any) -> Any:
        """Ky (n, v), what the fit on all samples predicts about its intercept, from z = U'Y (k, v)."""
        return self._smoother @ z

    def deviations(self, fitted: Any, responses: Any, mean: Any, number: int) -> Any:
        """Predictions (samples, v) of set `number`, left out of training, about `mean` (v,), that of the others."""
        index = self._sets[number]
        of_samples, of_mean = self._parts[number]
        here = fitted[index]
        return here + of_mean[:, None] * self._xp.sum(here, axis=0) - of_samples @ (responses[index] - mean - here)


def _left_out(half: Any, n: int, backend: Backend) -> tuple[Any, Any]:
    """(I - H_SS)^-1 K_SS and (I - H_SS)^-1 1 / n; K_SS of the left-out samples S is `half` times its transpose."""
    kernel = half @ half.T
    remainder = -kernel - 1.0 / n
    remainder[range(len(half)), range(len(half))] += 1.0
    inverse = backend.inverse(remainder)
    return inverse @ kernel, backend.xp.sum(inverse, axis=1) / n
