"""How long signals remember: their autocorrelation within runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainalign.encoding.responses import target_status
from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["autocorrelation", "memory", "stretches_of"]

# An autocorrelation below counts as none; that of an autoregressive series of order one, rho, gets there after about
# 3 / (1 - rho) samples.
FORGOTTEN = 0.05
# Surrogates treat all targets alike, so that those with the longest memory decide, but not a few odd ones.
MEMORY_QUANTILE = 0.9
TARGETS_LOOKED_AT = 1000


def memory(responses: Floats, runs: np.ndarray, stimulus: np.ndarray | None = None) -> int:
    """Samples after which a response says no more about another: the larger of two figures.

    One is 3 / (1 - rho) with the lag-1 autocorrelation rho, the other the first lag at which the autocorrelation is
    below .05, for series that are slow under fast noise. Of up to 1,000 targets the 90th percentile.

    Parameters
    ----------
    responses : array (sample, target)
    runs : array (sample,)
        The recording of each sample; those of a run are in the order of time.
    stimulus : array (sample,), optional
        What was heard, where several stimuli share a run.

    Raises
    ------
    DataError
        If all targets are constant or not finite.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(2001, 20))
    >>> memory(noise, np.zeros(2001)), memory(noise[1:] + noise[:-1], np.zeros(2000))
    (4, 7)
    """
    usable = np.flatnonzero(target_status(responses) == "ok")
    if len(usable) == 0:
        raise DataError(
            f"All {responses.shape[1]} targets are constant or not finite, so that their memory is unknown: "
            "give the length of shifts or blocks in samples, or leave this subject out."
        )
    chosen = usable[np.linspace(0, len(usable) - 1, min(len(usable), TARGETS_LOOKED_AT)).astype(int)]
    stretches = [rows for _, rows in stretches_of(runs, stimulus)]
    correlation = autocorrelation(np.asarray(responses[:, chosen], dtype=np.float64), stretches)
    correlation = correlation[:, np.isfinite(correlation[0])]
    n = len(correlation)
    forgotten = np.vstack([correlation < FORGOTTEN, np.ones((1, correlation.shape[1]), dtype=bool)]).argmax(axis=0)
    by_decay = 3.0 / np.maximum(1.0 - correlation[min(1, n - 1)], 3.0 / n)
    return int(np.ceil(np.quantile(np.maximum(forgotten, by_decay), MEMORY_QUANTILE)))


def autocorrelation(values: Floats, stretches: Sequence[np.ndarray]) -> Floats:
    """Autocorrelation of each target, over all stretches, about the mean of each stretch.

    Parameters
    ----------
    values : array (sample, target)
    stretches : sequence of arrays of int
        The samples of each, in the order of time.

    Returns
    -------
    array (lag, target)
        From lag 0, where it is 1, to the last within the longest stretch: the sum of products over the sum of squares,
        so that it shrinks with the lag. NaN for a constant target.

    Examples
    --------
    >>> autocorrelation(np.array([[1.0], [2.0], [3.0], [4.0]]), [np.arange(4)]).ravel().round(6)
    array([ 1.  ,  0.25, -0.3 , -0.45])
    """
    covariance = np.zeros((max(map(len, stretches)), values.shape[1]))
    for rows in stretches:
        n = len(rows)
        spectrum = np.fft.rfft(values[rows] - values[rows].mean(axis=0), n=2 * n, axis=0)
        covariance[:n] += np.fft.irfft(np.abs(spectrum) ** 2, n=2 * n, axis=0)[:n]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(covariance[0] > 0, covariance / covariance[0], np.nan)


def stretches_of(runs: np.ndarray, stimulus: np.ndarray | None) -> tuple[tuple[str, np.ndarray], ...]:
    """The stimulus, and the samples in order, of each stimulus in each run; by default a run is a stimulus of its own.

    Examples
    --------
    >>> stretches_of(np.array(["a", "b", "a"]), None)
    (('a', array([0, 2])), ('b', array([1])))
    """
    run = np.unique(np.asarray(runs), return_inverse=True)[1].reshape(-1)
    heard = np.asarray(runs if stimulus is None else stimulus)
    names, what = np.unique(heard, return_inverse=True)
    stretch = np.unique(run * len(names) + what.reshape(-1), return_inverse=True)[1].reshape(-1)
    ordered = np.argsort(stretch, kind="stable")
    parts = np.split(ordered, np.flatnonzero(np.diff(stretch[ordered])) + 1)
    return tuple((str(heard[rows[0]]), rows) for rows in parts)
