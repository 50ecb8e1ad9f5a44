"""Measures of alignment, against formulas, scipy and scikit-learn, and what no measure may find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.signal import lfilter
from sklearn.cross_decomposition import CCA
from sklearn.neighbors import NearestNeighbors

from brainalign.analysis.similarity.measures import (
    canonical_correlations,
    linear_cka,
    mutual_neighbours,
    neighbours,
    principal_components,
    procrustes_similarity,
    reordered,
    shared_neighbours,
)
from brainalign.analysis.similarity.pairs import Pairs
from brainalign.encoding.metrics import pearson
from brainalign.errors import DataError

VARIED = settings(max_examples=30, deadline=None, derandomize=True)


def noise(seed: int, n: int, p: int, q: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, p)), random.normal(size=(n, q))


def related(seed: int, n: int, p: int, q: int) -> tuple[np.ndarray, np.ndarray]:
    x, e = noise(seed, n, p, q)
    return x, x @ np.random.default_rng(seed + 1).normal(size=(p, q)) + e


def slow(seed: int, n: int, p: int, phi: float) -> np.ndarray:
    return lfilter([1], [1, -phi], np.random.default_rng(seed).normal(size=(n + 200, p)), axis=0)[200:]


def song_hsic(k: np.ndarray, m: np.ndarray) -> float:
    """HSIC_1 as its paper writes it."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    sums = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + sums - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3)))


@VARIED
@given(seed=st.integers(0, 10**6), n=st.integers(5, 30), p=st.integers(1, 40), offset=st.sampled_from([0.0, 50.0]))
def test_unbiased_cka_is_song_s_estimate(seed: int, n: int, p: int, offset: float) -> None:
    x, y = related(seed, n, p, 3)
    centred = x - x.mean(axis=0), y - y.mean(axis=0)
    k, m = (side @ side.T for side in centred)
    own = song_hsic(k, k) * song_hsic(m, m)
    found = linear_cka(x + offset, y - offset)
    if song_hsic(k, k) > 1e-9 and song_hsic(m, m) > 1e-9:
        assert found == pytest.approx(song_hsic(k, m) / np.sqrt(own), rel=1e-6, abs=1e-8)


@VARIED
@given(seed=st.integers(0, 10**6), n=st.integers(4, 30), p=st.integers(1, 40), q=st.integers(1, 40))
def test_biased_cka_is_the_published_ratio_of_norms(seed: int, n: int, p: int, q: int) -> None:
    x, y = related(seed, n, p, q)
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert linear_cka(x, y, band=0, unbiased=False) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("unbiased", [True, False])
def test_cka_does_not_change_with_a_turn_a_scale_or_an_offset(unbiased: bool) -> None:
    x, y = related(0, 60, 20, 30)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0]
    band = int(unbiased)
    moved = linear_cka(3.0 * x @ turn + 7.0, y, band=band, unbiased=unbiased)
    assert moved == pytest.approx(linear_cka(x, y, band=band, unbiased=unbiased), abs=1e-9)
    assert linear_cka(x, x @ turn, band=band, unbiased=unbiased) == pytest.approx(1.0, abs=1e-9)


def test_independent_noise_has_no_unbiased_cka_and_much_of_the_biased() -> None:
    pairs = [noise(seed, 100, 300, 300) for seed in range(10)]
    unbiased = [linear_cka(x, y) for x, y in pairs]
    assert abs(np.mean(unbiased)) < 0.01
    assert np.mean([linear_cka(x, y, band=0, unbiased=False) for x, y in pairs]) > 0.7


def test_a_band_takes_the_alignment_of_independent_slow_series_away() -> None:
    values = {
        band: [linear_cka(slow(s, 400, 60, 0.9), slow(s + 99, 400, 60, 0.9), band=band) for s in range(8)]
        for band in (1, 40)
    }
    assert np.mean(values[1]) > 0.5
    assert abs(np.mean(values[40])) < 0.05


def test_a_band_leaves_a_true_alignment() -> None:
    x = slow(0, 400, 20, 0.9)
    y = x @ np.random.default_rng(1).normal(size=(20, 30)) + slow(2, 400, 30, 0.9)
    assert linear_cka(x, y, band=40) > 0.5


def test_a_band_counts_within_runs_only() -> None:
    x, y = related(0, 60, 5, 5)
    whole, apart = (linear_cka(x, y, band=4, groups=groups) for groups in (None, np.repeat(np.arange(3), 20)))
    assert whole != apart
    assert linear_cka(x, y, band=4, groups=np.zeros(60)) == whole


