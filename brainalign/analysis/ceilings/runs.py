"""Responses run by run, each about its own mean, so that differences between runs count as nothing."""

from __future__ import annotations

import numpy as np

from brainalign.encoding.metrics import is_constant
from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["run_rows", "within_runs"]


def within_runs(values: Floats, groups: np.ndarray | None, standardise: bool) -> Floats:
    """Take each run's mean off, and divide by its standard deviation where asked, in float64.

    Parameters
    ----------
    values : array (..., sample, target)
    groups : array (sample,), optional
        The run of each sample; None for one run.
    standardise : bool

    Returns
    -------
    array (..., sample, target)
        NaN throughout for a target that is not finite, or constant in one of the runs.
    """
    finite = np.isfinite(values).all(axis=-2, keepdims=True)
    given, undefined = np.where(finite, values, 0), ~finite
    centred = given.astype(np.float64)
    for rows in run_rows(values.shape[-2], groups):
        run = centred[..., rows, :]
        undefined |= is_constant(given[..., rows, :])[..., None, :]
        run = run - run.mean(axis=-2, keepdims=True)
        deviation = run.std(axis=-2, ddof=1, keepdims=True) if standardise else 1.0
        centred[..., rows, :] = run / np.where(undefined, 1.0, deviation)
    return np.where(undefined, np.nan, centred)


def run_rows(n_samples: int, groups: np.ndarray | None) -> list[np.ndarray]:
    """The samples of each run.

    Raises
    ------
    DataError
        If groups are not those of the samples, or a run has only one, of which there is no variance.
    """
    if groups is None:
        groups = np.zeros(n_samples)
    if np.shape(groups) != (n_samples,):
        raise DataError(f"groups has shape {np.shape(groups)}; the run of each of the {n_samples} samples is needed.")
    names, run = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(run == number) for number in range(len(names))]
    for name, own in zip(names, rows, strict=True):
        if len(own) < 2:
            raise DataError(f"Run '{name}' has {len(own)} sample; a variance needs two: leave the run out.")
    return rows
