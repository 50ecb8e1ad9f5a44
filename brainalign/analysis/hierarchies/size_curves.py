"""Scores over a size: the parameters of a model, the words it learnt from, the minutes of data of a subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["Saturation", "SizeCurve", "saturating_fit", "size_curve"]

# Powers of ten by which the distance to the ceiling falls per decade; at either end the data show no ceiling.
RATES = (0.05, 5.0)
LEAST_SIZES = 4


@dataclass(frozen=True)
class SizeCurve:
    """How scores change with a size, on a logarithmic scale.

    Attributes
    ----------
    sizes : array (size,)
    r : array (size,)
        Mean over subjects.
    slope, interval : float, (float, float)
        Change of the score per decade, by least squares, with 95 % by bootstrap over subjects.
    percent : float
        `slope` in per cent of the fitted score at the smallest size; NaN where that is not positive.
    intercept : float
        The fitted score at the smallest size.
    correlation : float
        Of `r` with the logarithm of size.
    n_subjects : int
    """

    sizes: Floats
    r: Floats
    slope: float
    interval: tuple[float, float]
    percent: float
    intercept: float
    correlation: float
    n_subjects: int


def size_curve(r: Floats, sizes: Floats, n_bootstrap: int = 2000, seed: int = 0) -> SizeCurve:
    """Fit a line to scores over log10 of a size: parameters of a model, minutes of data, words of training text.

    Parameters
    ----------
    r : array (size, subject)
        Every subject at every size; subjects with an undefined score are an error, for their sizes could not be
        compared.
    sizes : array (size,)
        Positive, in any order.
    n_bootstrap : int
    seed : int

    Raises
    ------
    DataError
        If shapes do not agree, a value is missing, or there are fewer than two different sizes.

    Notes
    -----
    The interval is about subjects. It says nothing of other models of the same sizes: each size is one model.

    References
    ----------
    Antonello, Vaidya and Huth (2023), NeurIPS 36.

    Examples
    --------
    >>> r = 0.10 + 0.01 * np.array([[0.0], [1.0], [2.0]]) + np.array([[0.02, -0.02]])
    >>> found = size_curve(r, np.array([1e8, 1e9, 1e10]))
    >>> round(found.slope, 4), round(found.percent, 1)
    (0.01, 10.0)
    """
    r, sizes = _sized(r, sizes)
    decades = np.log10(sizes / sizes.min())
    if np.ptp(decades) == 0:
        raise DataError("A curve over sizes needs two different sizes at least.")
    centred = decades - decades.mean()
    of_subject = centred @ r / (centred @ centred)
    mean = r.mean(axis=1)
    slope = float(of_subject.mean())
    intercept = float(mean.mean() - slope * decades.mean())
    draws = _draws(r.shape[1], n_bootstrap, seed)
    correlation = float(np.corrcoef(decades, mean)[0, 1]) if np.ptp(mean) > 0 else np.nan
    percent = 100 * slope / intercept if intercept > 0 else np.nan
    # Least squares is linear: the slope of a mean over subjects is the mean of their slopes.
    interval = _percentiles(of_subject[draws].mean(axis=1)) if r.shape[1] > 1 else (np.nan, np.nan)
    return SizeCurve(sizes, mean, slope, interval, percent, intercept, correlation, r.shape[1])


@dataclass(frozen=True)
class Saturation:
    """A curve that levels off, ``ceiling - amplitude * 10 ** (-rate * log10(size / smallest size))``.

    Attributes
    ----------
    ceiling, interval : float, (float, float)
        What the score tends to, with 95 % by bootstrap over subjects.
    amplitude, rate : float
    status : str
        "ok", or "not identified": the sizes do not show that the curve levels off (the rate is at an end of what is
        tried, or the fit does not converge); the figures are NaN then.
    n_failed, n_bootstrap : int
        Bootstrap samples without a fit, of how many; the interval is over the others, and NaN if they are not most.
    """

    ceiling: float
    interval: tuple[float, float]
    amplitude: float
    rate: float
    status: str
    n_failed: int
    n_bootstrap: int


def saturating_fit(r: Floats, sizes: Floats, n_bootstrap: int = 200, seed: int = 0) -> Saturation:
    """Fit a power law with a ceiling to mean scores over sizes; parameters as for `size_curve`.

    Raises
    ------
    DataError
        As `size_curve`, or with fewer than four different sizes: three parameters are fitted.

    Examples
    --------
    >>> sizes = np.array([1.0, 3.0, 10.0, 30.0, 100.0])
    >>> r = (0.3 - 0.2 * sizes**-0.8)[:, None] + np.array([[0.01, -0.01, 0.0]])
    >>> found = saturating_fit(r, sizes, n_bootstrap=20)
    >>> round(found.ceiling, 3), round(found.rate, 3)
    (0.3, 0.8)
    """
    r, sizes = _sized(r, sizes)
    if len(np.unique(sizes)) < LEAST_SIZES:
        raise DataError(f"{len(np.unique(sizes))} different sizes do not determine a ceiling: {LEAST_SIZES} at least.")
    decades = np.log10(sizes / sizes.min())
    ceiling, amplitude, rate = _level_off(decades, r.mean(axis=1))
    n_samples = n_bootstrap if r.shape[1] > 1 and np.isfinite(ceiling) else 0
    ceilings = np.array(
        [_level_off(decades, r[:, rows].mean(axis=1))[0] for rows in _draws(r.shape[1], n_samples, seed)]
    )
    known = ceilings[np.isfinite(ceilings)]
    interval = _percentiles(known) if 2 * len(known) > n_samples else (np.nan, np.nan)
    status = "ok" if np.isfinite(ceiling) else "not identified"
    return Saturation(ceiling, interval, amplitude, rate, status, n_samples - len(known), n_samples)


def _level_off(decades: Floats, mean: Floats) -> tuple[float, float, float]:
    """Ceiling, amplitude and rate by least squares; NaN where they are not identified."""
    from scipy.optimize import minimize_scalar

    def solve(rate: float) -> tuple[Floats, float]:
        columns = np.stack([np.ones_like(decades), -(10 ** (-rate * decades))], axis=1)
        weights = np.linalg.lstsq(columns, mean, rcond=None)[0]
        return weights, float(((mean - columns @ weights) ** 2).sum())

    # Given the rate the rest is linear, so that a single number is searched for.
    grid = np.geomspace(*RATES, 60)
    best = int(np.argmin([solve(rate)[1] for rate in grid]))
    if best in (0, len(grid) - 1):
        return np.nan, np.nan, np.nan
    bounds = (grid[best - 1], grid[best + 1])
    rate = float(
        minimize_scalar(lambda rate: solve(rate)[1], bounds=bounds, method="bounded", options={"xatol": 1e-8}).x
    )
    ceiling, amplitude = solve(rate)[0].tolist()
    return ceiling, amplitude, rate


def _sized(r: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    r, sizes = np.asarray(r, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    if r.ndim != 2 or sizes.shape != r.shape[:1] or r.size == 0:
        raise DataError(f"Scores of shape {r.shape} for sizes of shape {sizes.shape}: (size, subject) is needed.")
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise DataError("Sizes must be positive and finite: they are put on a logarithmic scale.")
    if not np.isfinite(r).all():
        size, subject = np.argwhere(~np.isfinite(r))[0]
        raise DataError(
            f"Subject {subject} has no score at size {sizes[size]:g}: leave out subjects who lack a size, or sizes."
        )
    order = np.argsort(sizes, kind="stable")
    return r[order], sizes[order]


def _draws(n_units: int, n_samples: int, seed: int) -> NDArray[np.intp]:
    """Units drawn with replacement, shape (sample, unit)."""
    return np.random.default_rng(seed).integers(0, n_units, size=(n_samples, n_units))


def _percentiles(samples: Floats) -> tuple[float, float]:
    low, high = np.percentile(samples, (2.5, 97.5)).tolist()
    return low, high
