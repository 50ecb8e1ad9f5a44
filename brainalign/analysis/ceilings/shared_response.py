"""How much of a response subjects share who heard the same: a ceiling where nobody heard anything twice.

With ev the share of a response's variance that is common to subjects, the rest being their own,

    two subjects correlate            ev
    one and the mean of m others      ev / sqrt(ev + (1 - ev) / m)
    one and a perfect model           sqrt(ev)

so that the root of the mean pairwise correlation is the ceiling, which leave-one-out correlations reach only with many
subjects. A model of one's own subject may pass it: what a subject does not share can be predictable too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator

from brainalign.analysis.ceilings.normalisation import bootstrap_counts, percentile_interval, ratio
from brainalign.analysis.ceilings.runs import run_rows, within_runs
from brainalign.encoding.cross_validation import FoldScores, cross_validate
from brainalign.encoding.responses import block_width, blocks_of
from brainalign.encoding.splits import Splitter
from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = [
    "Extrapolation",
    "SharedResponse",
    "cross_subject_scores",
    "extrapolate",
    "isc_by_group_size",
    "shared_response",
]


@dataclass(frozen=True)
class SharedResponse:
    """Inter-subject correlations, one number per subject and target.

    Attributes
    ----------
    pairwise : array (subject, target)
        The mean of a subject's correlations with each other subject; its mean over subjects is that over pairs.
    leave_one_out : array (subject, target)
        The correlation of a subject with the mean of the others.
    n_subjects : array (target,)
        In how many a target is usable. It is NaN in the others, who do not count, and everywhere if it has one subject.
    """

    pairwise: Floats
    leave_one_out: Floats
    n_subjects: np.ndarray

    @property
    def shared_variance(self) -> Floats:
        """The share of variance that subjects have in common, ev: the mean over pairs, shape (target,)."""
        usable = np.isfinite(self.pairwise)
        return ratio(np.where(usable, self.pairwise, 0.0).sum(axis=0), usable.sum(axis=0))

    @property
    def ceiling(self) -> Floats:
        """The root of the shared variance, shape (target,); NaN where that is not positive."""
        ev = self.shared_variance
        return np.sqrt(np.where(ev > 0, ev, np.nan))

    @property
    def leave_one_out_corrected(self) -> Floats:
        """What `leave_one_out` would be with endlessly many subjects, shape (subject, target); NaN as `ceiling`."""
        ev = self.shared_variance
        noise = ratio(1 - ev, self.n_subjects - 1.0)
        gain = ratio(ev + noise, ev)
        return self.leave_one_out * np.sqrt(np.where(gain > 0, gain, np.nan))


def shared_response(responses: Sequence[Floats] | Floats, groups: np.ndarray | None = None) -> SharedResponse:
    """Correlate each subject's responses with the other subjects'.

    Parameters
    ----------
    responses : array (subject, sample, target), or a sequence of arrays (sample, target)
        Of the same samples and targets. Each run of each subject is standardised, so that subjects count alike.
    groups : array (sample,), optional
        The run of each sample; correlations are those within runs, averaged over runs.

    Raises
    ------
    DataError
        If there are fewer than two subjects, or they have other samples or targets.

    Notes
    -----
    `explainable_variance_interval` of the same responses, taken as repeats, is an interval of `shared_variance`.

    References
    ----------
    Hasson et al. (2004), Science 303; Nastase et al. (2019), Social Cognitive and Affective Neuroscience 14.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> heard_together = rng.normal(size=(3000, 1)) + rng.normal(size=(5, 3000, 1))
    >>> found = shared_response(heard_together)
    >>> found.shared_variance.round(1), found.leave_one_out.mean().round(2), found.ceiling.round(2)
    (array([0.5]), np.float64(0.63), array([0.7]))
    """
    n_samples, n_targets = _shape(responses)
    pairwise, leave_one_out = np.full((2, len(responses), n_targets), np.nan)
    n_subjects = np.zeros(n_targets, dtype=int)
    weights = _sample_weights(n_samples, groups)
    for block in blocks_of(n_targets, block_width(len(responses) * n_samples)):
        own = within_runs(np.stack([values[:, block] for values in responses]), groups, standardise=True)
        usable = np.isfinite(own[:, 0])
        others = np.where(usable[:, None], own, 0.0).sum(axis=0) - own
        n_subjects[block] = usable.sum(axis=0)
        pairwise[:, block] = ratio(_correlations(own, others, weights), n_subjects[block] - 1.0)
        leave_one_out[:, block] = _correlations(own, within_runs(others, groups, standardise=True), weights)
    return SharedResponse(pairwise, leave_one_out, n_subjects)


def cross_subject_scores(
    responses: Sequence[Floats] | Floats, encoder: BaseEstimator, groups: np.ndarray | None, splitter: Splitter
) -> Iterator[FoldScores]:
    """Predict each subject from the mean response of the others, on held-out folds, as a model is scored.

    Parameters
    ----------
    responses : array (subject, sample, target), or a sequence of arrays (sample, target)
        Of the same samples and targets. A target that is unusable in some subjects is averaged over the others.
    encoder, groups, splitter
        As for the model, see `brainalign.encoding.cross_validate`; a mean response needs no delays.

    Returns
    -------
    iterator of FoldScores
        One subject after the other, in their order; ``r`` has shape (fold, target).

    Raises
    ------
    DataError
        If there are fewer than two subjects, or they have other samples or targets.

    Notes
    -----
    The linear map makes up for what differs between subjects, which `shared_response` cannot, but pays for having to be
    learnt: one possible reference, which models do pass, no upper bound (Caucheteux & King, 2022).

    References
    ----------
    Caucheteux & King (2022), Communications Biology 5:134.
    """
    shape = _shape(responses)
    total, n_usable = np.zeros(shape), np.zeros(shape[1])
    for values in responses:
        standard = within_runs(values, groups, standardise=True)
        n_usable += np.isfinite(standard[0])
        total += np.nan_to_num(standard)
    return (_scores_from_others(values, total, n_usable, encoder, groups, splitter) for values in responses)


def _scores_from_others(
    values: Floats,
    total: Floats,
    n_usable: Floats,
    encoder: BaseEstimator,
    groups: np.ndarray | None,
    splitter: Splitter,
) -> FoldScores:
    own = within_runs(values, groups, standardise=True)
    n_others = n_usable - np.isfinite(own[0])
    # A target that nobody else has is a column of zeros, which predicts nothing.
    mean = np.where(n_others > 0, total - np.nan_to_num(own), 0.0) / np.maximum(n_others, 1)
    return cross_validate(encoder, mean, values, groups, splitter)[0]


def isc_by_group_size(
    responses: Sequence[Floats] | Floats,
    n_others: Sequence[int],
    groups: np.ndarray | None = None,
    n_draws: int = 30,
    seed: int = 0,
) -> Floats:
    """Correlate random subjects with the mean of so many random others.

    Parameters
    ----------
    responses, groups
        As for `shared_response`.
    n_others : sequence of int
        Sizes of the group that is averaged.
    n_draws : int
        Of a subject and a group, for each size.
    seed : int

    Returns
    -------
    array (size, draw, target)
        As `extrapolate` takes it. NaN where a target is unusable in the subject, or in all of the group.

    Raises
    ------
    DataError
        If a size is below 1 or leaves no subject to be held out.
    """
    n_samples, n_targets = _shape(responses)
    if min(n_others) < 1 or max(n_others) >= len(responses):
        raise DataError(
            f"n_others is {list(n_others)}; with {len(responses)} subjects sizes are 1 to {len(responses) - 1}."
        )
    rng = np.random.default_rng(seed)
    weights = _sample_weights(n_samples, groups)
    found = np.full((len(n_others), n_draws, n_targets), np.nan)
    for size, draw in np.ndindex(found.shape[:2]):
        subject, *others = rng.permutation(len(responses))[: n_others[size] + 1]
        own = within_runs(responses[subject], groups, standardise=True)
        total = np.zeros_like(own)
        for other in others:
            total += np.nan_to_num(within_runs(responses[other], groups, standardise=True))
        found[size, draw] = _correlations(own, within_runs(total, groups, standardise=True), weights)
    return found


@dataclass(frozen=True)
class Extrapolation:
    """What scores would rise to with endlessly many subjects; arrays (target,), NaN where no curve could be fitted.

    Attributes
    ----------
    ceiling, tau : arrays (target,)
        v0, and the number of subjects over which the curve comes nearer to it by a factor e.
    low, high : arrays (target,)
        Percentile interval of v0.
    at_bound : array (target,) of bool
        Whether v0 is 0 or 1, where the fit had to stop, or tau beyond ten times the largest number of subjects: the
        scores do not show where they level off.
    n_undefined : array (target,)
        Draws of the bootstrap in which a size had no score; they are not in the interval.
    """

    ceiling: Floats
    tau: Floats
    low: Floats
    high: Floats
    at_bound: np.ndarray
    n_undefined: np.ndarray


def extrapolate(
    n_subjects: Sequence[int] | np.ndarray, scores: Floats, level: float = 0.95, n_draws: int = 100, seed: int = 0
) -> Extrapolation:
    """Fit v0 (1 - exp(-x / tau)) to the scores of held-out subjects against the number of other subjects.

    Parameters
    ----------
    n_subjects : sequence of int
        x, three sizes or more.
    scores : array (size, draw, target)
        Of held-out subjects, from so many others; what is NaN is left out of a size's mean.
    level, n_draws, seed
        Of the bootstrap over a size's draws. A fit takes about a millisecond: give region means rather than voxels.

    Raises
    ------
    DataError
        If there are fewer than three sizes, or scores of other shape.

    References
    ----------
    Schrimpf et al. (2021), PNAS 118:e2105646118.

    Examples
    --------
    >>> x = [2, 4, 8, 16]
    >>> scores = np.array([0.3 * (1 - np.exp(-np.array(x) / 5.0))]).T[:, :, None]
    >>> found = extrapolate(x, scores)
    >>> found.ceiling.round(3), found.tau.round(3)
    (array([0.3]), array([5.]))
    """
    x, scores = np.asarray(n_subjects, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if scores.ndim != 3 or len(scores) != len(x) or len(np.unique(x)) < 3:
        raise DataError(
            f"Scores of shape {scores.shape} for {len(x)} numbers of subjects: expected (size, draw, target), "
            "three sizes or more."
        )
    n_sizes, n_scores, n_targets = scores.shape
    rng = np.random.default_rng(seed)
    drawn = np.stack([bootstrap_counts(n_scores, n_draws, rng) for _ in range(n_sizes)])
    counts = np.concatenate([np.ones((n_sizes, 1, n_scores)), drawn], axis=1)
    finite = np.isfinite(scores)
    means = ratio(counts @ np.where(finite, scores, 0.0), counts @ finite.astype(np.float64))
    fits = np.array([[_saturating_fit(x, curve) for curve in target.T] for target in means.transpose(2, 0, 1)])
    v0, tau = fits.reshape(n_targets, n_draws + 1, 2).transpose(2, 0, 1)
    low, high = percentile_interval(v0[:, 1:], level)
    at_bound = (v0[:, 0] < BOUND) | (v0[:, 0] > 1 - BOUND) | (tau[:, 0] > STRAIGHT * x.max())
    return Extrapolation(v0[:, 0], tau[:, 0], low, high, at_bound, np.isnan(v0[:, 1:]).sum(axis=1))


# tau is sought from so many times less than the smallest group to so many times more than the largest.
TAU_RANGE = 100.0
# A v0 so near to 0 or 1 is where the fit had to stop; a tau of ten times the largest group fits a straight line.
BOUND, STRAIGHT = 1e-6, 10.0


def _saturating_fit(x: Floats, y: Floats) -> tuple[float, float]:
    """The v0 within 0 and 1, and tau, of least squares; NaN where a size has no score."""
    from scipy.optimize import minimize_scalar

    if not np.isfinite(y).all():
        return np.nan, np.nan

    def best_v0(log_tau: float) -> tuple[float, Floats]:
        shape = -np.expm1(-x / np.exp(log_tau))
        return np.clip(shape @ y / (shape @ shape), 0.0, 1.0), shape

    def error(log_tau: float) -> float:
        v0, shape = best_v0(log_tau)
        return ((v0 * shape - y) ** 2).sum()

    bounds = np.log([x.min() / TAU_RANGE, x.max() * TAU_RANGE])
    log_tau = minimize_scalar(error, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x
    return best_v0(log_tau)[0], np.exp(log_tau)


def _shape(responses: Sequence[Floats] | Floats) -> tuple[int, int]:
    """(sample, target) of every subject."""
    shapes = {np.shape(values) for values in responses}
    if len(responses) < 2 or len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        raise DataError(
            f"{len(responses)} subjects with responses of shapes {sorted(shapes)}: two or more are needed, of the same "
            "(sample, target)."
        )
    return shapes.pop()


def _sample_weights(n_samples: int, groups: np.ndarray | None) -> Floats:
    """With which products of standardised values sum to the mean over runs of the runs' correlations."""
    runs = run_rows(n_samples, groups)
    weights = np.empty(n_samples)
    for rows in runs:
        weights[rows] = 1 / ((len(rows) - 1) * len(runs))
    return weights


def _correlations(a: Floats, b: Floats, weights: Floats) -> Floats:
    """Of standardised values (..., sample, target), shape (..., target)."""
    return np.einsum("t,...tv,...tv->...v", weights, a, b)
