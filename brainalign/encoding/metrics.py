"""How near a prediction comes to a response: target by target, and by whether it tells the samples apart.

`two_vs_two` and `top_k_accuracy` ask whether the response predicted for a sample is more like that sample's response,
over all targets together, than like another's. Give them responses of the scale on which targets count alike
(z-scored on the training samples): unscaled, the loudest targets decide, and with the targets' means left in every
sample is like every other. Leave out the targets that are undefined (constant or not finite) beforehand.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from brainalign.errors import FitWarning
from brainalign.types import Floats

__all__ = ["Distance", "Matches", "is_constant", "pearson", "r2", "top_k_accuracy", "two_vs_two"]

Distance = Literal["cosine", "correlation"]

# Similarities, at most 1 in size, that differ by less are ties: rounding would decide between them.
TIE = 1e-12
# Doubles that a block of targets may fill while its products are taken: 32 MB.
BLOCK_VALUES = 2**22


def is_constant(values: Floats) -> np.ndarray:
    """Which columns of `values` (..., sample, target) do not vary, shape (..., target).

    A column counts as constant when its spread is no more than rounding leaves of its size: values of 1e6 in float32
    that differ in the last bit carry no signal.
    """
    values = np.asarray(values)
    rounding = 4 * np.finfo(values.dtype).eps if np.issubdtype(values.dtype, np.floating) else 0.0
    # The difference of two whole numbers may be beyond their type.
    low, high = (extreme.astype(np.float64) for extreme in (values.min(axis=-2), values.max(axis=-2)))
    return high - low <= rounding * np.maximum(np.abs(low), np.abs(high))


def pearson(predicted: Floats, observed: Floats) -> Floats:
    """Pearson correlation of each column.

    Parameters
    ----------
    predicted, observed : array (..., sample, target)

    Returns
    -------
    array (..., target)
        NaN where either is constant: there is nothing to correlate.

    Examples
    --------
    >>> pearson(np.array([[1.0], [2.0], [4.0]]), np.array([[2.0], [4.0], [8.0]])).round(6)
    array([1.])
    """
    undefined = is_constant(predicted) | is_constant(observed)
    x = _unit_columns(predicted)
    y = _unit_columns(observed)
    correlation = np.clip((x * y).sum(axis=-2), -1.0, 1.0)
    correlation[undefined] = np.nan
    return correlation


def _unit_columns(values: Floats) -> Floats:
    """Centre each column and give it length one; in float64, scaled first so that squares cannot underflow."""
    centred = np.asarray(values, dtype=np.float64)
    centred = centred - centred.mean(axis=-2, keepdims=True)
    size = np.abs(centred).max(axis=-2, keepdims=True)
    centred = centred / np.where(size > 0, size, 1.0)
    length = np.linalg.norm(centred, axis=-2, keepdims=True)
    return centred / np.where(length > 0, length, 1.0)


def r2(predicted: Floats, observed: Floats, reference: Floats) -> Floats:
    """Out-of-sample R2 of each column: 1 minus the squared error over that of predicting the training mean.

    Parameters
    ----------
    predicted, observed : array (..., sample, target)
    reference : array (target,)
        The mean of each target over the training samples (Hawinkel et al., 2024), which is all that a model without
        features could know; the held-out mean would be knowledge of the answer.

    Returns
    -------
    array (..., target)
        At most 1; negative where the prediction is worse than the training mean; NaN where `observed` is constant.

    Examples
    --------
    >>> y = np.array([[0.0], [2.0]])
    >>> r2(y, y, reference=np.array([1.0]))
    array([1.])
    """
    observed = np.asarray(observed, dtype=np.float64)
    error = ((observed - predicted) ** 2).sum(axis=-2)
    total = ((observed - reference) ** 2).sum(axis=-2)
    undefined = is_constant(observed)
    return np.where(undefined, np.nan, 1.0 - error / np.where(undefined, 1.0, total))


def two_vs_two(predicted: Floats, observed: Floats, gap: int = 0, distance: Distance = "cosine") -> float:
    """Share of pairs of samples whose predictions are nearer to their own responses than to each other's.

    A pair (i, j) counts as right where d(p_i, y_i) + d(p_j, y_j) < d(p_i, y_j) + d(p_j, y_i), and one half where the
    two sides are equal (Mitchell et al., 2008). Chance is .5.

    Parameters
    ----------
    predicted, observed : array (sample, target)
        Held-out samples, in the order of time; see the module on the targets' scale.
    gap : int
        Pairs less than so many samples apart are left out: neighbours are alike for being neighbours.
    distance : {"cosine", "correlation"}
        One minus the cosine, or one minus the Pearson correlation over targets.

    Returns
    -------
    float
        Pairs with a sample whose similarities are undefined (a row of zeros; for "correlation" a constant row) count
        as ties.

    Raises
    ------
    ValueError
        If shapes do not agree, there are no targets, a value is NaN or infinite, or no two samples are `gap` apart.

    Warns
    -----
    FitWarning
        If similarities are undefined, with the samples.

    Examples
    --------
    >>> two_vs_two(np.array([[1.0, 0.2], [0.1, 1.0]]), np.eye(2))
    1.0
    """
    return _matches(predicted, observed).two_vs_two(gap, distance)


def top_k_accuracy(predicted: Floats, observed: Floats, k: int = 1) -> float:
    """Share of samples whose own response is among the k that correlate best with their prediction.

    The candidates are the responses to all samples (retrieval, as in Defossez et al., 2023). Chance is k / sample.

    Parameters
    ----------
    predicted, observed : array (sample, target)
        Held-out samples; see the module on the targets' scale. Correlations are over targets.
    k : int
        From 1 to the number of samples.

    Returns
    -------
    float
        A sample whose own response ties with others counts by the chance that it is among the first k when ties are
        put in random order. An undefined correlation (a constant row) ties with all: k / sample where it is the
        prediction's.

    Raises
    ------
    ValueError
        If shapes do not agree, there are no targets, a value is NaN or infinite, or there are fewer than k samples.

    Warns
    -----
    FitWarning
        If correlations are undefined, with the samples.

    Examples
    --------
    >>> top_k_accuracy(np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0]]), np.array([[2.0, 1.0, 0.0], [5.0, 1.0, 0.0]]))
    0.5
    """
    return _matches(predicted, observed).top_k_accuracy(k)


def _matches(predicted: Floats, observed: Floats) -> Matches:
    predicted, observed = np.asarray(predicted), np.asarray(observed)
    matches = Matches(len(observed))
    if predicted.shape != observed.shape or observed.ndim != 2:
        raise ValueError(f"predicted {predicted.shape} and observed {observed.shape} must agree: (sample, target).")
    step = max(1, BLOCK_VALUES // max(len(observed), 1))
    for first in range(0, observed.shape[1], step):
        matches.update(predicted[:, first : first + step], observed[:, first : first + step])
    return matches


class Matches:
    """What `two_vs_two` and `top_k_accuracy` need of predictions and responses, gathered over blocks of targets.

    Holds arrays (sample, sample) and (sample,) only, so that targets can be streamed. The order and size of the blocks
    change nothing but rounding. Sums of products are taken about each block's mean and put together without
    subtracting, so that an offset of all targets loses no digits of a correlation.

    Parameters
    ----------
    n_samples : int
        Of each block.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> observed = rng.normal(size=(20, 1000)); predicted = observed + rng.normal(size=observed.shape)
    >>> matches = Matches(20)
    >>> for block in (slice(0, 600), slice(600, 1000)):
    ...     matches.update(predicted[:, block], observed[:, block])
    >>> matches.two_vs_two(gap=2), matches.top_k_accuracy(k=1)
    (1.0, 1.0)
    """

    def __init__(self, n_samples: int) -> None:
        self._products = np.zeros((n_samples, n_samples))
        self._counts: list[int] = []
        self._predicted = _Rows(n_samples)
        self._observed = _Rows(n_samples)

    def update(self, predicted: Floats, observed: Floats) -> None:
        """Add a block of targets, both arrays (sample, target), products in float64.

        Raises
        ------
        ValueError
            If shapes do not agree or a value is NaN or infinite; nothing of the block is added then.
        """
        predicted, observed = np.asarray(predicted), np.asarray(observed)
        if predicted.shape != observed.shape or observed.ndim != 2 or len(observed) != len(self._products):
            raise ValueError(
                f"predicted {predicted.shape} and observed {observed.shape} must both be "
                f"({len(self._products)}, target)."
            )
        for name, values in (("predicted", predicted), ("observed", observed)):
            if not np.isfinite(values).all():
                row, column = np.argwhere(~np.isfinite(values))[0]
                raise ValueError(
                    f"{name}: the value of sample {row}, target {column} of the block is {values[row, column]}; "
                    "leave out the targets that are not finite."
                )
        if observed.shape[1] > 0:
            self._products += self._predicted.add(predicted) @ self._observed.add(observed).T
            self._counts.append(observed.shape[1])

    def two_vs_two(self, gap: int = 0, distance: Distance = "cosine") -> float:
        """Share of pairs told apart by the targets so far; see the function `two_vs_two`."""
        if distance not in ("cosine", "correlation"):
            raise ValueError(f"distance must be 'cosine' or 'correlation', not {distance!r}.")
        if gap < 0:
            raise ValueError(f"gap cannot be negative; it is {gap}.")
        n, apart = len(self._products), max(gap, 1)
        if n <= apart:
            raise ValueError(f"No two of {n} samples are {apart} samples apart: take a smaller gap or more samples.")
        similarity = self._similarity(centred=distance == "correlation")
        own = np.diag(similarity)
        right = 0.0
        for i in range(n - apart):
            j = slice(i + apart, n)
            # 1 - d is the similarity, so that the smaller sum of distances is the larger one of similarities.
            right += _wins(own[i] + own[j], similarity[i, j] + similarity[j, i]).sum()
        return float(right / ((n - apart) * (n - apart + 1) / 2))

    def top_k_accuracy(self, k: int = 1) -> float:
        """Share of samples found among the k nearest by the targets so far; see the function `top_k_accuracy`."""
        n = len(self._products)
        if not 1 <= k <= n:
            raise ValueError(f"k is {k}; it must be from 1 to the number of samples, {n}.")
        found = 0.0
        similarity = self._similarity(centred=True)
        for own, row in zip(np.diag(similarity), similarity, strict=True):
            wins = _wins(row, own)
            n_better, n_tied = (wins == 1.0).sum(), (wins == 0.5).sum()  # the own response ties with itself
            found += np.clip((k - n_better) / n_tied, 0.0, 1.0)
        return float(found / n)

    def _similarity(self, centred: bool) -> Floats:
        """Correlation, or else cosine, of each prediction with each response (sample, sample); NaN where undefined."""
        if not self._counts:
            raise ValueError("There are no targets to tell the samples apart by: call update first.")
        counts = np.array(self._counts, dtype=np.float64)
        x, x_length = self._predicted.means_and_lengths(counts, centred)
        y, y_length = self._observed.means_and_lengths(counts, centred)
        _warn_undefined(x_length, y_length, "correlation" if centred else "cosine")
        return (self._products + x.T @ (counts[:, None] * y)) / x_length[:, None] / y_length


class _Rows:
    """Sums over targets, row by row, of one side of `Matches`."""

    def __init__(self, n_samples: int) -> None:
        self.means: list[Floats] = []  # of each block, (sample,)
        self.squares = np.zeros(n_samples)  # about the means of the blocks
        self.low, self.high = np.full(n_samples, np.inf), np.full(n_samples, -np.inf)
        self.rounding = 0.0

    def add(self, block: Floats) -> Floats:
        """Take in a block (sample, target) and give it back with its rows centred, float64."""
        self.low, self.high = np.minimum(self.low, block.min(axis=1)), np.maximum(self.high, block.max(axis=1))
        if np.issubdtype(block.dtype, np.floating):
            self.rounding = max(self.rounding, 4 * float(np.finfo(block.dtype).eps))
        mean = block.mean(axis=1, dtype=np.float64)
        centred = block - mean[:, None]
        self.means.append(mean)
        self.squares += np.einsum("ij,ij->i", centred, centred)
        return centred

    def means_and_lengths(self, counts: Floats, centred: bool) -> tuple[Floats, Floats]:
        """Means of the blocks (block, sample), less the mean of all if `centred`, and the lengths (sample,) of rows.

        The length is NaN where a row, centred if `centred`, has none: nothing is similar to it.
        """
        means = np.array(self.means)
        if centred:
            means = means - (counts / counts.sum()) @ means
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        # As in is_constant: a spread that rounding explains is none.
        has_length = self.high - self.low > self.rounding * size if centred else size > 0
        return means, np.where(has_length, np.sqrt(self.squares + counts @ means**2), np.nan)


def _wins(this: Floats, other: Floats) -> Floats:
    """1 where `this` is larger, 0 where it is smaller, one half where neither is: ties, and what is undefined."""
    difference = this - other
    return np.where(difference > TIE, 1.0, np.where(difference < -TIE, 0.0, 0.5))


def _warn_undefined(x_length: Floats, y_length: Floats, similarity: str) -> None:
    for name, undefined in (("predicted", np.isnan(x_length)), ("observed", np.isnan(y_length))):
        if undefined.any():
            samples = ", ".join(map(str, np.flatnonzero(undefined)[:5])) + (", ..." if undefined.sum() > 5 else "")
            why = "equal" if similarity == "correlation" else "zero"
            warnings.warn(
                f"{undefined.sum()} of {len(undefined)} {name} samples have no {similarity} with any other, for all "
                f"their targets are {why}: {samples}. They count as ties.",
                FitWarning,
                stacklevel=4,
            )
