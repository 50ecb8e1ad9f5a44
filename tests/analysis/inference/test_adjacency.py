"""Neighbours of voxels, vertices and sensors, against what was laid out and against mne."""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
import pytest
from nilearn.datasets import load_fsaverage

from brainalign.analysis.inference.adjacency import adjacency_of, neighbours_among, with_latencies


def dense(adjacency: object) -> np.ndarray:
    assert adjacency is not None
    return adjacency.toarray() != 0  # type: ignore[attr-defined]


def voxels(indices: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(indices, columns=["i", "j", "k"]).assign(name="voxel", kind="voxel")


def sensors(unit: float = 1.0) -> tuple[pd.DataFrame, mne.Info]:
    """The 64 electrodes of a BioSemi cap, in metres times `unit`."""
    montage = mne.channels.make_standard_montage("biosemi64")
    info = mne.create_info(montage.ch_names, 100.0, "eeg")
    info.set_montage(montage)
    places = np.array([channel["loc"][:3] for channel in info["chs"]])
    table = pd.DataFrame(places * unit, columns=["x", "y", "z"]).assign(name=montage.ch_names, kind="sensor")
    return table, info


def test_voxels_are_neighbours_face_to_face() -> None:
    grid = np.argwhere(np.ones((3, 4, 2)))
    found = dense(adjacency_of(voxels(grid), {"kind": "volume"}))
    steps = np.abs(grid[:, None] - grid).sum(axis=2)
    np.testing.assert_array_equal(found, steps <= 1)


def test_voxels_of_a_mask_in_any_order_are_what_mne_s_grid_says() -> None:
    mask = np.random.default_rng(0).random((5, 6, 4)) < 0.6
    indices = np.argwhere(mask)
    whole = mne.stats.combine_adjacency(*mask.shape).toarray()[mask.ravel()][:, mask.ravel()] != 0
    order = np.random.default_rng(1).permutation(len(indices))
    found = dense(adjacency_of(voxels(indices[order]), {"kind": "volume"}))
    np.testing.assert_array_equal(found, whole[order][:, order])


@pytest.mark.parametrize("unit", [1.0, 1000.0], ids=["metres", "millimetres"])
def test_sensors_are_neighbours_as_mne_has_it(unit: float) -> None:
    table, info = sensors(unit)
    expected, names = mne.channels.find_ch_adjacency(info, "eeg")
    assert names == table["name"].tolist()
    np.testing.assert_array_equal(dense(adjacency_of(table, {"kind": "sensors"})), expected.toarray() != 0)


def test_sensors_of_one_place_are_neighbours_of_each_other_and_of_each_other_s_neighbours() -> None:
    table, _ = sensors()
    alone = dense(adjacency_of(table, {"kind": "sensors"}))
    pairs = dense(adjacency_of(pd.concat([table, table], ignore_index=True), {"kind": "sensors"}))
    np.testing.assert_array_equal(pairs, np.tile(alone, (2, 2)))


def test_sensors_without_a_place_are_nobody_s_neighbours() -> None:
    table, _ = sensors()
    table.loc[5, "x"] = np.nan
    found = dense(adjacency_of(table, {"kind": "sensors"}))
    assert np.flatnonzero(found[5]).tolist() == [5]
    assert found[np.arange(64) != 5].sum() > 4 * 63


def test_vertices_are_neighbours_where_a_triangle_joins_them_and_never_across_hemispheres() -> None:
    mesh = load_fsaverage("fsaverage5")["pial"].parts
    chosen = [("left", v) for v in range(300)] + [("right", v) for v in range(0, 400, 2)]
    table = pd.DataFrame(chosen, columns=["hemisphere", "vertex"]).assign(name="vertex", kind="vertex")
    found = dense(adjacency_of(table, {"kind": "surface", "template": "fsaverage5"}))
    joined = {
        side: {frozenset(pair) for a, b, c in mesh[side].faces.tolist() for pair in ((a, b), (b, c), (a, c))}
        for side in ("left", "right")
    }
    expected = [[a == b or (a[0] == b[0] and frozenset((a[1], b[1])) in joined[a[0]]) for b in chosen] for a in chosen]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("targets", "space"),
    [
        (pd.DataFrame({"name": ["a"], "x": 0.0, "y": 0.0, "z": 0.0}), {"kind": "parcels"}),
        (pd.DataFrame({"name": ["a"], "x": 0.0, "y": 0.0, "z": 0.0}), {"kind": "electrodes"}),
        (pd.DataFrame({"name": ["a"]}), {"kind": "volume"}),
        (pd.DataFrame({"name": ["a"], "vertex": [0]}), {"kind": "surface", "template": "my own"}),
        (pd.DataFrame({"name": list("abc"), "x": range(3), "y": 0.0, "z": 0.0}), {"kind": "sensors"}),
        (pd.DataFrame({"name": list("abcde"), "x": np.nan, "y": 0.0, "z": 0.0}), {"kind": "sensors"}),
        (pd.DataFrame({"name": ["a"]}), {}),
    ],
    ids=["parcels", "electrodes", "no indices", "unknown surface", "three sensors", "no places", "no space"],
)
def test_where_places_do_not_say_there_are_no_neighbours(targets: pd.DataFrame, space: dict[str, str]) -> None:
    assert adjacency_of(targets, space) is None


def test_latencies_lie_side_by_side_within_a_target() -> None:
    of_targets = adjacency_of(voxels(np.array([[0, 0, 0], [0, 0, 1], [5, 5, 5]])), {"kind": "volume"})
    found = dense(with_latencies(of_targets, 3, 4)).reshape(3, 4, 3, 4)
    for target, latency, other, later in np.ndindex(found.shape):
        same_latency = latency == later and dense(of_targets)[target, other]
        assert found[target, latency, other, later] == (same_latency or (target == other and abs(latency - later) == 1))


def test_targets_without_neighbours_still_have_their_own_latencies() -> None:
    found = dense(with_latencies(None, 2, 3))
    line = np.abs(np.arange(3)[:, None] - np.arange(3)) <= 1
    np.testing.assert_array_equal(found, np.kron(np.eye(2), line) != 0)


def test_neighbours_among_some_are_those_of_all_without_the_others() -> None:
    table, _ = sensors()
    chosen = np.random.default_rng(0).random(64) < 0.7
    whole = adjacency_of(table, {"kind": "sensors"})
    assert whole is not None
    np.testing.assert_array_equal(dense(neighbours_among(whole, chosen)), dense(whole)[chosen][:, chosen])
