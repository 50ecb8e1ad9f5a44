"""Nested cross-validation of ridge for many targets: penalties chosen on inner folds, outer folds predicted.

Folds that train on the same samples share one factorisation: with whole runs held out, the model without runs i and j
serves outer fold i with inner fold j and outer fold j with inner fold i. Work goes training set by training set, and
within one block of targets by block, so that memory holds one factorisation and one block at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.encoding.backends import Backend
from brainalign.encoding.downdating import Downdate
from brainalign.encoding.leave_one_out import LeaveOneOut
from brainalign.encoding.metrics import is_constant
from brainalign.encoding.penalties import Baseline, Grid, HeldOut, Indices, Scored, joint_system, score_of
from brainalign.encoding.responses import Responses
from brainalign.encoding.spectra import Pieces, Rotation, TargetSums, column_weights_of
from brainalign.encoding.splits import NestedFold
from brainalign.types import Floats

__all__ = [
    "Choice",
    "InnerScores",
    "Prediction",
    "Targets",
    "choose",
    "downdated",
    "inner_scores",
    "joint_weights",
    "predictions",
    "standard_columns",
    "target_sums",
    "training_baseline",
    "weights",
]

# A penalty at the grid's edge matters if its inner score (R2 or r) beats its neighbour's by more than this.
MATERIAL_RISE = 1e-3


class Targets:
    """The targets that are fitted together: consecutive blocks of the responses, read when they are needed."""

    def __init__(self, responses: Responses, blocks: Sequence[slice]) -> None:
        self.responses, self.blocks = responses, blocks
        self.start, self.n = blocks[0].start, blocks[-1].stop - blocks[0].start
        self.dtype = responses.dtype

    def read(self, block: slice, dtype: str | None = None) -> np.ndarray:
        """Standardised responses (n_samples, width of the block)."""
        return self.responses.read(block).astype(dtype or self.dtype, copy=False)

    def here(self, block: slice) -> slice:
        """Where a block is among these targets."""
        return slice(block.start - self.start, block.stop - self.start)


@dataclass(frozen=True)
class InnerScores:
    """Mean inner score of each penalty: `alone` (fold, a, v) and with each baseline, arrays (fold, a * b, v).

    A fold in which a target does not vary says nothing of it and is left out of its mean; NaN if all are.
    """

    alone: Floats
    joints: Sequence[Floats]


@dataclass(frozen=True)
class Choice:
    """The penalties chosen, each (fold, v): their numbers in the grid, and whether a wider grid would give another."""

    alpha: NDArray[np.intp]
    beta: NDArray[np.intp]
    at_edge: NDArray[np.bool_]


@dataclass(frozen=True)
class Prediction:
    """Held-out samples of one outer fold and one block of targets, responses standardised over all samples.

    `alone`, `joint` and `observed` are (m, width of the block); `reference` (width,) is the mean over training. `bands`
    (band, m, width) is what each band of a banded ridge adds to `reference` in `alone`.
    """

    fold: int
    block: slice
    alone: Floats
    joint: Floats | None
    observed: Floats
    reference: Floats
    bands: Floats | None = None


class _Means:
    """Means over inner folds of scores (fold, penalty, target) that may be undefined."""

    def __init__(self, *shape: int) -> None:
        self.total = np.zeros(shape)
        self.count = np.zeros(shape, dtype=np.int32)

    def add(
        self, fold: int, block: slice, score: Floats, defined: NDArray[np.bool_], penalties: slice = slice(None)
    ) -> None:
        self.total[fold, penalties, block] += np.where(defined, score, 0.0)
        self.count[fold, penalties, block] += defined

    def mean(self, penalties: slice = slice(None), block: slice = slice(None)) -> Floats:
        total, count = self.total[:, penalties, block], self.count[:, penalties, block]
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def target_sums(pieces: Pieces, targets: Targets, backend: Backend) -> list[TargetSums | None]:
    """What training sets share of each block of the targets."""
    return list(backend.map(lambda block: pieces.sums(targets.read(block)), targets.blocks))


def inner_scores(
    pieces: Pieces,
    folds: Sequence[NestedFold],
    targets: Targets,
    sums: Sequence[TargetSums | None],
    grid: Grid,
    backend: Backend,
    baselines: Sequence[Floats] = (),
) -> InnerScores:
    """Score each penalty on the inner folds of each outer fold.

    Parameters
    ----------
    pieces : Pieces
        Of the features (n, p).
    folds : sequence of NestedFold
        Without inner folds, each training sample is left out in turn.
    targets : Targets
    sums : sequence of TargetSums or None
        What ``pieces.sums`` gave for each block of the targets.
    grid : Grid
    backend : Backend
    baselines : sequence of arrays (n, q)
        Each beside the features by itself.
    """
    n_pairs = len(grid.alphas) * len(grid.betas)
    alone = _Means(len(folds), len(grid.alphas), targets.n)
    joint = _Means(len(folds), len(baselines) * n_pairs, targets.n)

    def score(shared: _TrainingSet) -> list[tuple[int, slice, Scored]]:
        rotation = pieces.rotate(shared.train)
        scorers = [
            (fold, _scorer(pieces, rotation, rows, grid, backend, targets.dtype, baselines))
            for fold, rows in shared.tests
        ]
        dtype = max(scorer.dtype for _, scorer in scorers)  # "float64" if any needs it
        found = []
        for block, block_sums in zip(targets.blocks, sums, strict=True):
            y = targets.read(block, dtype)
            z, mean = pieces.reduce(rotation, y, block_sums), y[shared.train].mean(axis=0)
            found += [(fold, targets.here(block), scorer.score(y, mean, z)) for fold, scorer in scorers]
        return found

    # Added in the order of the training sets, whichever is done first, so that sums are the same to the last bit.
    for found in backend.map(score, _training_sets(folds)):
        for fold, here, scored in found:
            alone.add(fold, here, scored.alone, scored.defined)
            if scored.joint is not None:
                joint.add(fold, here, scored.joint, scored.defined)
    of_each = (slice(first, first + n_pairs) for first in range(0, len(baselines) * n_pairs, n_pairs))
    return InnerScores(alone.mean(), [joint.mean(pairs) for pairs in of_each])


def _scorer(
    pieces: Pieces,
    rotation: Rotation,
    rows: Indices | None,
    grid: Grid,
    backend: Backend,
    dtype: str,
    baselines: Sequence[Floats],
) -> HeldOut | _OneByOne:
    """What scores the held-out rows of a training set or, without any, each of its samples left out in turn."""
    columns = [training_baseline(pieces, rotation, baseline, rows, backend) for baseline in baselines]
    if rows is None:
        u, of_each = pieces.left(rotation), columns or [None]
        return _OneByOne([LeaveOneOut(rotation.train, rotation.s, u, grid, backend, dtype, one) for one in of_each])
    projected = pieces.project(rotation, rows)
    return HeldOut(rotation.train, rows, rotation.s, projected, grid, backend, dtype, *columns)


@dataclass(frozen=True)
class _OneByOne:
    """Each training sample left out in turn, beside each baseline."""

    beside: Sequence[LeaveOneOut]

    @property
    def dtype(self) -> str:
        return self.beside[0].dtype

    def score(self, responses: np.ndarray, mean: np.ndarray, z: Any) -> Scored:
        found = [one.score(responses, mean, z) for one in self.beside]
        joint = [scored.joint for scored in found if scored.joint is not None]
        return Scored(found[0].alone, np.concatenate(joint) if joint else None, found[0].defined)


@dataclass(frozen=True)
class _TrainingSet:
    """A training set of inner folds, and the outer folds and held-out samples that it serves."""

    train: Indices
    tests: tuple[tuple[int, Indices | None], ...]


def _training_sets(folds: Sequence[NestedFold]) -> list[_TrainingSet]:
    """Each training set of the inner folds once."""
    shared: dict[bytes, tuple[Indices, list[tuple[int, Indices | None]]]] = {}
    for number, fold in enumerate(folds):
        if not fold.inner:
            shared.setdefault(fold.train.tobytes(), (fold.train, []))[1].append((number, None))
        for inner in fold.inner:
            train = np.sort(inner.train)
            shared.setdefault(train.tobytes(), (train, []))[1].append((number, inner.test))
    return [_TrainingSet(train, tuple(tests)) for train, tests in shared.values()]


def training_baseline(
    pieces: Pieces, rotation: Rotation, baseline: Floats, rows: Indices | None, backend: Backend
) -> Baseline:
    """The baseline's columns (n, q), standardised on the training samples, and the held-out rows (the same if None)."""
    mean, weight = standard_columns(baseline[rotation.train])
    standard = (baseline - mean) * weight
    train = backend.array(standard[rotation.train])
    held_out = train if rows is None else backend.array(standard[rows])
    return Baseline(train, held_out, pieces.reduce(rotation, standard, None))


