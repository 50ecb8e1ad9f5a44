"""Which targets are neighbours: sensors on the head, voxels of a grid, vertices of a surface; and latencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainalign.types import Floats

if TYPE_CHECKING:
    from scipy.sparse import sparray

__all__ = ["adjacency_of", "neighbours_among", "with_latencies"]

# Surfaces whose triangles come with nilearn.
SURFACES = ("fsaverage5",)
AXES = ["x", "y", "z"]
INDICES = ["i", "j", "k"]


def adjacency_of(targets: pd.DataFrame, space: Mapping[str, Any]) -> sparray | None:
    """Neighbours among the targets, (target, target); None where their places do not say.

    Voxels are neighbours face to face, vertices where a triangle joins them, sensors as MNE has it: joined by a
    triangle of Delaunay's on the flattened head; sensors at one place (the gradiometers of a pair) are neighbours of
    each other and of each other's neighbours. Parcels, regions and electrodes inside the head have none.

    Parameters
    ----------
    targets : pandas.DataFrame
        One row per target, as of `brainalign.types.Recording`.
    space : mapping
        What places are in, likewise.

    Examples
    --------
    >>> voxels = pd.DataFrame({"name": ["a", "b", "c"], "i": [0, 1, 5], "j": 0, "k": 0})
    >>> adjacency_of(voxels, {"kind": "volume"}).toarray().astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [0, 0, 1]])
    """
    kind = space.get("kind")
    if kind == "volume" and set(INDICES) <= set(targets):
        return _of_pairs(_near(np.asarray(targets[INDICES], dtype=float), 1.0), len(targets))
    if kind == "surface" and space.get("template") in SURFACES and "vertex" in targets:
        return _of_surface(targets, str(space["template"]))
    if kind == "sensors" and set(AXES) <= set(targets):
        return _of_sensors(targets)
    return None


def with_latencies(adjacency: sparray | None, n_targets: int, n_latencies: int) -> sparray:
    """Neighbours among targets x latencies, a target's latencies side by side: the same target a sample later too.

    Examples
    --------
    >>> with_latencies(None, 1, 3).toarray().astype(int)
    array([[1, 1, 0],
           [1, 1, 1],
           [0, 1, 1]])
    """
    from mne.stats import combine_adjacency
    from scipy.sparse import coo_array, eye_array

    between = eye_array(n_targets) if adjacency is None else adjacency
    return coo_array(combine_adjacency(coo_array(between), n_latencies))


def neighbours_among(adjacency: sparray, chosen: np.ndarray) -> sparray:
    """The neighbours among some of the targets only, those where `chosen` (target,) is True.

    Examples
    --------
    >>> neighbours_among(with_latencies(None, 1, 3), np.array([True, False, True])).toarray().astype(int)
    array([[1, 0],
           [0, 1]])
    """
    from scipy.sparse import coo_array

    pairs = np.stack(coo_array(adjacency).nonzero(), axis=1)
    inside = pairs[chosen[pairs].all(axis=1)]
    return _of_pairs((np.cumsum(chosen) - 1)[inside[inside[:, 0] < inside[:, 1]]], int(chosen.sum()))


def _near(places: Floats, radius: float) -> np.ndarray:
    """Pairs of places at most `radius` apart, shape (pair, 2)."""
    from scipy.spatial import KDTree

    return KDTree(places).query_pairs(radius * (1 + 1e-6), output_type="ndarray")


def _of_pairs(pairs: np.ndarray, n: int) -> sparray:
    from scipy.sparse import coo_array

    itself = np.arange(n)
    rows, columns = np.r_[pairs[:, 0], pairs[:, 1], itself], np.r_[pairs[:, 1], pairs[:, 0], itself]
    return coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))


def _of_sensors(targets: pd.DataFrame) -> sparray | None:
    """Sensors whose places are neighbours; None where they are too few for a triangle."""
    places = targets[AXES].to_numpy(dtype=float)
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    distinct, place = np.unique(np.round(places[known], 6), axis=0, return_inverse=True)
    if len(distinct) < 4:
        return None
    pairs = [(first, second) for first, second in _joined(distinct) if first < second]
    members = [known[place.reshape(-1) == number] for number in range(len(distinct))]
    found = [(a, b) for first, second in pairs for a in members[first] for b in members[second]]
    found += [(a, b) for here in members for a in here for b in here if a < b]
    return _of_pairs(np.array(found, dtype=int).reshape(-1, 2), len(targets))


def _joined(places: Floats) -> np.ndarray:
    """Pairs of places that MNE joins, shape (pair, 2)."""
    import mne

    metres = places if np.abs(places).max() < 1.0 else places / 1000.0
    names = [str(number) for number in range(len(places))]
    info = mne.create_info(names, 1.0, "eeg")
    montage = mne.channels.make_dig_montage(dict(zip(names, metres, strict=True)), coord_frame="head")
    info.set_montage(montage, verbose="error")
    with mne.use_log_level("error"):
        found, _ = mne.channels.find_ch_adjacency(info, "eeg")
    return np.stack(found.nonzero(), axis=1)


def _of_surface(targets: pd.DataFrame, template: str) -> sparray:
    """Vertices of both hemispheres; those of one are not the other's neighbours."""
    from mne import spatial_tris_adjacency
    from nilearn.datasets import load_fsaverage
    from scipy.sparse import block_diag, coo_array

    mesh = load_fsaverage(template)["pial"].parts
    sides = [spatial_tris_adjacency(mesh[side].faces, verbose="error") for side in ("left", "right")]
    edges = np.stack(coo_array(block_diag(sides)).nonzero(), axis=1)
    right = targets["hemisphere"].astype(str).str.lower().str[0].to_numpy() == "r"
    vertex = targets["vertex"].to_numpy(dtype=int) + np.where(right, mesh["left"].n_vertices, 0)
    place = np.full(edges.max() + 1, -1)
    place[vertex] = np.arange(len(vertex))
    pairs = place[edges]
    return _of_pairs(pairs[(pairs >= 0).all(axis=1) & (pairs[:, 0] < pairs[:, 1])], len(targets))
