"""What each band of a joint prediction contributes to its score: product measures, which add up to the whole."""

from __future__ import annotations

import numpy as np

from brainalign.encoding.metrics import is_constant
from brainalign.types import Floats

__all__ = ["split_r", "split_r2"]


def split_r2(parts: Floats, observed: Floats, reference: Floats) -> Floats:
    """Each band's part of R2.

    With y about the training mean and the prediction the sum of its parts, R2 = sum over t of p (2 y - p) / y'y, which
    is linear in one of the two p: the part of band b is sum over t of p_b (2 y - p) / y'y (Dupre la Tour et al., 2022).

    Parameters
    ----------
    parts : array (band, sample, target)
        What each band adds to the prediction, which is `reference` plus all of them.
    observed : array (sample, target)
    reference : array (target,)
        The training mean of each target, as for `r2`.

    Returns
    -------
    array (band, target)
        Sums to `r2` over bands. A part is negative where a band spoils what the others say; NaN where `observed` is
        constant.

    Examples
    --------
    >>> y = np.array([[1.0], [-1.0]])
    >>> split_r2(np.stack([0.5 * y, 0.5 * y]), y, np.zeros(1)).ravel()
    array([0.5, 0.5])
    """
    parts = np.asarray(parts, dtype=np.float64)
    centred = np.asarray(observed, dtype=np.float64) - reference
    undefined = is_constant(observed)
    power = np.where(undefined, 1.0, (centred**2).sum(axis=0))
    shares = np.einsum("bmv,mv->bv", parts, 2.0 * centred - parts.sum(axis=0)) / power
    return np.where(undefined, np.nan, shares)


def split_r(parts: Floats, observed: Floats) -> Floats:
    """Each band's part of Pearson's r: the covariance of its part with the responses, over both deviations.

    Parameters
    ----------
    parts : array (band, sample, target)
        What each band adds to the prediction.
    observed : array (sample, target)

    Returns
    -------
    array (band, target)
        Sums to the correlation of the whole prediction over bands; NaN where that has none.

    Examples
    --------
    >>> y = np.array([[1.0], [-1.0], [0.5]])
    >>> split_r(np.stack([y, 3 * y]), y).ravel().round(6)
    array([0.25, 0.75])
    """
    parts = np.asarray(parts, dtype=np.float64)
    whole = parts.sum(axis=0)
    centred = np.asarray(observed, dtype=np.float64) - np.mean(observed, axis=0, dtype=np.float64)
    undefined = is_constant(whole) | is_constant(observed)
    size = np.linalg.norm(whole - whole.mean(axis=0), axis=0) * np.linalg.norm(centred, axis=0)
    shares = np.einsum("bmv,mv->bv", parts, centred) / np.where(undefined, 1.0, size)
    return np.where(undefined, np.nan, shares)
