"""Null distributions of cross-validated scores, refitted for every surrogate of the responses.

With its penalty fixed, ridge predicts held-out samples by a matrix that knows nothing of the responses:

    prediction = T X' (X X' + alpha I)^-1 y = P y,

X the training features, T the held-out ones. The matrices are made once for each fold and penalty that was chosen;
each surrogate of the responses then costs one product. Surrogates change the responses in training and test alike:
folds share what their training and test samples have in common by chance, so that scores of predictions which stay
while only the held-out responses move vary too little (false positives of 12 to 15 % instead of 5 % in simulations).
The penalties are those that the responses as measured had chosen.

Where a surrogate is the responses in another order, the columns of P are put in that order in their place: P is small,
and the responses stay where they are.

With a baseline of few columns beside the features the kernel is X X' / alpha + B B' / beta, and what is tested is the
gain of the layer: only what the baseline leaves of the responses is changed (Freedman & Lane, 1983).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from brainalign.encoding.metrics import is_constant
from brainalign.encoding.nested import standard_columns
from brainalign.types import Floats

__all__ = ["Order", "Penalties", "Surrogate", "gain_null", "score_null"]

Indices = np.ndarray
Fold = tuple[Indices, Indices]
# The targets that chose each penalty (each pair), and the matrix (test, train) that predicts them.
Operators = list[tuple[Indices, Floats]]
# Gives surrogate `number` of responses (sample, target): the same draw for all targets.
Surrogate = Callable[[int, Floats], Floats]
# Gives, for surrogates that are the responses in another order, the sample that stands at each place.
Order = Callable[[int], Indices]

# What is left of numbers that cancel, as a share of them.
ROUNDING = 1e-12
# Bytes of surrogates that are multiplied at once: products of narrow matrices are slow.
AT_ONCE = 64 * 2**20


@dataclass(frozen=True)
class Penalties:
    """The penalties that each target's responses chose, arrays (fold, target); `beta` of the baseline beside it."""

    alpha: Floats
    beta: Floats | None = None


def score_null(
    features: Floats,
    responses: Floats,
    folds: Sequence[Fold],
    penalties: Penalties,
    surrogate: Surrogate,
    n_permutations: int,
    order: Order | None = None,
) -> tuple[Floats, Floats]:
    """Mean r over folds, as measured and for surrogates of the responses.

    As in cross-validation a fold in which a response (or what is predicted of it) stands still says nothing, and is
    left out of the mean; NaN where all are.

    Parameters
    ----------
    features : array (sample, p)
    responses : array (sample, target)
        Those that vary and are finite.
    folds : sequence of (train, test)
        Indices of samples.
    penalties : Penalties
        Without `beta`.
    surrogate : callable
        ``surrogate(number, responses)``, with number from 0 on.
    n_permutations : int
    order : callable, optional
        ``order(number)`` of surrogates that only reorder, ``surrogate(number, y) == y[order(number)]``: many times
        faster where targets are many.

    Returns
    -------
    observed : array (target,), float32
    null : array (permutation, target), float32

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    >>> folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    >>> roll = lambda number, y: np.roll(y, 10 + number, axis=0)
    >>> observed, null = score_null(X, Y, folds, Penalties(np.ones((2, 2))), roll, 5)
    >>> observed.shape, null.shape
    ((2,), (5, 2))
    """
    operators = [
        _operators(_Bands([features], train, test), penalties.alpha[k][None]) for k, (train, test) in enumerate(folds)
    ]
    values, scored = _standardised(responses), _scored(responses, folds)
    (observed,) = _mean_r(values, folds, scored, operators)
    if order is not None:
        orders = np.stack([order(number) for number in range(n_permutations)])
        return observed, _reordered(values[:, 0], None, folds, scored, orders, operators)
    null = np.empty((n_permutations, responses.shape[1]), dtype=np.float32)
    for numbers, changed in _batches(values, surrogate, n_permutations):
        null[numbers] = _mean_r(changed, folds, scored, operators)
    return observed, null