def standard_columns(columns: Floats) -> tuple[Floats, Floats]:
    """What standardising takes off each column (n, q), and what it multiplies the rest by."""
    mean = columns.mean(axis=0)
    return mean, column_weights_of(mean, columns.std(axis=0))


def choose(scores: Floats, n_betas: int = 1) -> Choice:
    """The best penalties by mean inner scores (fold, a * b, v), the largest of equals.

    A target whose scores are all NaN gets the largest penalty: its mean is all that is known of it.
    """
    n_pairs = scores.shape[1]
    best = n_pairs - 1 - np.where(np.isnan(scores), -np.inf, scores)[:, ::-1].argmax(axis=1)  # (fold, v)
    n_alphas = n_pairs // n_betas
    alpha, beta = best // n_betas, best % n_betas
    inward = np.where(alpha == 0, min(1, n_alphas - 1), max(n_alphas - 2, 0))
    at_best, next_to_it = (
        np.take_along_axis(scores, number[:, None], axis=1)[:, 0] for number in (best, inward * n_betas + beta)
    )
    at_edge = ((alpha == 0) | (alpha == n_alphas - 1)) & (at_best - next_to_it > MATERIAL_RISE)
    return Choice(alpha, beta, at_edge)


def predictions(
    pieces: Pieces,
    folds: Sequence[NestedFold],
    targets: Targets,
    sums: Sequence[TargetSums | None],
    grid: Grid,
    backend: Backend,
    alone: Choice,
    joints: Sequence[Choice] = (),
    baselines: Sequence[Floats] = (),
) -> Iterator[list[Prediction]]:
    """Predict each outer fold with the penalties chosen; parameters as for `inner_scores`.

    `alone` is chosen for the features alone, `joints` with each baseline. For each fold and block of targets comes a
    list: one prediction for each baseline, which share the array of the features alone, or one without any.
    """

    def prepare(fold: NestedFold) -> tuple[Rotation, Any, list[Baseline]]:
        rotation = pieces.rotate(fold.train)
        columns = [training_baseline(pieces, rotation, baseline, fold.test, backend) for baseline in baselines]
        return rotation, pieces.project(rotation, fold.test), columns

    def predict(number: int, prepared: tuple[Rotation, Any, list[Baseline]], of_block: int) -> list[Prediction]:
        fold, block, (rotation, projected, columns) = folds[number], targets.blocks[of_block], prepared
        y, here = targets.read(block), targets.here(block)
        z, mean = pieces.reduce(rotation, y, sums[of_block]), y[fold.train].mean(axis=0)
        w = weights(rotation.s, z, grid, alone.alpha[number, here], backend)
        # What never varies in training is predicted by its value: the rest is rounding, and would have a correlation.
        flat = is_constant(y[fold.train])
        # In float64, as the prediction at a large penalty is smaller than float32's rounding of the mean.
        predicted = backend.to_numpy(_narrow(backend, projected, z) @ w).astype(np.float64) + mean
        by_itself = Prediction(number, block, np.where(flat, mean, predicted), None, y[fold.test], mean)
        if not columns:
            return [by_itself]
        found, train = [], backend.array(y[fold.train] - mean)
        for joint, beside in zip(joints, columns, strict=True):
            pair = joint.alpha[number, here], joint.beta[number, here]
            w, b = joint_weights(rotation.s, z, train, beside, grid, *pair, backend)
            both = backend.to_numpy(projected @ w + beside.held_out @ b) + mean
            found.append(replace(by_itself, joint=np.where(flat, mean, both)))
        return found

    # As many factorisations as threads, then the blocks of targets of each.
    for first in range(0, len(folds), backend.threads):
        together = folds[first : first + backend.threads]
        for number, prepared in enumerate(list(backend.map(prepare, together)), first):
            yield from backend.map(partial(predict, number, prepared), range(len(targets.blocks)))


