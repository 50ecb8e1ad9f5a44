"""Words onto volumes, against nilearn and the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level.hemodynamic_models import compute_regressor, glover_hrf
from scipy.stats import gamma

from brainalign.alignment.resampling import resampling_matrix
from brainalign.errors import RecipeError
from brainalign.types import Clock

VARIED = settings(max_examples=30, deadline=None, derandomize=True)
WAYS: tuple[Any, ...] = ("hrf", "lanczos", "sum", "mean")
AT_ZERO = np.zeros(1)


def hrf_at(moments: np.ndarray) -> np.ndarray:
    """Our response to a word at zero, at these evenly spaced moments."""
    clock = Clock(float(moments[1] - moments[0]), float(moments[0]))
    return resampling_matrix(AT_ZERO, AT_ZERO, clock, len(moments), "hrf")[:, 0]


def test_the_hrf_is_nilearn_s_on_nilearn_s_own_grid() -> None:
    theirs = glover_hrf(0.02, oversampling=1, time_length=32.0)
    grid = np.linspace(0, 32, len(theirs))
    np.testing.assert_allclose(hrf_at(grid), theirs / 0.02, atol=1e-6)


def test_between_the_grid_the_hrf_is_glover_s_formula_within_the_error_of_interpolation() -> None:
    def glover(since: np.ndarray) -> np.ndarray:
        # nilearn starts the response one step of its grid late: 0.02 s here.
        since = since - 0.02
        peak = gamma.pdf(since, 6 / 0.9, scale=0.9)
        return np.asarray(peak - 0.48 * gamma.pdf(since, 12 / 0.9, scale=0.9))

    grid = np.linspace(0, 32, 1600)
    between = (grid[1:] + grid[:-1]) / 2
    formula = glover(between) / (glover(grid).sum() * 0.02)
    curvature = np.abs(np.diff(formula, 2)).max() / (grid[1] - grid[0]) ** 2
    error = np.abs(hrf_at(between) - formula).max()
    assert error <= 1.01 * curvature * (grid[1] - grid[0]) ** 2 / 8
    assert error < 5e-6, "in units of 1/s, where the peak is near 0.2"


def test_the_hrf_has_an_integral_of_one_peaks_at_five_seconds_and_is_zero_outside() -> None:
    moments = np.arange(-10, 45, 0.005)
    response = hrf_at(moments)
    assert response.sum() * 0.005 == pytest.approx(1.0, abs=1e-3)
    assert moments[response.argmax()] == pytest.approx(5.02, abs=0.03)
    assert not response[(moments <= 0) | (moments > 32)].any()
    assert 9 < moments[response.argmin()] < 14, "the undershoot"


@pytest.mark.parametrize("tr_s", [0.8, 1.5, 2.0])
def test_a_word_becomes_nilearn_s_regressor_within_the_step_of_its_grid(tr_s: float) -> None:
    onset = np.array([3.14, 17.77, 20.2])
    clock = Clock(tr_s)
    theirs, _ = compute_regressor(
        np.array([onset, np.zeros(3), [1.0, -2.0, 0.5]]), "glover", clock.times(60), oversampling=50
    )
    step = tr_s / 50
    ours = resampling_matrix(onset, np.zeros(3), clock, 60, "hrf") @ [1.0, -2.0, 0.5]
    # Their events and their response move by up to a step each, ours by 0.02 s: so far apart the slope may take them.
    steepest = np.abs(np.diff(hrf_at(np.arange(0, 32, 0.01)))).max() / 0.01
    assert np.abs(ours - theirs[:, 0] / step).max() < 3.5 * (2 * step + 0.02) * steepest
    assert np.corrcoef(ours, theirs[:, 0])[0, 1] > 0.999


def lanczos(u: float, lobes: int = 3) -> float:
    if abs(u) < 1e-6:
        return 1.0
    if abs(u) > lobes:
        return 0.0
    return lobes * np.sin(np.pi * u) * np.sin(np.pi * u / lobes) / (np.pi**2 * u**2)


@VARIED
@given(
    tr_s=st.sampled_from([0.7, 1.5, 2.0]),
    start_s=st.floats(-5, 20),
    onset=st.lists(st.floats(0, 60), min_size=1, max_size=8),
    duration_s=st.floats(0, 2),
)
def test_lanczos_is_its_formula_around_the_middle_of_each_word(
    tr_s: float, start_s: float, onset: list[float], duration_s: float
) -> None:
    clock, duration = Clock(tr_s, start_s), np.full(len(onset), duration_s)
    found = resampling_matrix(np.array(onset), duration, clock, 20, "lanczos")
    expected = [[lanczos((time - (o + duration_s / 2)) / tr_s) for o in onset] for time in clock.times(20)]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def response_at(cycles_per_volume: float) -> float:
    """How much of a wave of so many cycles per volume Lanczos lets through, for words every hundredth of a volume."""
    middle = np.arange(-10, 10, 0.01)
    weights = resampling_matrix(middle, np.zeros(len(middle)), Clock(1.0), 1, "lanczos")[0]
    return float(weights @ np.cos(2 * np.pi * cycles_per_volume * middle)) * 0.01


@pytest.mark.parametrize(
    ("frequency", "gain"), [(0.0, 0.997), (0.25, 1.008), (0.4, 0.82), (0.5, 0.50), (0.6, 0.18), (1.0, 0.0)]
)
def test_lanczos_passes_half_at_the_volumes_nyquist_frequency(frequency: float, gain: float) -> None:
    assert response_at(frequency) == pytest.approx(gain, abs=0.006)


@pytest.mark.parametrize(("rate_hz", "tr_s"), [(2.5, 2.0), (2.5, 1.5), (4.0, 0.8)])
def test_lanczos_of_ones_counts_the_words_in_a_volume(rate_hz: float, tr_s: float) -> None:
    # V19: un-normalised, it is a soft sum.
    onset = np.cumsum(np.random.default_rng(0).exponential(1 / rate_hz, 40_000))
    inside = int(onset[-1] / tr_s) - 20
    volumes = np.random.default_rng(1).integers(10, inside, 4000)
    total = 0.0
    for volume in volumes:
        near = onset[slice(*np.searchsorted(onset, [(volume - 4) * tr_s, (volume + 4) * tr_s]))]
        total += resampling_matrix(near, np.zeros(len(near)), Clock(tr_s, volume * tr_s), 1, "lanczos").sum()
    assert total / len(volumes) == pytest.approx(0.997 * rate_hz * tr_s, rel=0.03)
    even = np.arange(0, 400, 1 / 50)
    weights = resampling_matrix(even, np.zeros(len(even)), Clock(tr_s, 50.0), 20, "lanczos")
    np.testing.assert_allclose(weights.sum(axis=1) / (50 * tr_s), 0.997, atol=0.003)


def test_sum_and_mean_take_the_words_that_start_within_a_volume() -> None:
    onset = np.array([0.0, 1.999, 2.0, 5.0, 5.5, 5.9, 11.0])
    values = np.array([1.0, 2, 4, 8, 16, 32, 64])
    clock = Clock(2.0)
    assert (resampling_matrix(onset, np.ones(7), clock, 5, "sum") @ values).tolist() == [3, 4, 56, 0, 0]
    mean = resampling_matrix(onset, np.ones(7), clock, 5, "mean") @ values
    np.testing.assert_allclose(mean, [1.5, 4, 56 / 3, 0, 0])


@VARIED
@given(onset=st.lists(st.floats(0, 38, exclude_max=True), min_size=1, max_size=30), start=st.sampled_from([0.0, -1.5]))
def test_sum_counts_each_word_once_and_mean_weighs_to_one_or_nothing(onset: list[float], start: float) -> None:
    moments, duration = np.array(onset), np.ones(len(onset))
    clock = Clock(2.0, start)
    total = resampling_matrix(moments, duration, clock, 20, "sum")
    np.testing.assert_array_equal(total.sum(axis=0), 1.0)
    weights = resampling_matrix(moments, duration, clock, 20, "mean").sum(axis=1)
    np.testing.assert_allclose(weights, total.sum(axis=1) > 0)


@pytest.mark.parametrize("way", WAYS)
def test_moving_words_and_clock_together_changes_nothing(way: Any) -> None:
    onset, duration = np.sort(np.random.default_rng(0).uniform(0, 60, 50)), np.full(50, 0.25)
    one = resampling_matrix(onset, duration, Clock(2.0, 0.0), 40, way)
    other = resampling_matrix(onset + 128.0, duration, Clock(2.0, 128.0), 40, way)
    np.testing.assert_allclose(other, one, atol=1e-10)


@pytest.mark.parametrize("way", WAYS)
def test_each_word_is_placed_without_regard_to_the_others_but_for_the_mean(way: Any) -> None:
    onset, duration = np.array([3.0, 3.5, 9.2]), np.array([0.2, 0.4, 0.1])
    together = resampling_matrix(onset, duration, Clock(2.0), 20, way)
    alone = np.hstack([resampling_matrix(onset[[i]], duration[[i]], Clock(2.0), 20, way) for i in range(3)])
    assert np.array_equal(together, alone) == (way != "mean")


# ------------------------------------------------------------------------------------------- found in review


def test_an_unknown_way_is_refused_rather_than_taken_for_the_mean() -> None:
    with pytest.raises((RecipeError, ValueError), match="fir"):
        resampling_matrix(np.array([0.1]), np.array([0.2]), Clock(2.0), 3, "fir")  # type: ignore[arg-type]
