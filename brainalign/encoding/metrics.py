"""How near a prediction comes to a response, target by target."""

from __future__ import annotations

import numpy as np

from brainalign.types import Floats

__all__ = ["is_constant", "pearson", "r2"]


def is_constant(values: Floats) -> np.ndarray:
    """Which columns of `values` (..., sample, target) do not vary, shape (..., target).

    A column counts as constant when its spread is no more than rounding leaves of its size: values of 1e6 in float32
    that differ in the last bit carry no signal.
    """
    values = np.asarray(values)
    rounding = 4 * np.finfo(values.dtype).eps if np.issubdtype(values.dtype, np.floating) else 0.0
    low, high = values.min(axis=-2), values.max(axis=-2)
    return high - low <= rounding * np.maximum(np.abs(low), np.abs(high))


def pearson(predicted: Floats, observed: Floats) -> Floats:
    """Pearson correlation of each column.

    Parameters
    ----------
    predicted, observed : array (..., sample, target)

    Returns
    -------
    array (..., target)
        NaN where either is constant: there is nothing to correlate.

    Examples
    --------
    >>> pearson(np.array([[1.0], [2.0], [4.0]]), np.array([[2.0], [4.0], [8.0]])).round(6)
    array([1.])
    """
    undefined = is_constant(predicted) | is_constant(observed)
    x = _unit_columns(predicted)
    y = _unit_columns(observed)
    correlation = np.clip((x * y).sum(axis=-2), -1.0, 1.0)
    correlation[undefined] = np.nan
    return correlation


def _unit_columns(values: Floats) -> Floats:
    """Centre each column and give it length one; in float64, scaled first so that squares cannot underflow."""
    centred = np.asarray(values, dtype=np.float64)
    centred = centred - centred.mean(axis=-2, keepdims=True)
    size = np.abs(centred).max(axis=-2, keepdims=True)
    centred = centred / np.where(size > 0, size, 1.0)
    length = np.linalg.norm(centred, axis=-2, keepdims=True)
    return centred / np.where(length > 0, length, 1.0)


def r2(predicted: Floats, observed: Floats, reference: Floats) -> Floats:
    """Out-of-sample R2 of each column: 1 minus the squared error over that of predicting the training mean.

    Parameters
    ----------
    predicted, observed : array (..., sample, target)
    reference : array (target,)
        The mean of each target over the training samples (Hawinkel et al., 2024), which is all that a model without
        features could know; the held-out mean would be knowledge of the answer.

    Returns
    -------
    array (..., target)
        At most 1; negative where the prediction is worse than the training mean; NaN where `observed` is constant.

    Examples
    --------
    >>> y = np.array([[0.0], [2.0]])
    >>> r2(y, y, reference=np.array([1.0]))
    array([1.])
    """
    observed = np.asarray(observed, dtype=np.float64)
    error = ((observed - predicted) ** 2).sum(axis=-2)
    total = ((observed - reference) ** 2).sum(axis=-2)
    undefined = is_constant(observed)
    return np.where(undefined, np.nan, 1.0 - error / np.where(undefined, 1.0, total))
