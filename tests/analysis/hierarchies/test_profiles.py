"""Planted layers come back, and what has no answer is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.analysis.hierarchies.profiles import (
    depth_contrasts,
    mean_defined,
    preferred_layer,
    region_profiles,
    split_half,
    subject_reliability,
)
from brainalign.errors import DataError, RecipeError

DEPTH = np.linspace(0, 1, 6)
VARIED = settings(max_examples=30, deadline=None, derandomize=True)


def humps(truth: np.ndarray, n_folds: int = 4, noise: float = 0.01, seed: int = 0) -> np.ndarray:
    """Scores (layer, fold, target) that are highest at each target's layer."""
    shape = (len(DEPTH), n_folds, len(truth))
    hump = np.exp(-0.5 * ((np.arange(len(DEPTH))[:, None] - truth) / 1.0) ** 2)
    return 0.3 * hump[:, None] + noise * np.random.default_rng(seed).normal(size=shape)


def test_planted_layers_are_preferred_and_centres_are_drawn_to_the_middle() -> None:
    truth = np.arange(60) % 6
    found = preferred_layer(humps(truth), DEPTH)
    np.testing.assert_array_equal(found.peak, DEPTH[truth])
    assert found.counts == {"ok": 60}
    slope = np.polyfit(DEPTH[truth], found.centre_of_mass, 1)[0]
    assert 0.4 < slope < 1.0
    assert np.corrcoef(DEPTH[truth], found.centre_of_mass)[0, 1] > 0.95


def test_targets_without_a_preference_are_named() -> None:
    r = humps(np.array([1, 2, 3, 4, 5]), noise=0.0)
    r[:, :, 1] = np.nan  # all folds
    r[2, :, 2] = np.nan  # one layer
    r[:, :, 3] = -0.1
    r[0, 0, 4] = np.nan  # one fold of one layer
    p = np.array([0.2, 0.01, 0.01, 0.01, 0.01])
    found = preferred_layer(r, DEPTH, p=p)
    assert found.status.tolist() == ["not significant", "undefined", "undefined", "below threshold", "ok"]
    assert found.counts == {"below threshold": 1, "not significant": 1, "ok": 1, "undefined": 2}
    for values in (found.peak, found.centre_of_mass):
        np.testing.assert_array_equal(np.isfinite(values), found.status == "ok")
    assert found.score[0] == pytest.approx(0.3)
    assert preferred_layer(r, DEPTH, threshold=0.5).counts == {"below threshold": 3, "undefined": 2}
    assert preferred_layer(r, DEPTH, p=np.full(5, np.nan)).counts["not significant"] == 2


@VARIED
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), n_targets=st.integers(1, 8))
def test_preferences_do_not_depend_on_scale_and_lie_between_the_ends(seed: int, scale: float, n_targets: int) -> None:
    r = np.random.default_rng(seed).normal(size=(6, 3, n_targets))
    found, scaled = preferred_layer(r, DEPTH), preferred_layer(scale * r, DEPTH)
    np.testing.assert_array_equal(found.peak, scaled.peak)
    np.testing.assert_allclose(found.centre_of_mass, scaled.centre_of_mass)
    ok = found.status == "ok"
    assert ((found.centre_of_mass[ok] >= 0) & (found.centre_of_mass[ok] <= 1)).all()
    reversed_ = preferred_layer(r[::-1], DEPTH)
    np.testing.assert_allclose(reversed_.centre_of_mass, 1 - found.centre_of_mass)


def test_regions_are_averaged_over_what_is_defined() -> None:
    r = np.arange(24.0).reshape(2, 3, 4)
    r[:, :, 3] = np.nan
    names, profiles = region_profiles(r, ["b", "a", "b", "c"])
    assert names == ["b", "a", "c"]
    np.testing.assert_allclose(profiles[:, :, 0], r[:, :, [0, 2]].mean(axis=2))
    assert np.isnan(profiles[:, :, 2]).all()


def test_contrasts_are_paired_by_fold() -> None:
    depth = np.linspace(0, 1, 5)
    r = np.array([0.1, 0.15, 0.2, 0.22, 0.12])[:, None, None] + np.array([0.0, 1.0, 2.0])[None, :, None]
    r[-1, 2] = np.nan  # the fold with the highest scores has no output
    found = depth_contrasts(r, depth)
    np.testing.assert_allclose(found.middle_minus_output, 0.21 - 0.12)
    np.testing.assert_allclose(found.middle_minus_input, 0.21 - 0.1)


def test_reliability_is_that_of_the_planted_layers_and_none_for_noise() -> None:
    truth = np.arange(90) % 6
    sure = split_half(humps(truth, seed=1), humps(truth, seed=2), DEPTH)
    assert sure.peak == pytest.approx(1.0)
    assert sure.same_peak == 1.0
    assert sure.n_targets == 90
    rng = np.random.default_rng(0)
    noise = split_half(rng.normal(size=(6, 4, 900)), rng.normal(size=(6, 4, 900)), DEPTH)
    assert abs(noise.peak) < 0.12
    assert abs(noise.same_peak - 1 / 6) < 0.06
    assert noise.n_targets > 800
    weak = split_half(humps(truth, noise=0.3, seed=1), humps(truth, noise=0.3, seed=2), DEPTH)
    assert 0.2 < weak.peak < weak.of_all_data[0] < 1.0


def test_halves_of_subjects_agree_where_subjects_do() -> None:
    truth = np.arange(60) % 6
    r = np.stack([humps(truth, noise=0.1, seed=s).mean(axis=1) for s in range(7)])
    found = subject_reliability(r, DEPTH, n_splits=20)
    assert found.peak > 0.8
    assert found.n_splits == 20
    assert found == subject_reliability(r, DEPTH, n_splits=20)
    with pytest.raises(DataError, match="3 subjects cannot be halved"):
        subject_reliability(r[:3], DEPTH)


def test_reliability_of_too_few_targets_or_equal_ones_is_undefined() -> None:
    same = humps(np.full(10, 2), noise=0.0)
    assert np.isnan(split_half(same, same, DEPTH).peak)
    assert split_half(same, same, DEPTH).same_peak == 1.0
    nothing = split_half(-np.ones((6, 2, 5)), same[:, :, :5], DEPTH)
    assert nothing.n_targets == 0
    assert np.isnan(nothing.same_peak)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: preferred_layer(np.ones((6, 2)), DEPTH), DataError, "three axes"),
        (lambda: preferred_layer(np.ones((5, 2, 1)), DEPTH), DataError, "each of the 5 layers"),
        (lambda: preferred_layer(np.ones((6, 2, 1)), DEPTH, p=np.ones(2)), DataError, "each of the 1 targets"),
        (lambda: preferred_layer(np.ones((6, 2, 1)), DEPTH, threshold=-1), RecipeError, "0 or more"),
        (lambda: region_profiles(np.ones((6, 2, 3)), ["a"]), DataError, "each of the 3 targets"),
        (lambda: depth_contrasts(np.ones((6, 2, 3)), DEPTH + 0.1), DataError, "from 0.1 to 1.1"),
        (lambda: depth_contrasts(np.ones((6, 2, 3)), DEPTH, (0.41, 0.42)), DataError, "No layer lies between"),
        (lambda: split_half(np.ones((6, 2, 3)), np.ones((6, 2, 4)), DEPTH), DataError, "3 and 4 targets"),
    ],
)
def test_what_cannot_be_is_told(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_means_are_over_what_is_defined() -> None:
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 5.0]])
    np.testing.assert_array_equal(mean_defined(values, axis=0), [1.0, np.nan, 4.0])
