"""Compare features with responses as representations: one call for all measures, with a value and a p value.

Samples of language are no independent draws: neighbours resemble each other on both sides, which measures take for
alignment (two independent autoregressive series of .9 have an unbiased CKA of .89). Two guards: pairs of near samples
leave the sums, as many as the rows' autocorrelation asks for, and a value is tested against those of responses that are
circularly shifted within their runs, which keep the autocorrelation. What differs between whole runs is in both. The
test needs the band as well: a shift tears neighbours apart where a run's ends meet, so that values which live on
neighbours are lower for shifted responses (11 % false positives at .05 without a band on 300 samples of those series,
6 % with one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.inference.autocorrelation import FORGOTTEN
from brainalign.analysis.inference.significance import p_values
from brainalign.analysis.similarity.measures import (
    canonical_correlations,
    cka_of_sums,
    neighbours,
    principal_components,
    procrustes_similarity,
    reordered,
    shared_neighbours,
)
from brainalign.analysis.similarity.pairs import (
    Kernel,
    Pairs,
    PairSums,
    gram,
    pair_sums,
    shifted_sums,
    squared_distances,
    table,
)
from brainalign.analysis.similarity.sides import Sides, prepared_sides
from brainalign.encoding.metrics import is_constant
from brainalign.encoding.splits import Fold, Splitter
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Finding, Floats

__all__ = ["Compare", "Comparison", "Measure", "compare_arrays"]

Measure = Literal["cka", "cka_biased", "rsa", "procrustes", "cca", "mutual_neighbours"]

# Ranks are of all pairs together, so that both tables (sample, sample) must be held: 200 MB each.
MOST_RANKED_SAMPLES = 5000


@dataclass(frozen=True)
class Comparison:
    """How alike one layer and one subject's responses are by one measure.

    Attributes
    ----------
    measure : str
    value : float
        The mean of `values`; NaN where undefined.
    values : array (fold,)
        On the held-out samples of each fold, for measures that are fitted; else the one of all samples.
    p : float
        Share of the values of shifted responses, and of this one, that are as high; NaN without permutations.
    null : array (permutation,)
        The values of shifted responses: the same shifts for all subjects with the same runs, `min_shift` and `seed`.
    test : str
        "circular shift".
    band : int
        Samples of a run that are nearer were not compared; 0 for measures that compare no pairs.
    min_shift : int
        Samples by which responses were shifted at least.
    n_samples, n_targets : int
        What was compared: targets that vary and are finite.
    findings : tuple of Finding
        W215 where rows at the band's edge still resemble each other on both sides; targets and permutations that were
        left out.
    """

    measure: Measure
    value: float
    values: Floats
    p: float
    null: Floats
    test: str
    band: int
    min_shift: int
    n_samples: int
    n_targets: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Compare:
    """Measures of representational alignment, and their settings.

    Parameters
    ----------
    measures : sequence of {"cka", "cka_biased", "rsa", "procrustes", "cca", "mutual_neighbours"}
        Linear CKA, unbiased, or as first published; correlation of the two sides' dissimilarities (RSA); held-out
        Procrustes similarity and mean canonical correlation; overlap of nearest neighbours.
    band : int, optional
        Pairs of samples of a run less than so many samples apart are not compared, nor is one the other's neighbour. By
        default 1 where the lag-1 autocorrelation rho of rows, on the side where it is smaller, is below .05, else
        3 / (1 - rho) or the first lag at which it is, whichever is longer.
    n_neighbours : int
        Of each sample, for "mutual_neighbours".
    n_components : int
        Principal components of each side, for "procrustes" and "cca". They are of all samples, held-out ones too: each
        side's own, they know nothing of the other.
    alpha : float
        For "procrustes": 1 turns only, 0 whitens whole.
    distance : {"correlation", "euclidean"}
        Between rows, for "rsa"; the latter squared.
    comparing : {"pearson", "spearman", "cosine"}
        Of dissimilarities, for "rsa". Ranks take memory for two tables (sample, sample).
    standardise : bool
        Divide every column by its standard deviation, lest a few units of huge activation, or the loudest targets,
        make up all of a side. Columns are centred in any case.
    permutations : int
        Circular shifts for the p value, 0 for none; at most as many as the runs allow.
    min_shift : int, optional
        Samples by which each run is moved at least, either way; by default as long as the responses' memory. A test
        over subjects gives all the same.
    seed : int

    Notes
    -----
    For n samples, p features and q targets, "cka", "rsa" and "mutual_neighbours" cost n^2 (p + q) operations, in blocks
    of 32 MB. All permutations of the first two together cost about three times that and n^2 log(n), and memory for five
    tables of the samples of two runs (of a single run, blocks again). The other measures cost a fit for each fold and
    permutation, in `n_components` dimensions.

    Examples
    --------
    >>> from brainalign.encoding import ContiguousBlocks
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(120, 20)); Y = X @ rng.normal(size=(20, 30)) + rng.normal(size=(120, 30))
    >>> compare = Compare(measures=("cka", "cca"), n_components=5, permutations=99)
    >>> found = compare.compare(X, Y, None, ContiguousBlocks(5))
    >>> {name: comparison.p for name, comparison in found.items()}
    {'cka': 0.01, 'cca': 0.01}
    """

    measures: Sequence[Measure] = ("cka",)
    band: int | None = None
    n_neighbours: int = 10
    n_components: int = 50
    alpha: float = 1.0
    distance: Literal["correlation", "euclidean"] = "correlation"
    comparing: Literal["pearson", "spearman", "cosine"] = "pearson"
    standardise: bool = True
    permutations: int = 1000
    min_shift: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for measure in self.measures:
            if measure not in MEASURES:
                raise RecipeError(f"compare: there is no measure '{measure}'. {nearest(measure, MEASURES)}")
        for name, chosen, known in (
            ("distance", self.distance, ("correlation", "euclidean")),
            ("comparing", self.comparing, tuple(STATISTICS)),
        ):
            if chosen not in known:
                raise RecipeError(f"compare: there is no {name} '{chosen}'. {nearest(chosen, known)}")
        if self.n_components < 1 or self.permutations < 0:
            raise RecipeError(
                f"compare: {self.n_components} components and {self.permutations} permutations; at least 1 and 0."
            )

    def compare(
        self, features: Floats, responses: Floats, groups: NDArray | None, splitter: Splitter
    ) -> dict[Measure, Comparison]:
        """Compare one layer with one subject's responses by each measure; parameters as for `compare_arrays`."""
        sides = self._sides(features, responses, groups, splitter)
        return {measure: _compared(measure, sides, self) for measure in self.measures}

    def _sides(self, features: Floats, responses: Floats, groups: NDArray | None, splitter: Splitter) -> Sides:
        return prepared_sides(
            features,
            responses,
            groups,
            splitter,
            band=self.band,
            standardise=self.standardise,
            permutations=self.permutations,
            min_shift=self.min_shift,
            seed=self.seed,
        )


