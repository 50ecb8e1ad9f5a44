"""RDMs, their comparisons and ceilings, against rsatoolbox and the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsatoolbox.data import Dataset
from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, calc_rdm
from rsatoolbox.rdm.compare import compare
from scipy.spatial.distance import pdist
from sklearn.covariance import LedoitWolf

from brainalign.analysis.similarity.measures import linear_cka
from brainalign.analysis.similarity.rdms import (
    Comparing,
    compare_rdms,
    correlation_rdm,
    crossnobis_rdm,
    euclidean_rdm,
    noise_precision,
    rdm_ceiling,
)
from brainalign.errors import DataError

VARIED = settings(max_examples=30, deadline=None, derandomize=True)
SHAPES = {"seed": st.integers(0, 10**6), "n": st.integers(4, 15), "p": st.integers(3, 30)}
# Their names of our comparisons.
THEIRS: dict[Comparing, str] = {
    "cosine": "cosine",
    "pearson": "corr",
    "spearman": "spearman",
    "rho_a": "rho-a",
    "tau_a": "tau-a",
    "whitened_cosine": "cosine_cov",
}


def patterns(seed: int, n: int, p: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, p)) + 1.0


def repeated(seed: int, n_repeats: int, n: int, p: int, signal: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return signal * random.normal(size=(n, p)) + random.normal(size=(n_repeats, n, p))


def dataset(repeats: np.ndarray) -> Dataset:
    n_repeats, n, p = repeats.shape
    descriptors = {"condition": np.tile(np.arange(n), n_repeats), "repeat": np.repeat(np.arange(n_repeats), n)}
    return Dataset(repeats.reshape(-1, p), obs_descriptors=descriptors)


def stack(seed: int, n_rdms: int, n: int, ties: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    shared = random.gamma(2.0, size=n * (n - 1) // 2)
    rdms = shared + random.gamma(2.0, size=(n_rdms, len(shared)))
    return np.round(rdms) if ties else rdms


@VARIED
@given(**SHAPES)
def test_distances_are_rsatoolbox_s_and_scipy_s(seed: int, n: int, p: int) -> None:
    x = patterns(seed, n, p)
    for ours, theirs in ((correlation_rdm(x), "correlation"), (euclidean_rdm(x), "euclidean")):
        np.testing.assert_allclose(ours, calc_rdm(Dataset(x), theirs).dissimilarities[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(correlation_rdm(x), pdist(x, "correlation"), atol=1e-10)
    np.testing.assert_allclose(euclidean_rdm(x), pdist(x, "sqeuclidean") / p, atol=1e-10)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # rsatoolbox fills whole numbers with NaN
@pytest.mark.parametrize(("n_repeats", "n", "p"), [(2, 4, 3), (3, 10, 20), (5, 6, 40)])
def test_crossnobis_is_rsatoolbox_s_with_and_without_a_precision(n_repeats: int, n: int, p: int) -> None:
    repeats = repeated(0, n_repeats, n, p)
    precision = noise_precision(repeats)
    for ours, noise in ((crossnobis_rdm(repeats), None), (crossnobis_rdm(repeats, precision), precision)):
        theirs = calc_rdm(dataset(repeats), "crossnobis", "condition", noise=noise, cv_descriptor="repeat")
        np.testing.assert_allclose(ours, theirs.dissimilarities[0], atol=1e-10)


def test_crossnobis_is_the_mean_over_pairs_of_repeats() -> None:
    repeats = repeated(1, 4, 3, 6)
    expected = np.mean(
        [
            (repeats[a, 0] - repeats[a, 2]) @ (repeats[b, 0] - repeats[b, 2]) / 6
            for a in range(4)
            for b in range(4)
            if a != b
        ]
    )
    assert crossnobis_rdm(repeats)[1] == pytest.approx(expected, abs=1e-12)


def test_noise_alone_has_no_crossnobis_distance_but_a_euclidean_one() -> None:
    noise = repeated(0, 4, 40, 100, signal=0.0)
    assert abs(crossnobis_rdm(noise).mean()) < 0.02
    assert euclidean_rdm(noise.mean(axis=0)).mean() == pytest.approx(0.5, abs=0.02), "2 / 4 repeats"


def test_mahalanobis_distances_do_not_change_with_the_units_of_features() -> None:
    repeats, units = repeated(2, 8, 60, 4), np.array([1.0, 10.0, 0.1, 3.0])
    mixed = repeats @ np.diag(units)
    ours = euclidean_rdm(mixed[0], np.linalg.inv(np.cov((mixed - mixed.mean(axis=0)).reshape(-1, 4).T, bias=True)))
    plain = euclidean_rdm(
        repeats[0], np.linalg.inv(np.cov((repeats - repeats.mean(axis=0)).reshape(-1, 4).T, bias=True))
    )
    np.testing.assert_allclose(ours, plain, rtol=1e-9)


def test_the_noise_precision_is_ledoit_and_wolf_s_of_what_differs_between_repeats() -> None:
    repeats = repeated(3, 3, 50, 8) * np.linspace(0.5, 2.0, 8)
    residuals = (repeats - repeats.mean(axis=0)).reshape(-1, 8) * np.sqrt(3 / 2)
    expected = LedoitWolf(assume_centered=True).fit(residuals).precision_
    np.testing.assert_allclose(noise_precision(repeats), expected, rtol=1e-9)
    many = noise_precision(repeated(4, 20, 200, 3) * [0.5, 1.0, 2.0])
    np.testing.assert_allclose(1 / np.diag(many), [0.25, 1.0, 4.0], rtol=0.1)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("comparing", THEIRS)
def test_comparisons_are_rsatoolbox_s(comparing: Comparing, ties: bool) -> None:
    first, second = stack(0, 3, 9, ties), stack(1, 2, 9, ties)
    theirs = compare(RDMs(first), RDMs(second), THEIRS[comparing])
    np.testing.assert_allclose(compare_rdms(first, second, comparing), theirs, atol=1e-10)


@VARIED
@given(**SHAPES)
def test_whitened_cosine_of_euclidean_rdms_is_linear_cka(seed: int, n: int, p: int) -> None:
    x, y = patterns(seed, n, p), patterns(seed + 1, n, p + 2)
    found = compare_rdms(euclidean_rdm(x), euclidean_rdm(y), "whitened_cosine")[0, 0]
    assert found == pytest.approx(linear_cka(x, y, band=0, unbiased=False), abs=1e-9)


def test_whitening_some_of_the_pairs_solves_their_covariance() -> None:
    first, second = stack(0, 1, 7), stack(1, 1, 7)
    kept = np.random.default_rng(0).random(21) < 0.7
    contrast = np.zeros((21, 7))
    contrast[np.arange(21), np.triu_indices(7, 1)[0]] = 1
    contrast[np.arange(21), np.triu_indices(7, 1)[1]] = -1
    inverse = np.linalg.inv(((contrast @ contrast.T) ** 2)[kept][:, kept])
    x, y = first[0, kept], second[0, kept]
    expected = x @ inverse @ y / np.sqrt((x @ inverse @ x) * (y @ inverse @ y))
    assert compare_rdms(first, second, "whitened_cosine", kept)[0, 0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("comparing", [c for c in THEIRS if c != "whitened_cosine"])
def test_kept_pairs_alone_are_compared(comparing: Comparing) -> None:
    first, second = stack(0, 2, 8), stack(1, 2, 8)
    kept = np.arange(28) % 4 > 0
    theirs = compare(RDMs(first[:, :21]), RDMs(second[:, :21]), THEIRS[comparing])
    rearranged = np.argsort(~kept, kind="stable")
    # The kept pairs first, so that the same numbers stand where they do in theirs.
    ours = [np.empty_like(rdms) for rdms in (first, second)]
    for own, rdms in zip(ours, (first, second), strict=True):
        own[:, rearranged] = rdms
    np.testing.assert_allclose(compare_rdms(ours[0], ours[1], comparing, kept), theirs, atol=1e-10)


@pytest.mark.parametrize("comparing", THEIRS)
def test_a_missing_distance_leaves_its_rdm_undefined_and_the_others_alone(comparing: Comparing) -> None:
    rdms = stack(0, 3, 6)
    broken = rdms.copy()
    broken[1, 4] = np.nan
    found = compare_rdms(broken, rdms, comparing)
    np.testing.assert_array_equal(np.isnan(found), [[False] * 3, [True] * 3, [False] * 3])
    np.testing.assert_array_equal(found[[0, 2]], compare_rdms(rdms, rdms, comparing)[[0, 2]])


@pytest.mark.parametrize("comparing", THEIRS)
def test_an_rdm_without_differences_has_no_correlation_and_a_rank_correlation_of_zero(comparing: Comparing) -> None:
    constant, rdm = np.full((1, 15), 0.1), stack(0, 1, 6)
    found = compare_rdms(constant, rdm, comparing)[0, 0]
    if comparing in ("pearson", "spearman"):
        assert np.isnan(found)
    elif comparing in ("rho_a", "tau_a"):
        assert found == 0.0, "as expected of ties in random order"
    else:
        assert found > 0
    zeros = compare_rdms(np.zeros((1, 15)), rdm, comparing)[0, 0]
    assert zeros == 0.0 if comparing in ("rho_a", "tau_a") else np.isnan(zeros)


@pytest.mark.parametrize("comparing", [c for c in THEIRS if c not in ("whitened_cosine", "tau_a")])
def test_ceilings_are_rsatoolbox_s(comparing: Comparing) -> None:
    rdms = stack(0, 6, 9)
    ours = rdm_ceiling(rdms, comparing)
    lower, upper = boot_noise_ceiling(RDMs(rdms), THEIRS[comparing])
    assert (ours.lower, ours.upper) == (pytest.approx(lower, abs=1e-10), pytest.approx(upper, abs=1e-10))


@pytest.mark.parametrize("comparing", ["cosine", "pearson", "spearman", "whitened_cosine"])
def test_no_rdm_does_better_than_the_upper_ceiling(comparing: Comparing) -> None:
    rdms = stack(2, 5, 8)
    ceiling = rdm_ceiling(rdms, comparing)
    tried = np.vstack([rdms, np.abs(np.random.default_rng(0).normal(rdms.mean(axis=0), 0.3, size=(300, 28)))])
    assert compare_rdms(rdms, tried, comparing).mean(axis=0).max() <= ceiling.upper + 1e-12


@pytest.mark.parametrize("comparing", THEIRS)
def test_the_true_rdm_lies_within_the_ceiling(comparing: Comparing) -> None:
    random = np.random.default_rng(5)
    truth = random.gamma(2.0, size=190)
    subjects = truth + random.normal(0.0, 1.0, size=(12, 190))
    ceiling = rdm_ceiling(subjects, comparing)
    found = compare_rdms(subjects, truth, comparing).mean()
    assert ceiling.lower <= found <= ceiling.upper


def test_a_subject_with_a_missing_distance_makes_the_ceiling_undefined() -> None:
    rdms = stack(0, 4, 6)
    rdms[2, 3] = np.nan
    assert np.isnan(rdm_ceiling(rdms, "pearson").upper)


def test_a_constant_pattern_has_no_correlation_distance() -> None:
    x = patterns(0, 4, 6)
    x[2] = 0.1
    assert np.isnan(correlation_rdm(x)).tolist() == [False, True, False, True, False, True]


def test_wrong_shapes_and_names_are_told() -> None:
    with pytest.raises(DataError, match="two or more"):
        euclidean_rdm(np.ones((1, 5)))
    with pytest.raises(DataError, match="two repeats"):
        crossnobis_rdm(np.ones((1, 5, 3)))
    with pytest.raises(DataError, match="no noise"):
        noise_precision(np.ones((2, 5, 3)))
    with pytest.raises(DataError, match=r"Did you mean 'spearman'"):
        compare_rdms(stack(0, 1, 4), stack(0, 1, 4), "speerman")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="6 and 10 pairs"):
        compare_rdms(stack(0, 1, 4), stack(0, 1, 5))
    with pytest.raises(DataError, match="two subjects"):
        rdm_ceiling(stack(0, 1, 4))
