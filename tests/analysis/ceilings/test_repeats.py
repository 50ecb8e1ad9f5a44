"""Ceilings from repeats: the published formulas, planted signals that come back, and what is undefined."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import zscore

from brainalign.analysis.ceilings.repeats import (
    Repeatability,
    cc_norm,
    explainable_variance_interval,
    repeatability,
    spearman_brown,
    split_half,
)
from brainalign.errors import DataError

VARIED = settings(max_examples=30, deadline=None, derandomize=True)


def heard(n_repeats: int, ev: float, shape: tuple[int, int] = (300, 400), seed: int = 0) -> np.ndarray:
    """Responses of unit variance, the share ev of which comes back."""
    random = np.random.default_rng(seed)
    return np.sqrt(ev) * random.normal(size=shape) + np.sqrt(1 - ev) * random.normal(size=(n_repeats, *shape))


# ----------------------------------------------------------------------------------------------- published formulas


def gallant_explainable_variance(repeats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As in the Gallant lab's tutorials: variance of the mean over the mean variance of z-scored repeats."""
    z = zscore(repeats, axis=1)
    raw = z.mean(axis=0).var(axis=0, ddof=1) / z.var(axis=1, ddof=1).mean(axis=0)
    return raw, raw - (1 - raw) / (len(repeats) - 1)


def schoppe_signal_power(repeats: np.ndarray) -> np.ndarray:
    n = len(repeats)
    return (repeats.sum(axis=0).var(axis=0, ddof=1) - repeats.var(axis=1, ddof=1).sum(axis=0)) / (n * (n - 1))


@VARIED
@given(
    n_repeats=st.integers(2, 8),
    n_samples=st.integers(3, 40),
    scale=st.sampled_from([1e-13, 1.0, 1e6]),
    seed=st.integers(0, 10**6),
)
def test_powers_are_those_of_the_published_formulas(n_repeats: int, n_samples: int, scale: float, seed: int) -> None:
    repeats = scale * (heard(n_repeats, 0.3, (n_samples, 5), seed) + 4.0)
    raw, corrected = gallant_explainable_variance(repeats)
    found = repeatability(repeats)
    np.testing.assert_allclose(found.explainable_variance_raw, raw, atol=1e-9)
    np.testing.assert_allclose(found.explainable_variance, corrected, atol=1e-9)
    plain = repeatability(repeats, standardise=False)
    np.testing.assert_allclose(plain.signal_power / scale**2, schoppe_signal_power(repeats / scale), atol=1e-9)
    np.testing.assert_allclose(plain.total_power / scale**2, (repeats / scale).var(axis=1, ddof=1).mean(axis=0))
    np.testing.assert_allclose(
        plain.reliability(), plain.signal_power / repeats.mean(axis=0).var(axis=0, ddof=1), rtol=1e-6
    )


@pytest.mark.parametrize("n_repeats", [2, 5])
def test_ccnorm_is_the_correlation_over_its_ceiling(n_repeats: int) -> None:
    repeats = heard(n_repeats, 0.5, (100, 20))
    predicted = repeats.mean(axis=0) + np.random.default_rng(1).normal(size=(100, 20))
    mean = repeats.mean(axis=0)
    r = np.array([np.corrcoef(p, y)[0, 1] for p, y in zip(predicted.T, mean.T, strict=True)])
    found = cc_norm(predicted, repeats, standardise=False)
    np.testing.assert_allclose(found, r / repeatability(repeats, standardise=False).cc_max(), rtol=1e-9)
    signal = schoppe_signal_power(repeats)
    cov = ((predicted - predicted.mean(0)) * (mean - mean.mean(0))).sum(axis=0) / 99
    np.testing.assert_allclose(found, cov / np.sqrt(predicted.var(axis=0, ddof=1) * signal), rtol=1e-9)
    assert (cc_norm(mean, repeats) > 1).all(), "the mean knows its own noise; nothing is clipped"


def test_powers_of_several_runs_are_those_about_the_runs_own_means() -> None:
    repeats = heard(4, 0.3, (90, 30))
    groups = np.repeat(["a", "b", "c"], [20, 30, 40])
    shifted = repeats + 10.0 * np.searchsorted(["a", "b", "c"], groups)[:, None]
    found = repeatability(shifted, groups, standardise=False)
    parts = [repeats[:, groups == run] for run in "abc"]
    expected = sum(schoppe_signal_power(part) * (part.shape[1] - 1) for part in parts) / 87
    np.testing.assert_allclose(found.signal_power, expected, atol=1e-9)
    assert repeatability(shifted, standardise=False).explainable_variance.min() > 0.9, "means of runs look like signal"


