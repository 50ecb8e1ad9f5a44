"""How likely scores as large would be by chance, one by one and as a family: p values that say what they are of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from brainalign.analysis.inference.autocorrelation import autocorrelation
from brainalign.encoding.metrics import pearson
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Finding, Floats

__all__ = [
    "Correction",
    "Side",
    "Significance",
    "bartlett_test",
    "check_side",
    "corrected",
    "fdr",
    "max_statistic",
    "p_values",
    "permutation_test",
]

Side = Literal["greater", "two-sided"]
Correction = Literal["none", "fdr", "max_statistic"]

CORRECTION_NAMES = {
    "none": "uncorrected",
    "fdr": "false discovery rate (Benjamini-Hochberg)",
    "max_statistic": "maximum statistic",
    "cluster": "cluster mass",
}


@dataclass(frozen=True)
class Significance:
    """P values, and all that has to be said with them.

    Parameters
    ----------
    effect : array (...)
        What was tested: scores, or means over subjects; NaN where undefined.
    p : array (...)
        One by one; NaN where `effect` is undefined, or too little was there to test it.
    p_corrected : array (...)
        Of the family; equal to `p` where `correction` is "none".
    test : str
        The test's name: "circular shift", "Wilcoxon signed-rank".
    n_permutations : int or None
        None for a test that draws none.
    correction : {"none", "fdr", "max_statistic", "cluster"}
    family_size : int
        P values that were corrected together.
    n : int
        Samples or subjects, as `unit` says.
    unit : str
    side : {"greater", "two-sided"}
    stimulus_level : bool
        Whether it allows for chance that all subjects share because they heard the same stimulus. A test over subjects
        that does not is wrong 9 to 22 % of the time at .05 and never stands alone.
    findings : tuple of Finding

    Examples
    --------
    >>> ones = np.ones(3)
    >>> print(Significance(ones, ones, ones, "sign flip", 1000, "fdr", 3, 20, "subjects"))
    sign flip, 1,000 permutations, one-sided, n = 20 subjects; false discovery rate (Benjamini-Hochberg), family of 3
    """

    effect: Floats
    p: Floats
    p_corrected: Floats
    test: str
    n_permutations: int | None
    correction: Literal["none", "fdr", "max_statistic", "cluster"]
    family_size: int
    n: int
    unit: str
    side: Side = "greater"
    stimulus_level: bool = False
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        drawn = "" if self.n_permutations is None else f", {self.n_permutations:,} permutations"
        sided = "one-sided" if self.side == "greater" else "two-sided"
        family = "" if self.correction == "none" else f", family of {self.family_size:,}"
        return f"{self.test}{drawn}, {sided}, n = {self.n:,} {self.unit}; {CORRECTION_NAMES[self.correction]}{family}"


def permutation_test(
    observed: Floats,
    null: Floats,
    *,
    test: str,
    n: int,
    unit: str = "samples",
    side: Side = "greater",
    correction: Correction = "fdr",
) -> Significance:
    """Compare scores with those of surrogates.

    Parameters
    ----------
    observed : array (...)
    null : array (permutation, ...)
    test : str
        What was drawn: `Surrogates.name`.
    n : int
        How many `unit` were scored.
    side : {"greater", "two-sided"}
    correction : {"none", "fdr", "max_statistic"}
        All scores are one family.

    Examples
    --------
    >>> null = np.random.default_rng(0).normal(size=(99, 2))
    >>> permutation_test(np.array([5.0, 0.0]), null, test="circular shift", n=300).p.round(2)
    array([0.01, 0.54])
    """
    p = p_values(observed, null, side)
    together = max_statistic(observed, null, side) if correction == "max_statistic" else corrected(p, correction)
    tested = int(np.isfinite(observed).sum())
    return Significance(observed, p, together, test, len(null), correction, tested, n, unit, side)


def p_values(observed: Floats, null: Iterable[Floats], side: Side = "greater") -> Floats:
    """Share of draws, the data themselves among them, with a score as large: (1 + count) / (1 + draws).

    Never zero, so that the test holds its level whatever the number of draws (Phipson & Smyth, 2010).

    Parameters
    ----------
    observed : array (...)
    null : array (permutation, ...), or an iterable of arrays (...)
        Scores of surrogates, read once. One that is undefined counts as large.
    side : {"greater", "two-sided"}
        Two-sided is twice the smaller of both sides, for nulls that are not centred at zero.

    Returns
    -------
    array (...)
        NaN where `observed` is.

    Examples
    --------
    >>> p_values(np.array([2.0, np.nan]), np.array([[1.0, 1.0], [2.0, 1.0], [0.0, 1.0]]))
    array([0.5, nan])
    """
    check_side(side)
    observed = np.asarray(observed)
    n_drawn, above, below = 0, np.zeros(observed.shape), np.zeros(observed.shape)
    for drawn in null:
        n_drawn += 1
        above += ~(drawn < observed)
        if side == "two-sided":
            below += ~(drawn > observed)
    if n_drawn == 0:
        raise DataError("There are no draws to compare scores with: ask for at least one permutation.")
    count = above if side == "greater" else np.minimum(above, below)
    p = (1.0 + count) / (1.0 + n_drawn)
    return np.where(np.isnan(observed), np.nan, p if side == "greater" else np.minimum(1.0, 2.0 * p))


def max_statistic(observed: Floats, null: Iterable[Floats], side: Side = "greater") -> Floats:
    """P values of each score against the largest of each draw, which holds for all of them together.

    Parameters
    ----------
    observed : array (...)
        The family: all that are defined.
    null : array (permutation, ...), or an iterable of arrays (...)
    side : {"greater", "two-sided"}
        Two-sided compares sizes.

    Returns
    -------
    array (...)
        NaN where `observed` is.

    Examples
    --------
    >>> max_statistic(np.array([2.0, 1.0]), np.array([[1.0, 1.5], [0.0, 0.0], [0.0, 3.0]]))
    array([0.5 , 0.75])
    """
    check_side(side)
    observed = np.asarray(observed, dtype=float)
    defined = np.isfinite(observed)
    if not defined.any():
        return np.full(observed.shape, np.nan)
    size = observed if side == "greater" else np.abs(observed)
    # NaN is the largest of all: a draw in which anything is undefined counts as large.
    largest = np.array([(drawn if side == "greater" else np.abs(drawn))[defined].max() for drawn in null])
    return p_values(size, (np.broadcast_to(value, size.shape) for value in largest))


def corrected(p: Floats, correction: Literal["none", "fdr"]) -> Floats:
    """The p values as they are, or corrected for the false discovery rate."""
    if correction not in get_args(Correction):
        raise RecipeError(f"There is no correction '{correction}'. {nearest(correction, get_args(Correction))}")
    if correction == "max_statistic":
        raise RecipeError("The maximum statistic needs draws, which this test has not: take correction 'fdr'.")
    return p if correction == "none" else fdr(p)


def fdr(p: Floats) -> Floats:
    """P values corrected for the false discovery rate (Benjamini & Hochberg, 1995), all of them one family.

    Parameters
    ----------
    p : array (...)
        NaN is no member of the family and stays NaN.

    Examples
    --------
    >>> fdr(np.array([0.01, 0.04, np.nan, 0.03])).round(6)
    array([0.03, 0.04,  nan, 0.04])
    """
    from scipy.stats import false_discovery_control

    found = np.full(np.shape(p), np.nan)
    defined = np.isfinite(p)
    if defined.any():
        found[defined] = false_discovery_control(np.asarray(p, dtype=float)[defined])
    return found


def bartlett_test(
    predicted: Floats, observed: Floats, *, side: Side = "greater", correction: Literal["none", "fdr"] = "fdr"
) -> Significance:
    """Test correlations of one held-out stretch by the samples that they are worth, without drawing surrogates.

    With n samples and autocorrelations a and b, a correlation of independent series varies as that of n / (1 + 2 sum
    over lags k of (1 - k / n) a_k b_k) independent samples (Bartlett, 1935), of which this is Student's t test. They
    are never taken for more than n, and lags go up to n / 5: mildly liberal where the memory is longer (7 % at .05 for
    300 samples of lag-1 autocorrelation .95). Not for means over folds, whose scores are not independent.

    Parameters
    ----------
    predicted, observed : arrays (sample, target)
        In the order of time, of one run, evenly spaced.
    side : {"greater", "two-sided"}
    correction : {"none", "fdr"}

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.normal(size=(200, 1)); x = 0.5 * y + rng.normal(size=(200, 1))
    >>> bartlett_test(x, y).p < 1e-6
    array([ True])
    """
    from scipy.stats import t as student

    check_side(side)
    n = len(observed)
    r = pearson(predicted, observed)
    lags = np.arange(1, n // 5 + 1)
    whole = [np.arange(n)]
    products = (autocorrelation(predicted, whole) * autocorrelation(observed, whole))[lags]
    n_effective = n / np.maximum(1.0, 1.0 + 2.0 * ((1.0 - lags / n)[:, None] * products).sum(axis=0))
    freedom = np.where(n_effective > 2.0, n_effective - 2.0, np.nan)
    with np.errstate(divide="ignore"):
        t = r * np.sqrt(freedom / (1.0 - r**2))
    p = student.sf(t, freedom) if side == "greater" else 2.0 * student.sf(np.abs(t), freedom)
    name = "t test of Bartlett's effective samples"
    tested = int(np.isfinite(p).sum())
    return Significance(r, p, corrected(p, correction), name, None, correction, tested, n, "samples", side)


def check_side(side: str) -> None:
    """Raise a RecipeError where there is no such side."""
    if side not in get_args(Side):
        raise RecipeError(f"There is no side '{side}'. {nearest(side, get_args(Side))}")
