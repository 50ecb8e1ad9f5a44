"""Curves of forecast scores over distances or layers: their contrast with the past, their peak, and a group's.

Arrays are (subject, target, position), F or A of each subject side by side; what is undefined is NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.forecasts.windows import mirror_distance
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["GroupCurve", "Peak", "forecast_peak", "group_curve", "past_mirror_contrast", "seconds_ahead"]


def past_mirror_contrast(gain: Floats, distances: Sequence[int] | NDArray[np.intp], width: int) -> Floats:
    """A(d) = F(d) - F(mirror of d): a window of words ahead against that of the words as far behind.

    Parameters
    ----------
    gain : array (..., distance)
    distances : sequence of int
    width : int
        Words in a window; the mirror of d is width - 1 - d.

    Returns
    -------
    array (..., distance)
        NaN at distances whose mirror is not among them, and at those that look back.

    Examples
    --------
    >>> past_mirror_contrast(np.array([0.01, 0.04, 0.06]), [-2, 6, 8], width=7).round(3)
    array([ nan,  nan, 0.05])
    """
    place = {int(distance): number for number, distance in enumerate(distances)}
    contrast = np.full(np.shape(gain), np.nan)
    for distance, number in place.items():
        mirror = mirror_distance(distance, width)
        if mirror in place and distance > mirror:
            contrast[..., number] = gain[..., number] - gain[..., place[mirror]]
    return contrast


@dataclass(frozen=True)
class Peak:
    """Where the mean over subjects of curves is highest: a forecast's distance, or its depth.

    Attributes
    ----------
    at : array (target,)
        NaN where the mean is nowhere above zero.
    error : array (target,)
        Standard error by leaving out one subject at a time; NaN with fewer than two.
    low, high : arrays (target,)
        The stretch around the peak in which the curve stays above a share of its height: windows of many words are
        alike at neighbouring distances, and the peak has a flat top about as wide as they are.
    of_subject : array (subject, target)
        Each subject's own.
    n_undefined : int
        Targets without a peak.
    """

    at: Floats
    error: Floats
    low: Floats
    high: Floats
    of_subject: Floats
    n_undefined: int


def forecast_peak(
    curves: Floats,
    positions: Sequence[float] | NDArray[np.number],
    share: float = 0.9,
    where: NDArray[np.bool_] | None = None,
) -> Peak:
    """Find the distance (or layer) at which forecast scores are highest.

    Parameters
    ----------
    curves : array (subject, target, position)
        F or A at each distance, or F at each layer; NaN where undefined.
    positions : sequence of float
        The distances or layers, increasing.
    share : float
        Of the peak's height that counts as its flat top.
    where : array (target,) of bool, optional
        The targets that forecast at all (A above zero, corrected for their number); others are NaN.

    Raises
    ------
    DataError
        If there are no subjects, or the shapes do not agree.

    Examples
    --------
    >>> peak = forecast_peak(np.array([[[0.0, 0.1, 0.3, 0.1]], [[0.0, 0.2, 0.3, 0.29]]]), [0, 4, 8, 12])
    >>> peak.at, peak.low, peak.high
    (array([8.]), array([8.]), array([8.]))
    """
    curves, places = np.asarray(curves, dtype=np.float64), np.asarray(positions, dtype=np.float64)
    if curves.ndim != 3 or len(curves) == 0 or curves.shape[2] != len(places) or np.any(np.diff(places) <= 0):
        raise DataError(
            f"forecast_peak: curves of shape {curves.shape} at {len(places)} positions; expected (subject, target, "
            "position), at least one subject, and positions that increase."
        )
    kept = np.ones(curves.shape[1], dtype=bool) if where is None else np.asarray(where)
    mean = np.where(kept[:, None], mean_defined(curves, axis=0), np.nan)
    at = _argmax(mean, places)
    low, high = _flat_top(mean, places, share)
    return Peak(at, _jackknife(curves, places, at), low, high, _argmax(curves, places), int(np.isnan(at).sum()))


@dataclass(frozen=True)
class GroupCurve:
    """Curves over subjects, arrays (target, position): the mean and its bootstrap interval, and how many it is of."""

    mean: Floats
    low: Floats
    high: Floats
    n_subjects: NDArray[np.intp]


def group_curve(curves: Floats, n_bootstrap: int = 2000, level: float = 0.95, seed: int = 0) -> GroupCurve:
    """Mean over subjects, with the percentile interval over subjects drawn with replacement.

    The interval says how the mean would vary with other subjects who hear this same stimulus, not with others.

    Parameters
    ----------
    curves : array (subject, target, position)
    n_bootstrap : int
    level : float
        Of the interval.
    seed : int

    Raises
    ------
    DataError
        If there are fewer than two subjects.

    Examples
    --------
    >>> curve = group_curve(np.array([[[0.1, 0.3]], [[0.2, 0.3]], [[0.3, 0.3]]]))
    >>> curve.mean.round(2), curve.low.round(2), curve.high.round(2)
    (array([[0.2, 0.3]]), array([[0.1, 0.3]]), array([[0.3, 0.3]]))
    """
    curves = np.asarray(curves, dtype=np.float64)
    if curves.ndim != 3 or len(curves) < 2:
        raise DataError(
            f"group_curve: curves of shape {curves.shape}; expected (subject, target, position) of at least two "
            "subjects: one has no interval over subjects."
        )
    rng = np.random.default_rng(seed)
    n_subjects = len(curves)
    drawn = np.stack(
        [mean_defined(curves[rng.integers(n_subjects, size=n_subjects)], axis=0) for _ in range(n_bootstrap)]
    )
    # A draw of none but undefined subjects has no mean: it is left out, as they are.
    defined = np.isfinite(curves).sum(axis=0)
    low, high = np.full((2, *defined.shape), np.nan)
    some = defined > 1
    low[some], high[some] = np.nanquantile(drawn[:, some], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return GroupCurve(mean_defined(curves, axis=0), low, high, defined)


def seconds_ahead(distances: Sequence[int] | NDArray[np.intp], onsets_s: Iterable[Floats]) -> Floats:
    """The median seconds that so many words take, shape (distance,).

    Parameters
    ----------
    distances : sequence of int
    onsets_s : iterable of arrays (word,)
        Of each stimulus, which no distance leaves.

    Examples
    --------
    >>> seconds_ahead([-1, 2], [np.array([0.0, 0.4, 0.8, 1.2])])
    array([-0.4,  0.8])
    """
    stories = [np.asarray(onset, dtype=np.float64) for onset in onsets_s]

    def median(distance: int) -> float:
        apart = [story[abs(distance) :] - story[: max(len(story) - abs(distance), 0)] for story in stories]
        together = np.concatenate([*apart, np.empty(0)])
        return float(np.sign(distance) * np.median(together)) if len(together) else np.nan

    return np.array([median(int(distance)) for distance in distances])


def _argmax(curves: Floats, places: Floats) -> Floats:
    """Where curves (..., position) are highest, if that is above zero; else NaN."""
    known = np.where(np.isnan(curves), -np.inf, curves)
    return np.where(known.max(axis=-1) > 0, places[known.argmax(axis=-1)], np.nan)


def _flat_top(mean: Floats, places: Floats, share: float) -> tuple[Floats, Floats]:
    """First and last position of the stretch around the peak above `share` of it, arrays (target,)."""
    low, high = np.full((2, len(mean)), np.nan)
    for target, curve in enumerate(np.where(np.isnan(mean), -np.inf, mean)):
        peak = int(curve.argmax())
        if curve[peak] > 0:
            under = np.flatnonzero(curve < share * curve[peak])
            before, after = under[under < peak], under[under > peak]
            low[target] = places[before[-1] + 1 if len(before) else 0]
            high[target] = places[after[0] - 1 if len(after) else -1]
    return low, high


def _jackknife(curves: Floats, places: Floats, at: Floats) -> Floats:
    """Standard error of the peak's position by leaving out each subject in turn, shape (target,)."""
    n = len(curves)
    if n < 2:
        return np.full(len(at), np.nan)
    without = np.stack([_argmax(mean_defined(np.delete(curves, s, axis=0), axis=0), places) for s in range(n)])
    error = np.sqrt((n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0))
    return np.where(np.isnan(at), np.nan, error)