# ------------------------------------------------------------------------------------------------ what is planted


@pytest.mark.parametrize("n_repeats", [2, 3, 10])
@pytest.mark.parametrize("ev", [0.0, 0.2, 0.6])
def test_planted_explainable_variance_comes_back_by_either_way(n_repeats: int, ev: float) -> None:
    repeats = heard(n_repeats, ev)
    found = repeatability(repeats)
    assert abs(found.explainable_variance.mean() - ev) < 0.01
    assert abs(found.explainable_variance_raw.mean() - (ev + (1 - ev) / n_repeats)) < 0.01
    reliability = ev / (ev + (1 - ev) / n_repeats)
    assert abs(split_half(repeats).mean() - reliability) < 0.02
    assert abs(np.sqrt(np.maximum(reliability, 0)) - np.sqrt(max(found.reliability().mean(), 0))) < 0.03 + 0.1 * (
        ev == 0
    )


def test_half_of_the_targets_without_signal_have_no_ceiling() -> None:
    undefined = np.isnan(repeatability(heard(3, 0.0)).cc_max()).mean()
    assert 0.4 < undefined < 0.6


def test_the_ceiling_of_more_presentations_is_nearer_to_one() -> None:
    found = Repeatability(2, np.array([0.2]), np.array([1.0]))
    ceilings = [found.cc_max(n).item() for n in (1, 2, 10, 10**6)]
    np.testing.assert_allclose(ceilings, np.sqrt([0.2, 1 / 3, 2 / 2.8, 1.0]), rtol=1e-5)
    np.testing.assert_allclose(found.reliability(7), spearman_brown(found.explainable_variance, 7))


# ---------------------------------------------------------------------------------------------------- split halves


