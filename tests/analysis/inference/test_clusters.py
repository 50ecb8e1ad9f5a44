"""Clusters against mne, planted ones found, and graphs that fall apart."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import scipy.stats
from scipy.sparse import coo_array, csr_array

from brainalign.analysis.inference.adjacency import with_latencies
from brainalign.analysis.inference.clusters import cluster_test, group_clusters, unconnected
from brainalign.errors import DataError

# Six sensors in a ring.
RING = coo_array(np.eye(6) + np.roll(np.eye(6), 1, axis=0) + np.roll(np.eye(6), -1, axis=0))
SHAPE = (6, 15)
TAIL = {"greater": 1, "two-sided": 0}
# One-sided, mne counts the data among all flips once more, or not, as rounding has it.
SLACK = {"greater": 1 / 1024, "two-sided": 1e-12}


def scores(n_subjects: int = 10, planted: float = 1.0, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n_subjects, *SHAPE))
    values[:, 1:3, 5:10] += planted
    return values


def t_maps(flat: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Student's t of each flip (flip, location) of flat (subject, location)."""
    n = len(flat)
    means = signs @ flat / n
    return means / np.sqrt(((flat**2).mean(axis=0) - means**2) / (n - 1))


@pytest.mark.parametrize("side", ["greater", "two-sided"])
def test_clusters_of_flipped_t_maps_are_mne_s(side: str) -> None:
    values = scores()
    values[:, 4, 11:14] -= 1.2
    flat = values.reshape(10, -1)
    joined = mne.stats.combine_adjacency(RING, SHAPE[1])
    t, masks, p, drawn = mne.stats.permutation_cluster_1samp_test(
        flat, threshold=2.0, adjacency=joined, n_permutations=2000, tail=TAIL[side], out_type="mask",
        verbose="error",
    )  # fmt: skip
    signs = 1.0 - 2.0 * ((np.arange(1, 1024)[:, None] >> np.arange(10)) & 1)
    null = t_maps(flat, signs)
    np.testing.assert_allclose(t_maps(flat, np.ones((1, 10)))[0], t, rtol=1e-9)
    ours = cluster_test(t, null, joined, test="sign flip", n=10, threshold=2.0, side=side)  # pyrefly: ignore
    order = np.argsort(-np.abs([t[mask].sum() for mask in masks]))
    assert len(ours.mass) == len(masks)
    for number, cluster in enumerate(order, start=1):
        np.testing.assert_array_equal(np.flatnonzero(ours.label == number), np.flatnonzero(masks[cluster]))
        assert ours.mass[number - 1] == pytest.approx(t[masks[cluster]].sum())
        assert ours.p[number - 1] == pytest.approx(p[cluster], abs=SLACK[side])
    assert len(drawn) == 1024 // (2 if side == "two-sided" else 1)


@pytest.mark.parametrize("side", ["greater", "two-sided"])
def test_a_group_s_clusters_are_mne_s_spatio_temporal_ones(side: str) -> None:
    values = scores()
    t, clusters, p, _ = mne.stats.spatio_temporal_cluster_1samp_test(
        values.transpose(0, 2, 1), adjacency=RING, n_permutations=2000, tail=TAIL[side], verbose="error"
    )
    found = group_clusters(values, RING, n_permutations=2000, side=side)  # pyrefly: ignore
    assert found.significance.n_permutations == 1023
    np.testing.assert_allclose(np.sort(found.p), np.sort(p), atol=SLACK[side])
    masses = [t[latency, sensor].sum() for latency, sensor in clusters]
    np.testing.assert_allclose(found.mass, sorted(masses, key=lambda mass: -abs(mass)), rtol=1e-9)
    latency, sensor = clusters[int(np.argmax(np.abs(masses)))]
    assert set(zip(*np.nonzero(found.label == 1), strict=True)) == set(zip(sensor, latency, strict=True))


def test_a_planted_cluster_is_found_where_it_is() -> None:
    found = group_clusters(scores(planted=1.5), RING)
    assert found.p[0] < 0.01
    where = np.zeros(SHAPE, dtype=bool)
    where[1:3, 5:10] = True
    assert (found.label[where] == 1).mean() > 0.9
    assert (found.significance.p_corrected[where] < 0.05).mean() > 0.9
    assert (found.significance.p_corrected[found.label == 0] == 1.0).all()
    assert not found.significance.stimulus_level
    assert "cluster mass" in str(found.significance)


