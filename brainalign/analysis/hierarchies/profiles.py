"""Where along a model's layers responses are predicted best, and how sure that is.

All functions take scores as arrays, of which NaN are left out, and name what has no answer instead of guessing one: a
target that no layer predicts has no preferred layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError, RecipeError
from brainalign.types import Floats

__all__ = [
    "DepthContrasts",
    "PreferredLayer",
    "Reliability",
    "depth_contrasts",
    "mean_defined",
    "preferred_layer",
    "region_profiles",
    "scores_by_layer",
    "split_half",
    "subject_reliability",
]


@dataclass(frozen=True)
class PreferredLayer:
    """Which layer predicts each target best, in the units of `depth`; NaN where the status is not "ok".

    Attributes
    ----------
    peak : array (target,)
        The depth of the layer with the highest score.
    centre_of_mass : array (target,)
        The mean depth of all layers, weighted with their positive scores.
    score : array (target,)
        The highest score; it is kept where it is below the threshold, so that one sees by how much.
    status : array (target,) of str
        "ok", "undefined" (some layer has no score), "below threshold" or "not significant".
    """

    peak: Floats
    centre_of_mass: Floats
    score: Floats
    status: NDArray[np.str_]

    @property
    def counts(self) -> dict[str, int]:
        """How many targets have each status."""
        names, n = np.unique(self.status, return_counts=True)
        return dict(zip(names.tolist(), n.tolist(), strict=True))


def preferred_layer(
    r: Floats, depth: Floats, threshold: float = 0.0, p: Floats | None = None, alpha: float = 0.05
) -> PreferredLayer:
    """Find the layer that each target prefers, by its peak and by its centre of mass.

    Parameters
    ----------
    r : array (layer, fold, target)
        Scores; averaged over the folds in which they are defined.
    depth : array (layer,)
        Of each layer: relative, 0 to 1, or its number.
    threshold : float
        Targets whose best layer scores no higher have no preference; at least 0.
    p : array (target,), optional
        Of the highest score, corrected for the number of layers and of targets: targets above `alpha` have none.
    alpha : float

    Raises
    ------
    DataError
        If shapes do not agree.
    RecipeError
        If the threshold is negative.

    Notes
    -----
    The centre of mass is drawn to the middle (slopes of about .6 against the planted layer in simulations), the more
    the weaker a target is predicted: compare centres only of targets that are predicted equally well. The peak is
    unbiased but coarse, and chosen on the scores that it maximises: report `nested_choice` for its height.

    Examples
    --------
    >>> r = np.array([[[0.0, -0.1]], [[0.3, -0.2]], [[0.1, -0.1]]])
    >>> found = preferred_layer(r, depth=np.array([0.0, 0.5, 1.0]))
    >>> found.peak, found.centre_of_mass, found.counts
    (array([0.5, nan]), array([0.625, nan]), {'below threshold': 1, 'ok': 1})
    """
    mean, depth = mean_defined(scores_by_layer(r), axis=1), _depths(depth, len(r))
    if p is not None and np.shape(p) != mean.shape[1:]:
        raise DataError(f"p has shape {np.shape(p)}; one value for each of the {mean.shape[1]} targets is needed.")
    if threshold < 0:
        raise RecipeError(
            f"threshold is {threshold:g}: a layer that predicts nothing is not preferred; take 0 or more."
        )
    score = mean.max(axis=0)
    status = np.full(mean.shape[1], "ok", dtype="<U15")
    if p is not None:
        status[~(np.asarray(p) <= alpha)] = "not significant"
    status[score <= threshold] = "below threshold"
    status[np.isnan(score)] = "undefined"
    ok = status == "ok"
    peak, centre = np.full((2, len(ok)), np.nan)
    peak[ok], centre[ok] = depth[mean[:, ok].argmax(axis=0)], _centre_of_mass(mean[:, ok], depth)
    return PreferredLayer(peak, centre, score, status)


def region_profiles(r: Floats, regions: Sequence[str]) -> tuple[list[str], Floats]:
    """Average the scores of each region's targets, layer by layer and fold by fold.

    Parameters
    ----------
    r : array (layer, fold, target)
    regions : sequence of str (target,)

    Returns
    -------
    names : list of str
        The regions, in order of first appearance.
    profiles : array (layer, fold, region)
        NaN where none of a region's targets is defined.

    Examples
    --------
    >>> names, profiles = region_profiles(np.array([[[0.1, 0.3, 0.2]]]), ["STG", "STG", "IFG"])
    >>> names, profiles.round(3)
    (['STG', 'IFG'], array([[[0.2, 0.2]]]))
    """
    r, labels = scores_by_layer(r), np.asarray(regions)
    if labels.shape != r.shape[2:]:
        raise DataError(f"regions has shape {labels.shape}; a name for each of the {r.shape[2]} targets is needed.")
    names = list(dict.fromkeys(labels.tolist()))
    return names, np.stack([mean_defined(r[:, :, labels == name], axis=2) for name in names], axis=2)


@dataclass(frozen=True)
class DepthContrasts:
    """Means over middle layers minus the last and minus the first layer, arrays (target,)."""

    middle_minus_output: Floats
    middle_minus_input: Floats


def depth_contrasts(r: Floats, depth: Floats, middle: tuple[float, float] = (0.5, 0.75)) -> DepthContrasts:
    """Compare the middle layers with the output and with the input.

    Differences are taken fold by fold and then averaged, so that a fold in which one side is undefined does not tilt
    them. Middle layers are an interval that is fixed beforehand, so there is nothing to choose on the data.

    Parameters
    ----------
    r : array (layer, fold, target)
    depth : array (layer,)
        From 0, the input, to 1, the output.
    middle : (float, float)
        First and last relative depth of the middle layers.

    References
    ----------
    Caucheteux and King (2022), Communications Biology 5, 134: middle minus output .011 in fMRI, .003 in MEG; middle
    minus input .031 and .009.

    Examples
    --------
    >>> r = np.array([[[0.10]], [[0.20]], [[0.15]]])
    >>> contrasts = depth_contrasts(r, depth=np.array([0.0, 0.5, 1.0]))
    >>> contrasts.middle_minus_output.round(3), contrasts.middle_minus_input.round(3)
    (array([0.05]), array([0.1]))
    """
    r, depth = scores_by_layer(r), _depths(depth, len(r))
    if not (np.any(depth == 0) and np.any(depth == 1)):
        raise DataError(f"depth runs from {depth.min():g} to {depth.max():g}; the input is at 0 and the output at 1.")
    chosen = (depth >= middle[0]) & (depth <= middle[1])
    if not chosen.any():
        raise DataError(f"No layer lies between the depths {middle[0]:g} and {middle[1]:g}: widen `middle`.")
    means = [mean_defined(r[rows], axis=0) for rows in (chosen, depth == 1, depth == 0)]
    differences = [mean_defined(means[0] - other, axis=0) for other in means[1:]]
    return DepthContrasts(*differences)


@dataclass(frozen=True)
class Reliability:
    """How well preferred layers of two halves of the data agree over targets.

    Attributes
    ----------
    peak, centre_of_mass : float
        Pearson correlation over targets, of half the data; NaN with fewer than three targets or without variance.
    same_peak : float
        Share of the targets with the same peak.
    n_targets : int
        Defined in both halves; the smallest number where there are several splits.
    n_splits : int
        Over which the figures are averaged.
    """

    peak: float
    centre_of_mass: float
    same_peak: float
    n_targets: int
    n_splits: int = 1

    @property
    def of_all_data(self) -> tuple[float, float]:
        """`peak` and `centre_of_mass` as expected of twice the data, by the formula of Spearman and Brown."""
        return 2 * self.peak / (1 + self.peak), 2 * self.centre_of_mass / (1 + self.centre_of_mass)


def split_half(first: Floats, second: Floats, depth: Floats, threshold: float = 0.0) -> Reliability:
    """Compare the preferred layers of two halves.

    Parameters
    ----------
    first, second : arrays (layer, fold, target)
        Scores of the same targets in two halves of the data that share no sample, neither in tests nor in training:
        cross-validate each half by itself.
    depth : array (layer,)
    threshold : float
        As for `preferred_layer`; targets count that have a preference in both halves.

    Notes
    -----
    The scores of half the folds of one cross-validation are no half of the data: what fold i shares by chance with
    fold j counts in the score of either, for each is trained on the other. On pure noise the layers preferred by two
    halves of five folds correlate by .2, their centres of mass by .3 to .4.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = np.eye(5)[:, None, [0, 1, 2, 3, 4] * 4]
    >>> halves = [truth + rng.normal(scale=0.1, size=truth.shape) for _ in range(2)]
    >>> split_half(*halves, depth=np.arange(5)).same_peak
    1.0
    """
    a, b = (preferred_layer(half, depth, threshold) for half in (first, second))
    if a.peak.shape != b.peak.shape:
        raise DataError(f"The halves have {len(a.peak)} and {len(b.peak)} targets; they must be the same targets.")
    both = (a.status == "ok") & (b.status == "ok")
    same = float(np.mean(a.peak[both] == b.peak[both])) if both.any() else np.nan
    peak, centre = (_correlation(getattr(a, name)[both], getattr(b, name)[both]) for name in ("peak", "centre_of_mass"))
    return Reliability(peak, centre, same, int(both.sum()))


def subject_reliability(
    r: Floats, depth: Floats, n_splits: int = 100, seed: int = 0, threshold: float = 0.0
) -> Reliability:
    """Compare the preferred layers of random halves of the subjects, averaged over splits.

    Parameters
    ----------
    r : array (subject, layer, target)
        Of targets that subjects share: parcels, regions, sensors.
    depth : array (layer,)
    n_splits : int
        Random halves; with an odd number of subjects one half has one more.
    seed : int
    threshold : float

    Raises
    ------
    DataError
        If there are fewer than four subjects.

    Notes
    -----
    Subjects who heard the same stimulus share what a model matches in it by chance, so that a little agreement comes
    without any preference; an untrained model shows how much.

    Examples
    --------
    >>> r = np.random.default_rng(0).normal(size=(8, 5, 30)) + 9 * np.eye(5)[:, np.arange(30) % 5]
    >>> subject_reliability(r, np.arange(5)).same_peak
    1.0
    """
    r = scores_by_layer(r)
    if len(r) < 4:
        raise DataError(f"{len(r)} subjects cannot be halved: at least 4 are needed. Use split_half on their data.")
    rng = np.random.default_rng(seed)
    half, found = len(r) // 2, []
    for _ in range(n_splits):
        order = rng.permutation(len(r))
        first, second = (np.moveaxis(r[rows], 0, 1) for rows in (order[:half], order[half:]))
        found.append(split_half(first, second, depth, threshold))
    figures = np.array([(one.peak, one.centre_of_mass, one.same_peak) for one in found])
    peak, centre, same = mean_defined(figures, axis=0).tolist()
    return Reliability(peak, centre, same, min(one.n_targets for one in found), n_splits)


def mean_defined(values: Floats, axis: int) -> Floats:
    """Mean over `axis` of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    n = known.sum(axis=axis)
    return np.where(n > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(n, 1), np.nan)


def _centre_of_mass(mean: Floats, depth: Floats) -> Floats:
    weights = np.maximum(mean, 0.0)
    return depth @ weights / weights.sum(axis=0)


def _correlation(a: Floats, b: Floats) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(a, b)[0, 1])


def scores_by_layer(r: Floats) -> Floats:
    """The scores as float64; raises DataError where there are not three axes."""
    r = np.asarray(r, dtype=np.float64)
    if r.ndim != 3:
        raise DataError(f"Scores of shape {r.shape}: three axes are needed, such as (layer, fold, target).")
    return r


def _depths(depth: Floats, n_layers: int) -> Floats:
    depth = np.asarray(depth, dtype=np.float64)
    if depth.shape != (n_layers,) or not np.isfinite(depth).all():
        raise DataError(f"depth has shape {depth.shape}; one finite value for each of the {n_layers} layers is needed.")
    return depth