@pytest.mark.parametrize("n_repeats", [2, 4, 6])
def test_split_halves_are_all_halves_corrected_by_spearman_brown(n_repeats: int) -> None:
    repeats = heard(n_repeats, 0.3, (50, 6))
    z = zscore(repeats, axis=1)
    r = []
    for chosen in itertools.combinations(range(n_repeats), n_repeats // 2):
        first = np.isin(np.arange(n_repeats), chosen)
        pairs = zip(z[first].mean(axis=0).T, z[~first].mean(axis=0).T, strict=True)
        r.append([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    mean = np.mean(r, axis=0)
    np.testing.assert_allclose(split_half(repeats), 2 * mean / (1 + mean), atol=1e-10)


def test_unequal_halves_are_corrected_without_bias() -> None:
    # Of three repeats, one against the mean of two: Spearman-Brown's factor of 2 would say too little or too much.
    repeats = heard(3, 0.4, (2000, 100))
    assert abs(split_half(repeats).mean() - 0.4 / (0.4 + 0.6 / 3)) < 0.005


def test_random_halves_agree_with_all_halves_and_follow_the_seed() -> None:
    repeats = heard(10, 0.2, (100, 50))
    every = split_half(repeats, n_splits=126)
    some = split_half(repeats, n_splits=60, seed=1)
    np.testing.assert_array_equal(some, split_half(repeats, n_splits=60, seed=1))
    assert 0 < np.abs(some - split_half(repeats, n_splits=60, seed=2)).max() < 0.1
    assert np.abs(some - every).max() < 0.05
    np.testing.assert_array_equal(every, split_half(repeats, n_splits=1000, seed=5))


@VARIED
@given(r=st.floats(-0.9, 1.0), factor=st.sampled_from([0.1, 0.5, 2.0, 5.0]))
def test_spearman_brown_undoes_itself(r: float, factor: float) -> None:
    there = spearman_brown(np.array([r]), factor)
    if np.isfinite(there).all():
        np.testing.assert_allclose(spearman_brown(there, 1 / factor), r, atol=1e-9)


def test_halves_that_are_opposite_have_no_reliability() -> None:
    signal = np.random.default_rng(0).normal(size=(50, 1))
    assert np.isnan(split_half(np.stack([signal, -signal]))).all()
    assert np.isnan(spearman_brown(np.array([-1.0]), 2)).all()


# ------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.slow
@pytest.mark.parametrize("n_repeats", [2, 5])
def test_intervals_over_blocks_cover_the_planted_value(n_repeats: int) -> None:
    low, high = explainable_variance_interval(heard(n_repeats, 0.2), block_samples=10, n_draws=400)
    assert 0.88 < np.mean((low <= 0.2) & (high >= 0.2)) < 0.99


@pytest.mark.parametrize("n_repeats", [5, 10])
def test_intervals_over_repeats_cover_what_other_presentations_give(n_repeats: int) -> None:
    many = heard(200, 0.2, (300, 200))
    truth = repeatability(many).explainable_variance
    low, high = explainable_variance_interval(many[:n_repeats], n_draws=300)
    assert 0.86 < np.mean((low <= truth) & (high >= truth)) < 0.99


def test_drawing_repeats_does_not_take_a_repeat_s_likeness_to_itself_for_signal() -> None:
    low, high = explainable_variance_interval(heard(5, 0.0), n_draws=300)
    assert abs(np.mean((low + high) / 2)) < 0.02, "pairs with themselves would lift it by a fifth"


@pytest.mark.parametrize("block_samples", [None, 10])
def test_intervals_follow_the_seed_and_hold_the_estimate(block_samples: int | None) -> None:
    repeats = heard(6, 0.5, (100, 20))
    low, high = explainable_variance_interval(repeats, block_samples=block_samples, seed=3)
    again, _ = explainable_variance_interval(repeats, block_samples=block_samples, seed=3)
    other, _ = explainable_variance_interval(repeats, block_samples=block_samples, seed=4)
    np.testing.assert_array_equal(low, again)
    assert np.abs(low - other).max() > 0
    estimate = repeatability(repeats).explainable_variance
    assert ((low < estimate) & (estimate < high)).mean() > 0.9
    narrow_low, narrow_high = explainable_variance_interval(repeats, block_samples=block_samples, level=0.5, seed=3)
    assert ((low < narrow_low) & (narrow_high < high)).all()


def test_blocks_are_cut_within_runs() -> None:
    repeats = heard(3, 0.5, (60, 3))
    groups = np.repeat(["a", "b"], 30)
    low, high = explainable_variance_interval(repeats, groups, block_samples=30, n_draws=200)
    each = [repeatability(repeats[:, groups == run]).explainable_variance for run in "ab"]
    # Two blocks: either run twice, or both.
    np.testing.assert_allclose(low, np.minimum(*each), atol=1e-9)
    np.testing.assert_allclose(high, np.maximum(*each), atol=1e-9)


# -------------------------------------------------------------------------------------------------- what is undefined


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3.0])
def test_an_unusable_repeat_makes_its_target_nan_and_leaves_the_others(bad: float) -> None:
    repeats = heard(4, 0.4, (40, 4))
    broken = repeats.copy()
    broken[2, :, 1] = bad
    predicted = repeats.mean(axis=0)
    results = {
        "ev": lambda y: repeatability(y).explainable_variance,
        "cc_max": lambda y: repeatability(y).cc_max(),
        "cc_norm": lambda y: cc_norm(predicted, y),
        "split_half": split_half,
        "low": lambda y: explainable_variance_interval(y, n_draws=50)[0],
        "high": lambda y: explainable_variance_interval(y, block_samples=5, n_draws=50)[1],
    }
    for name, result in results.items():
        found = result(broken)
        assert np.isnan(found[1]), name
        np.testing.assert_allclose(np.delete(found, 1), np.delete(result(repeats), 1), atol=1e-12, err_msg=name)


def test_a_constant_prediction_has_no_ccnorm() -> None:
    repeats = heard(3, 0.5, (40, 2))
    predicted = repeats.mean(axis=0)
    predicted[:, 0] = 2.0
    assert np.isnan(cc_norm(predicted, repeats)).tolist() == [True, False]


def test_identical_repeats_are_all_signal() -> None:
    repeats = np.repeat(heard(1, 0.5, (40, 3)), 4, axis=0)
    found = repeatability(repeats)
    for value in (found.explainable_variance, found.explainable_variance_raw, found.cc_max(), split_half(repeats)):
        np.testing.assert_allclose(value, 1.0, atol=1e-9)


def test_what_cannot_be_estimated_is_refused_by_name() -> None:
    repeats = heard(2, 0.5, (20, 2))
    for one in (repeatability, split_half, explainable_variance_interval):
        with pytest.raises(DataError, match=r"\(1, 20, 2\).*two repeats"):
            one(repeats[:1])
    with pytest.raises(DataError, match="2 repeats are too few to draw from"):
        explainable_variance_interval(repeats)
    with pytest.raises(DataError, match="20 samples are one block of 40"):
        explainable_variance_interval(repeats, block_samples=40)
    with pytest.raises(DataError, match=r"\(20, 1\) for repeats of shape \(2, 20, 2\)"):
        cc_norm(repeats[0, :, :1], repeats)
