"""P values against scipy, statsmodels and mne, and by counting."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from statsmodels.stats.multitest import multipletests

from brainalign.analysis.inference.significance import (
    Side,
    Significance,
    bartlett_test,
    corrected,
    fdr,
    max_statistic,
    p_values,
    permutation_test,
)
from brainalign.errors import DataError, RecipeError

VARIED = settings(max_examples=40, deadline=None, derandomize=True)


def drawn(n: int = 99, v: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    values = np.random.default_rng(seed).normal(size=(n + 1, v))
    return values[0] + np.linspace(0, 2, v), values[1:]


@VARIED
@given(n=st.integers(1, 30), v=st.integers(1, 4), seed=st.integers(0, 10**6), n_levels=st.sampled_from([2, 5, 1000]))
def test_p_is_the_rank_among_the_draws_with_the_data_as_one_of_them(n: int, v: int, seed: int, n_levels: int) -> None:
    values = np.random.default_rng(seed).integers(n_levels, size=(n + 1, v)).astype(float)
    observed, null = values[0], values[1:]
    upper = [(values[:, j] >= observed[j]).mean() for j in range(v)]
    lower = [(values[:, j] <= observed[j]).mean() for j in range(v)]
    np.testing.assert_allclose(p_values(observed, null), upper)
    np.testing.assert_allclose(p_values(observed, null, "two-sided"), np.minimum(1, 2 * np.minimum(upper, lower)))
    largest = [(values[1:].max(axis=1) >= observed[j]).sum() for j in range(v)]
    np.testing.assert_allclose(max_statistic(observed, null), (1 + np.array(largest)) / (1 + n))


@pytest.mark.parametrize("side", ["greater", "two-sided"])
def test_p_is_scipy_s_permutation_test(side: Side) -> None:
    x = np.random.default_rng(0).normal(0.4, 1.0, size=9)
    reference = scipy.stats.permutation_test(
        (x,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=side
    )
    flipped = np.sort(reference.null_distribution)
    itself = np.argmin(np.abs(flipped - x.mean()))
    assert p_values(np.float64(x.mean()), np.delete(flipped, itself), side) == pytest.approx(reference.pvalue)


def test_no_p_is_zero() -> None:
    assert p_values(np.array([100.0]), np.zeros((999, 1)))[0] == 0.001


def test_what_is_undefined_stays_so_and_an_undefined_draw_counts_as_large() -> None:
    observed, null = drawn()
    spoilt, holed = observed.copy(), null.copy()
    spoilt[2] = np.nan
    for function in (p_values, max_statistic):
        found = function(spoilt, null)
        assert np.isnan(found).tolist() == [False, False, True, False, False, False]
    np.testing.assert_array_equal(p_values(spoilt, null)[3:], p_values(observed, null)[3:])
    holed[:10, 0] = np.nan
    assert p_values(observed, holed)[0] >= p_values(observed, null)[0]
    assert p_values(np.array([9.0]), np.r_[np.full(9, np.nan), np.zeros(90)][:, None])[0] == 0.1
    assert np.isnan(max_statistic(np.full(3, np.nan), np.full((5, 3), np.nan))).all()


def test_a_null_that_comes_draw_by_draw_gives_the_same() -> None:
    observed, null = drawn()
    np.testing.assert_array_equal(p_values(observed, iter(null)), p_values(observed, null))
    np.testing.assert_array_equal(max_statistic(observed, iter(null)), max_statistic(observed, null))
    with pytest.raises(DataError, match="at least one permutation"):
        p_values(observed, null[:0])


def test_layers_by_targets_keep_their_shape() -> None:
    observed, null = np.random.default_rng(0).normal(size=(3, 4)), np.random.default_rng(1).normal(size=(19, 3, 4))
    for function in (p_values, max_statistic):
        flat = function(observed.ravel(), null.reshape(19, -1))
        np.testing.assert_array_equal(function(observed, null), flat.reshape(3, 4))


@VARIED
@given(n=st.integers(1, 50), seed=st.integers(0, 10**6), power=st.sampled_from([1, 4]))
def test_fdr_is_that_of_statsmodels_and_mne(n: int, seed: int, power: int) -> None:
    p = np.random.default_rng(seed).uniform(size=n) ** power
    np.testing.assert_allclose(fdr(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12)
    np.testing.assert_allclose(fdr(p), mne.stats.fdr_correction(p)[1], rtol=1e-12)


def test_fdr_leaves_out_what_is_undefined() -> None:
    p = np.random.default_rng(0).uniform(size=(4, 5)) ** 3
    holed = p.copy()
    holed[1, 2] = np.nan
    found = fdr(holed)
    assert np.isnan(found).sum() == 1
    np.testing.assert_allclose(found[np.isfinite(holed)], fdr(holed[np.isfinite(holed)]))
    assert np.isnan(fdr(np.full(3, np.nan))).all()


def test_the_maximum_statistic_is_wrong_once_in_twenty_families() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        shared = rng.normal(size=(60, 1))
        values = 0.7 * shared + 0.7 * rng.normal(size=(60, 20))
        wrong += max_statistic(values[0], values[1:]).min() <= 0.05
    assert scipy.stats.binomtest(wrong, 200, 0.05).pvalue > 0.01


@pytest.mark.parametrize("correction", ["none", "fdr", "max_statistic"])
def test_a_result_says_what_must_be_printed_with_a_p(correction: str) -> None:
    observed, null = drawn()
    observed[0] = np.nan
    found = permutation_test(observed, null, test="circular shift", n=300, correction=correction)  # pyrefly: ignore
    expected = {
        "none": p_values(observed, null),
        "fdr": fdr(p_values(observed, null)),
        "max_statistic": max_statistic(observed, null),
    }
    np.testing.assert_array_equal(found.p_corrected, expected[correction])
    assert (found.n_permutations, found.family_size, found.stimulus_level) == (99, 5, False)
    assert str(found).startswith("circular shift, 99 permutations, one-sided, n = 300 samples; ")
    assert ("family of 5" in str(found)) == (correction != "none")


def ar1(rho: float, n: int, v: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(300 + n, v))
    return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0))[300:]


@pytest.mark.parametrize("side", ["greater", "two-sided"])
def test_bartlett_s_test_of_white_noise_is_nearly_student_s(side: Side) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 2000, 5))
    y += 0.03 * x
    expected = [scipy.stats.pearsonr(a, b, alternative=side).pvalue for a, b in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(bartlett_test(x, y, side=side).p, expected, atol=0.05)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.9])
def test_bartlett_s_test_keeps_its_level_where_student_s_does_not(rho: float) -> None:
    x, y = ar1(rho, 400, 2000, 0), ar1(rho, 400, 2000, 1)
    rate = (bartlett_test(x, y).p <= 0.05).mean()
    assert 0.035 <= rate <= 0.07
    student = scipy.stats.pearsonr(x, y, alternative="greater", axis=0).pvalue
    assert (student <= 0.05).mean() > 0.2 or rho < 0.8


def test_bartlett_s_test_has_no_p_for_what_does_not_vary() -> None:
    x, y = ar1(0.5, 100, 3, 0), ar1(0.5, 100, 3, 1)
    x[:, 0], y[:, 1] = 1.0, np.nan
    found = bartlett_test(x, y)
    assert np.isnan(found.p).tolist() == np.isnan(found.p_corrected).tolist() == [True, True, False]
    assert (found.family_size, found.n, found.n_permutations) == (1, 100, None)


def test_wrong_names_are_refused() -> None:
    with pytest.raises(RecipeError, match="no side 'less'"):
        p_values(np.zeros(1), np.zeros((3, 1)), "less")  # pyrefly: ignore
    with pytest.raises(RecipeError, match="no correction 'bonferroni'"):
        corrected(np.zeros(1), "bonferroni")  # pyrefly: ignore
    with pytest.raises(RecipeError, match="needs draws"):
        corrected(np.zeros(1), "max_statistic")  # pyrefly: ignore


def test_a_result_without_draws_names_none() -> None:
    one = np.ones(1)
    assert "permutations" not in str(Significance(one, one, one, "t", None, "none", 1, 5, "subjects"))