def test_constant_sides_have_no_cka() -> None:
    x, _ = noise(0, 20, 3, 3)
    assert np.isnan(linear_cka(x, np.full((20, 2), 3.0)))
    assert np.isnan(linear_cka(np.zeros((20, 2)), x, band=0, unbiased=False))


def test_principal_components_keep_inner_products_and_drop_what_is_not_there() -> None:
    x, _ = noise(0, 30, 50, 1)
    every = principal_components(x)
    centred = x - x.mean(axis=0)
    assert every.shape == (30, 29)
    np.testing.assert_allclose(every @ every.T, centred @ centred.T, atol=1e-9)
    first = principal_components(x @ np.diag(np.geomspace(1, 1e-3, 50)), 4)
    assert first.shape == (30, 4)
    assert (np.diff(first.var(axis=0)) < 0).all()
    assert principal_components(np.outer(np.arange(9.0), [1.0, 2.0]), 2).shape == (9, 1)


@VARIED
@given(seed=st.integers(0, 10**6), n=st.integers(12, 40), p=st.integers(1, 8), q=st.integers(1, 8))
def test_in_sample_procrustes_is_the_nuclear_norm(seed: int, n: int, p: int, q: int) -> None:
    x, y = related(seed, n, p, q)
    every = np.arange(n)
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.norm(a.T @ b, "nuc") / np.linalg.norm(a) / np.linalg.norm(b)
    assert procrustes_similarity(x, y, every, every) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("p", "q"), [(6, 6), (4, 7), (7, 4)])
def test_held_out_procrustes_turns_as_scipy_does_on_training_samples(p: int, q: int) -> None:
    x, y = related(0, 80, p, q)
    train, test = np.arange(50), np.arange(50, 80)
    a, b = (np.pad(side - side[train].mean(axis=0), ((0, 0), (0, max(p, q) - side.shape[1]))) for side in (x, y))
    turned = b[test] @ orthogonal_procrustes(b[train], a[train])[0]
    expected = np.vdot(a[test], turned) / np.linalg.norm(a[test]) / np.linalg.norm(turned)
    assert procrustes_similarity(x, y, train, test) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_partial_whitening_is_the_published_matrix(alpha: float) -> None:
    x, y = related(1, 90, 5, 4)
    train, test = np.arange(60), np.arange(60, 90)
    sides = []
    for side in (x, y):
        centred = side - side[train].mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(side[train].T))
        values = values / values.mean()
        sides.append(
            centred @ (alpha * np.eye(len(values)) + (1 - alpha) * vectors @ np.diag(values**-0.5) @ vectors.T)
        )
    a, b = sides
    left, _, right = np.linalg.svd(a[train].T @ b[train], full_matrices=False)
    expected = np.vdot(a[test] @ left, b[test] @ right.T) / np.linalg.norm(a[test]) / np.linalg.norm(b[test])
    assert procrustes_similarity(x, y, train, test, alpha=alpha) == pytest.approx(expected, rel=1e-8)


def test_in_sample_procrustes_finds_much_in_noise_and_held_out_nothing() -> None:
    train, test = np.arange(70), np.arange(70, 100)
    pairs = [noise(seed, 100, 200, 200) for seed in range(8)]
    assert np.mean([procrustes_similarity(x, y, np.arange(100), np.arange(100)) for x, y in pairs]) > 0.85
    held_out = [procrustes_similarity(x, y, train, test) for x, y in pairs]
    assert abs(np.mean(held_out)) < 4 * np.std(held_out) / np.sqrt(8) + 1e-3


def test_whitening_whole_makes_mixtures_of_all_columns_alike() -> None:
    x, _ = noise(0, 300, 4, 1)
    mixed = x @ np.random.default_rng(1).normal(size=(4, 4)) @ np.diag([10.0, 1.0, 1.0, 0.1])
    train, test = np.arange(200), np.arange(200, 300)
    assert procrustes_similarity(x, mixed, train, test, alpha=0.0) == pytest.approx(1.0, abs=1e-9)
    assert procrustes_similarity(x, mixed, train, test) < 0.9


def test_a_constant_held_out_part_has_no_similarity() -> None:
    x, y = related(0, 20, 3, 3)
    y[10:] = y[:10].mean(axis=0)
    assert np.isnan(procrustes_similarity(x, y, np.arange(10), np.arange(10, 20)))
    assert np.isnan(canonical_correlations(x, y, np.arange(10), np.arange(10, 20))).all()


