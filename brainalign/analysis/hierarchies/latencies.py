"""When responses are predicted best after a word's onset, how sure that is, and what is predicted before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.errors import DataError, RecipeError
from brainalign.types import Finding, Floats

__all__ = ["BeforeOnset", "PreferredLatency", "before_onset", "preferred_latency"]

# Features of single words without memory score no more than this before onset (1,500 words).
TOLERATED_R = 0.005


@dataclass(frozen=True)
class PreferredLatency:
    """When each target is predicted best, in seconds from word onset; NaN where the status is not "ok".

    Attributes
    ----------
    peak_s, half_area_s : arrays (target,)
        Where the score is highest, and until when half of the area above the threshold lies.
    peak_se_s, half_area_se_s : arrays (target,)
        Standard errors by the jackknife; NaN with fewer than two units or where a part of them has no latency.
    status : array (target,) of str
        "ok", "undefined" (some latency has no score) or "below threshold".
    """

    peak_s: Floats
    half_area_s: Floats
    peak_se_s: Floats
    half_area_se_s: Floats
    status: NDArray[np.str_]


def preferred_latency(
    r: Floats, latencies_s: Floats, window_s: tuple[float, float] | None = None, threshold: float = 0.0
) -> PreferredLatency:
    """Find the latency that each target prefers, by its peak and by half of the area under its time course.

    Parameters
    ----------
    r : array (unit, latency, target)
        Scores of subjects or of folds, averaged over those that are defined. A target may be a channel, a region, or
        a layer of which T_max is asked.
    latencies_s : array (latency,)
        In seconds from word onset, increasing.
    window_s : (float, float), optional
        First and last latency that may be preferred; by default from word onset on.
    threshold : float
        Targets that score no higher have no preference, and only the area above counts; at least 0.

    Raises
    ------
    DataError
        If shapes do not agree, latencies do not increase, or none lies in the window.
    RecipeError
        If the threshold is negative.

    Notes
    -----
    The peak is on the grid of latencies and jumps between two that score nearly the same; the half-area latency is
    interpolated between latencies and steadier, but drawn to the middle of the window by scores of noise that are
    above the threshold. The standard error is that of n means that leave one unit out each, sqrt((n - 1) / n * sum
    (t_i - mean t)^2): single units are too noisy to have a peak.

    References
    ----------
    Kiesel, Miller, Jolicoeur and Brisson (2008), Psychophysiology 45, 250-274.

    Examples
    --------
    >>> latencies_s = np.array([0.0, 0.1, 0.2, 0.3])
    >>> r = np.array([[[0.0], [0.1], [0.3], [0.1]], [[0.0], [0.2], [0.3], [0.1]]])
    >>> found = preferred_latency(r, latencies_s)
    >>> found.peak_s, found.half_area_s.round(3), found.peak_se_s
    (array([0.2]), array([0.183]), array([0.]))
    """
    r, latencies_s = _checked(r, latencies_s)
    if threshold < 0:
        raise RecipeError(
            f"threshold is {threshold:g}: a latency that predicts nothing is not preferred; take 0 or more."
        )
    first_s, last_s = (0.0, np.inf) if window_s is None else window_s
    rows = (latencies_s >= first_s) & (latencies_s <= last_s)
    if not rows.any():
        raise DataError(
            f"No latency lies in the window: they run from {latencies_s[0]:g} to {latencies_s[-1]:g} s; set window_s."
        )
    r, times_s = r[:, rows], latencies_s[rows]
    mean = mean_defined(r, axis=0)
    score = mean.max(axis=0)
    status = np.full(len(score), "ok", dtype="<U15")
    status[score <= threshold] = "below threshold"
    status[np.isnan(score)] = "undefined"
    ok = status == "ok"
    latency_s, error_s = np.full((2, 2, len(ok)), np.nan)
    latency_s[:, ok] = _latencies(mean[:, ok], times_s, threshold)
    error_s[:, ok] = _jackknife(r[:, :, ok], times_s, threshold)
    return PreferredLatency(latency_s[0], latency_s[1], error_s[0], error_s[1], status)


@dataclass(frozen=True)
class BeforeOnset:
    """What is predicted before a word begins.

    Attributes
    ----------
    r : array (target,)
        Mean score over the latencies before onset.
    highest_after : array (target,)
        The highest score from onset on, to compare with.
    """

    r: Floats
    highest_after: Floats

    def finding(self, where: str, tolerated: float = TOLERATED_R) -> Finding | None:
        """What to say beside a claim of prediction; None where the mean over targets is no more than `tolerated`."""
        mean, after = (float(mean_defined(values, axis=0)) for values in (self.r, self.highest_after))
        if not mean > tolerated:
            return None
        message = (
            f"before word onset r is {mean:.3f} on average (highest after it {after:.3f}). Features that resemble "
            "those of earlier words, or zero-phase filters, do this without any prediction: no evidence by itself."
        )
        return Finding("scores-before-onset", where, message)


def before_onset(r: Floats, latencies_s: Floats, until_s: float = 0.0) -> BeforeOnset:
    """Average the scores at latencies before word onset.

    Parameters
    ----------
    r : array (fold, latency, target)
    latencies_s : array (latency,)
    until_s : float
        Latencies count as before onset that are smaller; below 0 to spare the reach of a filter.

    Raises
    ------
    DataError
        If shapes do not agree, or no latency lies on one of the sides.

    Examples
    --------
    >>> found = before_onset(np.array([[[0.03], [0.05], [0.2]]]), np.array([-0.2, -0.1, 0.1]))
    >>> found.r.round(3), found.finding("subject 01").code
    (array([0.04]), 'scores-before-onset')
    """
    r, latencies_s = _checked(r, latencies_s)
    before = latencies_s < until_s
    if before.all() or not before.any():
        raise DataError(
            f"All latencies, {latencies_s[0]:g} to {latencies_s[-1]:g} s, are on one side of {until_s:g} s: there is "
            "nothing to compare. Let epochs begin before word onset."
        )
    mean = mean_defined(r, axis=0)
    return BeforeOnset(mean_defined(mean[before], axis=0), mean[~before].max(axis=0))


def _latencies(mean: Floats, times_s: Floats, threshold: float) -> Floats:
    """Peak and half-area latency of each column of (latency, target), shape (2, target); NaN where none is above."""
    above = np.maximum(mean - threshold, 0.0)
    has_any = above.max(axis=0) > 0
    peak_s = times_s[mean.argmax(axis=0)]
    return np.where(has_any, np.stack([peak_s, _half_area(above, times_s, peak_s)]), np.nan)


def _half_area(above: Floats, times_s: Floats, peak_s: Floats) -> Floats:
    """Until when half of the area of each column lies, each latency standing for the time around it."""
    middles_s = (times_s[1:] + times_s[:-1]) / 2
    edges_s = np.r_[times_s[0], middles_s, times_s[-1]] if len(times_s) > 1 else np.repeat(times_s, 2)
    parts = above * np.diff(edges_s)[:, None]
    area = np.vstack([np.zeros(parts.shape[1]), np.cumsum(parts, axis=0)])
    half = area[-1] / 2
    reached = (area[1:] >= half).argmax(axis=0)  # the latency in whose time half of the area is reached
    columns = np.arange(parts.shape[1])
    part = parts[reached, columns]
    share = (half - area[reached, columns]) / np.where(part > 0, part, 1.0)
    # A window of a single latency has no area.
    return np.where(half > 0, edges_s[reached] + share * np.diff(edges_s)[reached], peak_s)


def _jackknife(r: Floats, times_s: Floats, threshold: float) -> Floats:
    """Standard errors of `_latencies` over units, shape (2, target)."""
    defined = np.asarray(np.isfinite(r).all(axis=1))  # (unit, target)
    left_out = np.array(
        [_latencies(mean_defined(np.delete(r, unit, axis=0), axis=0), times_s, threshold) for unit in range(len(r))]
    )
    n = defined.sum(axis=0)
    # A unit that has no score of a target changes nothing when it is left out, and is no unit of its jackknife.
    counted = np.where(defined[:, None], left_out, 0.0)
    mean = counted.sum(axis=0) / np.maximum(n, 1)
    squares = (np.where(defined[:, None], left_out - mean, 0.0) ** 2).sum(axis=0)
    return np.where(n > 1, np.sqrt(squares * (n - 1) / np.maximum(n, 1)), np.nan)


def _checked(r: Floats, latencies_s: Floats) -> tuple[Floats, Floats]:
    r, latencies_s = np.asarray(r, dtype=np.float64), np.asarray(latencies_s, dtype=np.float64)
    if r.ndim != 3 or latencies_s.shape != r.shape[1:2] or r.shape[0] == 0:
        raise DataError(
            f"Scores of shape {r.shape} for latencies of shape {latencies_s.shape}: (unit, latency, target) is needed."
        )
    if np.any(np.diff(latencies_s) <= 0):
        raise DataError("latencies_s must increase from one latency to the next.")
    return r, latencies_s
