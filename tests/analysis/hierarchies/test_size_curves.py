"""Slopes per decade and ceilings come back, with intervals that cover them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from brainalign.analysis.hierarchies.size_curves import saturating_fit, size_curve
from brainalign.errors import DataError

SIZES = np.array([1.25e8, 3.5e8, 1.3e9, 6.7e9, 30e9])


def linear(n_subjects: int, seed: int, slope: float = 0.01, spread: float = 0.005) -> np.ndarray:
    rng = np.random.default_rng(seed)
    slopes = slope + spread * rng.normal(size=n_subjects)
    return 0.1 + 0.03 * rng.normal(size=n_subjects) + np.log10(SIZES / SIZES[0])[:, None] * slopes


def test_the_line_is_scipy_s_through_the_mean_and_its_order_does_not_matter() -> None:
    r = linear(6, 0) + 0.002 * np.random.default_rng(1).normal(size=(5, 6))
    found = size_curve(r, SIZES)
    expected = stats.linregress(np.log10(SIZES), r.mean(axis=1))
    assert found.slope == pytest.approx(expected.slope)
    assert found.correlation == pytest.approx(expected.rvalue)
    assert found.intercept == pytest.approx(expected.intercept + expected.slope * np.log10(SIZES[0]))
    assert found.percent == pytest.approx(100 * found.slope / found.intercept)
    turned = size_curve(r[::-1], SIZES[::-1])
    assert (turned.slope, *turned.interval) == pytest.approx((found.slope, *found.interval))


def test_the_interval_covers_the_planted_slope_about_as_often_as_it_says() -> None:
    covered = []
    for seed in range(200):
        low, high = size_curve(linear(15, seed), SIZES, n_bootstrap=300).interval
        covered.append(low <= 0.01 <= high)
    assert 0.86 <= np.mean(covered) <= 0.98


def test_one_subject_has_no_interval_and_equal_scores_no_correlation() -> None:
    assert np.isnan(size_curve(linear(1, 0), SIZES).interval).all()
    assert np.isnan(size_curve(np.full((5, 2), 0.1), SIZES).correlation)
    assert np.isnan(size_curve(np.full((5, 2), -0.1), SIZES).percent)


def test_a_planted_ceiling_comes_back_as_scipy_finds_it() -> None:
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    rng = np.random.default_rng(0)
    r = (0.3 - 0.2 * sizes**-0.7)[:, None] + 0.01 * rng.normal(size=10) + 0.004 * rng.normal(size=(7, 10))
    found = saturating_fit(r, sizes, n_bootstrap=100)
    (ceiling, amplitude, rate), _ = curve_fit(
        lambda s, c, a, b: c - a * s**-b, sizes, r.mean(axis=1), p0=(0.3, 0.2, 0.5)
    )
    assert (found.ceiling, found.amplitude, found.rate) == pytest.approx((ceiling, amplitude, rate), rel=1e-3)
    assert found.ceiling == pytest.approx(0.3, abs=0.02)
    assert found.interval[0] < 0.3 < found.interval[1]
    assert found.status == "ok"
    assert found.n_failed <= 5


def test_a_line_has_no_ceiling() -> None:
    found = saturating_fit(linear(4, 0, spread=0.0), SIZES)
    assert found.status == "not identified"
    assert np.isnan([found.ceiling, *found.interval, found.rate]).all()


@pytest.mark.parametrize(
    ("r", "sizes", "message"),
    [
        (np.ones((5, 2)), SIZES[:4], "is needed"),
        (np.ones(5), SIZES, "is needed"),
        (np.ones((5, 2)), -SIZES, "positive"),
        (np.full((5, 2), np.nan), SIZES, "Subject 0 has no score at size 1.25e"),
        (np.ones((2, 2)), np.array([3.0, 3.0]), "two different sizes"),
    ],
)
def test_what_cannot_be_fitted_is_told(r: np.ndarray, sizes: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        size_curve(r, sizes)


def test_three_sizes_do_not_determine_a_ceiling() -> None:
    with pytest.raises(DataError, match="3 different sizes"):
        saturating_fit(np.ones((3, 2)), SIZES[:3])