def test_canonical_correlations_are_scikit_learn_s() -> None:
    x, y = related(3, 200, 4, 3)
    y[:, 1:] += 3 * np.random.default_rng(9).normal(size=(200, 2))
    train, test = np.arange(150), np.arange(150, 200)
    theirs = CCA(3, max_iter=20_000, tol=1e-12).fit(x[train], y[train])
    for rows in (train, test):
        expected = pearson(*theirs.transform(x[rows], y[rows]))
        np.testing.assert_allclose(canonical_correlations(x, y, train, rows), expected, atol=1e-5)


def test_held_out_canonical_correlations_of_noise_are_none() -> None:
    train, test = np.arange(80), np.arange(80, 120)
    pairs = [noise(seed, 120, 10, 10) for seed in range(40)]
    assert np.mean([canonical_correlations(x, y, train, train)[0] for x, y in pairs]) > 0.4
    held_out = np.array([canonical_correlations(x, y, train, test).mean() for x, y in pairs])
    assert abs(held_out.mean()) < 4 * held_out.std() / np.sqrt(40)


def test_a_column_that_repeats_another_changes_no_canonical_correlation() -> None:
    x, y = related(0, 100, 3, 3)
    train, test = np.arange(60), np.arange(60, 100)
    doubled = canonical_correlations(np.hstack([x, x[:, :1]]), y, train, test)
    np.testing.assert_allclose(doubled, canonical_correlations(x, y, train, test), atol=1e-9)


def test_more_dimensions_than_samples_are_refused_by_cca() -> None:
    x, y = noise(0, 30, 12, 12)
    with pytest.raises(DataError, match="12 and 12 dimensions are too many"):
        canonical_correlations(x, y, np.arange(20), np.arange(20, 30))


def test_neighbours_are_scikit_learn_s_overlap() -> None:
    x, y = related(0, 80, 6, 5)
    found = []
    for side in (x, y):
        centred = side - side.mean(axis=0)
        found.append(NearestNeighbors(n_neighbors=8, metric="cosine").fit(centred).kneighbors(return_distance=False))
    expected = np.mean([len(set(a) & set(b)) / 8 for a, b in zip(*found, strict=True)])
    assert mutual_neighbours(x, y, n_neighbours=8) == pytest.approx(expected, abs=1e-12)


def test_neighbours_of_noise_overlap_by_chance() -> None:
    found = [mutual_neighbours(*noise(seed, 101, 20, 20), n_neighbours=10) for seed in range(20)]
    assert np.mean(found) == pytest.approx(0.1, abs=4 * np.std(found) / np.sqrt(20))


def test_no_neighbour_is_within_the_band() -> None:
    table = neighbours(slow(0, 60, 3, 0.95), 5, Pairs((40, 20), 6)).toarray()
    np.testing.assert_allclose(table.sum(axis=1), 5.0)
    assert not table[~Pairs((40, 20), 6).kept(slice(0, 60))].any()


def test_ties_share_the_places_that_are_left() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [-4.0, 0.1], [0.0, -0.1]])
    table = neighbours(x, 2, Pairs((6,), 1)).toarray()
    np.testing.assert_allclose(table[0], [0, 2 / 3, 2 / 3, 2 / 3, 0, 0])
    assert mutual_neighbours(x, x, n_neighbours=2) < 1.0, "the order of ties is no agreement"


def test_a_reordered_table_is_that_of_reordered_samples() -> None:
    x, y = related(0, 30, 4, 4)
    pairs, order = Pairs((30,), 3), (np.arange(30) + 11) % 30
    first, second = neighbours(x, 4, pairs), neighbours(y, 4, pairs)
    moved = reordered(second, order)
    np.testing.assert_array_equal(moved.toarray(), neighbours(y[order], 4, pairs).toarray())
    assert shared_neighbours(first, moved) == mutual_neighbours(x, y[order], n_neighbours=4, band=3)


def test_wrong_arguments_are_named() -> None:
    x, y = noise(0, 20, 3, 3)
    with pytest.raises(DataError, match="expected the same samples"):
        linear_cka(x, y[:10])
    with pytest.raises(DataError, match=r"alpha is 1\.5"):
        procrustes_similarity(x, y, np.arange(10), np.arange(10, 20), alpha=1.5)
    with pytest.raises(DataError, match="n_neighbours is 19"):
        mutual_neighbours(x, y, n_neighbours=19)
