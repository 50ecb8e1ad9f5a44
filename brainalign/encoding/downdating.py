"""Held-out residuals of many folds from one fit on all samples.

A ridge with an unpenalised intercept is a linear smoother: fitted on all samples, its residuals are r = (I - H) y with

    H = 1/n + U diag(s^2 / (s^2 + alpha)) U'.

Leaving the samples S out of training and predicting them then errs by exactly e_S = (I - H_SS)^-1 r_S, the block form
of XX as what it leaves out. It needs the penalty to be the same for all folds: columns may be centred,
not scaled, on each fold's training samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.encoding.backends import Backend

__all__ = ["Downdate"]

Indices = NDArray[np.intp]


# Residuals of the fit on all samples carry float32's rounding (6e-8 of the target's standard deviation), which the
# inverse multiplies; where it would by more than this, products are in float64.
AMPLIFICATION = 1e3
# A prediction is what the error leaves of the response: where a penalty shrinks every component to less than this
# share, float32's rounding of the response would show in it.
SHRUNK = 1e-1


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
        self._inverses = list(backend.map(lambda index: _inverse(half[backend.index(index)], len(u), backend), sets))
        amplified = max(float(xp.max(xp.sum(xp.abs(inverse), axis=1))) for inverse in self._inverses)
        largest = float(s[0] ** 2 / (s[0] ** 2 + alpha)) if len(s) else 1.0
        self.dtype = "float64" if amplified > AMPLIFICATION or largest < SHRUNK else dtype
        number = getattr(xp, self.dtype)
        self._smoother = xp.astype(half * root, number)
        self._inverses = [xp.astype(inverse, number) for inverse in self._inverses]

    def residuals(self, z: Any, responses: Any) -> Any:
        """Residuals (n, v) of the fit on all samples, from z = U'Y (k, v) and the centred responses."""
        residuals = responses - self._smoother @ z
        # The intercept leaves them a mean of zero; responses in float32 have one of 1e-9, which would be amplified.
        return residuals - self._xp.mean(residuals, axis=0)

    def errors(self, residuals: Any, number: int) -> Any:
        """Held-out errors (samples, v) of set `number`."""
        return self._inverses[number] @ residuals[self._sets[number]]


def _inverse(half: Any, n: int, backend: Backend) -> Any:
    """(I - H_SS)^-1 for left-out samples S, whose part of H is `half` times its transpose, and 1/n."""
    remainder = -(half @ half.T) - 1.0 / n
    remainder[range(len(half)), range(len(half))] += 1.0
    return backend.inverse(remainder)
