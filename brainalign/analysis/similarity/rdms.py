"""Representational dissimilarity matrices (RDMs): how unlike the patterns of conditions are, and how alike two RDMs.

An RDM is given as its pairs (pair,), in the order of `scipy.spatial.distance.squareform`, which turns it into a matrix
and back. Distances of noisy patterns are positive where there is no difference at all; those from `crossnobis_rdm` are
products of differences in different repeats, so that noise leaves them zero on average, or negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainalign.encoding.metrics import is_constant
from brainalign.errors import DataError, nearest
from brainalign.types import Floats

__all__ = [
    "Comparing",
    "RdmCeiling",
    "compare_rdms",
    "correlation_rdm",
    "crossnobis_rdm",
    "euclidean_rdm",
    "noise_precision",
    "rdm_ceiling",
]

Comparing = Literal["cosine", "pearson", "spearman", "rho_a", "tau_a", "whitened_cosine"]


def correlation_rdm(patterns: Floats) -> Floats:
    """One minus the Pearson correlation of each two patterns over features.

    Parameters
    ----------
    patterns : array (condition, feature)

    Returns
    -------
    array (pair,)
        NaN for pairs with a constant pattern.

    Examples
    --------
    >>> correlation_rdm(np.array([[0.0, 1.0, 2.0], [5.0, 6.0, 7.0], [2.0, 1.0, 0.0]])).round(6)
    array([0., 2., 2.])
    """
    patterns = _conditions(patterns)
    centred = patterns - patterns.mean(axis=1, keepdims=True)
    length = np.where(is_constant(patterns.T), np.nan, np.linalg.norm(centred, axis=1))
    unit = centred / length[:, None]
    return _pairs(1.0 - unit @ unit.T)


def euclidean_rdm(patterns: Floats, precision: Floats | None = None) -> Floats:
    """Squared Euclidean distance of each two patterns, over the number of features.

    Parameters
    ----------
    patterns : array (condition, feature)
    precision : array (feature, feature), optional
        Of the noise (`noise_precision`): the distance is then Mahalanobis'.

    Returns
    -------
    array (pair,)

    Examples
    --------
    >>> euclidean_rdm(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]]))
    array([ 2.,  8., 10.])
    """
    patterns = _conditions(patterns)
    return _products_of_differences(patterns, patterns, precision)


def crossnobis_rdm(repeats: Floats, precision: Floats | None = None) -> Floats:
    """Cross-validated Mahalanobis distance: differences of one repeat times those of the others.

    d_ij is the mean over repeats a, b other than a, of (x_i^a - x_j^a) P (x_i^b - x_j^b)', over the number of features
    (Walther et al., 2016). Noise that is independent between repeats adds nothing to it on average.

    Parameters
    ----------
    repeats : array (repeat, condition, feature)
    precision : array (feature, feature), optional
        Of the noise, P; none counts all features alike.

    Returns
    -------
    array (pair,)
        Zero on average where two conditions do not differ, hence also negative.

    Raises
    ------
    DataError
        If there are fewer than two repeats.

    Examples
    --------
    >>> patterns = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
    >>> crossnobis_rdm(np.stack([patterns, patterns + 1]))
    array([ 2.,  8., 10.])
    """
    repeats = _repeats(repeats)
    total = repeats.sum(axis=0)
    n_others = len(repeats) - 1
    folds = [_products_of_differences(each, (total - each) / n_others, precision) for each in repeats]
    return np.mean(folds, axis=0)


def noise_precision(repeats: Floats) -> Floats:
    """The inverse covariance, over features, of what differs between repeats of a condition.

    The covariance is shrunk towards a multiple of the identity (Ledoit & Wolf, 2004), so that it can be inverted where
    features are many.

    Parameters
    ----------
    repeats : array (repeat, condition, feature)

    Returns
    -------
    array (feature, feature)

    Raises
    ------
    DataError
        If there are fewer than two repeats, or they do not differ at all.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(4, 500, 2)) * [1.0, 2.0]
    >>> np.round(1 / np.diag(noise_precision(noise)), 1)
    array([1. , 3.9])
    """
    from sklearn.covariance import LedoitWolf

    repeats = _repeats(repeats)
    residuals = (repeats - repeats.mean(axis=0)).reshape(-1, repeats.shape[2])
    if not residuals.any():
        raise DataError("The repeats of each condition are equal: there is no noise to take the precision of.")
    # The mean of each condition is taken from the same repeats, which costs one of them.
    residuals *= np.sqrt(len(repeats) / (len(repeats) - 1))
    return np.asarray(LedoitWolf(assume_centered=True).fit(residuals).get_precision(), dtype=np.float64)


def compare_rdms(
    first: Floats, second: Floats, comparing: Comparing = "whitened_cosine", kept: NDArray[np.bool_] | None = None
) -> Floats:
    """How alike the RDMs of two sets are, each with each.

    Parameters
    ----------
    first, second : arrays (rdm, pair)
    comparing : {"whitened_cosine", "cosine", "pearson", "spearman", "rho_a", "tau_a"}
        "whitened_cosine" takes account of distances that share a condition being correlated (Diedrichsen et al., 2021)
        and is linear CKA where they are squared Euclidean. "rho_a" is Spearman's rho and "tau_a" Kendall's tau as
        expected when ties are put in random order: unlike "spearman" they do not favour RDMs that predict ties
        (Nili et al., 2014; Schutt et al., 2023).
    kept : array (pair,) of bool, optional
        Compare these pairs only.

    Returns
    -------
    array (rdm of first, rdm of second)
        NaN where an RDM has a kept pair that is not finite, or a cosine or correlation is undefined: of zeros, or of an
        RDM whose pairs are all equal.

    Raises
    ------
    DataError
        If the RDMs have other pairs than each other or than a whole number of conditions, or there is no such way.

    Examples
    --------
    >>> compare_rdms(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 4.0, 9.0], [3.0, 2.0, 1.0]]), "spearman").round(6)
    array([[ 1., -1.]])
    """
    first, second = np.atleast_2d(np.asarray(first, float)), np.atleast_2d(np.asarray(second, float))
    _check_rdms(first, second, comparing)
    kept = np.ones(first.shape[1], dtype=bool) if kept is None else np.asarray(kept, dtype=bool)
    defined = [np.isfinite(rdms[:, kept]).all(axis=1, keepdims=True) for rdms in (first, second)]
    x, y = (np.where(np.isfinite(rdms[:, kept]), rdms[:, kept], 0.0) for rdms in (first, second))
    if comparing == "tau_a":
        similarity = np.array([[_tau_a(one, other) for other in y] for one in x])
    elif comparing == "rho_a":
        n = x.shape[1]
        similarity = 12.0 / (n**3 - n) * _prepared(x, "spearman", kept) @ _prepared(y, "spearman", kept).T
    elif comparing == "whitened_cosine":
        similarity = _cosines(x, y, _whitened(x, kept), _whitened(y, kept))
    else:
        x, y = _prepared(x, comparing, kept), _prepared(y, comparing, kept)
        similarity = _cosines(x, y, x, y)
    return np.where(defined[0] & defined[1].T, similarity, np.nan)


@dataclass(frozen=True)
class RdmCeiling:
    """How well the best RDM of all could do, given that subjects differ.

    Parameters
    ----------
    lower, upper : float
        Means over subjects: the true RDM's expected similarity lies between them.
    lower_by_subject, upper_by_subject : arrays (subject,)
        Each subject's similarity to the mean RDM of the others, and of all.
    """

    lower: float
    upper: float
    lower_by_subject: Floats
    upper_by_subject: Floats


def rdm_ceiling(rdms: Floats, comparing: Comparing = "whitened_cosine") -> RdmCeiling:
    """The range in which the best possible RDM would compare with those of subjects (Nili et al., 2014).

    Parameters
    ----------
    rdms : array (subject, pair)
    comparing : str
        As for `compare_rdms`. Before they are averaged, RDMs are put on the scale on which it compares them: unit
        length (whitened for "whitened_cosine"), z scores, or ranks.

    Raises
    ------
    DataError
        If there are fewer than two subjects.

    Examples
    --------
    >>> ceiling = rdm_ceiling(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.5], [1.0, 3.0, 2.0]]), "pearson")
    >>> round(ceiling.lower, 2), round(ceiling.upper, 2)
    (0.72, 0.87)
    """
    rdms = np.asarray(rdms, dtype=np.float64)
    if rdms.ndim != 2 or len(rdms) < 2:
        raise DataError(f"RDMs of shape {rdms.shape}: a ceiling needs those of two subjects or more (subject, pair).")
    _check_rdms(rdms, rdms, comparing)
    scaled = _scaled(rdms, comparing)
    total = scaled.sum(axis=0)
    upper = compare_rdms(rdms, total[None], comparing)[:, 0]
    others = zip(rdms[:, None], (total - scaled)[:, None], strict=True)
    lower = np.array([compare_rdms(rdm, mean, comparing)[0, 0] for rdm, mean in others])
    return RdmCeiling(float(lower.mean()), float(upper.mean()), lower, upper)


def _scaled(rdms: Floats, comparing: Comparing) -> Floats:
    """RDMs on the scale on which their mean is the one nearest to all."""
    kept = np.ones(rdms.shape[1], dtype=bool)
    if comparing in ("spearman", "rho_a", "tau_a"):
        return _prepared(rdms, "spearman", kept)
    prepared = _prepared(rdms, comparing, kept)
    weighted = _whitened(rdms, kept) if comparing == "whitened_cosine" else prepared
    length = np.sqrt(np.einsum("ij,ij->i", prepared, weighted))
    return prepared / np.where(length > 0, length, np.nan)[:, None]


def _prepared(rdms: Floats, comparing: str, kept: NDArray[np.bool_]) -> Floats:
    """Ranked and centred, or only centred, where a correlation is wanted."""
    if comparing == "spearman":
        from scipy.stats import rankdata

        rdms = rankdata(rdms, axis=1)
    if comparing in ("spearman", "pearson"):
        constant = is_constant(rdms.T)[:, None]
        rdms = np.where(constant, 0.0, rdms - rdms.mean(axis=1, keepdims=True))
    return rdms


def _cosines(x: Floats, y: Floats, weighted_x: Floats, weighted_y: Floats) -> Floats:
    """Cosines of rows in the metric by which the second two are weighted; NaN where a row is zero."""
    lengths = [np.sqrt(np.einsum("ij,ij->i", v, w)) for v, w in ((x, weighted_x), (y, weighted_y))]
    size_x, size_y = (np.where(length > 0, length, np.nan) for length in lengths)
    return (x @ weighted_y.T) / size_x[:, None] / size_y


def _whitened(rdms: Floats, kept: NDArray[np.bool_]) -> Floats:
    """The inverse of the distances' covariance, up to a factor, times RDMs (rdm, kept pair).

    Under noise that is alike in all conditions it is 2 I + A A', where A (pair, condition) says which two conditions a
    pair is of; Woodbury's formula leaves as many equations as there are conditions.
    """
    first, second = (index[kept] for index in np.triu_indices(_n_conditions(len(kept)), 1))
    n = _n_conditions(len(kept))
    inner = np.zeros((n, n))
    np.add.at(inner, (first, second), 1.0)
    inner += inner.T
    inner[np.diag_indices(n)] = 2.0 + inner.sum(axis=1)
    of_condition = np.zeros((len(rdms), n))
    for row, rdm in zip(of_condition, rdms, strict=True):
        row += np.bincount(first, rdm, n) + np.bincount(second, rdm, n)
    solved = np.linalg.solve(inner, of_condition.T).T
    return (rdms - solved[:, first] - solved[:, second]) / 2.0


def _tau_a(x: Floats, y: Floats) -> float:
    from scipy.stats import kendalltau

    n_pairs = len(x) * (len(x) - 1) / 2
    untied = [n_pairs - sum(c * (c - 1) / 2 for c in np.unique(v, return_counts=True)[1]) for v in (x, y)]
    if 0 in untied:
        return 0.0
    return float(kendalltau(x, y).statistic * np.sqrt(untied[0] * untied[1]) / n_pairs)


def _products_of_differences(left: Floats, right: Floats, precision: Floats | None) -> Floats:
    """(l_i - l_j) P (r_i - r_j)' over the number of features, for each two conditions."""
    products = left @ (right if precision is None else right @ precision.T).T
    own = np.diag(products)
    return _pairs(own[:, None] + own - products - products.T) / left.shape[1]


