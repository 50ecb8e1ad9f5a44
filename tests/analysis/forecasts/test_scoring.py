"""Forecast scores: what they are made of, and that what was planted comes back and what was not does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from brainalign.analysis.forecasts.curves import forecast_peak, group_curve, past_mirror_contrast, seconds_ahead
from brainalign.analysis.forecasts.scoring import (
    Forecast,
    forecast,
    forecast_by_layer,
    passive_responses,
    split_by_syntax,
)
from brainalign.analysis.forecasts.windows import windows
from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, Responses, RidgeEncoder, cross_validate
from brainalign.errors import DataError, RecipeError
from brainalign.types import Features, Floats

ENCODER = RidgeEncoder(alphas=[1.0, 100.0], inner_splits=2, baseline_alphas=[10.0, 1000.0])
GROUPS = np.repeat(np.arange(3), 250)
WIDTH = 3
DISTANCES = (-3, -2, -1, 0, 2, 3, 4, 5)


def data(offsets: tuple[int, ...], seed: int = 0, n_targets: int = 8) -> tuple[Floats, Floats, dict[int, Floats]]:
    """Present words, responses to them and to those at `offsets`, and windows; no story runs into the next."""
    rng = np.random.default_rng(seed)
    long = rng.normal(size=(3, 270, 4))
    spoken = [rng.normal(size=(4, n_targets)) for _ in range(1 + len(offsets))]
    brain = sum(np.roll(long, -offset, axis=1) @ w for offset, w in zip((0, *offsets), spoken, strict=True))
    inside = slice(10, 260)
    ahead = {
        distance: np.concatenate([windows(story, distance, WIDTH)[inside] for story in long]) for distance in DISTANCES
    }
    responses = np.concatenate(np.asarray(brain)[:, inside]) + 4 * rng.normal(size=(750, n_targets))
    return np.concatenate(long[:, inside]), responses, ahead


@pytest.fixture(scope="module")
def planted() -> tuple[Forecast, tuple[Floats, Floats, dict[int, Floats]]]:
    x, y, ahead = data((3, 4))
    return forecast(ENCODER, x, y, GROUPS, LeaveOneRunOut(), ahead, WIDTH, n_floor=2, seed=1), (x, y, ahead)


# --------------------------------------------------------------------------------------------- one subject


def test_scores_are_those_of_one_fit_for_each_window(planted: Any) -> None:
    found, (x, y, ahead) = planted
    assert found.distances.tolist() == sorted(DISTANCES)
    for number, distance in enumerate(found.distances):
        alone, joint = cross_validate(ENCODER, x, y, GROUPS, LeaveOneRunOut(), ahead[int(distance)])
        assert joint is not None
        np.testing.assert_allclose(found.r_alone, alone.r, atol=1e-8)
        np.testing.assert_allclose(found.r_joint[number], joint.r, atol=1e-8)
        np.testing.assert_allclose(found.r2_joint[number], joint.r2, atol=1e-8)
        np.testing.assert_allclose(found.gain[:, number], (joint.r - alone.r).mean(axis=0), atol=1e-8)


def test_words_ahead_that_were_planted_come_back(planted: Any) -> None:
    found, _ = planted
    gain = dict(zip(found.distances.tolist(), found.gain.mean(axis=0).tolist(), strict=True))
    assert min(gain[4], gain[5]) > 0.1 > 0.02 > max(gain[-3], gain[-2], gain[-1], gain[0])
    assert gain[2] < 0.02 < gain[3] < gain[4]
    contrast = found.contrast.mean(axis=0)
    assert np.isnan(contrast[: found.distances.tolist().index(2)]).all()
    assert contrast[found.distances.tolist().index(4)] == pytest.approx(gain[4] - gain[-2])
    assert forecast_peak(found.gain.mean(axis=0)[None, None], found.distances).at[0] in (4, 5)
    assert found.r_floor.shape == (2, 3, 8)
    assert abs(found.floor.mean()) < 0.02 < gain[4]
    np.testing.assert_allclose(found.explained, np.maximum(found.r_alone.mean(axis=0), 0) ** 2)


def test_words_behind_look_back_and_none_look_nowhere() -> None:
    for offsets, ahead_or_behind in (((-3, -4), -1), ((), 0)):
        x, y, ahead = data(offsets)
        found = forecast(ENCODER, x, y, GROUPS, LeaveOneRunOut(), {4: ahead[4], -2: ahead[-2]}, WIDTH, n_floor=0)
        contrast = found.contrast[:, 1].mean()
        assert contrast < -0.1 if ahead_or_behind else abs(contrast) < 0.015
        assert np.isnan(found.floor).all()


def test_delays_are_told_and_one_of_them_is_not() -> None:
    x, y, ahead = data(())
    few = {4: ahead[4]}
    fir = forecast(ENCODER, x, y, GROUPS, LeaveOneRunOut(), few, WIDTH, delays=(1, 2, 3), n_floor=0)
    assert [finding.code for finding in fir.findings] == ["W214"]
    assert "3 delays" in str(fir.findings[0])
    fixed = forecast(ENCODER, x, y, GROUPS, LeaveOneRunOut(), few, WIDTH, delays=(3,), n_floor=0)
    assert fixed.findings == ()


def test_an_undefined_target_is_nan_and_leaves_the_others_alone(planted: Any) -> None:
    found, (x, y, ahead) = planted
    spoilt = y.copy()
    spoilt[5, 0], spoilt[:, 1] = np.nan, 2.0
    other = forecast(ENCODER, x, Responses(spoilt), GROUPS, LeaveOneRunOut(), ahead, WIDTH, n_floor=2, seed=1)
    for name in ("gain", "contrast", "floor", "explained"):
        assert np.isnan(getattr(other, name)[:2]).all()
        np.testing.assert_array_equal(getattr(other, name)[2:], getattr(found, name)[2:])


def test_the_floor_needs_stories_that_are_long_enough() -> None:
    x, y, ahead = data(())
    with pytest.raises(DataError, match="too few to be moved by 200 either way"):
        forecast(ENCODER, x, y, GROUPS, LeaveOneRunOut(), {4: ahead[4]}, WIDTH, floor_shift=200)
    with pytest.raises(RecipeError, match="no window, or no delay"):
        forecast(ENCODER, x, y, GROUPS, LeaveOneRunOut(), {}, WIDTH)


def test_the_planted_depth_comes_back() -> None:
    x, y, ahead = data((3, 4))
    rng = np.random.default_rng(5)
    noisy = [ahead[4] + size * rng.normal(size=ahead[4].shape) for size in (3.0, 0.0, 1.5)]
    gain = forecast_by_layer(ENCODER, x, y, GROUPS, LeaveOneRunOut(), noisy)
    assert gain.shape == (8, 3)
    assert forecast_peak(gain[None], [0, 1, 2]).at.tolist() == [1.0] * 8


# --------------------------------------------------------------------------------------------- passive systems


def test_a_passive_system_explains_as_much_and_forecasts_nothing(planted: Any) -> None:
    found, (x, y, ahead) = planted
    passive = passive_responses(x, y, GROUPS, ENCODER, found.explained, seed=3)
    again = forecast(ENCODER, x, passive, GROUPS, LeaveOneRunOut(), {4: ahead[4], -2: ahead[-2]}, WIDTH, n_floor=0)
    np.testing.assert_allclose(again.r_alone.mean(), found.r_alone.mean(), atol=0.05)
    assert abs(again.contrast[:, 1].mean()) < 0.02
    assert found.contrast[:, found.distances.tolist().index(4)].mean() > 0.1
    np.testing.assert_allclose(passive.std(axis=0), 1.0, atol=0.1)


def test_passive_noise_has_the_memory_of_what_features_leave() -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2000, 3)), lfilter([1.0], [1.0, -0.8], rng.normal(size=(2000, 2)), axis=0)
    passive = passive_responses(x, x[:, :2] + noise, None, ENCODER, np.zeros(2))
    memory = [np.corrcoef(column[1:], column[:-1])[0, 1] for column in passive.T]
    np.testing.assert_allclose(memory, 0.8, atol=0.05)
    np.testing.assert_array_equal(passive, passive_responses(x, x[:, :2] + noise, None, ENCODER, np.zeros(2)))


def test_passive_responses_of_unusable_targets_are_undefined() -> None:
    x, y, _ = data((), n_targets=4)
    y[:, 0], y[3, 1] = 1.0, np.inf
    passive = passive_responses(x, y, GROUPS, ENCODER, np.array([0.1, 0.1, np.nan, 0.1]))
    assert np.isnan(passive).all(axis=0).tolist() == [True, True, True, False]
    assert np.isnan(passive_responses(x, y[:, :2], GROUPS, ENCODER, np.array([0.1, 0.1]))).all()
    with pytest.raises(DataError, match="from 0 to 1"):
        passive_responses(x, y, GROUPS, ENCODER, np.array([0.1, 0.1, 1.2, 0.1]))


# --------------------------------------------------------------------------------------------- curves


@settings(max_examples=40, deadline=None, derandomize=True)
@given(width=st.integers(1, 9), distances=st.lists(st.integers(-20, 30), min_size=1, unique=True), seed=st.integers(0))
def test_the_contrast_is_a_difference_of_mirrors(width: int, distances: list[int], seed: int) -> None:
    gain = np.random.default_rng(seed).normal(size=(2, len(distances)))
    found = past_mirror_contrast(gain, distances, width)
    for number, distance in enumerate(distances):
        mirror = -(distance - width + 1)
        if mirror in distances and mirror < distance:
            np.testing.assert_array_equal(found[:, number], gain[:, number] - gain[:, distances.index(mirror)])
        else:
            assert np.isnan(found[:, number]).all()


def test_peaks_their_errors_and_their_flat_tops() -> None:
    places = np.arange(-4, 13)
    shape = np.clip(1 - np.abs(places - 8) / 5, 0, None)
    curves = np.stack([np.roll(shape, shift) for shift in (0, 0, 0, 1)])[:, None]
    peak = forecast_peak(np.concatenate([curves, np.zeros_like(curves), -curves], axis=1), places)
    assert peak.at[0] == 8
    assert np.isnan(peak.at[1:]).all()
    assert np.isnan([peak.low[1], peak.high[2], peak.error[1]]).all()
    assert peak.n_undefined == 2
    assert peak.of_subject[:, 0].tolist() == [8, 8, 8, 9]
    mean = curves.mean(axis=0)[0]
    flat = places[mean >= 0.9 * mean.max()]
    assert (peak.low[0], peak.high[0]) == (flat[0], flat[-1])


def test_the_jackknife_is_that_of_leaving_out_each_subject() -> None:
    curves = np.random.default_rng(2).normal(size=(5, 3, 8)) + np.linspace(0, 3, 8)
    peak = forecast_peak(curves, np.arange(8.0))
    for target in range(3):
        without = [np.argmax(np.delete(curves, s, axis=0)[:, target].mean(axis=0)) for s in range(5)]
        assert peak.error[target] == pytest.approx(np.sqrt(4 / 5 * np.sum((without - np.mean(without)) ** 2)))
    assert np.isnan(forecast_peak(curves[:1], np.arange(8.0)).error).all()
    kept = forecast_peak(curves, np.arange(8.0), where=np.array([True, False, True]))
    assert np.isnan(kept.at).tolist() == [False, True, False]
    assert kept.n_undefined == 1


def test_undefined_subjects_do_not_move_a_peak() -> None:
    curves = np.array([[[0.1, 0.5, 0.2]], [[np.nan] * 3], [[0.1, 0.3, 0.2]]])
    peak = forecast_peak(curves, [1, 2, 3])
    assert peak.at.tolist() == [2]
    assert np.isnan(peak.of_subject[1]).all()
    assert forecast_peak(np.full((2, 1, 3), np.nan), [1, 2, 3]).n_undefined == 1


@pytest.mark.parametrize(
    ("curves", "positions"),
    [(np.zeros((0, 2, 3)), [1, 2, 3]), (np.zeros((2, 3)), [1, 2, 3]), (np.zeros((1, 2, 3)), [1, 3, 2])],
    ids=["no subjects", "two axes", "order"],
)
def test_curves_that_have_no_peak_are_refused(curves: Floats, positions: list[int]) -> None:
    with pytest.raises(DataError, match=r"expected \(subject, target, position\)"):
        forecast_peak(curves, positions)


def test_intervals_over_subjects_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    curves = rng.normal(0.3, 1.0, size=(30, 200, 1))
    curve = group_curve(curves, n_bootstrap=500, level=0.9)
    covered = ((curve.low <= 0.3) & (curve.high >= 0.3)).mean()
    assert 0.82 < covered < 0.95
    half = curve.high - curve.low
    np.testing.assert_allclose(half.mean(), 2 * 1.645 / np.sqrt(30), rtol=0.1)
    np.testing.assert_array_equal(curve.low, group_curve(curves, n_bootstrap=500, level=0.9).low)


def test_group_curves_count_who_is_defined() -> None:
    curves = np.ones((3, 1, 3))
    curves[1:, 0, 0], curves[2, 0, 1] = np.nan, np.nan
    curve = group_curve(curves, n_bootstrap=50)
    assert curve.n_subjects.tolist() == [[1, 2, 3]]
    assert np.isnan(curve.low).tolist() == [[True, False, False]]
    assert curve.mean.tolist() == [[1, 1, 1]]
    with pytest.raises(DataError, match="at least two subjects"):
        group_curve(curves[:1])


def test_seconds_are_those_between_words_of_one_story() -> None:
    stories = [np.arange(20) * 0.4, 1000 + np.arange(4) * 2.0]
    found = seconds_ahead([-2, 0, 1, 8, 30], stories)
    np.testing.assert_allclose(found[:4], [-0.8, 0.0, 0.4, 3.2])
    assert np.isnan(found[4])


# --------------------------------------------------------------------------------------------- syntax


def said(seed: int, n_words: int = 50) -> Features:
    """A vector for each word's part of speech, which all sentences share, and one for the word."""
    syntax = np.random.default_rng(99).normal(size=(2, n_words, 6))
    words = np.random.default_rng(seed).normal(size=(2, n_words, 6))
    values = (syntax + words).astype(np.float32)
    return Features("model", ("a", "b"), values, np.arange(n_words) * 0.4, np.ones(n_words))