def _narrow(backend: Backend, matrix: Any, like: Any) -> Any:
    return backend.xp.astype(matrix, like.dtype)


def weights(s: Any, z: Any, grid: Grid, alpha: NDArray[np.intp], backend: Backend) -> Any:
    """Ridge weights (k, v) in the basis of the training features, each target at its own penalty of the grid."""
    shrink = s / (s * s + backend.array(grid.alphas)[:, None])  # (a, k)
    return _narrow(backend, shrink, z)[backend.index(alpha)].T * z


def joint_weights(
    s: Any,
    z: Any,
    train: Any,
    baseline: Baseline,
    grid: Grid,
    alpha: NDArray[np.intp],
    beta: NDArray[np.intp],
    backend: Backend,
) -> tuple[Any, Any]:
    """Weights of the features (k, v) and of the baseline (q, v) beside them, each target at its own two penalties."""
    xp = backend.xp
    z = xp.astype(z, xp.float64)
    inverse = 1.0 / (s * s + backend.array(grid.alphas)[:, None])
    systems, _ = joint_system(backend, s, inverse, baseline, grid.betas)
    alpha, beta = backend.index(alpha), backend.index(beta)
    # Columns are never put together by their penalties: a target's numbers would then depend on the others'.
    right = baseline.train.T @ train - baseline.reduced.T @ ((inverse * s * s)[alpha].T * z)
    b = (systems[alpha, beta] @ right.T[:, :, None])[:, :, 0].T
    shrink = (inverse * s)[alpha].T
    return shrink * (z - baseline.reduced @ b), b


