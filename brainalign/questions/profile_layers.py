"""What `Profile` says of layers: of targets, of regions, and of all subjects together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from brainalign.analysis.hierarchies.profiles import (
    depth_contrasts,
    mean_defined,
    preferred_layer,
    region_profiles,
    split_half,
    subject_reliability,
)
from brainalign.analysis.inference.group_layers import best_layer
from brainalign.analysis.inference.intervals import bootstrap_interval, narrow_interval
from brainalign.errors import DataError
from brainalign.questions.study import Part, subject_of_target
from brainalign.types import Finding, Floats, Scores

__all__ = ["Space", "group_of", "preferences_of", "regions_of", "spaces_of"]

# More regions than these are no regions but voxels, and no figure holds them.
MOST_REGIONS = 400
LEAST_SUBJECTS_TO_HALVE = 4

Dims = tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """The layers of one feature space.

    Attributes
    ----------
    rows : array (layer,)
        Their places among all layers of the scores.
    depth : array (layer,)
    r : array (layer, fold, target)
        Averaged over latencies; NaN for targets whose status is not "ok".
    gain : array (layer, fold, target), optional
        Likewise, of layer and baseline together over the baseline.
    """

    rows: np.ndarray
    depth: Floats
    r: Floats
    gain: Floats | None

    @property
    def there(self) -> np.ndarray:
        """Which layers have any score, shape (layer,) of bool."""
        return np.asarray(np.isfinite(self.r).any(axis=(1, 2)))


def spaces_of(scores: Scores, names: Sequence[str]) -> dict[str, Space]:
    """The feature spaces of these names."""
    r = _by_target(scores["r"], scores)
    gain = _by_target(scores["r_joint"] - scores["r_baseline"], scores) if "r_joint" in scores else None
    every = scores["feature_space"].values.astype(str)
    found = {}
    for name in names:
        rows = np.flatnonzero(every == name)
        depth = scores["depth"].values[rows].astype(float)
        found[name] = Space(rows, depth, r[rows], None if gain is None else gain[rows])
    return found


def preferences_of(
    parts: Mapping[str, Part], spaces: Mapping[str, Space], scores: Scores, threshold: float
) -> xr.Dataset:
    """Each target's preferred layer, what the layer chosen inside the training samples scores, and depth contrasts.

    Returns
    -------
    xarray.Dataset
        ``profile_peak``, ``profile_centre``, ``profile_r_dipped``, ``profile_r_nested``,
        ``profile_middle_minus_output``, ``profile_middle_minus_input`` and ``profile_status`` (profile_space, target);
        with halves ``profile_reliability_peak``, ``..._centre``, ``..._same`` (profile_space, of_subject).
    """
    by_target: dict[str, list[np.ndarray]] = {}
    findings = []
    for name, space in spaces.items():
        there = space.there
        # With tests, of the highest of all layers, paid for by the maximum statistic.
        p = None if "p_max_r" not in scores else _smallest(scores["p_max_r"].isel(layer=space.rows[there]))
        found = preferred_layer(space.r[there], space.depth[there], threshold, p)
        told = {"peak": found.peak, "centre": found.centre_of_mass, "r_dipped": found.score, "status": found.status}
        contrasts, problem = _contrasts(space)
        if problem:
            findings.append(Finding("no-depth-contrasts", name, f"middle layers are compared with nothing: {problem}"))
        for variable, values in {**told, **contrasts}.items():
            by_target.setdefault(variable, []).append(values)
    dims = ("profile_space", "target")
    variables: dict[str, tuple[Dims, np.ndarray]] = {
        f"profile_{name}": (dims, np.stack(values)) for name, values in by_target.items()
    }
    nested = np.concatenate([part.arrays["r_nested"] for part in parts.values()], axis=1)
    variables["profile_r_nested"] = (dims, nested)
    variables = {name: (dims, _compact(values)) for name, (dims, values) in variables.items()}
    variables |= _reliabilities(parts, spaces, threshold)
    return xr.Dataset(variables, attrs={"findings": findings, "by_tests": "p_max_r" in scores})


def group_of(
    parts: Mapping[str, Part], spaces: Mapping[str, Space], scores: Scores, n_bootstrap: int, seed: int
) -> xr.Dataset:
    """The best layer of the mean over targets, what it scores where it is chosen inside, and contrasts of depth.

    Returns
    -------
    xarray.Dataset
        ``profile_best``, ``profile_best_low``, ``profile_best_high`` (profile_space,), places among the space's
        layers; ``profile_dipped`` (profile_space,), the mean of each subject's highest. Of ``profile_nested``, the
        score of the layer chosen inside the training samples, ``profile_nested_gain``, its gain over the baseline,
        ``profile_middle_minus_output`` and ``..._input``: the mean over subjects ``..._mean``, its 95 % interval
        ``..._low``, ``..._high`` (profile_space,), and each subject's ``..._subject`` (profile_space, of_subject).
        ``profile_chosen_depth`` (profile_space, of_subject) is the mean over folds of the depth chosen.
    """
    whose, subjects = subject_of_target(scores), list(parts)
    found: dict[str, list[np.ndarray]] = {}
    first = 0
    for space in spaces.values():
        last = first + len(space.rows)
        r = _of_subjects(space.r, whose, subjects)  # (subject, layer, fold)
        inside = _inside([part.arrays["inside"][first:last] for part in parts.values()], r.shape)
        first = last
        best = best_layer(r, inside, n_resamples=n_bootstrap, seed=seed)
        of_subject = {"nested": mean_defined(_chosen(r, best.chosen), axis=1)}
        if space.gain is not None:
            gain = _of_subjects(space.gain, whose, subjects)
            of_subject["nested_gain"] = mean_defined(_chosen(gain, best.chosen), axis=1)
        contrasts, _ = _contrasts(space)
        of_subject |= {
            name: _of_subjects(values[None, None], whose, subjects)[:, 0, 0] for name, values in contrasts.items()
        }
        told = {"best": best.layer, "best_low": best.layer_low, "best_high": best.layer_high, "dipped": best.dipped}
        for name, values in of_subject.items():
            interval = bootstrap_interval(values, n_resamples=n_bootstrap, seed=seed)
            told |= {f"{name}_subject": values, f"{name}_mean": interval.estimate}
            told |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        depth = np.where(np.isnan(best.chosen), np.nan, space.depth[np.nan_to_num(best.chosen).astype(int)])
        told["chosen_depth"] = mean_defined(depth, axis=1)
        for name, values in told.items():
            found.setdefault(name, []).append(np.asarray(values))
    dims = {0: ("profile_space",), 1: ("profile_space", "of_subject")}
    variables = {f"profile_{name}": (dims[values[0].ndim], np.stack(values)) for name, values in found.items()}
    return xr.Dataset(variables, attrs={"findings": list(narrow_interval(len(parts)))})


def regions_of(
    parts: Mapping[str, Part],
    spaces: Mapping[str, Space],
    scores: Scores,
    status: np.ndarray,
    coordinate: str | None,
    threshold: float,
    seed: int,
) -> xr.Dataset:
    """The preferred layer of each region in each subject; nothing where targets are no regions.

    A region has none in a subject where none of its targets does: `status` (profile_space, target) is "ok" for those.

    Returns
    -------
    xarray.Dataset
        ``profile_region_peak``, ``profile_region_centre`` and ``profile_region_r``, the highest score (profile_space,
        of_subject, profile_region); ``profile_region_reliability`` (profile_space,), over regions, between two halves
        of the data, and ``profile_region_agreement`` (profile_space,), between halves of the subjects.
    """
    labels = scores[coordinate or "target_name"].values.astype(str)
    whose, subjects = subject_of_target(scores), list(parts)
    names = list(dict.fromkeys(labels.tolist()))
    shared = all(set(labels[whose == subject].tolist()) == set(names) for subject in subjects)
    if len(names) < 2 or len(names) > MOST_REGIONS or not (shared or coordinate):
        return xr.Dataset(attrs={"findings": [], "regions_by": None})
    found: dict[str, list[np.ndarray]] = {}
    for number, space in enumerate(spaces.values()):
        there = space.there
        profiles = _regional(space.r[there], labels, whose, subjects, names)  # (subject, layer, fold, region)
        counted = _counted(status[number] == "ok", labels, whose, subjects, names)
        # Not counted, a region is as if not significant.
        preferred = [
            preferred_layer(one, space.depth[there], threshold, np.where(counts, 0.0, 1.0))
            for one, counts in zip(profiles, counted, strict=True)
        ]
        found.setdefault("peak", []).append(np.stack([one.peak for one in preferred]))
        found.setdefault("centre", []).append(np.stack([one.centre_of_mass for one in preferred]))
        found.setdefault("r", []).append(np.stack([one.score for one in preferred]))
        if all("r_half" in part.arrays for part in parts.values()):
            halves = _halves_of(parts, spaces, number)[:, there]
            of_halves = _regional(np.moveaxis(halves, 0, 1), labels, whose, subjects, names)
            of_halves = np.where(counted[:, None, None], of_halves, np.nan)
            one, other = np.moveaxis(mean_defined(of_halves, axis=0), 1, 0)
            agreed = split_half(one[:, None], other[:, None], space.depth[there], threshold)
            found.setdefault("reliability", []).append(np.array(agreed.peak))
        if len(subjects) >= LEAST_SUBJECTS_TO_HALVE and shared:
            means = np.where(counted[:, None], mean_defined(profiles, axis=2), np.nan)
            agreed = subject_reliability(means, space.depth[there], seed=seed, threshold=threshold)
            found.setdefault("agreement", []).append(np.array(agreed.peak))
    dims = {0: ("profile_space",), 2: ("profile_space", "of_subject", "profile_region")}
    variables = {f"profile_region_{name}": (dims[values[0].ndim], np.stack(values)) for name, values in found.items()}
    attrs = {"findings": [], "regions_by": coordinate or "target_name"}
    return xr.Dataset(variables, coords={"profile_region": names}, attrs=attrs)


def _compact(values: np.ndarray) -> np.ndarray:
    """As scores are kept, text as it is."""
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _by_target(values: xr.DataArray, scores: Scores) -> Floats:
    """Averaged over latencies, shape (layer, fold, target)."""
    values = values.mean("latency") if "latency" in values.dims else values
    ok = scores["status"].values.astype(str) == "ok"
    return np.where(ok, values.transpose("layer", "fold", "target").values.astype(np.float64), np.nan)


def _smallest(p: xr.DataArray) -> Floats:
    """Over layers and latencies, shape (target,); NaN where a target was not tested."""
    return p.min([name for name in p.dims if name != "target"]).values.astype(float)


def _contrasts(space: Space) -> tuple[dict[str, Floats], str]:
    """Differences of depth of each target, and why there are none."""
    names = ("middle_minus_output", "middle_minus_input")
    try:
        contrasts = depth_contrasts(space.r, space.depth)
    except DataError as problem:
        return dict.fromkeys(names, np.full(space.r.shape[2], np.nan)), str(problem)
    return {name: getattr(contrasts, name) for name in names}, ""


def _halves_of(parts: Mapping[str, Part], spaces: Mapping[str, Space], number: int) -> Floats:
    """Scores of the halves of all subjects' data, shape (half, layer, target)."""
    edges = np.cumsum([0, *(len(space.rows) for space in spaces.values())])
    rows = slice(edges[number], edges[number + 1])
    return np.concatenate([part.arrays["r_half"][:, rows] for part in parts.values()], axis=2)