def test_what_all_sentences_of_equal_syntax_share_is_the_syntactic_part() -> None:
    syntactic, semantic = split_by_syntax(said(0), [said(seed) for seed in range(1, 41)])
    syntax = np.random.default_rng(99).normal(size=(2, 50, 6))
    assert np.abs(syntactic.values - syntax).mean() < 0.2
    np.testing.assert_allclose(syntactic.values + semantic.values, said(0).values, atol=1e-6)
    assert abs(np.corrcoef(semantic.values.ravel(), syntax.ravel())[0, 1]) < 0.1
    assert syntactic.metadata["n_alternatives"] == 40
    assert (syntactic.name, semantic.name) == ("model, syntactic", "model, semantic")


def test_alternatives_that_do_not_agree_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 alternative sentence\(s\); at least 2"):
        split_by_syntax(said(0), [said(1)])
    with pytest.raises(DataError, match=r"alternative 1 has values of shape \(2, 49, 6\)"):
        split_by_syntax(said(0), [said(1), said(2, n_words=49)])


def test_stories_need_no_groups() -> None:
    x, y, ahead = data((3, 4))
    found = forecast(ENCODER, x, y, None, ContiguousBlocks(3, gap=5), {4: ahead[4], -2: ahead[-2]}, WIDTH)
    assert found.contrast[:, 1].mean() > 0.1
