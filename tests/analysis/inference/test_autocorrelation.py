"""The memory of signals: numpy's correlations, and lengths that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from brainalign.analysis.inference.autocorrelation import autocorrelation, memory, stretches_of
from brainalign.errors import DataError


def ar1(rho: float, n: int, v: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(300 + n, v))
    return np.asarray(lfilter([1.0], [1.0, -rho], noise, axis=0))[300:]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(n=st.integers(2, 40), v=st.integers(1, 3), seed=st.integers(0, 10**6), offset=st.sampled_from([0.0, 1e3]))
def test_autocorrelation_is_numpy_s(n: int, v: int, seed: int, offset: float) -> None:
    values = np.random.default_rng(seed).normal(size=(n, v)) + offset
    expected = []
    for column in (values - values.mean(axis=0)).T:
        products = np.correlate(column, column, mode="full")[n - 1 :]
        expected.append(products / products[0])
    np.testing.assert_allclose(autocorrelation(values, [np.arange(n)]), np.transpose(expected), atol=1e-9)


def test_runs_are_about_their_own_means_and_do_not_touch() -> None:
    values = ar1(0.5, 60, 2)
    halves = [np.arange(30), np.arange(30, 60)]
    apart = values.copy()
    apart[30:] += 100.0
    np.testing.assert_allclose(autocorrelation(apart, halves), autocorrelation(values, halves), atol=1e-9)
    twice = np.concatenate([values, values])
    alone = autocorrelation(values, [np.arange(60)])
    np.testing.assert_allclose(autocorrelation(twice, [np.arange(60), np.arange(60, 120)]), alone, atol=1e-12)


def test_a_constant_target_has_no_autocorrelation() -> None:
    values = np.column_stack([np.ones(20), np.arange(20.0)])
    found = autocorrelation(values, [np.arange(20)])
    assert np.isnan(found[:, 0]).all()
    assert found[0, 1] == 1.0


@pytest.mark.parametrize(("rho", "shortest", "longest"), [(0.0, 3, 5), (0.5, 6, 9), (0.8, 15, 30), (0.95, 60, 130)])
def test_memory_is_at_least_that_of_a_first_order_series(rho: float, shortest: int, longest: int) -> None:
    responses = ar1(rho, 2000, 50)
    assert shortest <= memory(responses, np.zeros(2000)) <= longest


def test_memory_sees_a_slow_signal_under_fast_noise() -> None:
    slow = ar1(0.95, 3000, 50)
    noisy = slow / slow.std() + np.random.default_rng(1).normal(size=slow.shape)
    first = autocorrelation(noisy, [np.arange(3000)])[1].mean()
    assert memory(noisy, np.zeros(3000)) > 5 * 3 / (1 - first)


def test_memory_passes_over_targets_that_have_none() -> None:
    responses = ar1(0.5, 400, 3)
    expected = memory(responses, np.zeros(400))
    spoilt = np.column_stack([responses, np.full(400, np.nan), np.ones(400), np.full(400, np.inf)])
    assert memory(spoilt, np.zeros(400)) == expected
    with pytest.raises(DataError, match="All 2 targets are constant or not finite"):
        memory(spoilt[:, 3:5], np.zeros(400))


def test_stretches_are_the_stimuli_of_each_run_in_order() -> None:
    runs = np.array(["r1", "r2", "r1", "r2", "r1", "r1"])
    stimulus = np.array(["a", "a", "a", "a", "b", "b"])
    found = [(name, rows.tolist()) for name, rows in stretches_of(runs, stimulus)]
    assert sorted(found) == [("a", [0, 2]), ("a", [1, 3]), ("b", [4, 5])]
