"""Planted latencies come back with their standard errors, and what shows before word onset is warned of."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.analysis.hierarchies.latencies import before_onset, preferred_latency
from brainalign.errors import DataError, RecipeError

LATENCIES_S = np.round(np.arange(-0.2, 0.8, 0.02), 2)


def courses(centre_s: np.ndarray, n_units: int = 6, jitter_s: float = 0.0, seed: int = 0) -> np.ndarray:
    """Bumps (unit, latency, target), each unit's shifted."""
    shift_s = jitter_s * np.random.default_rng(seed).normal(size=(n_units, 1, 1))
    return 0.1 * np.exp(-0.5 * ((LATENCIES_S[:, None] - centre_s - shift_s) / 0.05) ** 2)


def test_latencies_come_back_and_symmetric_bumps_have_half_their_area_at_the_peak() -> None:
    truth_s = np.array([0.2, 0.3, 0.4])
    found = preferred_latency(courses(truth_s), LATENCIES_S)
    np.testing.assert_allclose(found.peak_s, truth_s)
    np.testing.assert_allclose(found.half_area_s, truth_s, atol=1e-4)
    np.testing.assert_allclose(found.peak_se_s, 0.0, atol=1e-9)


def test_half_of_the_area_is_that_of_the_integral() -> None:
    from scipy.integrate import cumulative_trapezoid

    times_s = np.linspace(0, 1, 400)
    skewed = times_s**2 * np.exp(-times_s / 0.1)
    area = cumulative_trapezoid(skewed, times_s, initial=0)
    expected = np.interp(area[-1] / 2, area, times_s)
    found = preferred_latency(skewed[None, :, None], times_s)
    assert found.half_area_s[0] == pytest.approx(expected, abs=1e-3)


def test_the_jackknife_gives_the_standard_error_of_a_mean() -> None:
    """Where the latency is a linear function of the scores, the jackknife is the ordinary standard error."""
    jitter = np.random.default_rng(0).normal(scale=0.01, size=12)
    times_s = np.array([0.0, 1.0, 2.0])
    # All units have the same area, so that the half-area latency moves linearly with the middle's share.
    r = np.stack([np.array([[1.0 - j], [2.0], [1.0 + j]]) for j in jitter])
    found = preferred_latency(r, times_s)
    single = np.concatenate([preferred_latency(one[None], times_s).half_area_s for one in r])
    expected = single.std(ddof=1) / np.sqrt(len(single))
    assert found.half_area_se_s[0] == pytest.approx(expected, rel=0.02)


def test_a_unit_without_a_target_is_no_unit_of_its_jackknife() -> None:
    r = courses(np.array([0.3, 0.3]), jitter_s=0.03)
    r[0, :, 1] = np.nan
    found = preferred_latency(r, LATENCIES_S)
    only = preferred_latency(r[1:], LATENCIES_S)
    assert found.half_area_se_s[1] == pytest.approx(only.half_area_se_s[1])
    assert np.isnan(preferred_latency(r[:1], LATENCIES_S).half_area_se_s).all()


def test_what_has_no_latency_is_named_and_windows_bound_it() -> None:
    r = courses(np.array([0.3, -0.1, 0.3, 0.3]), n_units=2)
    r[:, 5, 2] = np.nan  # before the window
    r[:, 30, 3] = np.nan
    r[:, :, 1] -= 0.2
    found = preferred_latency(r, LATENCIES_S)
    assert found.status.tolist() == ["ok", "below threshold", "ok", "undefined"]
    assert np.isnan(found.peak_s[[1, 3]]).all()
    late = preferred_latency(r[:, :, :1], LATENCIES_S, window_s=(0.4, 0.6))
    assert late.peak_s[0] == 0.4
    with pytest.raises(DataError, match="No latency lies in the window"):
        preferred_latency(r, LATENCIES_S, window_s=(2.0, 3.0))
    with pytest.raises(DataError, match="must increase"):
        preferred_latency(r, LATENCIES_S[::-1])
    with pytest.raises(DataError, match="is needed"):
        preferred_latency(r[0], LATENCIES_S)
    with pytest.raises(RecipeError, match="0 or more"):
        preferred_latency(r, LATENCIES_S, threshold=-0.1)


def test_scores_before_onset_are_warned_of_only_where_they_are() -> None:
    early, late = courses(np.array([-0.1])), courses(np.array([0.4]))
    warning = before_onset(early, LATENCIES_S).finding("subject 01")
    assert warning is not None
    assert warning.code == "scores-before-onset"
    assert "no evidence" in warning.message
    assert before_onset(late, LATENCIES_S).finding("subject 01") is None
    assert before_onset(np.full_like(late, np.nan), LATENCIES_S).finding("subject 01") is None
    with pytest.raises(DataError, match="one side"):
        before_onset(late[:, 15:], LATENCIES_S[15:])
