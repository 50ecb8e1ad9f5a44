"""How sure a mean is: bootstrap over subjects, over stories, over both.

An interval says where the mean would be with other subjects or stories. It is no test of chance: what all subjects
share by chance is in every resample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from brainalign.analysis.ceilings.normalisation import bootstrap_counts, percentile_interval
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.errors import RecipeError, nearest
from brainalign.types import Finding, Floats

__all__ = ["Interval", "Method", "bootstrap_interval", "crossed_interval", "narrow_interval"]

Method = Literal["percentile", "bca"]

# Resampled means that are made at once: 32 MB.
AT_ONCE = 2**22
# With so many units a 95 % interval holds the mean nine times in ten.
ENOUGH = 10


@dataclass(frozen=True)
class Interval:
    """A mean and where it would be with other subjects, folds or stories.

    Parameters
    ----------
    estimate, low, high : arrays (...)
        NaN where there are fewer than two to resample.
    level : float
    method : str
        "percentile", or "bca", bias-corrected and accelerated (Efron, 1987).
    over : str
        What was resampled: "20 subjects".
    n_resamples : int
    findings : tuple of Finding

    Examples
    --------
    >>> print(Interval(np.array(0.1), np.array(0.0), np.array(0.2), 0.95, "percentile", "20 subjects", 9999))
    95 % percentile bootstrap over 20 subjects, 9,999 resamples
    """

    estimate: Floats
    low: Floats
    high: Floats
    level: float
    method: str
    over: str
    n_resamples: int
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        resamples = f"{self.n_resamples:,} resamples"
        return f"{100 * self.level:g} % {self.method} bootstrap over {self.over}, {resamples}"


def bootstrap_interval(
    values: Floats,
    unit: str = "subjects",
    *,
    level: float = 0.95,
    method: Method = "percentile",
    n_resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Interval of the mean over the first axis.

    Parameters
    ----------
    values : array (unit, ...)
        NaN is left out.
    unit : str
        What the first axis is, in the plural: "subjects", "folds", "stories".
    level : float
    method : {"percentile", "bca"}
        Percentile intervals of few units are too narrow. BCa is undefined where all values are the same.
    n_resamples, seed : int
        The same resamples for all values.

    Examples
    --------
    >>> found = bootstrap_interval(np.arange(10.0), n_resamples=999)
    >>> float(found.estimate), float(found.low), float(found.high)
    (4.5, 2.7, 6.4)
    """
    if method not in get_args(Method):
        raise RecipeError(f"There is no bootstrap '{method}'. {nearest(method, get_args(Method))}")
    values = np.asarray(values, dtype=float)
    flat = values.reshape(len(values), -1)
    there = np.isfinite(flat)
    n_there = there.sum(axis=0)
    low, high = np.full((2, flat.shape[1]), np.nan)
    complete = np.flatnonzero(there.all(axis=0)) if len(flat) > 1 else np.empty(0, dtype=int)
    at_once = max(1, AT_ONCE // n_resamples)
    for start in range(0, len(complete), at_once):
        columns = complete[start : start + at_once]
        low[columns], high[columns] = _by_scipy(flat[:, columns], level, method, n_resamples, seed)
    for column in np.flatnonzero((n_there > 1) & (n_there < len(flat))):
        known = flat[there[:, column], column][:, None]
        low[[column]], high[[column]] = _by_scipy(known, level, method, n_resamples, seed)
    return Interval(
        mean_defined(values, axis=0),
        low.reshape(values.shape[1:]),
        high.reshape(values.shape[1:]),
        level,
        method,
        f"{len(values)} {unit}",
        n_resamples,
        _undefined(low, unit),
    )


def narrow_interval(n_units: int, unit: str = "subjects", level: float = 0.95) -> tuple[Finding, ...]:
    """What is to be said of a percentile interval of few units: how rarely it holds the mean; nothing of ten or more.

    By the normal approximation: resampled means vary by (n - 1) / n of what the sample's variance lets expect, and no
    more than that is known of the variance (Hesterberg, 2015, The American Statistician 69, 371). Of two or three it
    reaches from the lowest to the highest value, which has the mean within unless all lie on one side of it.

    Examples
    --------
    >>> print(narrow_interval(3)[0].message)
    a 95 % interval of 3 subjects is too narrow: of normal values it holds the mean 75 % of the time.
    """
    if not 1 < n_units < ENOUGH:
        return ()
    from scipy.stats import norm, t

    reach = norm.isf((1 - level) / 2) * np.sqrt((n_units - 1) / n_units)
    held = min(1 - 2 * t.sf(reach, n_units - 1), 1 - 2.0 ** (1 - n_units))
    message = (
        f"a {100 * level:g} % interval of {n_units} {unit} is too narrow: of normal values it holds the mean "
        f"{100 * held:.0f} % of the time."
    )
    return (Finding("narrow-interval", f"bootstrap over {unit}", message),)


def crossed_interval(
    scores: Floats,
    design: Literal["crossed", "nested"] = "crossed",
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean over subjects and stories, when both are drawn anew.

    Parameters
    ----------
    scores : array (subject, story, ...)
        NaN, where a subject did not hear a story, is left out.
    design : {"crossed", "nested"}
        Whether subjects heard the same stories, which are then drawn for all of them together (wider than need be
        where both vary little; Owen, 2007), or each subject stories of its own.
    level : float
    n_resamples, seed : int

    Examples
    --------
    >>> scores = np.random.default_rng(0).normal(size=(10, 6))
    >>> found = crossed_interval(scores)
    >>> print(found); bool(found.low < found.estimate < found.high)
    95 % percentile bootstrap over 10 subjects and 6 stories, 9,999 resamples
    True
    """
    if design not in ("crossed", "nested"):
        raise RecipeError(f"There is no design '{design}'. {nearest(design, ('crossed', 'nested'))}")
    scores = np.asarray(scores, dtype=float)
    n_subjects, n_stories = scores.shape[:2]
    flat = scores.reshape(n_subjects, n_stories, -1)
    there = np.isfinite(flat)
    known = np.where(there, flat, 0.0)
    random = np.random.default_rng(seed)
    subjects = bootstrap_counts(n_subjects, n_resamples, random)[:, :, None]
    if design == "crossed":
        weights = subjects * bootstrap_counts(n_stories, n_resamples, random)[:, None]
    else:
        own = bootstrap_counts(n_stories, n_resamples * n_subjects, random)
        weights = subjects * own.reshape(n_resamples, n_subjects, n_stories)
    weights = weights.reshape(n_resamples, -1)
    low, high = np.full((2, flat.shape[2]), np.nan)
    at_once = max(1, AT_ONCE // n_resamples)
    for start in range(0, flat.shape[2], at_once):
        part = slice(start, start + at_once)
        sums = weights @ known[..., part].reshape(n_subjects * n_stories, -1)
        counts = weights @ there[..., part].reshape(n_subjects * n_stories, -1).astype(float)
        means = sums / np.where(counts > 0, counts, np.nan)
        low[part], high[part] = percentile_interval(means.T, level)
    few = there.sum(axis=(0, 1)) < 2
    low[few], high[few] = np.nan, np.nan
    shape = scores.shape[2:]
    return Interval(
        mean_defined(flat.reshape(n_subjects * n_stories, -1), axis=0).reshape(shape),
        low.reshape(shape),
        high.reshape(shape),
        level,
        "percentile",
        f"{n_subjects} subjects and {n_stories} stories" + ("" if design == "crossed" else " of each"),
        n_resamples,
        _undefined(low, "subjects and stories"),
    )


def _by_scipy(values: Floats, level: float, method: Method, n_resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Low and high (column,) of the mean of values (unit, column), all of them defined."""
    from scipy.stats import bootstrap

    low, high = np.full((2, values.shape[1]), np.nan)
    varied = np.ptp(values, axis=0) > 0
    if method == "percentile":
        low[~varied] = high[~varied] = values[0, ~varied]
    if varied.any():
        found = bootstrap(
            (values[:, varied],),
            np.mean,
            axis=0,
            vectorized=True,
            batch=max(1, AT_ONCE // values[:, varied].size),
            n_resamples=n_resamples,
            confidence_level=level,
            method="BCa" if method == "bca" else "percentile",
            rng=np.random.default_rng(seed),
        )
        low[varied], high[varied] = found.confidence_interval
    return low, high


def _undefined(low: Floats, unit: str) -> tuple[Finding, ...]:
    n_undefined = int(np.isnan(low).sum())
    if n_undefined == 0:
        return ()
    message = f"{n_undefined} of {low.size} means have no interval: fewer than two values, or BCa of equal ones"
    return (Finding("no-interval", f"bootstrap over {unit}", message),)
