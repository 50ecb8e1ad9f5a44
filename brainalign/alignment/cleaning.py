"""Slow drifts and confounds, taken out of responses and features alike.

What is projected out of the response must be projected out of the features too: else the model is asked to predict
what was removed. On real data a correlation of .5 shows as .1 when only the responses are filtered (SCIENCE.md, 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["Cleaner", "cleaner"]

# What is left of a column, as a share of its size, that is no more than the rounding of float32 data.
ROUNDING = 1e-7


@dataclass(frozen=True)
class Cleaner:
    """Removes from each column what `basis` (row, k), orthonormal, can explain of it."""

    basis: Floats

    def __call__(self, values: Floats) -> Floats:
        """Clean columns (..., row, column); the mean goes too."""
        values = np.asarray(values, dtype=np.float64)
        cleaned = values - self.basis @ (self.basis.T @ values)
        # Of a column that the basis explains whole, rounding remains, which must not be scaled up to noise.
        nothing = np.abs(cleaned).max(axis=-2, keepdims=True) <= ROUNDING * np.abs(values).max(axis=-2, keepdims=True)
        return np.where(nothing, 0.0, cleaned)


def cleaner(
    times_s: Floats, confounds: pd.DataFrame, high_pass_s: float | None, where: str, first_row: int = 0
) -> Cleaner:
    """Make the projection for one run.

    Parameters
    ----------
    times_s : array (row,)
        Of the rows that are kept, evenly spaced.
    confounds : pandas.DataFrame
        One row per row kept; any number of columns.
    high_pass_s : float or None
        Drifts slower than this period, in seconds, go: cosines, as in SPM and nilearn. None keeps them.
    where : str
        The recording, for messages.
    first_row : int
        Row of the recording that is the first of those kept, for messages.

    Raises
    ------
    DataError
        If a confound is not finite, or so much would be removed that less than half of the run remains.

    Examples
    --------
    >>> clean = cleaner(np.arange(100) * 2.0, pd.DataFrame(), high_pass_s=128.0, where="run 1")
    >>> bool(np.abs(clean(np.linspace(0, 9, 100)[:, None])).max() < 1.5)
    True
    """
    columns: list[Floats] = [np.ones((len(times_s), 1))]
    if high_pass_s is not None:
        columns.append(_drifts(times_s, 1.0 / high_pass_s))
    if confounds.shape[1]:
        values = confounds.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            row, column = np.argwhere(~np.isfinite(values))[0]
            raise DataError(
                f"{where}: confound '{confounds.columns[column]}' is not finite at row {first_row + row}; "
                "fill it, or leave it out."
            )
        columns.append((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), np.finfo(np.float64).tiny))
    basis = _orthonormal(np.hstack(columns))
    if basis.shape[1] > len(times_s) / 2:
        raise DataError(
            f"{where}: drifts and confounds would take {basis.shape[1]} of {len(times_s)} degrees of freedom; "
            "use fewer confounds, a longer high_pass_s, or a longer run."
        )
    return Cleaner(basis)


def _drifts(times_s: Floats, high_pass_hz: float) -> Floats:
    """Cosines slower than `high_pass_hz`, shape (row, k)."""
    from nilearn.glm.first_level import make_first_level_design_matrix

    drifts = make_first_level_design_matrix(times_s - times_s[0], drift_model="cosine", high_pass=high_pass_hz)
    return drifts.drop(columns="constant").to_numpy(dtype=np.float64)


def _orthonormal(columns: Floats) -> Floats:
    """An orthonormal basis of the columns' span; columns that others imply add nothing."""
    scale = np.linalg.norm(columns, axis=0)
    u, s, _ = np.linalg.svd(columns / np.where(scale > 0, scale, 1.0), full_matrices=False)
    return u[:, s > 1e-8 * s[0]]
