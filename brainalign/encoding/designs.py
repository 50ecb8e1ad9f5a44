"""What ridge needs of a design: some of its rows, their moments, the kernel, and products with responses.

A design is the matrix X (n, p) of the regression. `Matrix` holds it as it is. `Delayed` stands for a matrix of delayed
copies (FIR, TRF) and never makes it whole, for its Gram is block Toeplitz but for the edges: with x_t the undelayed
features, the block of delays k and l is

    sum over t of x_(t-k) x_(t-l)',

which depends on l - k and on where the sum starts and ends. One product per difference serves all pairs of delays with
that difference, and each pair adds the few rows at its own ends. Likewise the kernel of the delayed features is the sum
over delays of the kernel of the undelayed ones, shifted along its diagonal.

Nothing here is found by subtracting large numbers: sums of squares are taken about a mean from the start, and
`merge` adds those of disjoint rows (Chan, Golub & LeVeque, 1983), so that a constant column remains one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from brainalign.types import Floats

__all__ = ["Delayed", "Design", "Matrix", "Moments", "merge"]

# Doubles that a block of rows or columns may fill while it is worked on: 32 MB.
BLOCK_VALUES = 2**22
# Rows at least in a block, however wide it is, so that its product is worth the adding up.
BLOCK_ROWS = 256


@dataclass(frozen=True)
class Moments:
    """Number, mean and centred Gram of a set of rows.

    Parameters
    ----------
    n : int
        Number of rows.
    mean : array (p,)
    gram : array (p, p), float64
        Sum over the rows of (x - mean)(x - mean)'.
    """

    n: int
    mean: Floats
    gram: Floats


def merge(parts: Iterable[Moments]) -> Moments:
    """Moments of the union of disjoint sets of rows, exactly.

    Adds the centred Grams and n_r (mean_r - mean)(mean_r - mean)' for each part r; nothing is subtracted but means.

    Parameters
    ----------
    parts : iterable of Moments
        Looked at one by one, so that a generator needs room for one at a time.

    Raises
    ------
    ValueError
        If there are no parts, or parts of different numbers of columns.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(6, 2))
    >>> design = Matrix(x)
    >>> both = merge([design.moments(np.arange(2)), design.moments(np.arange(2, 6))])
    >>> both.n, bool(np.allclose(both.gram, 6 * np.cov(x.T, bias=True)))
    (6, True)
    """
    counts: list[int] = []
    means: list[Floats] = []
    gram = np.zeros((0, 0))
    for part in parts:
        if means and part.mean.shape != means[0].shape:
            raise ValueError(f"Moments of {len(part.mean)} columns cannot be merged with those of {len(means[0])}.")
        gram = gram + part.gram if means else part.gram
        counts.append(part.n)
        means.append(part.mean)
    if sum(counts) == 0:
        raise ValueError("There are no rows: moments need at least one.")
    n = np.array(counts, dtype=np.float64)
    mean = (n / n.sum()) @ np.array(means)
    apart = np.sqrt(n)[:, None] * (np.array(means) - mean)  # (part, p)
    return Moments(sum(counts), mean, gram + apart.T @ apart)


@runtime_checkable
class Design(Protocol):
    """A matrix of n samples and p columns, by what ridge asks of it. `index` holds row numbers, shape (m,)."""

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of samples and of columns, (n, p)."""
        ...

    def rows(self, index: NDArray[np.intp]) -> Floats:
        """These rows in an array of their own, shape (m, p), float64."""
        ...

    def moments(self, index: NDArray[np.intp]) -> Moments:
        """The moments of these rows; ValueError if there are none."""
        ...

    def kernel(self) -> Floats:
        """Inner products of all rows, centred on the mean of all rows, shape (n, n), float64."""
        ...

    def cross(self, index: NDArray[np.intp], responses: Floats) -> Floats:
        """Sum over these rows of (x - mean x)(y - mean y)', shape (p, v).

        `responses` (m, v) are those of the rows `index`. The products and the result are float32 if `responses` are,
        else float64; both sides are centred before they are multiplied, X in float64.
        """
        ...