def test_cluster_test_keeps_its_level_and_finds_what_is_planted() -> None:
    rng = np.random.default_rng(0)
    kernel = np.ones(5) / np.sqrt(5)
    scale = np.linspace(0.5, 3.0, 40)  # places of different spread count alike
    wrong, found = 0, 0
    for _ in range(60):
        maps = np.array([np.convolve(row, kernel, "same") for row in rng.normal(size=(41, 40))]) * scale
        wrong += cluster_test(maps[0], maps[1:], test="noise", n=1).p.min(initial=1.0) <= 0.05
        planted = maps[0] + np.where((np.arange(40) >= 4) & (np.arange(40) < 12), 4.0 * scale, 0.0)
        found += cluster_test(planted, maps[1:], test="noise", n=1).p[0] <= 0.05
    assert scipy.stats.binomtest(wrong, 60, 0.05).pvalue > 0.01
    assert found > 54


def test_what_is_undefined_belongs_to_no_cluster_and_parts_it() -> None:
    null = np.random.default_rng(0).normal(size=(99, 9))
    observed = np.full(9, 5.0)
    observed[4] = np.nan
    found = cluster_test(observed, null, test="noise", n=1)
    assert sorted(np.unique(found.label)) == [0, 1, 2]
    assert found.label[4] == 0
    assert np.isnan(found.significance.p_corrected[4])
    null[3, 0] = np.nan
    assert np.isnan(cluster_test(observed, null, test="noise", n=1).significance.p_corrected[0])


def test_a_map_without_clusters_has_none() -> None:
    null = np.random.default_rng(0).normal(size=(99, 9))
    found = cluster_test(np.full(9, -3.0), null, test="noise", n=1)
    assert len(found.p) == len(found.mass) == found.label.max() == 0
    assert (found.significance.p_corrected == 1.0).all()
    assert group_clusters(scores(8, planted=0.0) - 3.0, RING).significance.n_permutations == 255


def test_a_disconnected_adjacency_is_a_finding_not_a_failure() -> None:
    islands = np.eye(7)
    islands[0, 1] = islands[1, 0] = islands[2, 3] = islands[3, 2] = 1
    (finding,) = unconnected(csr_array(islands))
    assert finding.code == "disconnected-adjacency"
    assert "7 places has 5 parts that are not connected, 3 of them single places" in finding.message
    assert unconnected(RING) == ()
    null = np.random.default_rng(0).normal(size=(99, 7))
    found = cluster_test(np.full(7, 5.0), null, csr_array(islands), test="noise", n=1)
    assert len(found.p) == 5
    assert found.significance.findings == (finding,)
    values = np.random.default_rng(0).normal(2.0, 1.0, size=(8, 7, 3))
    assert [f.code for f in group_clusters(values, csr_array(islands)).significance.findings] == [finding.code]


def test_an_adjacency_without_neighbours_at_all_leaves_single_places() -> None:
    null = np.random.default_rng(0).normal(size=(99, 5))
    found = cluster_test(np.full(5, 5.0), null, csr_array((5, 5)), test="noise", n=1)
    assert len(found.p) == 5


def test_places_that_a_subject_lacks_are_left_out_by_name() -> None:
    values = scores()
    values[0, 0, 0], values[:, 0, 1] = np.nan, 0.3
    found = group_clusters(values, RING)
    assert np.isnan(found.significance.p_corrected[0, :2]).all()
    assert np.isfinite(found.significance.p_corrected).sum() == values[0].size - 2
    assert [finding.code for finding in found.significance.findings] == ["equal-scores"]


def test_what_cannot_be_clustered_is_refused() -> None:
    null = np.zeros((9, 4))
    with pytest.raises(DataError, match="No place of the map is defined and varies"):
        cluster_test(np.zeros(4), null, test="noise", n=1)
    with pytest.raises(DataError, match=r"The adjacency has shape \(6, 6\), but the map 4 places"):
        cluster_test(np.zeros(4), np.random.default_rng(0).normal(size=(9, 4)), RING, test="noise", n=1)
    with pytest.raises(DataError, match="there is nothing to cluster"):
        group_clusters(np.zeros((8, 5)))
    with pytest.raises(DataError, match="over 2 subjects"):
        group_clusters(np.ones((2, 5)))


def test_a_line_is_the_default_of_locations() -> None:
    values = scores(7).reshape(7, -1)
    found, line = group_clusters(values), group_clusters(values, with_latencies(None, 1, values.shape[1]))
    np.testing.assert_array_equal(found.label, line.label)
    np.testing.assert_array_equal(found.p, line.p)


def test_five_subjects_who_agree_are_enough_for_a_cluster() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.1, size=(5, 6))
    assert group_clusters(values).p[0] == 1 / 32
    assert group_clusters(values, threshold=1.0).p[0] == 1 / 32


def test_group_clusters_keep_their_level_with_random_flips() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(60):
        found = group_clusters(rng.normal(size=(12, 3, 6)), None, n_permutations=39)
        wrong += found.p.min(initial=1.0) <= 0.05
    assert scipy.stats.binomtest(wrong, 60, 0.05).pvalue > 0.01
