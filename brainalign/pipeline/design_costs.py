"""What a nested cross-validation of so many samples costs, counted before there are any samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sklearn.base import BaseEstimator

from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder, Splits
from brainalign.encoding.planning import Problem, plan
from brainalign.encoding.splits import NestedFold, nested_folds
from brainalign.errors import DataError

__all__ = ["Design", "operations_of_layer"]

# Memory decides nothing here: what a unit will have is not known yet.
NO_LIMIT = 2.0**60


@dataclass(frozen=True)
class Design:
    """Samples as far as their folds' sizes go.

    Parameters
    ----------
    n_runs, n_each : int
        Stories, and samples of each; where they differ, of the mean one.
    step_s : float
        Seconds between samples.
    splits : Splits
    span_s : float
        Seconds that folds within a story keep apart.
    """

    n_runs: int
    n_each: int
    step_s: float
    splits: Splits
    span_s: float

    @property
    def n_samples(self) -> int:
        """Of all stories."""
        return self.n_runs * self.n_each


def operations_of_layer(
    encoder: BaseEstimator, design: Design, n_features: int, n_targets: int, n_baseline: int = 0
) -> float:
    """Operations of one layer's fits: alone and, with a baseline, beside it.

    Examples
    --------
    >>> design = Design(n_runs=4, n_each=100, step_s=2.0, splits=Splits(), span_s=10.0)
    >>> few, many = (operations_of_layer(RidgeEncoder(), design, 50, n_targets) for n_targets in (10, 1000))
    >>> 1 < many / few < 100
    True
    """
    joint = n_baseline > 0
    if not isinstance(encoder, RidgeEncoder):
        # An estimator that we do not know solves the normal equations in each fold.
        n_folds, n = 5, design.n_samples
        of_fold = 4.0 * n * n_features**2 + 4.0 * n * n_features * n_targets
        return n_folds * of_fold * (2 if joint else 1)
    if not isinstance(encoder, BandedRidgeEncoder):
        return _cheapest(_counted(encoder, design, n_features, n_baseline), n_targets)
    alone = _cheapest(_counted(encoder, design, n_features, 0), n_targets) * len(encoder.candidates(encoder.n_bands))
    if not joint:
        return alone
    both = _cheapest(_counted(encoder, design, n_features + n_baseline, 0), n_targets)
    return alone + both * len(encoder.candidates(encoder.n_bands + 1))


# What does not depend on the targets, and what each adds: of each route.
_Routes = tuple[tuple[float, float], ...]


def _cheapest(routes: _Routes, n_targets: int) -> float:
    return min((shared + each * n_targets for shared, each in routes), default=0.0)


def _counted(encoder: RidgeEncoder, design: Design, n_features: int, n_baseline: int) -> _Routes:
    # Estimators are compared by identity, so that what is kept is found by what counts of them.
    penalties = (tuple(encoder.alphas), tuple(encoder.baseline_alphas) if n_baseline else ())
    scaled = encoder.standardise or encoder.n_components is not None or encoder.n_bands > 0
    inner = 1 if encoder.inner_splits == "loo" else encoder.inner_splits
    n_inner = inner if isinstance(inner, int) else 4
    return _routes(design, n_inner, encoder.gap, n_features, n_baseline, penalties, scaled)


@lru_cache(maxsize=4096)
def _routes(
    design: Design,
    n_inner: int,
    gap: int,
    n_features: int,
    n_baseline: int,
    penalties: tuple[tuple[float, ...], tuple[float, ...]],
    scaled: bool,
) -> _Routes:
    folds = _folds(design, n_inner, gap)
    if not folds:
        return ()
    alphas, betas = penalties
    grid = RidgeEncoder(alphas=alphas).grid()
    # The joint fit looks at all penalties once more for each of the baseline's.
    factor = 1 + len(betas)
    counted = []
    for n_targets in (1, 2):
        problem = Problem(n_features, n_targets, folds, grid, scaled, n_baseline=n_baseline)
        counted.append(plan(problem, NO_LIMIT, threads=1).operations)
    one, two = counted
    return tuple((max(0.0, 2 * one[route] - two[route]), factor * (two[route] - one[route])) for route in one)


@lru_cache(maxsize=256)
def _folds(design: Design, n_inner: int, gap: int) -> tuple[NestedFold, ...]:
    """The folds; none where there are too few samples for them, which the fit will say better."""
    groups = np.repeat(np.arange(design.n_runs).astype(str), design.n_each)
    times_s = np.tile(np.arange(design.n_each) * design.step_s, design.n_runs)
    try:
        splitter = design.splits.splitter(groups, times_s, design.span_s)
        gap = max(gap, design.splits.gap(groups, times_s, design.span_s))
        # With one inner fold the count is that of the outer ones alone: of samples left out one by one.
        inner = None if n_inner < 2 else n_inner
        return tuple(nested_folds(splitter, inner, design.n_samples, groups, gap))
    except DataError:
        return ()