def gain_null(
    features: Floats,
    baseline: Floats,
    responses: Floats,
    folds: Sequence[Fold],
    joint: Penalties,
    alone: Penalties,
    surrogate: Surrogate,
    n_permutations: int,
    order: Order | None = None,
) -> tuple[Floats, Floats]:
    """Mean over folds of r of baseline and features minus r of the baseline, as measured and for surrogates.

    Parameters are those of `score_null`, and:

    baseline : array (sample, q)
    joint, alone : Penalties
        Of features and baseline, and of the baseline alone.

    Returns
    -------
    observed : array (target,), float32
    null : array (permutation, target), float32

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, B, Y = rng.normal(size=(60, 3)), rng.normal(size=(60, 1)), rng.normal(size=(60, 2))
    >>> folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    >>> roll = lambda number, y: np.roll(y, 10 + number, axis=0)
    >>> ones = np.ones((2, 2))
    >>> observed, null = gain_null(X, B, Y, folds, Penalties(ones, ones), Penalties(ones), roll, 5)
    >>> null.shape
    (5, 2)
    """
    assert joint.beta is not None
    both, only = [], []
    for k, (train, test) in enumerate(folds):
        chosen = np.stack([joint.alpha[k], joint.beta[k]])
        both.append(_operators(_Bands([features, baseline], train, test), chosen))
        only.append(_operators(_Bands([baseline], train, test), alone.alpha[k][None]))
    values, scored = _standardised(responses), _scored(responses, folds)
    explained = _explained(baseline, values)
    (observed,) = _mean_r(values, folds, scored, both, only)
    if order is not None:
        orders = np.stack([order(number) for number in range(n_permutations)])
        return observed, _reordered((values - explained)[:, 0], explained[:, 0], folds, scored, orders, both, only)
    null = np.empty((n_permutations, responses.shape[1]), dtype=np.float32)
    for numbers, changed in _batches(values - explained, surrogate, n_permutations):
        null[numbers] = _mean_r(changed + explained, folds, scored, both, only)
    return observed, null


class _Bands:
    """Sets of columns of one fold, standardised on its training samples: what predictors at any penalties share."""

    def __init__(self, columns: Sequence[Floats], train: Indices, test: Indices) -> None:
        standard = [_standard(band, train, test) for band in columns]
        self.widths = [fit.shape[1] for fit, _ in standard]
        self.n_train = len(train)
        if sum(self.widths) < self.n_train:
            self.fit, self.held_out = (np.hstack(side) for side in zip(*standard, strict=True))
            self.gram = self.fit.T @ self.fit
        else:
            self.kernels = [(fit @ fit.T, held_out @ fit.T) for fit, held_out in standard]

    def predictor(self, penalties: Floats) -> Floats:
        """The matrix (test, train) that predicts held-out responses from training ones."""
        if sum(self.widths) < self.n_train:
            root = np.repeat(1.0 / np.sqrt(penalties), self.widths)
            system = root[:, None] * self.gram * root + np.eye(len(root))
            return (self.held_out * root) @ _solved(system, root[:, None] * self.fit.T)
        system = sum((train / penalty for (train, _), penalty in self._at(penalties)), np.eye(self.n_train))
        across = sum((across / penalty for (_, across), penalty in self._at(penalties)), np.zeros((1, 1)))
        return _solved(system, across.T).T

    def _at(self, penalties: Floats) -> Iterator[tuple[tuple[Floats, Floats], float]]:
        return zip(self.kernels, penalties.tolist(), strict=True)


def _standard(columns: Floats, train: Indices, test: Indices) -> tuple[Floats, Floats]:
    """Training and held-out rows of columns that are standardised on the training samples."""
    mean, weight = standard_columns(np.asarray(columns[train], dtype=np.float64))
    return (columns[train] - mean) * weight, (columns[test] - mean) * weight


def _solved(system: Floats, right: Floats) -> Floats:
    return np.asarray(cho_solve(cho_factor(system, check_finite=False), right, check_finite=False))


def _operators(bands: _Bands, penalties: Floats) -> Operators:
    """The targets that chose each penalty (each pair), and the matrix (test, train) that predicts them, centred."""
    chosen, member = np.unique(penalties, axis=1, return_inverse=True)
    found = []
    for number, of_bands in enumerate(chosen.T):
        predict = bands.predictor(of_bands)
        # Responses are centred on their training mean, predictions on their own for the correlation.
        centred = predict - predict.mean(axis=1, keepdims=True)
        centred -= centred.mean(axis=0)
        # Features that stand still in the held-out samples predict nothing that varies, but for rounding.
        centred[:, np.abs(centred).max(axis=0) <= ROUNDING * np.abs(predict).max()] = 0.0
        found.append((np.flatnonzero(member.reshape(-1) == number), centred.astype(np.float32)))
    return found


def _standardised(responses: Floats) -> Floats:
    """Responses (sample, 1, target) in float32, each on a scale of its own."""
    centred = responses - responses.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    return (centred / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)[:, None]


def _scored(responses: Floats, folds: Sequence[Fold]) -> np.ndarray:
    """Whether each response varies among the held-out samples of each fold, (fold, target) of bool."""
    return np.stack([~is_constant(responses[test]) for _, test in folds])


def _explained(baseline: Floats, values: Floats) -> Floats:
    """What a least-squares fit of the baseline to all samples says of the responses, both (sample, 1, target)."""
    mean, weight = standard_columns(np.asarray(baseline, dtype=np.float64))
    columns = (baseline - mean) * weight
    coefficients = np.linalg.lstsq(columns, values[:, 0].astype(np.float64), rcond=1e-10)[0]
    return (columns @ coefficients).astype(np.float32)[:, None]


