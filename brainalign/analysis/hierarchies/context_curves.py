"""How long a context targets need: scores over the context of a model, and the window within which they rise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.errors import DataError, RecipeError
from brainalign.types import Floats

__all__ = ["ContextCurve", "context_curve"]


@dataclass(frozen=True)
class ContextCurve:
    """How long a context each target needs.

    Attributes
    ----------
    contexts : array (context,)
    r : array (context, target)
        Mean over units; its difference from the first row is the effect of context.
    preferred : array (target,)
        The context with the highest score.
    window : array (target,)
        The smallest context that reaches the given share of the highest score: the temporal receptive window.
    interval : array (2, target)
        95 % of `window` by bootstrap over units; NaN with fewer than two.
    status : array (target,) of str
        "ok"; "still rising": the window is the longest context, so that it may be longer; "undefined" (some context
        has no score) or "below threshold", where the others are NaN.
    """

    contexts: Floats
    r: Floats
    preferred: Floats
    window: Floats
    interval: Floats
    status: NDArray[np.str_]


def context_curve(
    r: Floats,
    contexts: Floats,
    share: float = 0.95,
    threshold: float = 0.0,
    n_bootstrap: int = 500,
    seed: int = 0,
) -> ContextCurve:
    """Find the smallest context that is nearly as good as the best, target by target.

    Parameters
    ----------
    r : array (context, unit, target)
        Scores of the same words at each context; units are subjects, or the folds of one.
    contexts : array (context,)
        Increasing, in words, tokens or seconds (of the levels of a scrambled story: how long its pieces are).
    share : float
        Of the highest score, above 0 and at most 1.
    threshold : float
        Targets whose highest score is no higher have no window.
    n_bootstrap : int
    seed : int

    Raises
    ------
    DataError
        If shapes do not agree or contexts do not increase.
    RecipeError
        If the share or the threshold cannot be.

    Notes
    -----
    The highest of several noisy scores is too high, so that windows of weakly predicted targets come out too long, and
    long for no other reason: compare targets that are predicted equally well, and read the interval. Folds of one
    cross-validation are not independent, so that their interval is too narrow.

    Examples
    --------
    >>> r = np.array([0.10, 0.18, 0.195, 0.20])[:, None, None] * np.ones((4, 3, 1))
    >>> found = context_curve(r, np.array([1, 8, 64, 512]))
    >>> found.preferred, found.window, found.status.tolist()
    (array([512.]), array([64.]), ['ok'])
    """
    r, contexts = np.asarray(r, dtype=np.float64), np.asarray(contexts, dtype=np.float64)
    if r.ndim != 3 or contexts.shape != r.shape[:1] or np.any(np.diff(contexts) <= 0) or r.shape[1] == 0:
        raise DataError(
            f"Scores of shape {r.shape} for contexts of shape {contexts.shape}: (context, unit, target) is needed, "
            "with contexts that increase."
        )
    if not 0 < share <= 1 or threshold < 0:
        raise RecipeError(f"share is {share:g} and threshold {threshold:g}; share is in (0, 1], threshold 0 or more.")
    mean = mean_defined(r, axis=1)
    highest = mean.max(axis=0)
    row = _first_reaching(mean, share)
    status = np.full(len(highest), "ok", dtype="<U15")
    status[row == len(contexts) - 1] = "still rising"
    status[highest <= threshold] = "below threshold"
    status[np.isnan(highest)] = "undefined"
    has = np.isin(status, ("ok", "still rising"))
    preferred = np.where(has, contexts[np.where(np.isnan(mean), -np.inf, mean).argmax(axis=0)], np.nan)
    interval = np.full((2, len(has)), np.nan)
    if r.shape[1] > 1 and has.any():
        interval[:, has] = _window_interval(r[:, :, has], contexts, share, n_bootstrap, seed)
    return ContextCurve(contexts, mean, preferred, np.where(has, contexts[row], np.nan), interval, status)


def _first_reaching(mean: Floats, share: float) -> NDArray[np.intp]:
    """The first row of each column that reaches so much of the highest, which is taken for positive."""
    return (mean >= share * mean.max(axis=0)).argmax(axis=0)


def _window_interval(r: Floats, contexts: Floats, share: float, n_bootstrap: int, seed: int) -> Floats:
    windows = np.empty((n_bootstrap, r.shape[2]))
    draws = np.random.default_rng(seed).integers(0, r.shape[1], size=(n_bootstrap, r.shape[1]))
    for sample, rows in enumerate(draws):
        mean = mean_defined(r[:, rows], axis=1)
        windows[sample] = np.where(mean.max(axis=0) > 0, contexts[_first_reaching(mean, share)], np.nan)
    # Only contexts that were tried can be the ends; samples in which nothing is predicted have no window.
    table = pd.DataFrame(windows)
    return np.asarray(table.quantile([0.025, 0.975], interpolation="nearest"))
