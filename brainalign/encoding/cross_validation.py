"""Scores of features on held-out data, fold by fold."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, clone

from brainalign.encoding.backends import Backend
from brainalign.encoding.banded import BandedRidgeEncoder
from brainalign.encoding.designs import Design, Matrix
from brainalign.encoding.metrics import Matches, pearson, r2
from brainalign.encoding.nested import Choice
from brainalign.encoding.partition import split_r2
from brainalign.encoding.planning import Plan
from brainalign.encoding.responses import Responses
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import ContiguousBlocks, LeaveOneRunOut, NestedFold, Splitter, leaky_share, nested_folds
from brainalign.errors import DataError, FitWarning
from brainalign.files import atomic_path
from brainalign.types import Floats

__all__ = ["FoldScores", "cross_val_scores", "cross_validate", "explain", "plan_of"]

# A larger share of held-out samples that stand among training samples: the folds are not contiguous.
LEAKY = 0.05
# Targets whose neighbouring samples are compared to say how much shuffled folds give away.
TARGETS_LOOKED_AT = 1000


@dataclass(frozen=True)
class FoldScores:
    """Scores of one feature space: arrays (fold, target), NaN where undefined.

    Attributes
    ----------
    r, r2 : arrays (fold, target)
    alpha : array (fold, target)
        The penalty chosen; NaN, like the next two, for encoders other than ours.
    beta : array (fold, target)
        The penalty chosen for the baseline beside the features; NaN where there is none.
    at_edge : array (fold, target)
        1 where a wider grid would have given another penalty.
    matches : mapping of metric to array (fold,)
        Of all targets together, where asked for.
    r2_band : array (fold, band, target), optional
        Each band's part of `r2` (`split_r2`), for a banded encoder.
    """

    r: Floats
    r2: Floats
    alpha: Floats
    beta: Floats
    at_edge: Floats
    matches: Mapping[str, Floats]
    r2_band: Floats | None = None


def cross_validate(
    encoder: BaseEstimator,
    features: Floats | Design,
    responses: Floats | Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
    baseline: Floats | None = None,
    metrics: Sequence[str] = ("pearson", "r2"),
) -> tuple[FoldScores, FoldScores | None]:
    """Score features alone and, given a baseline, baseline and features together, on the same folds.

    Parameters
    ----------
    encoder : scikit-learn estimator
        A `RidgeEncoder` does all folds, and both fits, from shared factorisations, the baseline with a penalty of its
        own; any other estimator is fitted fold by fold and twice, the second time on the columns side by side.
    features : array (sample, feature) or Design
    responses : array (sample, target) or Responses
        Targets with a value that is not finite, or that never vary, get NaN; the others do not notice them. Several
        calls with the same responses prepare them once if they are given as `Responses`.
    groups : array (sample,), optional
        The run of each sample.
    splitter : scikit-learn splitter
        The outer folds. Inner folds of our encoders are of the same kind.
    baseline : array (sample, q), optional
    metrics : sequence of str
        As for `cross_val_scores`.

    Returns
    -------
    alone, joint : FoldScores
        `joint` is None without a baseline.

    Raises
    ------
    DataError
        If features or baseline are not finite, or their samples are not those of the responses.
    """
    responses = responses if isinstance(responses, Responses) else Responses(responses)
    design = _design(features, responses.n_samples)
    if baseline is not None:
        _check_columns("Baseline", baseline, responses.n_samples)
    folds = _folds(encoder, splitter, responses.n_samples, groups)
    results = [_Collected(len(folds), responses, metrics) for _ in range(1 if baseline is None else 2)]
    if isinstance(encoder, RidgeEncoder):
        _collect(encoder, design, responses, folds, baseline, results)
    else:
        columns = design.rows(np.arange(design.shape[0]))
        _refit(encoder, columns, responses, folds, results[0])
        if baseline is not None:
            _refit(encoder, np.hstack([columns, baseline]), responses, folds, results[1])
    scores = [result.scores() for result in results]
    return scores[0], scores[1] if baseline is not None else None


def explain(
    encoder: RidgeEncoder,
    features: Floats | Design,
    responses: Any,
    groups: Any = None,
    splitter: Splitter | None = None,
) -> str:
    """How `cross_val_scores` would go about it, and why: the operations of each route, and what computes them.

    Examples
    --------
    >>> X, Y = np.random.default_rng(0).normal(size=(200, 30)), np.random.default_rng(1).normal(size=(200, 500))
    >>> explain(RidgeEncoder(), X, Y)
    'primal: 0.156 GFLOP (dual 0.968); all targets at once; numpy (cpu)'
    """
    how, backend = plan_of(encoder, features, responses, groups, splitter)
    return f"{how}; {backend}"


def plan_of(
    encoder: RidgeEncoder,
    features: Floats | Design,
    responses: Any,
    groups: Any = None,
    splitter: Splitter | None = None,
) -> tuple[Plan, Backend]:
    """The way that `cross_val_scores` would take, and what would compute it."""
    responses = responses if isinstance(responses, Responses) else Responses(responses)
    design = _design(features, responses.n_samples)
    folds = _folds(encoder, splitter or _default_splitter(groups), responses.n_samples, groups)
    return encoder.explain(design, responses, folds)


def cross_val_scores(
    features: Floats | Design | Mapping[str, Floats | Design],
    responses: Any,
    groups: Any = None,
    encoder: BaseEstimator | None = None,
    metrics: Sequence[str] = ("pearson", "r2"),
    splitter: Splitter | None = None,
    allow_leaky: bool = False,
    n_jobs: int = 1,
    out: str | Path | None = None,
) -> xr.Dataset:
    """Score one or several feature spaces on held-out runs or blocks.

    Parameters
    ----------
    features : array (n, p), `Delayed`, or mapping of name to these
    responses : array (n, v) or (n,)
        In memory, memory-mapped, HDF5 or Zarr: read in blocks of targets, never whole.
    groups : array (n,), optional
        The run of each sample. With three runs or more each is held out in turn; otherwise five contiguous blocks.
    encoder : scikit-learn estimator, optional
        `RidgeEncoder()` by default.
    metrics : sequence of str
        "pearson", "r2", "two_vs_two" and "top_1", "top_5" ... The last two match whole predicted and observed samples
        of a fold, targets standardised, and give one number per fold. Pearson and R2 are always computed.
    splitter : scikit-learn splitter, optional
        Other outer folds. Blocks of a signal with memory need ``ContiguousBlocks(n_splits, gap)`` with a gap longer
        than the response.
    allow_leaky : bool
        Accept folds that are not contiguous, such as shuffled ones, with a warning.
    n_jobs : int
        Feature spaces scored at the same time, each in a process of its own. One is best where spaces are few, as
        the products use all cores anyway.
    out : path, optional
        Write the scores there too, as netCDF, whole or not at all.

    Returns
    -------
    xarray.Dataset
        ``r``, ``r2`` and ``alpha`` with dimensions (feature_space, fold, target), and the other metrics with
        (feature_space, fold); average over fold. From a `BandedRidgeEncoder` also ``r2_band``, with band before target.

    Raises
    ------
    DataError
        If features are not finite or have other samples than the responses, or if held-out samples stand among
        training samples and `allow_leaky` is False.
    ValueError
        If there is no such metric.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4)); Y = X @ rng.normal(size=(4, 3)) + rng.normal(size=(200, 3))
    >>> scores = cross_val_scores({"true": X, "noise": rng.normal(size=(200, 4))}, Y)
    >>> bool((scores.r.mean("fold").sel(feature_space="true") > 0.4).all())
    True
    """
    spaces = features if isinstance(features, Mapping) else {"features": features}
    if len(responses.shape if hasattr(responses, "shape") else np.shape(responses)) == 1:
        responses = np.asarray(responses)[:, None]
    encoder = RidgeEncoder() if encoder is None else encoder
    prepared = Responses(responses, hold=HOLD)
    groups = None if groups is None else np.asarray(groups)
    splitter = _default_splitter(groups) if splitter is None else splitter
    _check_leak(_folds(encoder, splitter, prepared.n_samples, groups), groups, prepared, allow_leaky)
    score = delayed(cross_validate)
    calls = [score(encoder, x, prepared, groups, splitter, metrics=metrics) for x in spaces.values()]
    results = [alone for alone, _ in Parallel(n_jobs=n_jobs)(calls)]
    of_targets = ("feature_space", "fold", "target")
    variables: dict[str, Any] = {
        name: (of_targets, np.stack([getattr(scores, name) for scores in results])) for name in ("r", "r2", "alpha")
    }
    for name in results[0].matches:
        variables[name] = (of_targets[:2], np.stack([scores.matches[name] for scores in results]))
    coords = {"feature_space": list(spaces)}
    if isinstance(encoder, BandedRidgeEncoder):
        variables["r2_band"] = (
            ("feature_space", "fold", "band", "target"),
            np.stack([scores.r2_band for scores in results if scores.r2_band is not None]),
        )
        coords["band"] = encoder.band_names()
    found = xr.Dataset(variables, coords=coords)
    if out is not None:
        with atomic_path(Path(out)) as part:
            found.to_netcdf(part, engine="h5netcdf")
    return found


# Bytes that a standardised copy of the responses may fill, to spare doing it again for each feature space and fold.
HOLD = 2**30


class _Collected:
    """Scores as predictions come in."""

    def __init__(self, n_folds: int, responses: Responses, metrics: Sequence[str]) -> None:
        self.usable = responses.status == "ok"
        self.metrics = [name for name in metrics if name not in ("pearson", "r2")]
        for name in self.metrics:
            if name != "two_vs_two" and not re.fullmatch(r"top_[1-9]\d*", name):
                raise ValueError(f"There is no metric {name!r}: pearson, r2, two_vs_two, top_1, top_5 ...")
        self.r, self.r2, self.alpha, self.beta, self.at_edge = np.full((5, n_folds, responses.n_targets), np.nan)
        self.matches: list[Matches | None] = [None] * n_folds
        self.r2_band: Floats | None = None

    def add_choice(self, block: slice, choice: Choice, alphas: Floats, betas: Floats | None) -> None:
        self.alpha[:, block] = alphas[choice.alpha]
        if betas is not None:
            self.beta[:, block] = betas[choice.beta]
        self.at_edge[:, block] = choice.at_edge

    def add(self, fold: int, block: slice, predicted: Floats, observed: Floats, reference: Floats) -> None:
        self.r[fold, block] = pearson(predicted, observed)
        self.r2[fold, block] = r2(predicted, observed, reference)
        if self.metrics:
            usable = self.usable[block]
            matches = self.matches[fold] = self.matches[fold] or Matches(len(observed))
            matches.update(predicted[:, usable], observed[:, usable])

    def add_bands(self, fold: int, block: slice, bands: Floats, observed: Floats, reference: Floats) -> None:
        if self.r2_band is None:
            self.r2_band = np.full((len(self.r), len(bands), self.r.shape[1]), np.nan)
        self.r2_band[fold, :, block] = split_r2(bands, observed, reference)

    def scores(self) -> FoldScores:
        of_targets = (self.r, self.r2, self.alpha, self.beta, self.at_edge)
        r, r2_, alpha, beta, at_edge = (np.where(self.usable, values, np.nan) for values in of_targets)
        matched = {name: np.array([_match(matches, name) for matches in self.matches]) for name in self.metrics}
        bands = None if self.r2_band is None else np.where(self.usable, self.r2_band, np.nan)
        return FoldScores(r, r2_, alpha, beta, at_edge, matched, bands)


def _match(matches: Matches | None, metric: str) -> float:
    if matches is None:
        return np.nan
    return matches.two_vs_two() if metric == "two_vs_two" else matches.top_k_accuracy(int(metric.removeprefix("top_")))


def _collect(
    encoder: RidgeEncoder,
    design: Design,
    responses: Responses,
    folds: Sequence[NestedFold],
    baseline: Floats | None,
    results: Sequence[_Collected],
) -> None:
    grid = encoder.grid(baseline)
    for part in encoder.held_out(design, responses, folds, baseline):
        block = slice(part.targets.start, part.targets.start + part.targets.n)
        for result, choice, betas in zip(results, (part.alone, part.joint), (None, grid.betas), strict=False):
            if choice is not None:
                result.add_choice(block, choice, grid.alphas, betas)
        for found in part.predictions:
            if found.bands is not None:
                results[0].add_bands(found.fold, found.block, found.bands, found.observed, found.reference)
            for result, predicted in zip(results, (found.alone, found.joint), strict=False):
                if predicted is not None:
                    result.add(found.fold, found.block, predicted, found.observed, found.reference)


def _refit(
    encoder: BaseEstimator, columns: Floats, responses: Responses, folds: Sequence[NestedFold], result: _Collected
) -> None:
    """Fit any estimator on each fold's training samples, and score its predictions of the others."""
    every, y = slice(0, responses.n_targets), responses.as_given()
    for number, fold in enumerate(folds):
        model: Any = clone(encoder).fit(columns[fold.train], y[fold.train])
        predicted = np.asarray(model.predict(columns[fold.test])).reshape(len(fold.test), -1)
        result.add(number, every, predicted, y[fold.test], y[fold.train].mean(axis=0))