def downdated(
    u: Any, s: Any, folds: Sequence[NestedFold], targets: Targets, grid: Grid, backend: Backend
) -> tuple[Choice, Iterator[Prediction]]:
    """Choice of penalties and outer predictions from one factorisation of all samples (see `downdating`).

    Parameters
    ----------
    u, s : arrays (n, k) and (k,)
        Of the features centred on all samples, arrays of the backend.
    folds : sequence of NestedFold
        With inner folds.
    targets : Targets
    grid : Grid
    backend : Backend
    """
    n_samples = targets.responses.n_samples
    sets = _training_sets(folds)
    inner = [np.setdiff1d(np.arange(n_samples), shared.train) for shared in sets]
    outer = [np.setdiff1d(np.arange(n_samples), fold.train) for fold in folds]
    narrow = backend.xp.astype(u, getattr(backend.xp, targets.dtype)).T
    rotated = list(
        backend.map(lambda block: narrow @ backend.array(targets.read(block), targets.dtype), targets.blocks)
    )
    held_out = list(backend.map(lambda block: _held_out_responses(sets, inner, targets, block, grid), targets.blocks))
    scores = _Means(len(folds), len(grid.alphas), targets.n)
    best = np.full((len(folds), targets.n), -np.inf)
    means = [_means_of_others(targets, left_out) for left_out in inner + outer]
    deviations = np.zeros((n_samples, targets.n), dtype=targets.dtype)
    for number, alpha in enumerate(grid.alphas):
        downdate = Downdate(u, s, float(alpha), inner + outer, backend, targets.dtype)
        fits = list(backend.map(partial(_fit, downdate, u, rotated, targets, backend), range(len(rotated))))
        predict = partial(_deviations, downdate, fits, targets, means, backend)
        _score_left_out(scores, number, predict, fits, held_out, targets, grid, backend)
        mean = scores.mean(slice(number, number + 1))[:, 0]
        # The largest of equal penalties, and the largest of all where none has a score.
        better = np.where(np.isnan(mean), -np.inf, mean) >= best
        best = np.where(better, mean, best)
        predicted = backend.map(predict, range(len(inner), len(inner) + len(outer)))
        for fold, left_out, improved, values in zip(folds, outer, better, predicted, strict=True):
            own = np.hstack([backend.to_numpy(block) for block in values])[np.searchsorted(left_out, fold.test)]
            deviations[fold.test] = np.where(improved, own, deviations[fold.test])
    return choose(scores.mean()), _from_deviations(folds, targets, means[len(inner) :], deviations)


def _means_of_others(targets: Targets, left_out: Indices) -> Floats:
    """Mean (v,) of the samples that are not left out."""
    found = []
    for block in targets.blocks:
        y = targets.read(block)
        total = y.sum(axis=0, dtype=np.float64) - y[left_out].sum(axis=0, dtype=np.float64)
        found.append(total / (len(y) - len(left_out)))
    return np.concatenate(found)


def _fit(
    downdate: Downdate, u: Any, rotated: Sequence[Any], targets: Targets, backend: Backend, number: int
) -> tuple[Any, Any]:
    """What the fit on all samples predicts of a block of targets, from U'Y, and the responses, as precise as needed."""
    y, z = backend.array(targets.read(targets.blocks[number]), downdate.dtype), rotated[number]
    return downdate.fitted(z if z.dtype == y.dtype else u.T @ y), y


