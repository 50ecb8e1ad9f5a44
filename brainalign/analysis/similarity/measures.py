"""How alike two representations of the same samples are, without fitting one to the other target by target.

Linear CKA (Kornblith et al., 2019), Procrustes and its partly whitened forms (Williams et al., 2021), canonical
correlation, and the overlap of nearest neighbours (Huh et al., 2024). With many dimensions all of them find much in
common where there is nothing: on 100 independent samples of 768 dimensions linear CKA is .88 and the Procrustes
similarity .97. So CKA is the unbiased estimate (Song et al., 2012), and what is fitted is scored on other samples.

Rows are samples, in the order of time where they have one; samples that resemble each other for being neighbours are
left out by a `band` (see `brainalign.analysis.similarity.pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.similarity.pairs import Pairs, PairSums, gram, pair_sums
from brainalign.encoding.metrics import pearson
from brainalign.errors import DataError
from brainalign.types import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "canonical_correlations",
    "cka_of_sums",
    "linear_cka",
    "mutual_neighbours",
    "neighbours",
    "principal_components",
    "procrustes_similarity",
    "reordered",
    "shared_neighbours",
]

# Cosines that differ by less are ties: rounding would decide between them.
TIE = 1e-12
# Directions with a smaller share of the largest deviation are rounding.
RANK_TOLERANCE = 1e-10


def linear_cka(X: Floats, Y: Floats, *, groups: NDArray | None = None, band: int = 1, unbiased: bool = True) -> float:
    """Linear centred kernel alignment: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of the Gram matrices of two sides.

    Parameters
    ----------
    X, Y : arrays (sample, dimension)
        Columns are centred first.
    groups : array (sample,), optional
        The run of each sample; a run's samples stand together.
    band : int
        Pairs of samples of a run that are nearer leave the sums. 1 leaves out each sample's pair with itself, as the
        published estimate does; 0, for the biased one, nothing.
    unbiased : bool
        HSIC is estimated by means over pairs, triples and quadruples of different samples: with band 1 it is HSIC_1 of
        Song et al. (2012). Otherwise the mean of products of the kept pairs, which with band 0 is the published
        ||Y'X||^2 / (||X'X|| ||Y'Y||).

    Returns
    -------
    float
        At most 1; the unbiased one is zero on average where X and Y are independent, hence also negative. NaN where a
        side's own HSIC is not positive: it has nothing to align.

    Raises
    ------
    DataError
        If the sides have other samples than each other, or the band leaves too few pairs.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 300)); Y = np.random.default_rng(1).normal(size=(100, 300))
    >>> round(linear_cka(X, Y), 2), round(linear_cka(X, Y, band=0, unbiased=False), 2)
    (-0.0, 0.75)
    """
    X, Y = _centred(X), _centred(Y)
    pairs = Pairs.of(groups, _n_samples(X, Y), band)
    return float(cka_of_sums(pair_sums(gram(X), gram(Y), pairs), unbiased))


def cka_of_sums(sums: PairSums, unbiased: bool = True) -> Floats:
    """Kernel alignment from sums over pairs, of one arrangement of the samples or several (shift,)."""
    if not unbiased:
        return sums.products / np.sqrt(_positive(sums.first_squares) * _positive(sums.second_squares))
    own = [
        _unbiased_hsic(sums.degrees, squares, rows @ rows, rows.sum() ** 2)
        for rows, squares in ((sums.first_rows, sums.first_squares), (sums.second_rows, sums.second_squares))
    ]
    total = sums.first_rows.sum() * sums.second_rows.sum()
    shared = _unbiased_hsic(sums.degrees, sums.products, sums.row_products, total)
    return shared / np.sqrt(_positive(own[0]) * _positive(own[1]))


def _unbiased_hsic(degrees: NDArray[np.intp], products: Any, row_products: Any, total: float) -> Any:
    """Mean over pairs, less twice that over triples, plus that over quadruples, of different samples.

    Of K_ij L_ij, K_ij L_ir and K_ij L_rs: what has samples in common leaves the sums of more, and their number.
    """
    n_pairs, n_chains = float(degrees.sum()), float((degrees.astype(float) ** 2).sum())
    triples = (row_products - products) / (n_chains - n_pairs)
    quadruples = (total - 4.0 * row_products + 2.0 * products) / (n_pairs**2 - 4.0 * n_chains + 2.0 * n_pairs)
    return products / n_pairs - 2.0 * triples + quadruples


def principal_components(X: Floats, n_components: int | None = None) -> Floats:
    """The first principal components of the columns (sample, component), at most as many as there are.

    With None all of them: an orthogonal turn, which changes no inner product of samples, only fewer columns.

    Examples
    --------
    >>> principal_components(np.array([[1.0, 1.0], [-1.0, -1.0], [3.0, 3.0]])).shape
    (3, 1)
    """
    from sklearn.decomposition import PCA

    most = min(len(X) - 1, X.shape[1])
    n_components = most if n_components is None else min(n_components, most)
    pca = PCA(n_components, random_state=0)
    values: Any = np.asarray(X, dtype=np.float64)
    components = np.asarray(pca.fit_transform(values), dtype=np.float64)
    return components[:, pca.singular_values_ > RANK_TOLERANCE * pca.singular_values_[0]]


def procrustes_similarity(
    X: Floats, Y: Floats, train: NDArray[np.intp], test: NDArray[np.intp], *, alpha: float = 1.0
) -> float:
    """Turn the sides onto each other on training samples and take their cosine on held-out ones.

    Sides of different dimension are thought of as filled up with zeros. arccos of the similarity is the angular
    distance.

    Parameters
    ----------
    X, Y : arrays (sample, dimension)
        Few dimensions (`principal_components`): the turn is a singular value decomposition of X'Y.
    train, test : arrays of int
        Samples to fit on and to score. Alike, they give the published, in-sample similarity ||X'Y||_* / (||X|| ||Y||).
    alpha : float
        1 only turns; less also whitens, by alpha I + (1 - alpha) C^(-1/2) with the training covariance C on the scale
        of a mean variance of 1; 0 whitens whole, which compares as canonical correlation does.

    Returns
    -------
    float
        From -1 to 1, zero on average for independent sides; NaN where a side is constant on either part.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 4)); turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    >>> round(procrustes_similarity(X, X @ turn + 5, np.arange(40), np.arange(40, 60)), 6)
    1.0
    """
    if not 0.0 <= alpha <= 1.0:
        raise DataError(f"alpha is {alpha}; it goes from 0 (whitened) to 1 (turned only).")
    _n_samples(X, Y)
    fitted = [_whitening(side[train], alpha) for side in (X, Y)]
    x, y = (_about(side[train], each) for side, each in zip((X, Y), fitted, strict=True))
    left, _, right = np.linalg.svd(x.T @ y, full_matrices=False)
    x, y = (_about(side[test], each) for side, each in zip((X, Y), fitted, strict=True))
    size = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.vdot(x @ left, y @ right.T) / size) if size > 0 else np.nan


@dataclass(frozen=True)
class _Whitening:
    """What is taken off each column, and what rows are multiplied by."""

    mean: Floats
    matrix: Floats


def _about(values: Floats, whitening: _Whitening) -> Floats:
    return (values - whitening.mean) @ whitening.matrix


def _whitening(values: Floats, alpha: float) -> _Whitening:
    mean = values.mean(axis=0)
    if alpha == 1.0:
        return _Whitening(mean, np.eye(len(mean)))
    _, deviations, directions = np.linalg.svd(values - mean, full_matrices=False)
    kept = deviations > RANK_TOLERANCE * max(deviations[0], np.finfo(float).tiny)
    deviations, directions = deviations[kept], directions[kept]
    deviations = deviations / np.sqrt((deviations**2).mean()) if len(deviations) else deviations
    return _Whitening(mean, (directions.T * (alpha + (1.0 - alpha) / deviations)) @ directions)


def canonical_correlations(X: Floats, Y: Floats, train: NDArray[np.intp], test: NDArray[np.intp]) -> Floats:
    """Correlate, on held-out samples, the pairs of directions that correlate best on training samples.

    Parameters
    ----------
    X, Y : arrays (sample, dimension)
        Far fewer dimensions together than training samples (`principal_components`).
    train, test : arrays of int

    Returns
    -------
    array (component,)
        In the order of the training correlations, zero on average for independent sides; NaN where a direction is
        constant on the held-out samples.

    Raises
    ------
    DataError
        If the dimensions of both sides together are not fewer than the training samples, so that perfect correlations
        are found whatever the data.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 2)); Y = np.exp(0.1 * X) @ [[1.0, 2.0], [-1.0, 1.0]]
    >>> (canonical_correlations(X, Y, np.arange(50), np.arange(50, 100)) > 0.99).all()
    np.True_
    """
    _n_samples(X, Y)
    if X.shape[1] + Y.shape[1] >= len(train):
        raise DataError(
            f"{X.shape[1]} and {Y.shape[1]} dimensions are too many for canonical correlation on {len(train)} training "
            "samples: take fewer components (n_components) or more data."
        )
    (left_x, back_x), (left_y, back_y) = (_orthonormal(side[train]) for side in (X, Y))
    left, _, right = np.linalg.svd(left_x.T @ left_y, full_matrices=False)
    return pearson(X[test] @ back_x @ left, Y[test] @ back_y @ right.T)


def _orthonormal(values: Floats) -> tuple[Floats, Floats]:
    """An orthonormal basis of the centred columns, and what turns columns into it."""
    left, deviations, directions = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    kept = deviations > RANK_TOLERANCE * max(deviations[0], np.finfo(float).tiny)
    return left[:, kept], directions[kept].T / deviations[kept]


def mutual_neighbours(
    X: Floats, Y: Floats, *, n_neighbours: int = 10, groups: NDArray | None = None, band: int = 1
) -> float:
    """Share of each sample's nearest neighbours on one side that are so on the other side too, averaged over samples.

    Parameters
    ----------
    X, Y : arrays (sample, dimension)
        Columns are centred first; near is of high cosine.
    n_neighbours : int
    groups, band
        As for `linear_cka`; a sample's own run nearer than `band` has no neighbours of it.

    Returns
    -------
    float
        From 0 to 1; `n_neighbours` over the number of candidates where the sides are independent.

    Raises
    ------
    DataError
        If there are not more candidates than neighbours.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(50, 8))
    >>> mutual_neighbours(X, 2 * X, n_neighbours=5)
    1.0
    """
    pairs = Pairs.of(groups, _n_samples(X, Y), band)
    return shared_neighbours(neighbours(X, n_neighbours, pairs), neighbours(Y, n_neighbours, pairs))


def neighbours(X: Floats, n_neighbours: int, pairs: Pairs) -> csr_array:
    """The nearest neighbours of each sample, a sparse array (sample, sample) whose rows sum to `n_neighbours`.

    Ties are shared out: of samples that are equally far (the same word, in a static embedding) each gets the chance
    that it is among the first when ties are put in random order. So samples without a direction, whose cosines are
    all zero, have neighbours by chance.
    """
    from scipy.sparse import csr_array, vstack

    if not 1 <= n_neighbours < pairs.degrees().min():
        raise DataError(
            f"n_neighbours is {n_neighbours}; it must be from 1 to less than the fewest candidates of a sample, "
            f"{pairs.degrees().min()}."
        )
    X = _centred(X)
    length = np.linalg.norm(X, axis=1, keepdims=True)
    unit = X / np.where(length > 0, length, 1.0)
    found = []
    for rows in pairs.blocks():
        cosine = np.where(pairs.kept(rows), unit[rows] @ unit.T, -np.inf)
        last = -np.partition(-cosine, n_neighbours - 1, axis=1)[:, n_neighbours - 1 : n_neighbours]
        nearer, tied = cosine > last + TIE, np.abs(cosine - last) <= TIE
        share = (n_neighbours - nearer.sum(axis=1)) / tied.sum(axis=1)
        found.append(csr_array(np.where(nearer, 1.0, tied * share[:, None])))
    return csr_array(vstack(found))


def shared_neighbours(first: csr_array, second: csr_array) -> float:
    """The share of neighbours that two tables of `neighbours` have in common."""
    return float((first * second).sum() / first.sum())


def reordered(table: csr_array, order: NDArray[np.intp]) -> csr_array:
    """The table when sample ``order[i]`` stands at place i, in rows and columns."""
    from scipy.sparse import csr_array

    entries, place = table.tocoo(), np.argsort(order)
    row, column = entries.coords
    return csr_array((entries.data, (place[row], place[column])), shape=table.shape)


def _centred(values: Floats) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    return values - values.mean(axis=0)


def _n_samples(X: Floats, Y: Floats) -> int:
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise DataError(f"Sides of shapes {X.shape} and {Y.shape}; expected the same samples, (sample, dimension).")
    return len(X)


def _positive(value: float) -> float:
    return value if value > 0 else np.nan