def compare_arrays(
    features: Floats,
    responses: Floats,
    groups: NDArray | None,
    splitter: Splitter,
    measure: Measure = "cka",
    settings: Compare | None = None,
) -> Comparison:
    """Compare features with responses as representations of the same samples.

    Parameters
    ----------
    features : array (sample, dimension)
    responses : array (sample, target)
        Targets that are constant or not finite are left out, by number in the findings.
    groups : array (sample,), optional
        The run of each sample; a run's samples stand together, in the order of time.
    splitter : Splitter
        The folds on which "procrustes" and "cca" are fitted and scored; the others need none.
    measure : str
        One of `Compare`'s measures.
    settings : Compare, optional
        All else; its `measures` are not looked at.

    Raises
    ------
    DataError
        If features are not finite or have other samples, if nothing varies, or if samples are too few for the band,
        the neighbours, the components or the shifts.

    Examples
    --------
    >>> from brainalign.encoding import ContiguousBlocks
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(120, 20)); Y = X @ rng.normal(size=(20, 30)) + rng.normal(size=(120, 30))
    >>> found = compare_arrays(X, Y, None, ContiguousBlocks(5), "rsa", Compare(permutations=99))
    >>> found.p, found.test, found.band
    (0.01, 'circular shift', 1)
    """
    settings = Compare() if settings is None else settings
    if measure not in MEASURES:
        raise RecipeError(f"There is no measure '{measure}'. {nearest(measure, MEASURES)}")
    return _compared(measure, settings._sides(features, responses, groups, splitter), settings)


@dataclass(frozen=True)
class _Measured:
    """A measure's values (fold,), and what gives those of reordered responses, shape (permutation,)."""

    values: Floats
    null: Callable[[], Floats]


def _compared(measure: Measure, sides: Sides, settings: Compare) -> Comparison:
    measured = MEASURES[measure](sides, settings)
    value = float(np.mean(measured.values))
    null = measured.null() if len(sides.orders) else np.empty(0)
    p = float(p_values(np.array([value]), null[:, None])[0]) if len(null) else np.nan
    of_pairs = measure not in ("procrustes", "cca")
    return Comparison(
        measure,
        value,
        measured.values,
        p,
        null,
        "circular shift",
        sides.pairs.band if of_pairs else 0,
        sides.min_shift,
        sides.pairs.n_samples,
        sides.Y.shape[1],
        (*sides.findings, *(_alike_neighbours(measure, sides) if of_pairs else ())),
    )


def _cka(sides: Sides, settings: Compare) -> _Measured:
    return _of_pairs(sides, gram(sides.X), gram(sides.Y), cka_of_sums)


def _cka_biased(sides: Sides, settings: Compare) -> _Measured:
    return _of_pairs(sides, gram(sides.X), gram(sides.Y), lambda sums: cka_of_sums(sums, unbiased=False))


