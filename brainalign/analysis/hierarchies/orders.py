"""Whether a model's layers and the brain come in the same order, in time (T_max) and in space (steps from sensation).

Both scores correlate a few values that vary smoothly: a dozen layers, of which neighbours resemble each other. Such a
correlation has no valid p value of its own: with 12 smooth layers and no order at all its standard deviation is .5, and
a third of them are beyond the critical value for independent ones (.576). Permuting layers does not mend this, for it
takes away the smoothness: the mean over subjects then comes out significant in 17 to 28 % of cases at .05, with
circular shifts of the layers in 11 to 14 %. What is valid is each subject's own score, whose signs are flipped (5 %).

Subjects who heard the same stimulus share what matches it by chance, which no test over subjects sees. `null` takes the
same figures under shifts of the stimulus that all subjects share; `control` those of an untrained model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign.errors import DataError
from brainalign.types import Finding, Floats

__all__ = ["HierarchyScore", "spatial_score", "temporal_score"]

# With fewer subjects no flipping of signs reaches .05.
LEAST_SUBJECTS = 5
LEAST_POINTS = 3
# So many subjects have all their signs flipped, more a random choice.
EXACT_SUBJECTS = 12


@dataclass(frozen=True)
class HierarchyScore:
    """A correlation of order for each subject, and what it says of all of them.

    Attributes
    ----------
    r : array (subject,)
        NaN where a subject has too few defined points, or no variance in them.
    mean : float
        Over the subjects in which it is defined, less that of the control, if there is one.
    interval : (float, float)
        95 % by bootstrap over subjects (percentiles).
    p_subjects : float
        One-sided, by flipping the subjects' signs; NaN with fewer than five subjects.
    p_stimulus : float
        One-sided, of the mean of `r`, control or not, against the shared shifts of `null`; NaN without.
    n_flips, n_shifts : int
        The number of permutations behind each p value.
    permuted : array (permutation,)
        The mean with layers or regions in random order, the same for all subjects: a control to look at, which gives
        no valid p value (see the module).
    findings : tuple of Finding
        What the reader must know: too few subjects, undefined ones, no stimulus-level null (W210).
    """

    r: Floats
    mean: float
    interval: tuple[float, float]
    p_subjects: float
    p_stimulus: float
    n_flips: int
    n_shifts: int
    permuted: Floats
    findings: tuple[Finding, ...]


def temporal_score(
    latency_s: Floats,
    depth: Floats,
    *,
    control: Floats | None = None,
    null: Floats | None = None,
    n_permutations: int = 2000,
    seed: int = 0,
) -> HierarchyScore:
    """Correlate the depth of layers with the latency at which each predicts best.

    Parameters
    ----------
    latency_s : array (subject, layer)
        T_max, as `preferred_latency` gives it with layers for targets; NaN where a layer predicts nothing.
    depth : array (layer,)
    control : array (subject, layer), optional
        The same of an untrained model, whose score is subtracted subject by subject.
    null : array (permutation, subject, layer), optional
        The same under shifts of the responses against the stimulus, each the same for all subjects.
    n_permutations : int
        Flips of signs (all, where they are fewer), bootstrap samples and random orders.
    seed : int

    Raises
    ------
    DataError
        If shapes do not agree, there are fewer than three layers, or no subject has a score.

    Notes
    -----
    The p values are about subjects and stimuli; with one model there is nothing to be said about models.

    References
    ----------
    Raugel et al. (2025), arXiv 2508.18226.

    Examples
    --------
    >>> depth = np.linspace(0, 1, 6)
    >>> latency_s = 0.1 + 0.2 * depth + np.random.default_rng(0).normal(scale=0.02, size=(8, 6))
    >>> found = temporal_score(latency_s, depth)
    >>> round(found.mean, 2), found.p_subjects
    (0.98, 0.00390625)
    """
    return _score("temporal score", latency_s, depth, control, null, n_permutations, seed)


def spatial_score(
    preferred: Floats,
    distance: Floats,
    *,
    control: Floats | None = None,
    null: Floats | None = None,
    n_permutations: int = 2000,
    seed: int = 0,
) -> HierarchyScore:
    """Correlate the hierarchical distance of regions with the layer that each prefers.

    Parameters
    ----------
    preferred : array (subject, region)
        Preferred depth, as `preferred_layer` gives it; NaN where a region has none.
    distance : array (region,)
        From sensation: in steps, millimetres or ranks, known beforehand.
    control, null, n_permutations, seed
        As for `temporal_score`, with regions for layers.

    Raises
    ------
    DataError
        As `temporal_score`.

    Notes
    -----
    Centres of mass depend on how well a region is predicted; a gradient of scores then looks like one of layers.
    Compare with peaks.

    Examples
    --------
    >>> distance = np.arange(5.0)
    >>> preferred = 0.3 + 0.1 * distance + np.random.default_rng(0).normal(scale=0.05, size=(6, 5))
    >>> round(spatial_score(preferred, distance).mean, 2)
    0.98
    """
    return _score("spatial score", preferred, distance, control, null, n_permutations, seed)


def _score(
    name: str,
    values: Floats,
    order: Floats,
    control: Floats | None,
    null: Floats | None,
    n_permutations: int,
    seed: int,
) -> HierarchyScore:
    values, order = np.asarray(values, dtype=np.float64), np.asarray(order, dtype=np.float64)
    if values.ndim != 2 or order.shape != values.shape[1:] or len(order) < LEAST_POINTS or np.ptp(order) == 0:
        raise DataError(
            f"{name}: values of shape {values.shape} for an order of shape {order.shape}; needed are (subject, point) "
            f"and (point,), {LEAST_POINTS} points or more, not all of the same order."
        )
    for what, given, shape in (
        ("control", control, values.shape),
        ("null", null, (0 if null is None else len(null), *values.shape)),
    ):
        if given is not None and np.shape(given) != shape:
            raise DataError(f"{name}: {what} has shape {np.shape(given)}; {shape} is needed, as the values have.")
    rng = np.random.default_rng(seed)
    r = _correlations(values, order[None])[0]
    gain = r if control is None else r - _correlations(np.asarray(control, dtype=np.float64), order[None])[0]
    gain = gain[np.isfinite(gain)]
    if len(gain) == 0:
        raise DataError(
            f"{name}: no subject has {LEAST_POINTS} defined points that differ; lower the threshold of the preference."
        )
    p_subjects, n_flips = _flip_signs(gain, n_permutations, rng)
    shifts = np.empty((0, *values.shape)) if null is None else np.asarray(null, dtype=np.float64)
    shifted = _means(_correlations(shifts, order[None])[:, 0])
    shifted = shifted[np.isfinite(shifted)]
    p_stimulus = float((1 + np.sum(shifted >= _means(r))) / (1 + len(shifted))) if len(shifted) else np.nan
    orders = rng.permuted(np.tile(order, (n_permutations, 1)), axis=1)
    return HierarchyScore(
        r,
        float(gain.mean()),
        _interval(gain, n_permutations, rng),
        p_subjects,
        p_stimulus,
        n_flips,
        len(shifted),
        _means(_correlations(values, orders)),
        tuple(_findings(name, len(r), len(gain), null is not None)),
    )


def _correlations(values: Floats, orders: Floats) -> Floats:
    """Pearson correlation of each of `orders` (..., order, point) with the defined points of each of `values`
    (..., series, point), shape (..., order, series); NaN where there are too few or they do not vary.
    """
    known = np.isfinite(values)
    n = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    y = np.where(known, values, 0.0)
    size = np.abs(y).max(axis=-1, keepdims=True)
    y = np.where(known, y - y.sum(axis=-1, keepdims=True) / n, 0.0)
    # Equal latencies leave rounding where there is no variance.
    varies = (n >= LEAST_POINTS) & (np.abs(y).max(axis=-1, keepdims=True) > 1e-9 * size)
    n, y_squares, varies, y, counted = (
        np.swapaxes(part, -1, -2)
        for part in (n, (y**2).sum(axis=-1, keepdims=True), varies, y, known.astype(np.float64))
    )
    x = orders - orders.mean(axis=-1, keepdims=True)
    # y sums to zero, so that of x only the length depends on the points that are known.
    x_squares = x**2 @ counted - (x @ counted) ** 2 / n
    varies = varies & (x_squares > 1e-12 * (x**2).sum(axis=-1, keepdims=True))
    lengths = np.sqrt(np.where(varies, x_squares * y_squares, 1.0))
    return np.where(varies, np.clip(x @ y / lengths, -1.0, 1.0), np.nan)


def _means(r: Floats) -> Floats:
    """Mean over the subjects, the last axis, in which r is defined."""
    known = np.isfinite(r)
    n = known.sum(axis=-1)
    return np.where(n > 0, np.where(known, r, 0.0).sum(axis=-1) / np.maximum(n, 1), np.nan)


def _flip_signs(gain: Floats, n_permutations: int, rng: np.random.Generator) -> tuple[float, int]:
    """One-sided p of the mean: exact for few subjects, else from random flips with the observed one among them."""
    n = len(gain)
    if n < LEAST_SUBJECTS:
        return np.nan, 0
    if n <= EXACT_SUBJECTS:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.vstack([np.ones(n, dtype=int), rng.choice([-1, 1], size=(n_permutations, n))])
    # Flips that give the observed mean again must count whatever the rounding.
    return float(np.mean(signs @ gain >= gain.sum() - 1e-12 * n)), len(signs)


def _interval(gain: Floats, n_samples: int, rng: np.random.Generator) -> tuple[float, float]:
    if len(gain) < 2:
        return np.nan, np.nan
    means = gain[rng.integers(0, len(gain), size=(n_samples, len(gain)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5)).tolist()
    return low, high


def _findings(name: str, n_subjects: int, n_defined: int, has_null: bool) -> list[Finding]:
    found = []
    if n_defined < n_subjects:
        message = f"undefined in {n_subjects - n_defined} of {n_subjects} subjects, who are left out."
        found.append(Finding("undefined-subjects", name, message))
    if n_defined < LEAST_SUBJECTS:
        message = f"{n_defined} subjects are too few for a test over subjects ({LEAST_SUBJECTS} at least): no p value."
        found.append(Finding("few-subjects", name, message))
    if not has_null:
        message = (
            "tested over subjects only; if all heard the same stimulus, what they share with it by chance counts as "
            "an effect. Give `null`, the same under shifts shared by all subjects."
        )
        found.append(Finding("W210", name, message))
    return found
