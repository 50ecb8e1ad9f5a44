"""Scores of features on held-out data, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, clone

from brainalign.encoding.metrics import is_constant, pearson, r2
from brainalign.encoding.ridge import Pieces, RidgeEncoder
from brainalign.encoding.splits import ContiguousBlocks, LeaveOneRunOut, Splitter
from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["FoldScores", "cross_val_scores", "cross_validate", "target_status"]


@dataclass(frozen=True)
class FoldScores:
    """Scores of one feature space: arrays (fold, target), NaN where undefined.

    `alpha` is the penalty chosen, and `at_edge` 1 where a wider grid would have given another; both are NaN for
    encoders other than `RidgeEncoder`.
    """

    r: Floats
    r2: Floats
    alpha: Floats
    at_edge: Floats


def target_status(responses: Floats) -> np.ndarray:
    """For each target of responses (sample, target): "ok", "constant" or "nonfinite"."""
    status = np.full(responses.shape[1], "ok", dtype="<U9")
    status[is_constant(np.nan_to_num(responses, nan=0.0, posinf=0.0, neginf=0.0))] = "constant"
    status[~np.isfinite(responses).all(axis=0)] = "nonfinite"
    return status


def cross_validate(
    encoder: BaseEstimator,
    features: Floats,
    responses: Floats,
    groups: np.ndarray,
    splitter: Splitter,
    baseline: Floats | None = None,
) -> tuple[FoldScores, FoldScores | None]:
    """Score features alone and, given a baseline, baseline and features together, on the same folds.

    Parameters
    ----------
    encoder : scikit-learn estimator
        A `RidgeEncoder` fits both from one factorisation per fold, the baseline with a penalty of its own; any other
        estimator is fitted twice, the second time on the columns side by side.
    features : array (sample, feature)
    responses : array (sample, target)
        Targets with a value that is not finite, or that never vary, get NaN; the others do not notice them.
    groups : array (sample,)
        The run of each sample.
    splitter : scikit-learn splitter
        The outer folds. Inner folds of a `RidgeEncoder` are of the same kind.
    baseline : array (sample, q), optional

    Returns
    -------
    alone, joint : FoldScores
        `joint` is None without a baseline.

    Raises
    ------
    DataError
        If features or baseline are not finite, or their samples are not those of the responses.
    """
    _check_columns("Features", features, len(responses))
    if baseline is not None:
        _check_columns("Baseline", baseline, len(responses))
    usable = target_status(responses) == "ok"
    # Unusable columns become zeros rather than going, so that the others' results keep their very bits.
    targets = np.where(usable, responses, 0.0).astype(np.float64)
    encoder = _with_inner_splits_like(splitter, encoder)
    alone, joint = [], []
    for train, test in splitter.split(features, groups=groups):
        pieces = encoder.factorise(features[train], groups[train]) if isinstance(encoder, RidgeEncoder) else None
        data = (features, targets, groups, train, test)
        alone.append(_score_fold(encoder, *data, None, pieces))
        if baseline is not None:
            joint.append(_score_fold(encoder, *data, baseline, pieces))
    return _stack(alone, usable), _stack(joint, usable) if joint else None


def _check_columns(what: str, columns: Floats, n_samples: int) -> None:
    if columns.ndim != 2 or len(columns) != n_samples:
        raise DataError(f"{what} of shape {columns.shape} for {n_samples} samples of responses: rows must agree.")
    if not np.isfinite(columns).all():
        row, column = np.argwhere(~np.isfinite(columns))[0]
        raise DataError(f"{what}: the value at sample {row}, dimension {column} is {columns[row, column]}.")


def _with_inner_splits_like(splitter: Splitter, encoder: BaseEstimator) -> BaseEstimator:
    """The encoder with inner blocks, and the outer blocks' gap between them, where the outer folds are blocks.

    Whole runs as inner folds would be lopsided there: an outer block may leave a few samples of a run.
    """
    if not isinstance(encoder, RidgeEncoder) or not isinstance(splitter, ContiguousBlocks):
        return encoder
    if isinstance(encoder.inner_splits, Splitter):
        return encoder
    inner = ContiguousBlocks(int(encoder.inner_splits), max(encoder.gap, splitter.gap))
    return clone(encoder).set_params(inner_splits=inner)


def _score_fold(
    encoder: BaseEstimator,
    features: Floats,
    targets: Floats,
    groups: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    baseline: Floats | None,
    pieces: Pieces | None,
) -> tuple[Floats, Floats, Floats, Floats]:
    """One fold's r, R2, penalty and whether that is at the grid's edge, each (target,)."""
    model: Any = clone(encoder)
    if isinstance(model, RidgeEncoder):
        b_train = None if baseline is None else baseline[train]
        model.fit(features[train], targets[train], groups=groups[train], baseline=b_train, pieces=pieces)
        predicted = model.predict(features[test], baseline=None if baseline is None else baseline[test])
        alpha, at_edge = model.alpha_, model.at_edge_.astype(np.float64)
    else:
        columns = features if baseline is None else np.hstack([features, baseline])
        predicted = np.asarray(model.fit(columns[train], targets[train]).predict(columns[test]))
        predicted = predicted.reshape(len(test), -1)
        alpha = at_edge = np.full(targets.shape[1], np.nan)
    observed = targets[test]
    return pearson(predicted, observed), r2(predicted, observed, targets[train].mean(axis=0)), alpha, at_edge


def _stack(folds: list[tuple[Floats, Floats, Floats, Floats]], usable: np.ndarray) -> FoldScores:
    return FoldScores(*(np.where(usable, np.stack(values), np.nan) for values in zip(*folds, strict=True)))


def cross_val_scores(
    features: Floats | Mapping[str, Floats],
    responses: Floats,
    groups: Any = None,
    encoder: BaseEstimator | None = None,
    splitter: Splitter | None = None,
) -> xr.Dataset:
    """Score one or several feature spaces on held-out runs or blocks.

    Parameters
    ----------
    features : array (n, p), or mapping of name -> array (n, p)
    responses : array (n, v) or (n,)
    groups : array (n,), optional
        The run of each sample. With three runs or more each is held out in turn; otherwise five contiguous blocks.
    encoder : scikit-learn estimator, optional
        `RidgeEncoder()` by default.
    splitter : scikit-learn splitter, optional
        Other outer folds. Blocks of a signal with memory need ``ContiguousBlocks(n_splits, gap)`` with a gap longer
        than the response.

    Returns
    -------
    xarray.Dataset
        ``r``, ``r2`` and ``alpha`` with dimensions (feature_space, fold, target); average over fold.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4)); Y = X @ rng.normal(size=(4, 3)) + rng.normal(size=(200, 3))
    >>> scores = cross_val_scores({"true": X, "noise": rng.normal(size=(200, 4))}, Y)
    >>> bool((scores.r.mean("fold").sel(feature_space="true") > 0.4).all())
    True
    """
    spaces = features if isinstance(features, Mapping) else {"features": features}
    responses = np.asarray(responses).reshape(len(responses), -1)
    groups = np.zeros(len(responses), dtype=int) if groups is None else np.asarray(groups)
    if splitter is None:
        splitter = LeaveOneRunOut() if len(np.unique(groups)) >= 3 else ContiguousBlocks()
    encoder = RidgeEncoder() if encoder is None else encoder
    scores = [cross_validate(encoder, np.asarray(x), responses, groups, splitter)[0] for x in spaces.values()]
    dims = ("feature_space", "fold", "target")
    return xr.Dataset(
        {name: (dims, np.stack([getattr(score, name) for score in scores])) for name in ("r", "r2", "alpha")},
        coords={"feature_space": list(spaces)},
    )
