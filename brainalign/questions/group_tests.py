"""Tests of all subjects together: of their means over targets, and target by target where they have the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.adjacency import adjacency_of, with_latencies
from brainalign.analysis.inference.clusters import cluster_test
from brainalign.analysis.inference.groups import group_null, subject_test
from brainalign.analysis.inference.intervals import bootstrap_interval, narrow_interval
from brainalign.analysis.inference.significance import fdr, p_values
from brainalign.errors import DataError
from brainalign.questions.study import Part, subject_of_target
from brainalign.types import Finding, Floats, Scores

if TYPE_CHECKING:
    from scipy.sparse import sparray

__all__ = ["group_tests"]

SUBJECT_TESTS = ("wilcoxon", "t", "sign_flip")


def group_tests(
    parts: Mapping[str, Part],
    scores: Scores,
    statistics: Sequence[str],
    seed: int,
    clusters: bool = True,
    targets: bool = True,
) -> xr.Dataset:
    """Test each layer's mean over targets, subject by subject and over subjects, and shared targets over subjects.

    Parameters
    ----------
    parts : mapping of subject -> Part
        Of `Tests.of_subject`.
    scores : Scores
    statistics : sequence of str
        "r", "gain"; those that the parts lack are left out.
    seed : int
        Of bootstrap and sign flips.
    clusters : bool
        Whether to test clusters of neighbouring targets (and latencies) too, where their places are known.
    targets : bool
        Whether to test target by target, where subjects have the same ones.

    Returns
    -------
    xarray.Dataset
        Of each statistic: ``subject_mean``, ``subject_p`` (layer, of_subject); ``group_mean``, ``group_chance`` (the
        mean of the surrogates), ``group_low``, ``group_high``, ``group_p_wilcoxon``, ``group_p_t``,
        ``group_p_sign_flip``, ``group_p_stimulus`` and ``group_q_stimulus`` (layer,); ``target_mean``,
        ``target_p_stimulus``, ``target_q_stimulus`` and ``target_p_cluster`` (layer, shared_target, and latency). Those
        of the stimulus, and clusters, give all subjects the same surrogate in each draw.
    """
    found: dict[str, object] = {}
    findings: list[Finding] = []
    for statistic in statistics:
        if all(f"mean_{statistic}" in part.arrays for part in parts.values()):
            of_means, said = _of_means(parts, statistic, seed)
            findings += said
            of_targets, also = _of_targets(parts, statistic, scores, clusters) if targets else ({}, [])
            findings += [finding for finding in also if finding not in findings]
            for name, values in {**of_means, **of_targets}.items():
                found[f"{name}_{statistic}"] = values
    coords = {"of_subject": list(parts)}
    if any("shared_target" in values.dims for values in found.values() if isinstance(values, xr.DataArray)):
        coords["shared_target"] = _names_of(next(iter(parts)), scores)
    result = xr.Dataset(found, coords=coords)
    result.attrs = {"findings": findings, "n_subjects": len(parts)}
    return result


def _of_means(parts: Mapping[str, Part], statistic: str, seed: int) -> tuple[dict[str, object], list[Finding]]:
    """Of the means over targets: arrays of layers, and of subjects where they are one by one."""
    observed = np.stack([part.arrays[f"mean_{statistic}"] for part in parts.values()])  # (subject, layer)
    null = np.stack([part.arrays[f"null_mean_{statistic}"] for part in parts.values()])  # (subject, layer, permutation)
    null = np.moveaxis(null, 2, 1)
    p = np.stack([p_values(mean, draws) for mean, draws in zip(observed, null, strict=True)])
    found: dict[str, object] = {
        "subject_mean": (("layer", "of_subject"), observed.T),
        "subject_p": (("layer", "of_subject"), p.T),
        "group_mean": ("layer", observed.mean(axis=0)),
        "group_chance": ("layer", mean_defined(mean_defined(null, axis=1), axis=0)),
    }
    findings: list[Finding] = []
    if len(parts) == 1:
        return found, [Finding("one-subject", "tests", "a single subject: nothing is tested over subjects.")]
    of_group = group_null(observed, null, test="stimulus-level")
    found["group_p_stimulus"] = ("layer", of_group.p)
    found["group_q_stimulus"] = ("layer", of_group.p_corrected)
    interval = bootstrap_interval(observed, seed=seed)
    found |= {"group_low": ("layer", interval.low), "group_high": ("layer", interval.high)}
    findings += narrow_interval(len(parts))
    for test in SUBJECT_TESTS:
        try:
            result = subject_test(observed, test, seed=seed)
        except DataError as problem:
            findings.append(Finding("few-subjects", "tests", str(problem)))
            continue
        found[f"group_p_{test}"] = ("layer", result.p)
        findings += [finding for finding in result.findings if finding not in findings]
    return found, findings


def _of_targets(
    parts: Mapping[str, Part], statistic: str, scores: Scores, clusters: bool
) -> tuple[dict[str, object], Sequence[Finding]]:
    """Of the targets that all subjects have under the same names; nothing where they differ or were too many."""
    names = [_names_of(subject, scores) for subject in parts]
    if len(parts) < 2 or any(other != names[0] for other in names):
        return {}, []
    if any(f"null_{statistic}" not in part.arrays for part in parts.values()):
        message = (
            "too many scores of surrogates to keep: the mean over subjects is not tested target by target. Fewer "
            "layers, targets or permutations mend it; group_targets: false says that it is meant."
        )
        return {}, [Finding("targets-untested", "tests", message)]
    observed = _mean([np.asarray(part.arrays[f"observed_{statistic}"]) for part in parts.values()])  # (layer, column)
    of_draws = [part.arrays[f"null_{statistic}"] for part in parts.values()]
    is_scored = np.isfinite(observed).any(axis=1).all()
    adjacency = _adjacency(next(iter(parts)), scores) if clusters and is_scored else None
    arrays: dict[str, list[Floats]] = {"target_mean": list(observed)}
    findings: dict[Finding, None] = {}
    for layer, mean in enumerate(observed):
        # One layer at a time: those of all layers, spaces and subjects may not fit into memory.
        null = _mean([draws[layer] for draws in of_draws])  # (permutation, column)
        p = p_values(mean, null)
        tested = {"target_p_stimulus": p, "target_q_stimulus": fdr(p)}
        if adjacency is not None:
            of_clusters = cluster_test(mean, null, adjacency, test="stimulus-level", n=len(parts), unit="subjects")
            tested["target_p_cluster"] = of_clusters.significance.p_corrected
            findings |= dict.fromkeys(of_clusters.significance.findings)
        for name, values in tested.items():
            arrays.setdefault(name, []).append(values)
    latencies = ("latency",) if "latency" in scores.dims else ()
    shape = (len(observed), len(names[0]), *(scores.sizes[name] for name in latencies))
    dims = ("layer", "shared_target", *latencies)
    return {name: xr.DataArray(np.reshape(values, shape), dims=dims) for name, values in arrays.items()}, [*findings]


def _adjacency(subject: str, scores: Scores) -> sparray | None:
    """Neighbours among the targets, and latencies, of this subject, whose places stand for all subjects' ones."""
    own = scores.isel(target=np.flatnonzero(subject_of_target(scores) == subject))
    of_target = {str(name): coord.values for name, coord in own.coords.items() if coord.dims == ("target",)}
    found = adjacency_of(pd.DataFrame(of_target), scores.attrs.get("space", {}).get(subject, {}))
    if "latency" not in scores.dims:
        return found
    return with_latencies(found, own.sizes["target"], scores.sizes["latency"])


def _names_of(subject: str, scores: Scores) -> list[str]:
    return scores["target_name"].values[subject_of_target(scores) == subject].astype(str).tolist()


def _mean(arrays: Sequence[Floats]) -> Floats:
    """The mean over subjects who have a score; summed one by one, since each may be large."""
    total, count = np.zeros(arrays[0].shape, dtype=np.float32), np.zeros(arrays[0].shape, dtype=np.int32)
    for values in arrays:
        defined = np.isfinite(values)
        total += np.where(defined, values, 0)
        count += defined
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
