"""Tests over subjects: are scores above chance, or above other scores, in people in general?

Subjects who hear the same story share more than their ability to be predicted: whatever in the features goes along with
the story by chance goes along with all of them. Tests that take subjects for independent (Wilcoxon, t, sign flip,
clusters of flips) are then wrong 9 to 22 % of the time at .05, the more the more subjects there are. They answer
whether other subjects would score as these do *with this stimulus*, and stand beside `group_null`, in which each draw
gives all subjects the same surrogate; `Significance.stimulus_level` tells the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.significance import (
    Correction,
    Side,
    Significance,
    check_side,
    corrected,
    max_statistic,
    p_values,
    permutation_test,
)
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Finding, Floats

__all__ = ["SubjectTest", "contrast", "flipped_t", "group_null", "observed_t", "sign_flips", "subject_test"]

SubjectTest = Literal["wilcoxon", "t", "sign_flip"]

NAMES = {"wilcoxon": "Wilcoxon signed-rank", "t": "one-sample t", "sign_flip": "sign flip"}
# With fewer subjects the smallest p of ranks and flips, one half to the power of their number, is above .05.
FEWEST = {"wilcoxon": (5, 6), "sign_flip": (5, 6), "t": (3, 3)}  # one-sided, two-sided
# Values of flipped scores that are made at once: 32 MB.
AT_ONCE = 2**22
# Means that differ by less are ties: rounding would decide between them.
TIE_DECIMALS = 12


def subject_test(
    scores: Floats,
    test: SubjectTest = "wilcoxon",
    *,
    side: Side = "greater",
    correction: Correction = "fdr",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> Significance:
    """Test whether subjects' scores are above zero.

    Parameters
    ----------
    scores : array (subject, ...)
        Of targets, layers, or both; NaN where a subject has none, who is left out there.
    test : {"wilcoxon", "t", "sign_flip"}
        Wilcoxon's is exact up to 50 subjects. Scores with ties or zeros (which are left out) get all flips of signs up
        to 13 subjects, the normal approximation beyond. Signs are flipped in all ways where these are at most
        `n_permutations`, else at random, the same for all targets.
    side : {"greater", "two-sided"}
    correction : {"none", "fdr", "max_statistic"}
        All scores are one family. The maximum statistic is for sign flips.
    n_permutations, seed : int
        Of sign flips.

    Returns
    -------
    Significance
        Not of the stimulus level (see the module). Scores of too few subjects, or the same in all, have no p and are
        counted by a finding.

    Raises
    ------
    DataError
        If subjects are too few for any p to be at .05: fewer than 5 (6 two-sided), or 3 for t.

    Examples
    --------
    >>> scores = np.array([[0.1, 0.02], [0.2, -0.1], [0.3, 0.12], [0.15, 0.05], [0.05, -0.03]])
    >>> found = subject_test(scores)
    >>> found.p.round(3), found.stimulus_level
    (array([0.031, 0.406]), False)
    """
    if test not in get_args(SubjectTest):
        raise RecipeError(f"There is no test '{test}' over subjects. {nearest(test, get_args(SubjectTest))}")
    check_side(side)
    scores = np.asarray(scores, dtype=float)
    flat = scores.reshape(len(scores), -1)
    usable, findings = _testable(flat, test, side)
    flips = sign_flips(len(flat), n_permutations, seed) if test == "sign_flip" else None
    p, together = np.full((2, flat.shape[1]), np.nan)
    if flips is None:
        p[usable] = _by_scipy(flat[:, usable], test, side)
    else:
        p[usable] = p_values(observed_t(flat[:, usable]), flipped_t(flat[:, usable], flips), side)
    if correction != "max_statistic":
        together = corrected(p, correction)
    elif flips is None:
        raise RecipeError(f"{NAMES[test]} has no draws to take the maximum of: take test 'sign_flip', or 'fdr'.")
    else:
        together[usable] = max_statistic(observed_t(flat[:, usable]), flipped_t(flat[:, usable], flips), side)
    return Significance(
        effect=np.where(usable, mean_defined(flat, axis=0), np.nan).reshape(scores.shape[1:]),
        p=p.reshape(scores.shape[1:]),
        p_corrected=together.reshape(scores.shape[1:]),
        test=NAMES[test],
        n_permutations=None if flips is None else len(flips),
        correction=correction,
        family_size=int(usable.sum()),
        n=len(scores),
        unit="subjects",
        side=side,
        findings=findings,
    )


def contrast(
    first: Floats,
    second: Floats,
    test: SubjectTest = "wilcoxon",
    *,
    side: Side = "two-sided",
    correction: Correction = "fdr",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> Significance:
    """Test whether subjects score higher with one layer, model or feature space than with another.

    Parameters
    ----------
    first, second : arrays (subject, ...)
        Of the same subjects in the same order.
    test, side, correction, n_permutations, seed
        As for `subject_test` of the differences.

    Examples
    --------
    >>> second = np.random.default_rng(0).normal(size=(8, 1)); first = second + np.arange(1.0, 9.0)[:, None]
    >>> contrast(first, second).p
    array([0.0078125])
    """
    if np.shape(first) != np.shape(second):
        raise DataError(
            f"Scores of shapes {np.shape(first)} and {np.shape(second)} cannot be paired: give those of the same "
            "subjects and targets, in the same order."
        )
    found = subject_test(
        np.asarray(first, dtype=float) - np.asarray(second, dtype=float),
        test,
        side=side,
        correction=correction,
        n_permutations=n_permutations,
        seed=seed,
    )
    return replace(found, test=f"{found.test} of differences")


def group_null(
    observed: Floats,
    null: Sequence[Floats] | Floats,
    *,
    test: str,
    side: Side = "greater",
    correction: Correction = "fdr",
) -> Significance:
    """Test the mean over subjects against its means where each draw gave all subjects the same surrogate.

    What features and stimulus share by chance is then in the draws as it is in the scores, so that it is not taken for
    an effect that subjects agree on.

    Parameters
    ----------
    observed : array (subject, ...)
        NaN where a subject has no score, who is left out there, in the draws too.
    null : array (subject, permutation, ...), or one array (permutation, ...) for each subject
        Draw by draw of the same surrogates (`brainalign.analysis.inference.surrogates`).
    test : str
        What was drawn: `Surrogates.name`.
    side : {"greater", "two-sided"}
    correction : {"none", "fdr", "max_statistic"}
        All means are one family.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> chance = rng.normal(size=(100, 1)) + 0.1 * rng.normal(size=(8, 100, 1))
    >>> found = group_null(chance[:, 0], chance[:, 1:], test="circular shift")
    >>> found.p.round(2), subject_test(chance[:, 0]).p.round(3)
    (array([0.48]), array([0.004]))
    """
    observed = np.asarray(observed, dtype=float)
    if len(observed) != len(null) or any(np.shape(drawn) != (len(null[0]), *observed.shape[1:]) for drawn in null):
        raise DataError(
            f"Scores of {len(observed)} subjects, shape {observed.shape[1:]}, do not match the draws of {len(null)}, "
            f"shapes {sorted({np.shape(drawn) for drawn in null})}: each subject needs the same permutations."
        )
    defined = np.isfinite(observed)
    total = np.zeros((len(null[0]), *observed.shape[1:]))
    for there, drawn in zip(defined, null, strict=True):
        total += np.where(there, drawn, 0.0)
    n_there = defined.sum(axis=0)
    draws = total / np.where(n_there > 0, n_there, np.nan)
    found = permutation_test(
        mean_defined(observed, axis=0),
        draws,
        test=f"{test}, the same for all subjects",
        n=len(observed),
        unit="subjects",
        side=side,
        correction=correction,
    )
    return replace(found, stimulus_level=True)


def _testable(flat: Floats, test: SubjectTest, side: Side) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """Which scores (subject, score) have the subjects and the spread that the test needs, and what to say of others."""
    fewest = FEWEST[test][side == "two-sided"]
    if len(flat) < fewest:
        raise DataError(
            f"{NAMES[test]} over {len(flat)} subjects: at least {fewest} are needed for any p to be at .05 "
            f"({side}). Test each subject within, by surrogates, or all together with group_null."
        )
    there = np.isfinite(flat)
    low, high = np.where(there, flat, np.inf).min(axis=0), np.where(there, flat, -np.inf).max(axis=0)
    # What rounding leaves of equal scores is no spread; ranks and flips need only some that are not zero.
    rounding = 4 * np.finfo(np.float64).eps * np.maximum(np.abs(low), np.abs(high))
    spread = high - low > rounding if test == "t" else (low != 0) | (high != 0)
    enough = there.sum(axis=0) >= fewest
    usable = enough & spread
    where = f"{NAMES[test]} over subjects"
    few, same = int((~enough).sum()), int((enough & ~spread).sum())
    findings = []
    if few:
        message = f"{few} of {len(enough)} scores are those of fewer than {fewest} subjects and are not tested"
        findings.append(Finding("few-subjects", where, message))
    if same:
        message = f"{same} of {len(enough)} scores are the same in all subjects and are not tested"
        findings.append(Finding("equal-scores", where, message))
    return usable, tuple(findings)


def _by_scipy(flat: Floats, test: SubjectTest, side: Side) -> Floats:
    """P values (score,) of scores (subject, score), each as it would be on its own."""
    from scipy.stats import ttest_1samp, wilcoxon

    function = (
        (lambda x: wilcoxon(x, alternative=side))
        if test == "wilcoxon"
        else (lambda x: ttest_1samp(x, 0.0, alternative=side))
    )
    there = np.isfinite(flat)
    alone = ~there.all(axis=0)
    if test == "wilcoxon":
        # One score with ties would have scipy approximate all that it is given with.
        size = np.sort(np.abs(flat), axis=0)
        alone |= (size[0] == 0) | (np.diff(size, axis=0) == 0).any(axis=0)
    p = np.empty(flat.shape[1])
    if not alone.all():
        p[~alone] = function(flat[:, ~alone]).pvalue
    for score in np.flatnonzero(alone):
        p[score] = function(flat[there[:, score], score]).pvalue
    return p


def sign_flips(n_subjects: int, n_permutations: int, seed: int) -> np.ndarray:
    """Signs (draw, subject): all but the data's own where those are at most `n_permutations`, else random ones.

    Examples
    --------
    >>> sign_flips(2, 100, seed=0)
    array([[-1.,  1.],
           [ 1., -1.],
           [-1., -1.]])
    """
    if 2**n_subjects - 1 <= n_permutations:
        numbers = np.arange(1, 2**n_subjects)
        return 1.0 - 2.0 * ((numbers[:, None] >> np.arange(n_subjects)) & 1)
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(n_permutations, n_subjects))


def flipped_t(flat: Floats, flips: np.ndarray) -> Iterator[Floats]:
    """For each draw of signs (draw, subject) Student's t of each score (subject, score), NaN left out.

    Infinite where flips make all scores the same.
    """
    there = np.isfinite(flat)
    known, n_there = np.where(there, flat, 0.0), there.sum(axis=0)
    # The mean over the root of the mean square, which t grows with.
    share = known / (np.linalg.norm(known, axis=0) * np.sqrt(n_there))
    at_once = max(1, AT_ONCE // max(1, flat.shape[1]))
    for start in range(0, len(flips), at_once):
        rounded = np.round(flips[start : start + at_once] @ share, TIE_DECIMALS)
        with np.errstate(divide="ignore"):
            yield from rounded * np.sqrt((n_there - 1) / (1.0 - rounded**2))


def observed_t(flat: Floats) -> Floats:
    """Student's t of each score (subject, score) as it is, by the same steps as those of flips."""
    return next(flipped_t(flat, np.ones((1, len(flat)))))