def _batches(values: Floats, surrogate: Surrogate, n_permutations: int) -> Iterator[tuple[slice, Floats]]:
    """Surrogates of several numbers side by side, (sample, permutation, target)."""
    step = max(1, int(AT_ONCE // values.nbytes))
    for first in range(0, n_permutations, step):
        numbers = range(first, min(first + step, n_permutations))
        changed = [surrogate(number, values[:, 0]) for number in numbers]
        yield slice(numbers.start, numbers.stop), np.stack(changed, axis=1).astype(np.float32, copy=False)


def _mean_r(
    values: Floats,
    folds: Sequence[Fold],
    scored: np.ndarray,
    operators: Sequence[Operators],
    without: Sequence[Operators] | None = None,
) -> Floats:
    """Mean over folds of r, or of what it is above that of other predictions; shape (permutation, target), float32."""

    def of_fold(k: int) -> Floats:
        train, test = folds[k]
        fit, held_out = values[train], _unit(values[test])
        r = _fold_r(fit, held_out, operators[k])
        return r if without is None else r - _fold_r(fit, held_out, without[k])

    return _mean_of_folds(map(of_fold, range(len(folds))), scored)


def _reordered(
    values: Floats,
    fixed: Floats | None,
    folds: Sequence[Fold],
    scored: np.ndarray,
    orders: np.ndarray,
    operators: Sequence[Operators],
    without: Sequence[Operators] | None = None,
) -> Floats:
    """The same for values (sample, target) in each of the `orders` (permutation, sample), beside what stays `fixed`."""

    def of_fold(k: int) -> Floats:
        r = _fold_r_of_orders(values, fixed, folds[k], orders, operators[k])
        return r if without is None else r - _fold_r_of_orders(values, fixed, folds[k], orders, without[k])

    return _mean_of_folds(map(of_fold, range(len(folds))), scored)


def _mean_of_folds(of_folds: Iterable[Floats], scored: np.ndarray) -> Floats:
    """The mean of arrays (permutation, target) over the folds in which each is defined."""
    total: Floats = np.zeros(1)
    count: np.ndarray = np.zeros(1, dtype=np.int32)
    for r, varies in zip(of_folds, scored, strict=True):
        defined = np.isfinite(r) & varies
        total = total + np.where(defined, r, 0.0)
        count = count + defined
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _fold_r(fit: Floats, held_out: Floats, operators: Operators) -> Floats:
    """Correlations of what is predicted from training responses with held-out ones of unit length."""
    r = np.empty(fit.shape[1:], dtype=np.float32)
    for targets, predict in operators:
        every = len(targets) == fit.shape[2]
        y = fit if every else fit[:, :, targets]
        observed = held_out if every else held_out[:, :, targets]
        predicted = (predict @ y.reshape(len(fit), -1)).reshape(len(held_out), *y.shape[1:])
        r[:, targets] = _correlation(predicted, observed)
    return r


def _fold_r_of_orders(
    values: Floats, fixed: Floats | None, fold: Fold, orders: np.ndarray, operators: Operators
) -> Floats:
    """Correlations (permutation, target) in one fold, the predictors' columns put in each order.

    Of a penalty that fewer targets have than there are held-out samples, it is the targets that are fewer to move.
    """
    train, test = fold
    r = np.empty((len(orders), values.shape[1]), dtype=np.float32)
    for targets, predict in operators:
        own = np.ascontiguousarray(values[:, targets])
        added = None if fixed is None else (predict @ fixed[np.ix_(train, targets)], fixed[np.ix_(test, targets)])
        few = own.shape[1] < len(test)
        step = max(1, AT_ONCE // (4 * (own.size if few else len(test) * max(own.shape))))
        for first in range(0, len(orders), step):
            some = orders[first : first + step]
            # Held-out samples first, as elsewhere.
            if few:
                moved = own[some[:, train].T].reshape(len(train), -1)
                predicted = (predict @ moved).reshape(len(test), len(some), -1)
            else:
                moved = np.zeros((len(some), len(test), len(values)), dtype=np.float32)
                for one, order in zip(moved, some, strict=True):
                    one[:, order[train]] = predict
                predicted = (moved.reshape(-1, len(values)) @ own).reshape(*moved.shape[:2], -1).swapaxes(0, 1)
            observed = own[some[:, test].T]
            if added is not None:
                predicted += added[0][:, None]
                observed += added[1][:, None]
            r[first : first + step, targets] = _correlation(predicted, _unit(observed))
    return r


def _correlation(predicted: Floats, observed: Floats) -> Floats:
    """Of predictions about their mean with responses of unit length, over the first axis; NaN of what stands still."""
    size = np.sqrt(np.einsum("m...,m...->...", predicted, predicted))
    product = np.einsum("m...,m...->...", predicted, observed)
    return np.divide(product, size, out=np.full_like(size, np.nan), where=size > 0)


def _unit(values: Floats) -> Floats:
    """Values about their mean over the first axis, of unit length; zero where they do not vary."""
    centred = values - values.mean(axis=0)
    length = np.sqrt(np.einsum("m...,m...->...", centred, centred))
    return np.divide(centred, np.where(length > 0, length, 1.0), out=centred)
