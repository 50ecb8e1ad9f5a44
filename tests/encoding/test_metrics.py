"""Scores of single targets, against numpy and the formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from brainalign.encoding.metrics import is_constant, pearson, r2

VARIED = settings(max_examples=40, deadline=None, derandomize=True)


def pair(seed: int, n: int, v: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, v))
    return x, 0.5 * x + random.normal(size=(n, v))


@VARIED
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 60),
    v=st.integers(1, 5),
    offset=st.sampled_from([0.0, -3.0, 1e6]),
    scale=st.sampled_from([1e-15, 1.0, 1e20]),
)
def test_pearson_is_numpy_s(seed: int, n: int, v: int, offset: float, scale: float) -> None:
    x, y = pair(seed, n, v)
    expected = [np.corrcoef(x[:, j], y[:, j])[0, 1] for j in range(v)]
    np.testing.assert_allclose(pearson(x, (y + offset) * scale), expected, rtol=1e-6, atol=1e-8)


@VARIED
@given(seed=st.integers(0, 10**6), n=st.integers(2, 60), v=st.integers(1, 5), offset=st.sampled_from([0.0, 100.0]))
def test_r2_is_one_minus_the_share_of_the_error_of_the_training_mean(seed: int, n: int, v: int, offset: float) -> None:
    predicted, observed = pair(seed, n, v)
    observed, reference = observed + offset, np.linspace(-1, 1, v) + offset
    expected = [
        1 - sum((observed[:, j] - predicted[:, j]) ** 2) / sum((observed[:, j] - reference[j]) ** 2) for j in range(v)
    ]
    np.testing.assert_allclose(r2(predicted, observed, reference), expected, rtol=1e-9)


def test_r2_against_the_held_out_mean_is_scikit_learn_s() -> None:
    predicted, observed = pair(1, 30, 4)
    expected = r2_score(observed, predicted, multioutput="raw_values")
    np.testing.assert_allclose(r2(predicted, observed, observed.mean(axis=0)), expected, rtol=1e-12)


def test_predicting_the_training_mean_has_r2_of_exactly_zero() -> None:
    observed = np.random.default_rng(0).normal(size=(20, 3)) + 5
    reference = np.array([4.0, 5.0, 6.0])
    assert r2(np.tile(reference, (20, 1)), observed, reference).tolist() == [0.0, 0.0, 0.0]


def test_r2_can_be_below_zero_and_is_not_clipped() -> None:
    observed = np.array([[1.0], [-1.0]])
    assert r2(-observed, observed, np.zeros(1)).tolist() == [-3.0]


def test_leading_axes_are_scored_one_by_one() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(3, 20, 4)), random.normal(size=(20, 4))
    np.testing.assert_array_equal(pearson(x, y), [pearson(each, y) for each in x])
    np.testing.assert_array_equal(r2(x, y, np.zeros(4)), [r2(each, y, np.zeros(4)) for each in x])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_has_no_correlation_rather_than_one_of_zero(value: float, dtype: type) -> None:
    varied = np.random.default_rng(0).normal(size=(20, 1))
    constant = np.full((20, 1), value, dtype=dtype)
    assert np.isnan(pearson(varied, constant)).all()
    assert np.isnan(pearson(constant, varied)).all()
    assert np.isnan(r2(varied, constant, np.zeros(1))).all()
    assert np.isfinite(r2(constant, varied, np.zeros(1))).all(), "a constant prediction has an error"


def test_a_constant_target_leaves_its_neighbours_alone() -> None:
    x, y = pair(2, 20, 3)
    with_constant = y.copy()
    with_constant[:, 1] = 7.0
    np.testing.assert_array_equal(pearson(x, with_constant)[[0, 2]], pearson(x, y)[[0, 2]])


def test_a_nan_stays_in_its_column() -> None:
    x, y = pair(2, 20, 3)
    broken = y.copy()
    broken[4, 1] = np.nan
    assert np.isnan(pearson(x, broken)).tolist() == [False, True, False]
    assert np.isnan(r2(x, broken, np.zeros(3))).tolist() == [False, True, False]


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e-15, 1e15, 1e37])
def test_tiny_and_huge_float32_values_correlate_as_they_should(scale: float) -> None:
    x, y = pair(3, 50, 2)
    scaled = (y * scale).astype(np.float32)
    np.testing.assert_allclose(pearson(x, scaled), pearson(x, y), rtol=2e-6)
    assert not is_constant(scaled).any()


def test_values_far_from_zero_that_differ_in_their_last_bit_count_as_constant() -> None:
    flicker = np.where(np.arange(20) % 2, np.nextafter(np.float32(1e6), np.float32(2e6)), np.float32(1e6))
    assert is_constant(flicker[:, None].astype(np.float32)).tolist() == [True]
    assert is_constant(flicker[:, None].astype(np.float64)).tolist() == [False], "float64 resolves the step"


def test_whole_numbers_are_constant_only_if_equal() -> None:
    assert is_constant(np.array([[1, 10**9], [1, 10**9 + 1]])).tolist() == [True, False]


def test_correlations_stay_within_one() -> None:
    x = np.random.default_rng(0).normal(size=(7, 1000))
    assert np.abs(pearson(x, 3 * x)).max() <= 1.0
    np.testing.assert_allclose(pearson(x, -x), -1.0)