def _reliabilities(
    parts: Mapping[str, Part], spaces: Mapping[str, Space], threshold: float
) -> dict[str, tuple[Dims, np.ndarray]]:
    """How well the preferred layers of each subject's targets agree between the halves of the data."""
    if any("r_half" not in part.arrays for part in parts.values()):
        return {}
    found = np.full((3, len(spaces), len(parts)), np.nan)
    for number, space in enumerate(spaces.values()):
        for place, part in enumerate(parts.values()):
            one, other = _halves_of({"": part}, spaces, number)[:, space.there]
            agreed = split_half(one[:, None], other[:, None], space.depth[space.there], threshold)
            found[:, number, place] = agreed.peak, agreed.centre_of_mass, agreed.same_peak
    dims = ("profile_space", "of_subject")
    return {f"profile_reliability_{name}": (dims, values) for name, values in zip(AGREEMENT, found, strict=True)}


AGREEMENT = ("peak", "centre", "same")


def _of_subjects(values: Floats, whose: np.ndarray, subjects: Sequence[str]) -> Floats:
    """Means over each subject's targets, the last axis, shape (subject, ...)."""
    return np.stack([mean_defined(values[..., whose == subject], axis=-1) for subject in subjects])


def _inside(parts: Sequence[Floats], shape: tuple[int, ...]) -> Floats:
    """Scores inside the training samples, shape (subject, layer, fold); folds that others have alone are NaN."""
    found = np.full(shape, np.nan)
    for place, values in enumerate(parts):
        found[place, :, : values.shape[1]] = values
    return found


def _chosen(values: Floats, chosen: Floats) -> Floats:
    """Of (subject, layer, fold), that of the layer chosen, shape (subject, fold); NaN where none is."""
    picked = np.take_along_axis(values, np.nan_to_num(chosen).astype(int)[:, None], axis=1)[:, 0]
    return np.where(np.isnan(chosen), np.nan, picked)


def _regional(
    r: Floats, labels: np.ndarray, whose: np.ndarray, subjects: Sequence[str], names: Sequence[str]
) -> Floats:
    """Means over each region's targets, shape (subject, layer, fold, region); NaN where a subject lacks a region."""
    found = np.full((len(subjects), *r.shape[:2], len(names)), np.nan)
    for place, subject in enumerate(subjects):
        own = whose == subject
        known, profiles = region_profiles(r[:, :, own], labels[own].tolist())
        found[place][..., [names.index(name) for name in known]] = profiles
    return found


def _counted(
    ok: np.ndarray, labels: np.ndarray, whose: np.ndarray, subjects: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    """Whether one of a region's targets prefers a layer, shape (subject, region) of bool."""
    there = [labels[ok & (whose == subject)] for subject in subjects]
    return np.array([np.isin(names, of_subject) for of_subject in there])
