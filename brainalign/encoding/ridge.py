"""Ridge regression of many targets on shared features, each target with a penalty of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import (
    check_is_fitted,
    validate_data,  # pyrefly: ignore[missing-module-attribute]  (newer than the stubs)
)

from brainalign.encoding.metrics import is_constant, pearson
from brainalign.encoding.solvers import Factor, Standardiser, factorise, held_out_errors, target_blocks, weights
from brainalign.encoding.splits import ContiguousBlocks, Splitter, WholeRuns
from brainalign.types import Floats

__all__ = ["Pieces", "RidgeEncoder"]

# A penalty at the grid's edge matters if its inner score (R2 or r) beats its neighbour's by more than this.
MATERIAL_RISE = 1e-3


@dataclass(frozen=True)
class _InnerFold:
    train: np.ndarray
    test: np.ndarray
    factor: Factor
    projected: Floats  # the test rows in the factor's basis


@dataclass(frozen=True)
class Pieces:
    """The factorisations of one training set and of its inner folds, made once and used for many fits."""

    inner: tuple[_InnerFold, ...]
    whole: Factor


class RidgeEncoder(RegressorMixin, MultiOutputMixin, BaseEstimator):
    """Ridge with one penalty per target, chosen on inner folds that are never shuffled.

    Minimises ``|Y - XW|^2 + alpha |W|^2`` for each target, X standardised and Y centred on the training samples. Inner
    folds are whole runs where `groups` names several, else contiguous blocks with a gap. All penalties and
    targets share one factorisation per fold.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from; by default 0.1 to 1e9 in half decades.
    inner_splits : int or scikit-learn splitter
        Number of inner folds, or the splitter that makes them.
    selection : {"r2", "r"}
        What the penalty maximises, averaged over inner folds. "r2" shrinks targets that cannot be predicted towards
        their mean; "r" leaves scale aside and is noisier.
    n_components : int, optional
        Keep this many principal components of the standardised training features before the ridge.
    baseline_alphas : sequence of float
        Penalties to choose from for the columns of `baseline`, where `fit` is given one.
    gap : int
        Samples left out on each side of an inner test block; without meaning for whole runs.

    Attributes
    ----------
    alpha_, baseline_alpha_ : arrays (v,)
        The penalties chosen; `baseline_alpha_` is NaN without a baseline.
    coef_ : array (p, v)
        Weights in the units of X.
    baseline_coef_ : array (q, v)
        Weights in the units of the baseline; q = 0 without one.
    intercept_ : array (v,)
    at_edge_ : array (v,) of bool
        Whether `alpha_` is the smallest or largest of `alphas` and the inner score still rises towards it, so that a
        wider grid would give another fit.
    inner_scores_ : array (g, v)
        Mean inner score of each penalty (each pair of penalties, the features' outermost, with a baseline).

    Notes
    -----
    scikit-learn's convention of alpha; the Huth lab's code squares its own (alpha here = alpha there squared). The
    fitted arrays put targets last, (p, v); with a one-dimensional y they lose that axis.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 5)); Y = X @ rng.normal(size=(5, 3)) + rng.normal(size=(100, 3))
    >>> RidgeEncoder(alphas=[1.0, 10.0, 100.0]).fit(X, Y).predict(X).shape
    (100, 3)
    """

    def __init__(
        self,
        alphas: Sequence[float] = tuple(float(alpha) for alpha in np.logspace(-1, 9, 21)),
        inner_splits: int | Splitter = 4,
        selection: Literal["r2", "r"] = "r2",
        n_components: int | None = None,
        baseline_alphas: Sequence[float] = (1.0, 100.0, 10000.0),
        gap: int = 0,
    ) -> None:
        self.alphas = alphas
        self.inner_splits = inner_splits
        self.selection = selection
        self.n_components = n_components
        self.baseline_alphas = baseline_alphas
        self.gap = gap

    def fit(
        self,
        X: Floats,
        y: Floats,
        groups: Any = None,
        baseline: Floats | None = None,
        pieces: Pieces | None = None,
    ) -> Self:
        """Choose the penalties and fit.

        Parameters
        ----------
        X : array (n, p)
        y : array (n, v) or (n,)
        groups : array (n,), optional
            The run of each sample.
        baseline : array (n, q), optional
            Columns fitted beside X with a penalty of their own.
        pieces : Pieces, optional
            What `factorise` gave for this X and groups, to share it among fits.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, a penalty is not positive, or shapes do not agree.
        DataError
            If there are too few samples for the inner folds.
        """
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        self.check_settings()
        targets = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        if baseline is not None:
            baseline = _check_baseline(baseline, len(X))
        if groups is not None and len(groups) != len(X):
            raise ValueError(f"groups names the run of {len(groups)} samples; X has {len(X)}.")
        if pieces is None:
            pieces = self.factorise(X, groups)

        alphas = np.sort(np.asarray(self.alphas, dtype=np.float64))
        betas = np.sort(np.asarray(self.baseline_alphas, dtype=np.float64)) if baseline is not None else np.ones(1)
        self.inner_scores_ = _inner_scores(pieces, alphas, betas, targets, baseline, self.selection)
        # NaN scores (a target constant in every inner fold) choose the largest penalty: the mean is all that is known.
        best = np.where(np.isnan(self.inner_scores_), -np.inf, self.inner_scores_)[::-1].argmax(axis=0)
        best = len(self.inner_scores_) - 1 - best
        self.alpha_ = alphas[best // len(betas)]
        self.baseline_alpha_ = betas[best % len(betas)] if baseline is not None else np.full(len(best), np.nan)
        self.at_edge_ = _at_edge(self.inner_scores_.reshape(len(alphas), len(betas), -1), best)
        self._fit_weights(pieces.whole, targets, baseline)
        if y.ndim == 1:
            self.coef_, self.baseline_coef_ = self.coef_[:, 0], self.baseline_coef_[:, 0]
            self.intercept_, self.alpha_, self.at_edge_ = self.intercept_[0], self.alpha_[0], self.at_edge_[0]
            self.baseline_alpha_, self.inner_scores_ = self.baseline_alpha_[0], self.inner_scores_[:, 0]
        return self

    def predict(self, X: Floats, baseline: Floats | None = None) -> Floats:
        """Predicted responses, shape (n, v), or (n,) if fitted on one-dimensional y.

        Raises
        ------
        ValueError
            If a baseline is given to an encoder fitted without one, or the other way round.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        predicted = X @ self.coef_ + self.intercept_
        n_baseline = self.baseline_coef_.shape[0]
        if (baseline is None) != (n_baseline == 0):
            raise ValueError(f"This encoder was fitted with {n_baseline} baseline columns: give predict the same.")
        return predicted if baseline is None else predicted + _check_baseline(baseline, len(X)) @ self.baseline_coef_

    def check_settings(self) -> None:
        """Raise a ValueError that names the first parameter with which nothing can be fitted."""
        for name in ("alphas", "baseline_alphas"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.ndim != 1 or len(values) == 0 or not np.all(np.isfinite(values) & (values > 0)):
                raise ValueError(f"{name} must be positive and finite, at least one; got {getattr(self, name)!r}.")
        if self.selection not in ("r2", "r"):
            raise ValueError(f"selection must be 'r2' or 'r', not {self.selection!r}.")
        if self.n_components is not None and self.n_components < 1:
            raise ValueError(f"n_components must be at least 1, not {self.n_components}.")
        # Text has a split method as well.
        is_splitter = isinstance(self.inner_splits, Splitter) and not isinstance(self.inner_splits, str)
        if not is_splitter and not (isinstance(self.inner_splits, Integral) and self.inner_splits >= 2):
            raise ValueError(f"inner_splits must be a number of at least 2, or a splitter; not {self.inner_splits!r}.")
        if self.gap < 0:
            raise ValueError(f"gap cannot be negative; it is {self.gap}.")

    def factorise(self, X: Floats, groups: Any = None) -> Pieces:
        """The factorisations that `fit` needs of X (n, p) and its runs, to be shared among several fits."""
        X = np.asarray(X, dtype=np.float64)
        inner = []
        for train, test in self._inner_splitter(groups).split(X, groups=groups):
            factor = factorise(X[train], self.n_components)
            inner.append(_InnerFold(train, test, factor, factor.project(X[test])))
        return Pieces(tuple(inner), factorise(X, self.n_components))

    def _inner_splitter(self, groups: Any) -> Splitter:
        if isinstance(self.inner_splits, Splitter):
            return self.inner_splits
        if groups is not None and len(np.unique(np.asarray(groups))) > 1:
            return WholeRuns(int(self.inner_splits))
        return ContiguousBlocks(int(self.inner_splits), self.gap)

    def _fit_weights(self, factor: Factor, targets: Floats, baseline: Floats | None) -> None:
        """Set the coefficients, for all targets that share their penalties at once."""
        mean = targets.mean(axis=0)
        standardise = b_train = None
        if baseline is not None:
            standardise = Standardiser.fit(baseline)
            b_train = standardise(baseline)
        n_baseline = 0 if b_train is None else b_train.shape[1]
        self.coef_ = np.empty((len(factor.standardise.mean), targets.shape[1]))
        self.baseline_coef_ = np.empty((n_baseline, targets.shape[1]))
        # Without a baseline its penalty is NaN, which equals nothing, not even itself.
        pairs = np.stack([self.alpha_, np.nan_to_num(self.baseline_alpha_)])
        for alpha, beta in np.unique(pairs, axis=1).T:
            same = (pairs[0] == alpha) & (pairs[1] == beta)
            w = weights(factor, np.array([alpha]), targets[:, same] - mean[same], b_train, np.array([beta]))[0]
            self.coef_[:, same] = factor.from_basis(w[: len(factor.s)]) / factor.standardise.scale[:, None]
            if standardise is not None:
                self.baseline_coef_[:, same] = w[len(factor.s) :] / standardise.scale[:, None]
        self.intercept_ = mean - factor.standardise.mean @ self.coef_
        if standardise is not None:
            self.intercept_ = self.intercept_ - standardise.mean @ self.baseline_coef_


def _at_edge(scores: Floats, best: np.ndarray) -> np.ndarray:
    """Whether a target's best pair is at an edge of the penalties (a, b, v) and beats the penalty next to it."""
    n_alphas, n_betas, _ = scores.shape
    alpha, beta, target = best // n_betas, best % n_betas, np.arange(scores.shape[2])
    inward = np.where(alpha == 0, min(1, n_alphas - 1), max(n_alphas - 2, 0))
    rise = scores[alpha, beta, target] - scores[inward, beta, target]
    return ((alpha == 0) | (alpha == n_alphas - 1)) & (rise > MATERIAL_RISE)


def _check_baseline(baseline: Floats, n_samples: int) -> Floats:
    baseline = np.asarray(baseline, dtype=np.float64)
    if baseline.ndim != 2 or len(baseline) != n_samples or not np.isfinite(baseline).all():
        raise ValueError(f"baseline must be finite with shape ({n_samples}, q); got shape {baseline.shape}.")
    return baseline


def _inner_scores(
    pieces: Pieces, alphas: Floats, betas: Floats, targets: Floats, baseline: Floats | None, selection: str
) -> Floats:
    """Mean over inner folds of each target's score at each pair of penalties, shape (g, v).

    A fold in which a target does not vary says nothing of it and is left out of its mean; NaN if all are.
    """
    n_pairs = len(alphas) * (len(betas) if baseline is not None else 1)
    total, n_defined = np.zeros((n_pairs, targets.shape[1])), np.zeros(targets.shape[1])
    for fold in pieces.inner:
        blocks, design = None, fold.projected
        if baseline is not None:
            standardise = Standardiser.fit(baseline[fold.train])
            blocks = standardise(baseline[fold.train]), standardise(baseline[fold.test])
            design = np.hstack([design, blocks[1]])
        for block in target_blocks(targets.shape[1], n_pairs * max(design.shape)):
            train, observed = targets[fold.train, block], targets[fold.test, block]
            mean = train.mean(axis=0)
            defined = ~is_constant(observed)
            if selection == "r2":
                held_out = (fold.projected, observed - mean)
                errors = held_out_errors(fold.factor, alphas, train - mean, *held_out, blocks, betas)
                score = 1.0 - errors / np.where(defined, ((observed - mean) ** 2).sum(axis=0), 1.0)
            else:
                w = weights(fold.factor, alphas, train - mean, None if blocks is None else blocks[0], betas)
                # A penalty that leaves nothing of a prediction has no correlation: as good as none.
                score = np.nan_to_num(pearson(design @ w, observed), nan=0.0)
            total[:, block] += np.where(defined, score, 0.0)
            n_defined[block] += defined
    return np.where(n_defined > 0, total / np.maximum(n_defined, 1), np.nan)
