"""Neighbouring places that are above chance together: sensors x latencies, voxels, vertices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from brainalign.analysis.inference.adjacency import with_latencies
from brainalign.analysis.inference.groups import flipped_t, observed_t, sign_flips, subject_test
from brainalign.analysis.inference.significance import Side, Significance, check_side, p_values
from brainalign.errors import DataError
from brainalign.types import Finding, Floats

if TYPE_CHECKING:
    from scipy.sparse import sparray

__all__ = ["Clusters", "cluster_test", "group_clusters", "unconnected"]

# Maps as they were drawn take part in a cluster where they are above this quantile.
CLUSTER_QUANTILE = 0.95


@dataclass(frozen=True)
class Clusters:
    """Neighbouring places that are above a threshold together, and how likely clusters as heavy are by chance.

    The claim of each is that there is an effect, not where it begins and ends (Sassenhage & Draschkow, 2019).

    Parameters
    ----------
    label : array (location,), or of the map's shape, of int
        The cluster of each place, from 1; 0 for none.
    mass : array (cluster,)
        The sum of each one's statistic.
    p : array (cluster,)
        Against the heaviest cluster of each draw.
    threshold : float
        Of the statistic.
    significance : Significance
        Place by place: ``p_corrected`` is that of the cluster, 1 outside of all.
    """

    label: np.ndarray
    mass: Floats
    p: Floats
    threshold: float
    significance: Significance


def cluster_test(
    observed: Floats,
    null: Floats,
    adjacency: sparray | None = None,
    *,
    test: str,
    n: int,
    unit: str = "samples",
    side: Side = "greater",
    threshold: float | None = None,
) -> Clusters:
    """Test clusters of neighbouring places against the heaviest of each draw (Maris & Oostenveld, 2007).

    Parameters
    ----------
    observed : array (location,)
    null : array (permutation, location)
        A place that is NaN in the map or in any draw belongs to no cluster.
    adjacency : sparse array (location, location), optional
        Who is whose neighbour; by default each place is next to the one before, as latencies are. For sensors x
        latencies, in this order, ``mne.stats.combine_adjacency(mne.channels.find_ch_adjacency(...)[0], n_latencies)``.
    test, n, unit, side
        As for `permutation_test`.
    threshold : float, optional
        Of `observed`, where it is a statistic of one scale everywhere, such as t. By default maps are first divided by
        the deviation of their draws, place by place, and the threshold is the draws' 95 % quantile.

    Raises
    ------
    DataError
        If `adjacency` is not of these locations.

    Examples
    --------
    >>> null = np.random.default_rng(0).normal(size=(199, 20))
    >>> observed = np.r_[np.zeros(8), np.full(5, 3.0), np.zeros(7)]
    >>> found = cluster_test(observed, null, test="circular shift", n=300)
    >>> found.label, found.p
    (array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]), array([0.005]))
    """
    check_side(side)
    observed = np.asarray(observed, dtype=float)
    usable = np.asarray(~np.isnan(observed) & ~np.isnan(null).any(axis=0))
    compared, draws = observed, null
    if threshold is None:
        maps = _standardised(np.concatenate([observed[None], null]))  # the data are one of the draws
        usable &= np.isfinite(maps[0])
        threshold = _quantile(maps[:, usable], side)
        compared, draws = maps[0], maps[1:]
    edges = _edges(adjacency, len(observed))
    edges = edges[:, usable[edges].all(axis=0)]
    label, mass = _clusters_of(compared, edges, threshold, side, usable)
    heaviest = [np.abs(_clusters_of(drawn, edges, threshold, side, usable)[1]).max(initial=0.0) for drawn in draws]
    p = p_values(np.abs(mass), (np.broadcast_to(value, mass.shape) for value in heaviest))
    significance = Significance(
        effect=observed,
        p=p_values(np.where(usable, observed, np.nan), null, side),
        p_corrected=np.where(usable, np.r_[1.0, p][label], np.nan),
        test=test,
        n_permutations=len(null),
        correction="cluster",
        family_size=len(mass),
        n=n,
        unit=unit,
        side=side,
        findings=() if adjacency is None else unconnected(adjacency),
    )
    return Clusters(label, mass, p, threshold, significance)


def group_clusters(
    scores: Floats,
    adjacency: sparray | None = None,
    *,
    side: Side = "greater",
    threshold: float | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> Clusters:
    """Find clusters of neighbouring places where subjects' scores are above zero, by flips of signs.

    As `mne.stats.spatio_temporal_cluster_1samp_test`, which may count the data twice among all one-sided flips.

    Parameters
    ----------
    scores : array (subject, location) or (subject, sensor, latency)
        A place that is undefined in a subject, or the same in all, belongs to no cluster.
    adjacency : sparse array, optional
        Of locations, or of sensors, which are joined with latencies here. By default locations are a line, as
        latencies are, and sensors have no neighbours.
    side : {"greater", "two-sided"}
    threshold : float, optional
        Of t; by default that at which a single place has p = .05.
    n_permutations : int
        Flips of signs drawn at random; all of them, where those are at most so many.
    seed : int

    Returns
    -------
    Clusters
        Of the shape of a subject's scores. Not of the stimulus level (see the module).

    Examples
    --------
    >>> scores = 0.1 * np.random.default_rng(0).normal(size=(12, 20)); scores[:, 5:9] += 0.2
    >>> found = group_clusters(scores)
    >>> found.label, found.p.round(3)
    (array([0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), array([0.001]))
    """
    scores = np.asarray(scores, dtype=float)
    alone = subject_test(scores, "t", side=side, correction="none")
    flat, shape = scores.reshape(len(scores), -1), scores.shape[1:]
    usable = np.isfinite(flat).all(axis=0) & np.isfinite(alone.p.ravel())
    if not usable.any():
        raise DataError("No place has scores of all subjects, with a spread between them: there is nothing to cluster.")
    joined = with_latencies(adjacency, shape[0], shape[1]) if len(shape) == 2 else adjacency
    flips = sign_flips(len(flat), n_permutations, seed)
    t, null = np.full(flat.shape[1], np.nan), np.full((len(flips), flat.shape[1]), np.nan)
    t[usable] = observed_t(flat[:, usable])
    for draw, drawn in enumerate(flipped_t(flat[:, usable], flips)):
        null[draw, usable] = drawn
    found = cluster_test(
        t,
        null,
        joined,
        test="sign flip of clusters of t",
        n=len(flat),
        unit="subjects",
        side=side,
        threshold=_t_threshold(len(flat), side) if threshold is None else threshold,
    )
    significance = replace(
        found.significance,
        effect=np.where(usable.reshape(shape), alone.effect, np.nan),
        p=np.where(usable.reshape(shape), alone.p, np.nan),
        p_corrected=found.significance.p_corrected.reshape(shape),
        findings=alone.findings + found.significance.findings,
    )
    return replace(found, label=found.label.reshape(shape), significance=significance)


def unconnected(adjacency: sparray) -> tuple[Finding, ...]:
    """Say where an adjacency falls into parts that no cluster can span; nothing where all places are connected."""
    from scipy.sparse.csgraph import connected_components

    n_parts, part = connected_components(adjacency, directed=False)
    if n_parts == 1:
        return ()
    n_alone = int((np.bincount(part) == 1).sum())
    message = (
        f"the adjacency of {len(part)} places has {n_parts} parts that are not connected, {n_alone} of them "
        "single places; no cluster spans two of them"
    )
    return (Finding("disconnected-adjacency", "clusters", message),)


def _standardised(maps: Floats) -> Floats:
    """About the mean and by the deviation of the draws, place by place; NaN where they do not vary."""
    deviation = maps.std(axis=0)
    return (maps - maps.mean(axis=0)) / np.where(deviation > 0, deviation, np.nan)


def _quantile(maps: Floats, side: Side) -> float:
    if maps.size == 0:
        raise DataError("No place of the map is defined and varies in all draws: there is nothing to find clusters in.")
    return float(np.quantile(maps if side == "greater" else np.abs(maps), CLUSTER_QUANTILE))


def _edges(adjacency: sparray | None, n: int) -> np.ndarray:
    """Pairs of neighbours, shape (2, edge)."""
    from scipy.sparse import coo_array

    if adjacency is None:
        return np.stack([np.arange(n - 1), np.arange(1, n)])
    pairs = coo_array(adjacency)
    if pairs.shape != (n, n):
        raise DataError(
            f"The adjacency has shape {pairs.shape}, but the map {n} places: for sensors x latencies, flat, join the "
            "sensors' adjacency with mne.stats.combine_adjacency."
        )
    return np.stack(pairs.nonzero())


def _clusters_of(
    values: Floats, edges: np.ndarray, threshold: float, side: Side, usable: np.ndarray
) -> tuple[np.ndarray, Floats]:
    """Label of each place, from 1 by size of the mass, and the mass of each cluster."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sign = np.where(usable & (values > threshold), 1, 0)
    if side == "two-sided":
        sign -= usable & (values < -threshold)
    inside = edges[:, (sign[edges[0]] != 0) & (sign[edges[0]] == sign[edges[1]])]
    n = len(values)
    _, part = connected_components(coo_array((np.ones(inside.shape[1]), tuple(inside)), shape=(n, n)), directed=False)
    members = np.flatnonzero(sign)
    _, part_of_member = np.unique(part[members], return_inverse=True)
    mass = np.bincount(part_of_member, weights=values[members]) if len(members) else np.empty(0)
    heaviest_first = np.argsort(-np.abs(mass), kind="stable")
    rank = np.empty_like(heaviest_first)
    rank[heaviest_first] = np.arange(len(mass))
    label = np.zeros(n, dtype=int)
    label[members] = rank[part_of_member] + 1
    return label, mass[heaviest_first].astype(float)


def _t_threshold(n_subjects: int, side: Side) -> float:
    from scipy.stats import t as student

    return float(student.isf(0.05 if side == "greater" else 0.025, n_subjects - 1))