def _design(features: Any, n_samples: int) -> Design:
    if isinstance(features, Design):
        if features.shape[0] != n_samples:
            raise DataError(f"Features have {features.shape[0]} samples, the responses {n_samples}: they must agree.")
        return features
    features = np.asarray(features)
    _check_columns("Features", features, n_samples)
    return Matrix(features)


def _check_columns(what: str, columns: Floats, n_samples: int) -> None:
    if columns.ndim != 2 or len(columns) != n_samples:
        raise DataError(f"{what} of shape {columns.shape} for {n_samples} samples of responses: rows must agree.")
    if not np.isfinite(columns).all():
        row, column = np.argwhere(~np.isfinite(columns))[0]
        raise DataError(f"{what}: the value at sample {row}, dimension {column} is {columns[row, column]}.")


def _default_splitter(groups: Any) -> Splitter:
    return LeaveOneRunOut() if groups is not None and len(np.unique(groups)) >= 3 else ContiguousBlocks()


def _folds(encoder: BaseEstimator, splitter: Splitter, n_samples: int, groups: Any) -> list[NestedFold]:
    if groups is not None and np.shape(groups) != (n_samples,):
        raise DataError(f"groups has shape {np.shape(groups)}; the run of each of the {n_samples} samples is needed.")
    if not isinstance(encoder, RidgeEncoder):
        return nested_folds(splitter, None, n_samples, groups)
    inner = None if encoder.inner_splits == "loo" else encoder.inner_splits
    return nested_folds(splitter, inner, n_samples, groups, encoder.gap)


def _check_leak(folds: Sequence[NestedFold], groups: Any, responses: Responses, allow_leaky: bool) -> None:
    """Refuse, or warn of, folds whose held-out samples have training samples on both sides."""
    share = leaky_share(folds, groups)
    if share <= LEAKY:
        return
    y = responses.read(slice(0, min(TARGETS_LOOKED_AT, responses.n_targets)))
    neighbours = np.nanmedian(pearson(y[:-1], y[1:])) if (responses.status == "ok").any() else np.nan
    size = (
        f"{share:.0%} of the held-out samples stand among training samples, and neighbouring samples of a "
        f"response correlate with r = {neighbours:.2f} (median over targets)"
    )
    if not allow_leaky:
        raise DataError(
            f"E101: The folds are not contiguous: {size}. What is then scored is memory. Take LeaveOneRunOut() or "
            "ContiguousBlocks(n_splits, gap), or say allow_leaky=True."
        )
    warnings.warn(f"Leaky folds: {size}. Scores are too high.", FitWarning, stacklevel=3)
