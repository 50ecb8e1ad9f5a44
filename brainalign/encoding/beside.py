"""One feature space together with each of several small sets of further columns, every set with its own penalty.

Ridge of features and set is banded ridge of two bands: eliminating the features' weights leaves a system of as many
unknowns as the set has columns, from the factorisation of the features alone (see `penalties`). So the features are
factorised once for all sets, and so is everything that they predict alone; a set costs products with its few columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from brainalign.encoding.banded import BandedRidgeEncoder
from brainalign.encoding.cross_validation import FoldScores
from brainalign.encoding.designs import Design, Matrix
from brainalign.encoding.metrics import pearson, r2
from brainalign.encoding.nested import Choice, Prediction, Targets, choose, inner_scores, predictions, target_sums
from brainalign.encoding.planning import Problem
from brainalign.encoding.responses import Responses
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import NestedFold, Splitter, nested_folds
from brainalign.errors import DataError, RecipeError
from brainalign.types import Floats

__all__ = ["cross_validate_beside"]


def cross_validate_beside(
    encoder: RidgeEncoder,
    features: Floats | Design,
    responses: Floats | Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
    sets: Sequence[Floats],
) -> tuple[FoldScores, list[FoldScores]]:
    """Score features alone and together with each set of columns, on the same folds.

    The same as `cross_validate` with each set in turn as `baseline`, without repeating what they share.

    Parameters
    ----------
    encoder : RidgeEncoder
        Its `alphas` are tried for the features, its `baseline_alphas` for each set.
    features : array (sample, feature) or Design
    responses : array (sample, target) or Responses
        Targets with a value that is not finite, or that never vary, get NaN; the others do not notice them.
    groups : array (sample,), optional
        The run of each sample.
    splitter : scikit-learn splitter
        The outer folds. Inner folds are of the same kind.
    sets : sequence of arrays (sample, q)
        Columns to put beside the features, one set at a time. Of few columns each: a set's cost grows with the square
        of their number.

    Returns
    -------
    alone : FoldScores
    joints : list of FoldScores
        One for each set.

    Raises
    ------
    DataError
        If features or a set are not finite, or their samples are not those of the responses.
    RecipeError
        If the encoder is not a `RidgeEncoder`, or has bands.

    Examples
    --------
    >>> from brainalign.encoding import ContiguousBlocks
    >>> rng = np.random.default_rng(0)
    >>> X, B, noise = rng.normal(size=(200, 4)), rng.normal(size=(200, 2)), rng.normal(size=(200, 2))
    >>> Y = X.sum(axis=1, keepdims=True) + B.sum(axis=1, keepdims=True) + rng.normal(size=(200, 3))
    >>> alone, (true, other) = cross_validate_beside(RidgeEncoder(), X, Y, None, ContiguousBlocks(), [B, noise])
    >>> bool((true.r - alone.r).mean() > 0.1 > abs((other.r - alone.r).mean()))
    True
    """
    if not isinstance(encoder, RidgeEncoder) or isinstance(encoder, BandedRidgeEncoder):
        raise RecipeError(
            f"Sets beside the features need a RidgeEncoder, not {type(encoder).__name__}: only its factorisations "
            "can be shared. For bands of any number see BandedRidgeEncoder, one fit for each set."
        )
    responses = responses if isinstance(responses, Responses) else Responses(responses)
    design = _design(features, responses.n_samples)
    columns = [
        _finite(f"Set {number} beside the features", one, responses.n_samples) for number, one in enumerate(sets)
    ]
    if groups is not None and np.shape(groups) != (responses.n_samples,):
        raise DataError(
            f"groups has shape {np.shape(groups)}; the run of each of {responses.n_samples} samples is due."
        )
    inner = None if encoder.inner_splits == "loo" else encoder.inner_splits
    folds = nested_folds(splitter, inner, responses.n_samples, groups, encoder.gap)
    found = [_Collected.of_none(len(folds), responses.n_targets) for _ in range(1 + len(columns))]
    grid = encoder.grid(columns)
    for part in _parts(encoder, design, responses, folds, columns):
        here = slice(part.targets.start, part.targets.start + part.targets.n)
        found[0].choose(here, part.alone, grid.alphas, None)
        for one, choice in zip(found[1:], part.joints, strict=True):
            one.choose(here, choice, grid.alphas, grid.betas)
        for beside in part.predictions:
            found[0].score(beside[0], beside[0].alone)
            for one, predicted in zip(found[1:], beside, strict=False):
                assert predicted.joint is not None
                one.score(predicted, predicted.joint)
    usable = responses.status == "ok"
    alone, *joints = (one.scores(usable) for one in found)
    return alone, joints


@dataclass(frozen=True)
class _Part:
    """Consecutive targets: the penalties chosen alone and with each set, and lists of predictions, one for each set."""

    targets: Targets
    alone: Choice
    joints: Sequence[Choice]
    predictions: Iterator[list[Prediction]]


def _parts(
    encoder: RidgeEncoder, design: Design, responses: Responses, folds: Sequence[NestedFold], sets: Sequence[Floats]
) -> Iterator[_Part]:
    """Choose penalties on the inner folds and predict the outer ones, some targets at a time."""
    encoder.check_settings()
    grid = encoder.grid(sets)
    # Each set has inner scores of its own, which take memory as further penalties would.
    counted = replace(grid, betas=np.tile(grid.betas, max(len(sets), 1)))
    n_columns = sum(columns.shape[1] for columns in sets)
    scaled = encoder.standardise or encoder.n_components is not None
    problem = Problem(design.shape[1], responses.each, folds, counted, scaled, responses.dtype, n_baseline=n_columns)
    how = encoder.plan(problem, ("primal", "dual"))
    backend = encoder.compute_with(how)
    pieces = encoder.pieces(how.route, design, folds, backend)
    with backend.on_its_own_threads():
        for targets in how.parts(responses):
            sums = target_sums(pieces, targets, backend)
            scores = inner_scores(pieces, folds, targets, sums, grid, backend, sets)
            alone, joints = choose(scores.alone), [choose(joint, len(grid.betas)) for joint in scores.joints]
            yield _Part(
                targets,
                alone,
                joints,
                predictions(pieces, folds, targets, sums, grid, backend, alone, joints, sets),
            )


@dataclass(frozen=True)
class _Collected:
    """Scores of one fit as they come in, arrays (fold, target)."""

    r: Floats
    r2: Floats
    alpha: Floats
    beta: Floats
    at_edge: Floats

    @classmethod
    def of_none(cls, n_folds: int, n_targets: int) -> _Collected:
        return cls(*np.full((5, n_folds, n_targets), np.nan))

    def choose(self, here: slice, choice: Choice, alphas: Floats, betas: Floats | None) -> None:
        self.alpha[:, here] = alphas[choice.alpha]
        if betas is not None:
            self.beta[:, here] = betas[choice.beta]
        self.at_edge[:, here] = choice.at_edge

    def score(self, found: Prediction, predicted: Floats) -> None:
        self.r[found.fold, found.block] = pearson(predicted, found.observed)
        self.r2[found.fold, found.block] = r2(predicted, found.observed, found.reference)

    def scores(self, usable: np.ndarray) -> FoldScores:
        known = {name: np.where(usable, values, np.nan) for name, values in vars(self).items()}
        return FoldScores(**known, matches={})


def _design(features: Floats | Design, n_samples: int) -> Design:
    if not isinstance(features, Design):
        return Matrix(_finite("Features", features, n_samples))
    if features.shape[0] != n_samples:
        raise DataError(f"Features have {features.shape[0]} samples, the responses {n_samples}: they must agree.")
    return features


def _finite(what: str, columns: Floats, n_samples: int) -> Floats:
    columns = np.asarray(columns)
    if columns.ndim != 2 or len(columns) != n_samples:
        raise DataError(f"{what} of shape {columns.shape} for {n_samples} samples of responses: rows must agree.")
    if not np.isfinite(columns).all():
        row, column = np.argwhere(~np.isfinite(columns))[0]
        raise DataError(f"{what}: the value at sample {row}, column {column} is {columns[row, column]}.")
    return columns
