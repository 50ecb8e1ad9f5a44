"""Delayed copies of a regressor: a finite impulse response, within one run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainalign.types import Floats

__all__ = ["delay"]


def delay(values: Floats, delays: Sequence[int]) -> Floats:
    """Copies of one run's regressors, each shifted later by so many rows, side by side.

    Parameters
    ----------
    values : array (..., row, dimension)
        Of one run: what moves in from before its start is zero, so that no run reaches into another.
    delays : sequence of int
        In rows, none negative.

    Returns
    -------
    array (..., row, len(delays) * dimension)
        The dimensions at the first delay, then at the second ...

    Examples
    --------
    >>> delay(np.array([[1.0], [2.0], [3.0]]), [0, 1]).tolist()
    [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]
    """
    n_rows = values.shape[-2]
    copies = []
    for rows in delays:
        shifted = np.zeros_like(values)
        shifted[..., rows:, :] = values[..., : max(n_rows - rows, 0), :]
        copies.append(shifted)
    return np.concatenate(copies, axis=-1)