@dataclass(frozen=True)
class Matrix:
    """A design that is there in full.

    Parameters
    ----------
    values : array (sample, column)
        Kept as it is, not copied; float32 becomes float64 block by block as it is used.

    Raises
    ------
    ValueError
        If `values` has not two dimensions.

    Examples
    --------
    >>> Matrix(np.eye(3)).kernel().round(2).tolist()
    [[0.67, -0.33, -0.33], [-0.33, 0.67, -0.33], [-0.33, -0.33, 0.67]]
    """

    values: Floats

    def __post_init__(self) -> None:
        _check_two_dimensional(self.values)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of samples and of columns, (n, p)."""
        return self.values.shape[0], self.values.shape[1]

    def rows(self, index: NDArray[np.intp]) -> Floats:
        """These rows in an array of their own, shape (m, p), float64."""
        return self.values[_row_numbers(index, len(self.values))].astype(np.float64, copy=False)

    def moments(self, index: NDArray[np.intp]) -> Moments:
        """The moments of these rows; ValueError if there are none."""
        return merge(_moments_of_blocks(self.rows, _row_numbers(index, len(self.values)), self.shape[1]))

    def kernel(self) -> Floats:
        """Inner products of all rows, centred on the mean of all rows, shape (n, n), float64."""
        centred = self.values - self.values.mean(axis=0, dtype=np.float64)
        return centred @ centred.T

    def cross(self, index: NDArray[np.intp], responses: Floats) -> Floats:
        """Sum over these rows of (x - mean x)(y - mean y)', shape (p, v); see `Design.cross`."""
        index = _row_numbers(index, len(self.values))
        step = max(1, BLOCK_VALUES // max(len(index), 1))
        blocks = (self.values[index, first : first + step] for first in range(0, self.shape[1], step))
        return _cross(blocks, len(index), responses)


class Delayed:
    """Delayed copies of features side by side, as a design that is never made whole.

    Row t of delay k is row t - k of `values` if that is in the same run, else zero. Columns are all dimensions at the
    first delay, then at the second ..., as `brainalign.alignment.delay` gives them run by run.

    Parameters
    ----------
    values : array (sample, dimension)
    delays : sequence of int
        In samples, in any order; a negative one lets the features follow the response.
    groups : array (sample,), optional
        The run of each sample; by default all are of one.

    Raises
    ------
    ValueError
        If `values` has not two dimensions, there are no delays or one is not whole, `groups` has not one entry per
        sample, or the samples of a run are not consecutive.

    Examples
    --------
    >>> design = Delayed(np.array([[1.0], [2.0], [3.0]]), [0, 1], groups=["a", "a", "b"])
    >>> design.rows(np.arange(3)).tolist()
    [[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]]
    >>> design.moments(np.arange(3)).mean.round(3).tolist()
    [2.0, 0.333]
    """

    def __init__(self, values: Floats, delays: Sequence[int], groups: Any = None) -> None:
        _check_two_dimensional(values)
        n, self._n_dimensions = values.shape
        run, lengths = _runs(groups, n)
        # A delay of a run's length already leaves nothing of it.
        longest = max(lengths, default=0)
        self._delays = [min(max(delay, -longest), longest) for delay in _whole_numbers(delays)]
        self._latest, self._earliest = max(self._delays), min(self._delays)
        # All runs in one array, zeros around each: row t at delay k is padded[place[t] - k], whatever t and k.
        margin = max(self._latest, -self._earliest, 0)
        self._place = np.arange(n) + margin * (run + 1)
        self._padded = np.zeros((n + margin * (len(lengths) + 1), self._n_dimensions))
        self._padded[self._place] = values
        ends = np.cumsum(lengths, dtype=np.intp)
        self._runs = [slice(int(end - length), int(end)) for end, length in zip(ends, lengths, strict=True)]
        t, end = np.arange(n), ends[run]
        start = end - np.asarray(lengths, dtype=np.intp)[run]
        self._is_whole = (t - self._latest >= start) & (t - self._earliest < end)  # no delay of the row is filled

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of samples and of columns, (n, p)."""
        return len(self._place), len(self._delays) * self._n_dimensions

    def rows(self, index: NDArray[np.intp]) -> Floats:
        """These rows in an array of their own, shape (m, p), float64."""
        place = self._place[_row_numbers(index, len(self._place))]
        return self._padded[place[:, None] - self._delays].reshape(len(place), self.shape[1])

    def moments(self, index: NDArray[np.intp]) -> Moments:
        """The moments of these rows; ValueError if there are none.

        Stretches of consecutive rows that need no filling go by lagged products; rows at a run's border and scattered
        rows are made, a block at a time.
        """
        index = _row_numbers(index, len(self._place))
        stretches, scattered = self._stretches(index)

        def parts() -> Iterator[Moments]:
            if stretches:
                yield self._lagged_moments(stretches)
            yield from _moments_of_blocks(self.rows, scattered, self.shape[1])

        return merge(parts())

    def kernel(self) -> Floats:
        """Inner products of all rows, centred on the mean of all rows, shape (n, n), float64."""
        n = len(self._place)
        # The same vector is taken from every row, filled entries included, so that centring undoes it.
        values = self._padded - self._padded[self._place].mean(axis=0)
        kernel = np.empty((n, n))
        for block in self._row_blocks():
            kernel[block, block.start :] = self._kernel_rows(values, block)
            # Equal to its transpose but for the order in which products were added.
            kernel[block, block] = (kernel[block, block] + kernel[block, block].T) / 2
            kernel[block.stop :, block] = kernel[block, block.stop :].T
        mean = kernel.mean(axis=0)
        for block in self._row_blocks():
            kernel[block] -= mean[block, None] + mean - mean.mean()
        return kernel

    def cross(self, index: NDArray[np.intp], responses: Floats) -> Floats:
        """Sum over these rows of (x - mean x)(y - mean y)', shape (p, v); see `Design.cross`."""
        place = self._place[_row_numbers(index, len(self._place))]
        return _cross((self._padded[place - delay] for delay in self._delays), len(place), responses)

    def _stretches(self, index: NDArray[np.intp]) -> tuple[list[slice], NDArray[np.intp]]:
        """The long stretches of consecutive whole rows in `index`, and the rows of `index` in none of them."""
        whole = self._is_whole[index]
        # Whole rows of two runs are never neighbours unless all delays are zero, when a run means nothing.
        goes_on = whole[1:] & whole[:-1] & (np.diff(index) == 1)
        edges = np.concatenate([[0], np.flatnonzero(~goes_on) + 1, [len(index)]])
        # Shorter ones cost more by their edges than they save; _lagged_moments relies on this length, too.
        shortest = max(BLOCK_ROWS // 4, 4 * (self._latest - self._earliest))
        stretches, is_left = [], np.ones(len(index), dtype=bool)
        for first, end in pairwise(edges):
            if end - first >= shortest and whole[first]:
                stretches.append(slice(int(index[first]), int(index[end - 1]) + 1))
                is_left[first:end] = False
        return stretches, index[is_left]

    def _lagged_moments(self, stretches: list[slice]) -> Moments:
        """Moments of stretches of consecutive rows, none of them filled, from products of the undelayed features."""
        span, starts = self._latest - self._earliest, [self._latest - delay for delay in self._delays]
        # In the padded array: the first row that the latest delay sees of each stretch, and where it stops seeing.
        firsts = np.array([self._place[stretch.start] for stretch in stretches]) - self._latest
        ends = firsts + [stretch.stop - stretch.start for stretch in stretches]
        source = self._padded[firsts.min() : ends.max() + span]
        firsts, ends = firsts - firsts.min(), ends - firsts.min()
        n = int((ends - firsts).sum())
        shared = [slice(first + span, end) for first, end in zip(firsts, ends, strict=True)]  # rows that all delays see
        own = [_own_rows(firsts, ends, start, span) for start in starts]
        # Centred on the mean of the shared rows, the sum over a delay's rows is that over its own, at most `span` a
        # stretch, so that the correction below takes from a sum of squares at most their share of n, a quarter (see
        # _stretches): no cancellation.
        centre = _mean(np.concatenate([source[rows] for rows in shared]))
        source = source - centre
        off = np.concatenate([source[rows].sum(axis=0) for rows in own]) / n  # (p,)
        gram = _lagged_gram(source, starts, shared, own)
        step = np.sqrt(n) * off
        gram -= np.outer(step, step)
        return Moments(n, np.tile(centre, len(starts)) + off, gram)

    def _row_blocks(self) -> Iterator[slice]:
        """All rows in order, as slices that each stay within a run."""
        step = max(BLOCK_ROWS, BLOCK_VALUES // max(len(self._padded), 1))
        for run in self._runs:
            for first in range(run.start, run.stop, step):
                yield slice(first, min(first + step, run.stop))

    def _kernel_rows(self, values: Floats, block: slice) -> Floats:
        """Rows of the uncentred kernel of padded `values`, all of one run, from their own columns on."""
        n, first = block.stop - block.start, self._place[block.start]
        span, before = self._latest - self._earliest, first - self._latest
        products = values[before : before + n + span] @ values[before:].T
        total = np.zeros((n, products.shape[1] - span))
        for delay in self._delays:
            start = self._latest - delay
            total += products[start : start + n, start : start + total.shape[1]]
        # Between the runs are columns that stand for no row.
        return total[:, self._place[block.start :] - first]


def _lagged_gram(
    source: Floats, starts: Sequence[int], shared: Sequence[slice], own: Sequence[NDArray[np.intp]]
) -> Floats:
    """Gram of copies of `source` (m, d) side by side, each shifted by one of `starts`.

    `shared` are the rows that all copies have, `own` those that each has besides.
    """
    n_copies, d = len(starts), source.shape[1]
    gram = np.empty((n_copies, d, n_copies, d))
    for lag, alike in _pairs_by_lag(starts).items():
        common = np.zeros((d, d))
        for rows in shared:
            common += source[rows.start + lag : rows.stop + lag].T @ source[rows]
        for i, j in alike:
            block = common + source[own[j] + lag].T @ source[own[j]]
            gram[i, :, j], gram[j, :, i] = block, block.T
    return gram.reshape(n_copies * d, n_copies * d)


def _pairs_by_lag(starts: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    """Pairs (i, j) of copies by how much later i starts than j, each pair once."""
    pairs: dict[int, list[tuple[int, int]]] = {}
    for i, later in enumerate(starts):
        for j, start in enumerate(starts):
            if later > start or (later == start and i <= j):
                pairs.setdefault(later - start, []).append((i, j))
    return pairs


def _own_rows(firsts: NDArray[np.intp], ends: NDArray[np.intp], start: int, span: int) -> NDArray[np.intp]:
    """The rows from firsts + start to ends + start that are not from firsts + span to ends."""
    before, after = firsts[:, None] + np.arange(start, span), ends[:, None] + np.arange(start)
    return np.concatenate([before.ravel(), after.ravel()])


def _moments_of_blocks(
    rows: Callable[[NDArray[np.intp]], Floats], index: NDArray[np.intp], n_columns: int
) -> Iterator[Moments]:
    """Moments of the rows `index`, a block of rows at a time."""
    step = max(BLOCK_ROWS, BLOCK_VALUES // max(n_columns, 1))
    for first in range(0, len(index), step):
        block = rows(index[first : first + step])
        mean = _mean(block)
        block -= mean
        yield Moments(len(block), mean, block.T @ block)


def _mean(rows: Floats) -> Floats:
    """Mean over the rows, float64, corrected once: that of a constant column would be off by rounding that grows."""
    mean = rows.mean(axis=0, dtype=np.float64)
    return mean + (rows - mean).mean(axis=0)


def _cross(blocks: Iterable[Floats], n_rows: int, responses: Floats) -> Floats:
    """Centred products of blocks of columns (m, columns) with responses (m, v), one below the other."""
    responses = np.asarray(responses)
    if responses.ndim != 2 or len(responses) != n_rows:
        raise ValueError(f"responses have shape {responses.shape}; expected ({n_rows}, v), one row per row chosen.")
    dtype = np.float32 if responses.dtype == np.float32 else np.float64
    y = responses - responses.mean(axis=0, dtype=np.float64).astype(dtype)
    products = []
    for block in blocks:
        centred = block - _mean(block)
        products.append(centred.astype(dtype, copy=False).T @ y)
    return np.concatenate(products)


def _row_numbers(index: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """`index` as row numbers from 0 on; negative ones and masks mean what they mean for arrays."""
    return np.arange(n)[index]


def _runs(groups: Any, n: int) -> tuple[NDArray[np.intp], list[int]]:
    """The number of each sample's run, in order, shape (n,), and the length of each run."""
    if groups is None:
        return np.zeros(n, dtype=np.intp), [n]
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(f"groups has shape {groups.shape}; expected ({n},), the run of each sample.")
    firsts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))[:n]
    names, counts = np.unique(groups[firsts], return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"The samples of run {names[counts > 1][0]} are in {counts.max()} separate stretches; a run must be "
            "consecutive to be delayed. Sort the samples by run, or name each stretch as a run of its own."
        )
    lengths = np.diff(np.append(firsts, n))
    return np.repeat(np.arange(len(firsts)), lengths), lengths.tolist()


def _whole_numbers(delays: Sequence[int]) -> list[int]:
    given = np.asarray(delays)
    if given.ndim != 1 or given.size == 0 or given.dtype.kind not in "iu":
        raise ValueError(f"delays must be whole numbers of samples, at least one; got {delays!r}.")
    return given.tolist()


def _check_two_dimensional(values: Floats) -> None:
    if values.ndim != 2:
        raise ValueError(f"values have shape {values.shape}; expected (sample, column).")