def _deviations(
    downdate: Downdate,
    fits: Sequence[tuple[Any, Any]],
    targets: Targets,
    means: Sequence[Floats],
    backend: Backend,
    left_out: int,
) -> list[Any]:
    """Held-out predictions of each block of targets about their training mean, of one set of samples."""
    return [
        downdate.deviations(*fit, backend.array(means[left_out][targets.here(block)], downdate.dtype), left_out)
        for fit, block in zip(fits, targets.blocks, strict=True)
    ]


def _score_left_out(
    scores: _Means,
    number: int,
    predict: Callable[[int], list[Any]],
    fits: Sequence[tuple[Any, Any]],
    held_out: Sequence[Sequence[Sequence[_HeldOutResponses]]],
    targets: Targets,
    grid: Grid,
    backend: Backend,
) -> None:
    """Add the scores of penalty `number` on all inner folds."""

    def score(left_out: int) -> list[list[Floats]]:
        return [
            [test.score(predicted, y, grid, backend) for test in tests[left_out]]
            for predicted, (_, y), tests in zip(predict(left_out), fits, held_out, strict=True)
        ]

    this = slice(number, number + 1)
    for left_out, found in enumerate(backend.map(score, range(len(held_out[0])))):
        for block, tests, values in zip(targets.blocks, held_out, found, strict=True):
            for test, value in zip(tests[left_out], values, strict=True):
                scores.add(test.fold, targets.here(block), value, test.defined, this)


@dataclass(frozen=True)
class _HeldOutResponses:
    """One block's responses of one inner fold's held-out samples: what of their score no penalty changes."""

    fold: int
    rows: Indices
    positions: Indices  # among the samples left out
    reference: np.ndarray
    power: Floats
    defined: NDArray[np.bool_]

    def score(self, deviations: Any, y: Any, grid: Grid, backend: Backend) -> Floats:
        """The score (1, v) of predictions of the left-out samples about the training mean; `y` (n, v) are all."""
        predicted = deviations[backend.index(self.positions)]
        centred = y[backend.index(self.rows)] - backend.xp.astype(backend.array(self.reference), y.dtype)
        if grid.selection == "r2":
            missed = centred - predicted
            return 1.0 - backend.to_numpy(backend.dots(missed, missed))[None].astype(np.float64) / self.power
        predicted = predicted - backend.xp.mean(predicted, axis=0)
        square, product = (backend.to_numpy(backend.dots(predicted, other))[None] for other in (predicted, centred))
        return score_of(square.astype(np.float64), product.astype(np.float64), self.power, "r")


def _held_out_responses(
    sets: Sequence[_TrainingSet],
    left_out: Sequence[Indices],
    targets: Targets,
    block: slice,
    grid: Grid,
) -> list[list[_HeldOutResponses]]:
    """For each training set what its tests need of a block of responses."""
    y = targets.read(block)
    total = y.sum(axis=0, dtype=np.float64)
    found = []
    for shared, missing in zip(sets, left_out, strict=True):
        mean = (total - y[missing].sum(axis=0, dtype=np.float64)) / len(shared.train)
        here = []
        for fold, rows in shared.tests:
            assert rows is not None
            observed = y[rows]
            reference = observed.mean(axis=0) if grid.selection == "r" else mean.astype(y.dtype)
            centred, defined = observed - reference, ~is_constant(observed)
            power = np.where(defined, np.einsum("mv,mv->v", centred, centred, dtype=np.float64), 1.0)
            here.append(_HeldOutResponses(fold, rows, np.searchsorted(missing, rows), reference, power, defined))
        found.append(here)
    return found


def _from_deviations(
    folds: Sequence[NestedFold], targets: Targets, means: Sequence[Floats], deviations: np.ndarray
) -> Iterator[Prediction]:
    for block in targets.blocks:
        y, here = targets.read(block), targets.here(block)
        for number, (fold, mean) in enumerate(zip(folds, means, strict=True)):
            flat = is_constant(y[fold.train])
            # In float64, as the prediction at a large penalty is smaller than float32's rounding of the mean.
            predicted = np.where(flat, 0.0, deviations[fold.test, here].astype(np.float64)) + mean[here]
            yield Prediction(number, block, predicted, None, y[fold.test], mean[here])
