"""What today's users run: himalaya looped over layers and folds, and MNE's SlidingEstimator over subjects and folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Self

import numpy as np
from _problems import Problem
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneGroupOut, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brainalign.types import Floats

__all__ = ["Estimates", "himalaya_scores", "pack", "sliding_scores"]

Backend = Literal["numpy", "torch"]


@dataclass(frozen=True)
class Estimates:
    """Held-out correlations and chosen penalties of equal shape: (..., target)."""

    r: Floats
    alpha: Floats


def himalaya_scores(
    problem: Problem,
    alphas: Sequence[float],
    backend: Backend,
    kind: Literal["RidgeCV", "KernelRidgeCV"] = "RidgeCV",
    n_folds: int | None = None,
) -> Estimates:
    """Leave one run out, and for the penalty one of those left: arrays (layer, fold, target).

    With `n_folds`, only so many of the runs are left out in the end.

    The penalty maximises the mean over inner folds of R2 against the training mean, as ours does. himalaya's own
    scores would be the mean squared error, or R2 against the held-out mean; they cost the same.
    """
    with _himalaya_backend(backend):
        folds = [
            [
                _himalaya_fold(features, problem, train, test, alphas, kind)
                for train, test in islice(LeaveOneGroupOut().split(features, groups=problem.groups), n_folds)
            ]
            for features in problem.features.values()
        ]
    return Estimates(
        r=np.array([[fold.r for fold in layer] for layer in folds]),
        alpha=np.array([[fold.alpha for fold in layer] for layer in folds]),
    )


@contextmanager
def _himalaya_backend(name: Backend) -> Iterator[None]:
    from himalaya.backend import get_backend, set_backend

    before = get_backend().name
    set_backend(name, on_error="throw")
    try:
        yield
    finally:
        set_backend(before, on_error="throw")


def _himalaya_fold(
    features: Floats, problem: Problem, train: np.ndarray, test: np.ndarray, alphas: Sequence[float], kind: str
) -> Estimates:
    from himalaya.backend import get_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV
    from himalaya.scoring import correlation_score

    settings: dict[str, Any] = {
        "alphas": alphas,
        "cv": PredefinedSplit(np.unique(problem.groups[train], return_inverse=True)[1]),
        "fit_intercept": True,
    }
    score = {"score_func": _r2_over_training_mean}
    if kind == "RidgeCV":
        model = RidgeCV(solver_params={**score, "warn": False}, **settings)
    else:
        model = KernelRidgeCV(solver_params=score, warn=False, **settings)
    model.fit(features[train], problem.responses[train])
    backend = get_backend()
    observed = backend.asarray(problem.responses[test])
    r = correlation_score(observed, model.predict(features[test]))
    return Estimates(backend.to_numpy(r), backend.to_numpy(model.best_alphas_))


def _r2_over_training_mean(observed: Any, predicted: Any) -> Any:
    """R2 of predictions (alpha, sample, target); himalaya has taken the training mean from the observed already."""
    return 1.0 - ((observed - predicted) ** 2).sum(1) / (observed**2).sum(0)


def pack(features: Floats, responses: Floats) -> Floats:
    """Features (word, feature) and responses (word, channel, latency) as SlidingEstimator's X, in float64.

    It slides over the last axis of X and has one y for all, being made for decoding. To encode with it, the same
    features stand at each latency with that latency's responses below them; `_Packed` takes them apart again.
    """
    same = np.broadcast_to(features[:, :, None], (*features.shape, responses.shape[2]))
    return np.concatenate([same, responses], axis=1, dtype=np.float64)


def sliding_scores(
    packed: Floats, train: np.ndarray, test: np.ndarray, alphas: Sequence[float], n_features: int, n_jobs: int
) -> Estimates:
    """One subject and fold: arrays (channel, latency)."""
    from mne.decoding import SlidingEstimator

    pipeline = make_pipeline(StandardScaler(), RidgeCV(alphas=alphas, alpha_per_target=True))
    sliding = SlidingEstimator(_Packed(pipeline, n_features), n_jobs=n_jobs, verbose=False)
    sliding.fit(packed[train], np.zeros(len(train)))
    predicted = sliding.predict(packed[test]).transpose(0, 2, 1)  # (word, channel, latency)
    alpha = np.array([estimator.pipeline_[-1].alpha_ for estimator in sliding.estimators_])
    return Estimates(_correlation(predicted, packed[test, n_features:]), alpha.T)


class _Packed(RegressorMixin, BaseEstimator):
    """Fit `pipeline` from the first `n_features` columns of X to the others."""

    def __init__(self, pipeline: BaseEstimator, n_features: int) -> None:
        self.pipeline = pipeline
        self.n_features = n_features

    def fit(self, X: Floats, y: Floats) -> Self:
        self.pipeline_: Any = clone(self.pipeline).fit(X[:, : self.n_features], X[:, self.n_features :])
        return self

    def predict(self, X: Floats) -> Floats:
        return self.pipeline_.predict(X[:, : self.n_features])


def _correlation(predicted: Floats, observed: Floats) -> Floats:
    x, y = (values - values.mean(axis=0) for values in (predicted, observed))
    return (x * y).sum(axis=0) / np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