def _rsa(sides: Sides, settings: Compare) -> _Measured:
    first, second = (_dissimilarities(side, settings) for side in (sides.X, sides.Y))
    if settings.comparing == "spearman":
        first, second = _ranked(first, sides.pairs), _ranked(second, sides.pairs)
    return _of_pairs(sides, first, second, STATISTICS[settings.comparing])


def _of_pairs(sides: Sides, first: Kernel, second: Kernel, statistic: Callable[[PairSums], Floats]) -> _Measured:
    sums = pair_sums(first, second, sides.pairs)

    def null() -> Floats:
        return statistic(shifted_sums(first, second, sides.pairs, sums, sides.shifts))

    return _Measured(np.atleast_1d(statistic(sums)), null)


def _procrustes(sides: Sides, settings: Compare) -> _Measured:
    return _fitted(sides, settings, lambda X, Y, f: procrustes_similarity(X, Y, f.train, f.test, alpha=settings.alpha))


def _cca(sides: Sides, settings: Compare) -> _Measured:
    return _fitted(sides, settings, lambda X, Y, f: float(canonical_correlations(X, Y, f.train, f.test).mean()))


def _fitted(sides: Sides, settings: Compare, score: Callable[[Floats, Floats, Fold], float]) -> _Measured:
    X, Y = (principal_components(side, settings.n_components) for side in (sides.X, sides.Y))

    def values(Y: Floats) -> Floats:
        return np.array([score(X, Y, fold) for fold in sides.folds])

    return _Measured(values(Y), lambda: np.array([values(Y[order]).mean() for order in sides.orders]))


def _mutual_neighbours(sides: Sides, settings: Compare) -> _Measured:
    first, second = (neighbours(side, settings.n_neighbours, sides.pairs) for side in (sides.X, sides.Y))
    value = np.array([shared_neighbours(first, second)])
    return _Measured(
        value, lambda: np.array([shared_neighbours(first, reordered(second, order)) for order in sides.orders])
    )


MEASURES: Mapping[Measure, Callable[[Sides, Compare], _Measured]] = {
    "cka": _cka,
    "cka_biased": _cka_biased,
    "rsa": _rsa,
    "procrustes": _procrustes,
    "cca": _cca,
    "mutual_neighbours": _mutual_neighbours,
}


def _dissimilarities(values: Floats, settings: Compare) -> Kernel:
    if settings.distance == "euclidean":
        return squared_distances(values)
    constant = np.flatnonzero(is_constant(values.T))
    if len(constant):
        raise DataError(
            f"{len(constant)} samples, the first of them sample {constant[0]}, have one value in all columns and so no "
            "correlation with others: use distance: euclidean."
        )
    centred = values - values.mean(axis=1, keepdims=True)
    correlation = gram(centred / np.linalg.norm(centred, axis=1, keepdims=True))
    return lambda i, j: 1.0 - correlation(i, j)


def _ranked(kernel: Kernel, pairs: Pairs) -> Kernel:
    """The ranks of the kept pairs, about their mean."""
    from scipy.stats import rankdata

    n = pairs.n_samples
    if n > MOST_RANKED_SAMPLES:
        raise DataError(
            f"Ranks of the pairs of {n} samples are too many to hold; up to {MOST_RANKED_SAMPLES} samples will do: use "
            "comparing: pearson."
        )
    everything = slice(0, n)
    ranks = np.triu(pairs.kept(everything), 1)
    ranked = np.zeros((n, n))
    ranked[ranks] = rankdata(kernel(everything, everything)[ranks])
    ranked[ranks] -= ranked[ranks].mean()
    return table(ranked + ranked.T)


def _pearson(sums: PairSums) -> Floats:
    n_pairs = sums.degrees.sum()
    means = sums.first_rows.sum() / n_pairs, sums.second_rows.sum() / n_pairs
    variances = sums.first_squares / n_pairs - means[0] ** 2, sums.second_squares / n_pairs - means[1] ** 2
    size = np.sqrt(variances[0] * variances[1]) if min(variances) > 0 else np.nan
    return (sums.products / n_pairs - means[0] * means[1]) / size


def _cosine(sums: PairSums) -> Floats:
    size = np.sqrt(sums.first_squares * sums.second_squares)
    return sums.products / (size if size > 0 else np.nan)


STATISTICS: Mapping[str, Callable[[PairSums], Floats]] = {"pearson": _pearson, "spearman": _cosine, "cosine": _cosine}


def _alike_neighbours(measure: str, sides: Sides) -> tuple[Finding, ...]:
    if sides.resemblance < FORGOTTEN:
        return ()
    message = (
        f"rows of features and responses {sides.pairs.band} samples apart still resemble each other (autocorrelation "
        f"{sides.resemblance:.2f} or more), so that {measure} is above zero without any alignment and its p value too "
        "small: widen the band."
    )
    return (Finding("W215", "compare", message),)