def _pairs(matrix: Floats) -> Floats:
    return matrix[np.triu_indices(len(matrix), 1)]


def _n_conditions(n_pairs: int) -> int:
    return round((1 + np.sqrt(1 + 8 * n_pairs)) / 2)


def _conditions(patterns: Floats) -> Floats:
    patterns = np.asarray(patterns, dtype=np.float64)
    if patterns.ndim != 2 or len(patterns) < 2 or patterns.shape[1] < 1:
        raise DataError(f"Patterns of shape {patterns.shape}: an RDM needs two or more (condition, feature).")
    return patterns


def _repeats(repeats: Floats) -> Floats:
    repeats = np.asarray(repeats, dtype=np.float64)
    if repeats.ndim != 3 or len(repeats) < 2 or repeats.shape[1] < 2:
        raise DataError(
            f"Repeats of shape {repeats.shape}: expected (repeat, condition, feature) with two repeats and two "
            "conditions or more; patterns seen once have an euclidean_rdm only."
        )
    return repeats


def _check_rdms(first: Floats, second: Floats, comparing: str) -> None:
    if comparing not in get_args(Comparing):
        raise DataError(f"There is no comparison of RDMs '{comparing}'. {nearest(comparing, get_args(Comparing))}")
    n_pairs = first.shape[1]
    n = _n_conditions(n_pairs)
    if second.shape[1] != n_pairs or n * (n - 1) // 2 != n_pairs or n < 3:
        raise DataError(
            f"RDMs have {n_pairs} and {second.shape[1]} pairs; expected n (n - 1) / 2 of the same n conditions, n >= 3."
        )
