"""Scores as shares of what a perfect model would score, over the targets whose ceiling can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from brainalign.errors import DataError, RecipeError
from brainalign.types import Floats

__all__ = ["Normalised", "bootstrap_counts", "normalise", "percentile_interval", "ratio"]


@dataclass(frozen=True)
class Normalised:
    """Scores as shares of their ceilings.

    Attributes
    ----------
    values : array (target,) or (layer, target)
        The mean over folds divided by the ceiling; NaN where `status` is not "ok" or no fold has a score.
    status : array (target,) of str
        "ok", "undefined" (no ceiling), "low" (at most the threshold) or "not significant".
    aggregate : float array () or (layer,)
        The mean score over the mean ceiling of the targets that are ok, fold by fold, averaged over folds.
    low, high : arrays like `aggregate`
        Its percentile interval; NaN where there was nothing to resample.
    resampled : tuple of str
        "folds", "subjects", both or neither.
    """

    values: Floats
    status: np.ndarray
    aggregate: Floats
    low: Floats
    high: Floats
    resampled: tuple[str, ...]

    @property
    def n_above_ceiling(self) -> np.ndarray:
        """How many targets score above their ceiling, shape () or (layer,)."""
        return np.sum(self.values > 1, axis=-1)

    @property
    def undefined_share(self) -> float:
        """Share of the targets that have no usable ceiling, for whichever reason."""
        return float(np.mean(self.status != "ok"))


def normalise(
    r: Floats,
    ceiling: Floats,
    threshold: float,
    significant: np.ndarray | None = None,
    subjects: np.ndarray | None = None,
    level: float = 0.95,
    n_draws: int = 1000,
    seed: int = 0,
) -> Normalised:
    """Divide scores by their ceilings where these can be trusted.

    Parameters
    ----------
    r : array (fold, target) or (layer, fold, target)
        Or R2, with a ceiling of R2 (`Repeatability.reliability`).
    ceiling : array (target,)
        What a perfect model would score, such as `Repeatability.cc_max`.
    threshold : float
        In units of the ceiling. An explainable variance of .05 is a CCmax of ``sqrt(spearman_brown(.05, R))``.
    significant : array (target,) of bool, optional
        Whether the ceiling passes a test; other targets are left out by name.
    subjects : array (target,), optional
        Whose target each is. With several the interval is one over subjects too.
    level, n_draws, seed
        Of the bootstrap of the aggregate, over folds and subjects. With few folds it is too narrow: of five, by a
        tenth at the least. The ceilings are taken as they are; see `explainable_variance_interval`.

    Raises
    ------
    DataError
        If shapes do not agree.
    RecipeError
        If the threshold is negative.

    Notes
    -----
    Nothing is clipped. A mean of ratios would be ruled by the targets with the smallest ceilings; the ratio of means,
    which weights targets by their ceilings, is not.

    Examples
    --------
    >>> found = normalise(np.array([[0.1, 0.3, 0.2]]), np.array([0.2, 0.4, np.nan]), threshold=0.1)
    >>> found.values.tolist(), found.status.tolist(), found.aggregate.round(3).item()
    ([0.5, 0.7499999999999999, nan], ['ok', 'ok', 'undefined'], 0.667)
    """
    r, ceiling = np.asarray(r, dtype=np.float64), np.asarray(ceiling, dtype=np.float64)
    _check_shapes(r, {"ceiling": ceiling, "significant": significant, "subjects": subjects})
    if not threshold >= 0:
        raise RecipeError(f"The ceiling's threshold is {threshold}; it cannot be negative.")
    status = _status(ceiling, threshold, significant)
    ok = status == "ok"
    owners = np.zeros(len(ceiling)) if subjects is None else np.asarray(subjects)
    scores, ceilings = _sums_by_subject(r[..., ok], ceiling[ok], owners[ok])
    n_folds, n_subjects = scores.shape[-2:]
    every = np.ones((1, n_folds)), np.ones((1, n_subjects))
    rng = np.random.default_rng(seed)
    drawn = bootstrap_counts(n_folds, n_draws, rng), bootstrap_counts(n_subjects, n_draws, rng)
    draws = _ratio_of_means(scores, ceilings, *drawn)
    resampled = tuple(name for name, n in (("folds", n_folds), ("subjects", n_subjects)) if n > 1)
    low, high = percentile_interval(draws if resampled else np.full_like(draws, np.nan), level)
    return Normalised(
        values=_mean_over_folds(r) / np.where(ok, ceiling, np.nan),
        status=status,
        aggregate=_ratio_of_means(scores, ceilings, *every)[..., 0],
        low=low,
        high=high,
        resampled=resampled,
    )


def ratio(top: Floats, bottom: Floats) -> Floats:
    """The quotient, NaN where the bottom is not positive."""
    positive = bottom > 0
    return np.where(positive, top, np.nan) / np.where(positive, bottom, 1.0)


def bootstrap_counts(n: int, n_draws: int, rng: np.random.Generator) -> Floats:
    """How often each of n is drawn when n are drawn with replacement, shape (draw, n)."""
    if n == 0:
        return np.zeros((n_draws, 0))
    return rng.multinomial(n, np.full(n, 1 / n), size=n_draws).astype(np.float64)


def percentile_interval(draws: Floats, level: float) -> tuple[Floats, Floats]:
    """The percentiles of draws (..., draw) that hold the middle `level` of those that are defined."""
    undefined = np.asarray(np.isnan(draws).all(axis=-1, keepdims=True))
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.nanquantile(np.where(undefined, 0.0, draws), tails, axis=-1)
    return np.where(undefined[..., 0], np.nan, low), np.where(undefined[..., 0], np.nan, high)


def _check_shapes(r: Floats, of_targets: Mapping[str, np.ndarray | None]) -> None:
    if r.ndim not in (2, 3):
        raise DataError(f"Scores of shape {r.shape}: expected (fold, target) or (layer, fold, target).")
    for name, values in of_targets.items():
        if values is not None and np.shape(values) != r.shape[-1:]:
            raise DataError(f"{name} has shape {np.shape(values)} for the {r.shape[-1]} targets of the scores.")


def _status(ceiling: Floats, threshold: float, significant: np.ndarray | None) -> np.ndarray:
    status = np.full(len(ceiling), "ok", dtype="<U15")
    if significant is not None:
        status[~np.asarray(significant, dtype=bool)] = "not significant"
    status[ceiling <= threshold] = "low"
    status[~np.isfinite(ceiling)] = "undefined"
    return status


def _mean_over_folds(r: Floats) -> Floats:
    finite = np.isfinite(r)
    return ratio(np.where(finite, r, 0.0).sum(axis=-2), finite.sum(axis=-2))


def _sums_by_subject(r: Floats, ceiling: Floats, subjects: np.ndarray) -> tuple[Floats, Floats]:
    """Scores and ceilings summed over each subject's targets that have a score, shapes (..., fold, subject)."""
    is_theirs = (subjects[:, None] == np.unique(subjects)).astype(np.float64)
    finite = np.isfinite(r)
    return np.where(finite, r, 0.0) @ is_theirs, np.where(finite, ceiling, 0.0) @ is_theirs


def _ratio_of_means(scores: Floats, ceilings: Floats, folds: Floats, subjects: Floats) -> Floats:
    """The folds' ratios of means, averaged, for each draw of folds and of subjects, shape (..., draw)."""
    ratios = ratio(scores @ subjects.T, ceilings @ subjects.T)
    defined = np.isfinite(ratios)
    total = np.einsum("...fd,df->...d", np.where(defined, ratios, 0.0), folds)
    return ratio(total, np.einsum("...fd,df->...d", defined.astype(np.float64), folds))
