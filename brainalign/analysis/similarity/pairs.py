"""Sums over pairs of samples of two similarities, in blocks, without pairs that are alike for being neighbours.

Kernel alignment and representational similarity compare two symmetric tables (sample, sample), K of features and L of
responses, pair by pair. Neither table is ever held whole: `pair_sums` goes through blocks of rows, and `shifted_sums`
gives the sum of products for any number of circular shifts of the responses at about the cost of the tables themselves,
as a correlation by Fourier transform.

A pair of samples of one run that are less than `band` samples apart leaves the sums. Distance is counted around the
run's ends, which a circular shift brings together: so a shift turns kept pairs into kept pairs, and whatever concerns
one side alone (its sums, norms and ranks) is the same for all shifts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["Kernel", "PairSums", "Pairs", "gram", "pair_sums", "shifted_sums", "squared_distances", "table"]

# The similarities of samples i and samples j, shape (len(i), len(j)).
Kernel = Callable[[Any, Any], Floats]

# Similarities held at once on each side: 32 MB in float64.
VALUES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Pairs:
    """Which pairs of samples are compared: all but those of one run that are less than `band` samples apart.

    Parameters
    ----------
    lengths : tuple of int
        Samples of each run; a run's samples stand together, in the order of time.
    band : int
        0 keeps all pairs, that of a sample with itself too; 1 leaves out only the latter.

    Examples
    --------
    >>> Pairs((4, 1), band=2).kept(slice(0, 1))
    array([[False, False,  True, False,  True]])
    """

    lengths: tuple[int, ...]
    band: int

    def __post_init__(self) -> None:
        if self.band < 0:
            raise DataError(f"band is {self.band} samples; it cannot be negative.")

    @classmethod
    def of(cls, groups: NDArray | None, n_samples: int, band: int) -> Pairs:
        """The pairs of samples of these runs (array (sample,), or None for a single one).

        Raises
        ------
        DataError
            If a run is not one stretch of samples, or the band leaves fewer than half of the pairs of any sample.
        """
        pairs = cls(run_lengths(groups, n_samples), band)
        # The sums would rest on pairs of far ends of runs alone, and on few of them.
        if pairs.degrees().min() < n_samples / 2:
            raise DataError(
                f"A band of {band} samples leaves out more than half of the pairs of some of {n_samples} samples: "
                "take a smaller band, or more or longer runs."
            )
        return pairs

    @property
    def n_samples(self) -> int:
        """Of all runs."""
        return sum(self.lengths)

    def stretches(self) -> list[slice]:
        """Where each run's samples are."""
        ends = np.cumsum(self.lengths).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths, strict=True)]

    def kept(self, rows: slice) -> NDArray[np.bool_]:
        """Whether each pair is compared, shape (rows, sample)."""
        run, place = np.repeat(np.arange(len(self.lengths)), self.lengths), self._places()
        length = np.repeat(self.lengths, self.lengths)[rows, None]
        apart = np.abs(place[rows, None] - place)
        return (run[rows, None] != run) | (np.minimum(apart, length - apart) >= self.band)

    def degrees(self) -> NDArray[np.intp]:
        """With how many samples each one is compared, shape (sample,)."""
        lengths = np.array(self.lengths)
        return self.n_samples - np.repeat(np.minimum(lengths, max(2 * self.band - 1, 0)), lengths)

    def blocks(self) -> list[slice]:
        """All rows, in blocks whose similarities with all samples fit into `VALUES_AT_ONCE`."""
        step = max(1, VALUES_AT_ONCE // self.n_samples)
        return [slice(first, min(first + step, self.n_samples)) for first in range(0, self.n_samples, step)]

    def shifted(self, shifts: NDArray[np.intp]) -> NDArray[np.intp]:
        """The sample that stands at each place when every run is moved by so many samples, shifts (run,)."""
        starts = np.cumsum(self.lengths, dtype=np.intp) - np.array(self.lengths)
        moved = (self._places() + np.repeat(shifts, self.lengths)) % np.repeat(self.lengths, self.lengths)
        return np.repeat(starts, self.lengths) + moved

    def _places(self) -> NDArray[np.intp]:
        """Of each sample within its run."""
        return np.concatenate([np.arange(length) for length in self.lengths])


def run_lengths(groups: NDArray | None, n_samples: int) -> tuple[int, ...]:
    """How many samples each run has, in their order.

    Raises
    ------
    DataError
        If there is not one group per sample, or a run is not one stretch of samples.
    """
    if groups is None:
        return (n_samples,)
    groups = np.asarray(groups)
    if groups.shape != (n_samples,):
        raise DataError(f"groups has shape {groups.shape}; expected the run of each of {n_samples} samples.")
    first = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    if len(first) > len(np.unique(groups)):
        raise DataError(
            "A run's samples do not stand together, so neighbours in time cannot be told: "
            "put them run by run, in the order of time (and average repeated hearings, or number them as one run)."
        )
    return tuple(np.diff(np.r_[first, n_samples]).tolist())


def gram(values: Floats) -> Kernel:
    """Inner products of rows (sample, dimension)."""
    return lambda i, j: values[i] @ values[j].T


def squared_distances(values: Floats) -> Kernel:
    """Squared Euclidean distances of rows (sample, dimension), over the number of dimensions."""
    squares = np.einsum("ij,ij->i", values, values)
    return lambda i, j: (squares[i][:, None] + squares[j] - 2.0 * (values[i] @ values[j].T)) / values.shape[1]


def table(similarities: Floats) -> Kernel:
    """Similarities that are there already, shape (sample, sample)."""
    return lambda i, j: similarities[i][:, j]


@dataclass(frozen=True)
class PairSums:
    """Sums over the kept pairs (i, j), each counted both ways, of two symmetric tables.

    Parameters
    ----------
    degrees : array (sample,)
        Pairs that each sample is in.
    first_rows, second_rows : arrays (sample,)
        Sums of each row of the tables.
    first_squares, second_squares : float
    products : float, or array (shift,)
    row_products : float, or array (shift,)
        The sum over samples of `first_rows` times `second_rows`.
    """

    degrees: NDArray[np.intp]
    first_rows: Floats
    second_rows: Floats
    first_squares: float
    second_squares: float
    products: Any
    row_products: Any


def pair_sums(first: Kernel, second: Kernel, pairs: Pairs) -> PairSums:
    """Sum two tables and their products over the kept pairs.

    Costs n^2 (p + q) operations for inner products of p and q dimensions, and some blocks' memory.

    Examples
    --------
    >>> x = np.array([[1.0], [2.0], [3.0]])
    >>> pair_sums(gram(x), gram(x), Pairs((3,), band=1)).products  # 2 (2^2 + 3^2 + 6^2)
    98.0
    """
    rows = np.zeros((2, pairs.n_samples))
    squares, products = np.zeros(2), 0.0
    everything = slice(0, pairs.n_samples)
    for block in pairs.blocks():
        kept = pairs.kept(block)
        k, m = (np.where(kept, kernel(block, everything), 0.0) for kernel in (first, second))
        rows[:, block] = k.sum(axis=1), m.sum(axis=1)
        squares += np.vdot(k, k), np.vdot(m, m)
        products += float(np.vdot(k, m))
    row_products = float(rows[0] @ rows[1])
    return PairSums(pairs.degrees(), rows[0], rows[1], float(squares[0]), float(squares[1]), products, row_products)


def shifted_sums(first: Kernel, second: Kernel, pairs: Pairs, sums: PairSums, shifts: NDArray[np.intp]) -> PairSums:
    """The sums when the second table's samples are moved within their runs, `sums` being those when they are not.

    Parameters
    ----------
    first, second : Kernel
        The second is of samples in their own order.
    pairs : Pairs
    sums : PairSums
        From `pair_sums`.
    shifts : array (shift, run)
        By how many samples each run is moved: sample i + s of the second table meets sample i of the first.

    Returns
    -------
    PairSums
        With `products` and `row_products` of shape (shift,). Costs n^2 log(n) operations above those of the tables,
        for all shifts together, and memory for about five tables of the samples of two runs.
    """
    products, rows = np.zeros(len(shifts)), np.zeros(len(shifts))
    for (a, of_a), (b, of_b) in itertools.combinations_with_replacement(enumerate(pairs.stretches()), 2):
        if a == b:
            products += _within_run(first, second, of_a, pairs.band)[shifts[:, a]]
            rows += _correlated(sums.first_rows[of_a], sums.second_rows[of_a])[shifts[:, a]]
        else:
            products += 2.0 * _between_runs(first(of_a, of_b), second(of_a, of_b))[shifts[:, a], shifts[:, b]]
    return PairSums(
        sums.degrees, sums.first_rows, sums.second_rows, sums.first_squares, sums.second_squares, products, rows
    )


def _between_runs(k: Floats, m: Floats) -> Floats:
    """Sums of the products of k and m moved by (s, t), at [s, t]."""
    return np.fft.irfft2(np.conj(np.fft.rfft2(k)) * np.fft.rfft2(m), s=k.shape)


def _within_run(first: Kernel, second: Kernel, run: slice, band: int) -> Floats:
    """Sums of products over a run's kept pairs when rows and columns move together by s, at [s].

    Pairs so many samples apart stay so, hence each distance has a correlation of its own, of series that run along the
    table's diagonals (around the ends).
    """
    n = run.stop - run.start
    step = max(1, VALUES_AT_ONCE // n)
    spectrum = np.zeros(n // 2 + 1, dtype=complex)
    for nearest in range(band, n // 2 + 1, step):
        distances = np.arange(nearest, min(nearest + step, n // 2 + 1))
        # Distances d and n - d hold the same pairs, from either end; d = 0 and d = n / 2 are their own counterparts.
        weight = np.where((distances == 0) | (2 * distances == n), 1.0, 2.0)
        k, m = (np.fft.rfft(_diagonals(kernel, run, distances)) for kernel in (first, second))
        spectrum += np.einsum("d,df,df->f", weight, np.conj(k), m)
    return np.fft.irfft(spectrum, n)


def _diagonals(kernel: Kernel, run: slice, distances: NDArray[np.intp]) -> Floats:
    """Similarity of each sample of a run with that so many samples later, around its end: (distance, sample)."""
    n, width = run.stop - run.start, len(distances)
    diagonals = np.empty((width, n))
    for first in range(0, n, width):
        rows = np.arange(first, min(first + width, n))
        columns = np.arange(first + distances[0], rows[-1] + distances[-1] + 1)
        block = kernel(run.start + rows, run.start + columns % n)
        diagonals[:, rows] = block[np.arange(len(rows)), np.arange(len(rows)) + np.arange(width)[:, None]]
    return diagonals


def _correlated(x: Floats, y: Floats) -> Floats:
    """Circular correlation: the sum of x[i] y[i + s], at [s]."""
    return np.fft.irfft(np.conj(np.fft.rfft(x)) * np.fft.rfft(y), len(x))
