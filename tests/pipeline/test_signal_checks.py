"""Shared responses, word rates and responses to words: planted ones come back, at the times they were planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.alignment import resampling_matrix
from brainalign.pipeline.signal_checks import (
    LATENCIES_S,
    SHIFTS_S,
    Course,
    on_coarse_clock,
    shared_responses,
    word_rate_course,
    word_response,
)
from brainalign.types import Clock, Floats, Modality, Recording


def recording(response: Floats, clock: Clock, offset_s: float = 0.0, modality: Modality = "fmri") -> Recording:
    targets = pd.DataFrame({"name": [f"target {i}" for i in range(response.shape[1])], "kind": "target"})
    return Recording("s1", "1", "story", modality, clock, offset_s, targets, lambda: response, "")


def speech(n_words: int = 600, seed: int = 0) -> pd.DataFrame:
    """Words whose rate changes over half a minute, as speech's does between sentences and pauses."""
    random = np.random.default_rng(seed)
    pace = 0.35 * (1 + 0.6 * np.sin(np.arange(n_words) / 20)) + random.exponential(0.08, n_words)
    return pd.DataFrame({"onset": 1.0 + np.cumsum(pace), "duration": 0.2, "text": "word"})


def bold(words: pd.DataFrame, clock: Clock, n_rows: int, start_s: float, seed: int = 0, n_targets: int = 3) -> Floats:
    """Responses to words that start at `start_s` of the recording, with noise and a drift."""
    random = np.random.default_rng(seed)
    rate = resampling_matrix(
        start_s + words["onset"].to_numpy(), words["duration"].to_numpy(), clock, n_rows, "hrf"
    ).sum(axis=1)
    drift = np.linspace(0, 3, n_rows)[:, None]
    return 100 + rate[:, None] / rate.std() + drift + random.normal(size=(n_rows, n_targets))


@pytest.mark.parametrize("late_s", [-6.0, -2.0, 0.0, 3.0, 8.0])
def test_the_word_rate_tells_by_how_much_the_start_is_wrong(late_s: float) -> None:
    words, clock = speech(), Clock(2.0, 4.0)
    response = bold(words, clock, 160, start_s=12.0 + late_s)
    r = word_rate_course(recording(response, clock, offset_s=12.0), response, words)
    assert abs(SHIFTS_S[r.argmax()] - late_s) <= 1.0
    assert r.max() > 0.6


def test_the_word_rate_of_noise_or_of_nothing_is_found_nowhere() -> None:
    words, clock = speech(), Clock(2.0)
    noise = np.random.default_rng(1).normal(size=(160, 50))
    assert np.abs(word_rate_course(recording(noise, clock), noise, words)).max() < 0.4
    constant = np.ones((160, 2))
    assert np.isnan(word_rate_course(recording(constant, clock), constant, words)).all()
    elsewhere = recording(noise, Clock(2.0, 10_000.0))
    assert np.isnan(word_rate_course(elsewhere, noise, words)).all()


def test_a_dead_target_does_not_spoil_the_word_rate() -> None:
    words, clock = speech(), Clock(2.0)
    response = bold(words, clock, 160, start_s=0.0)
    spoilt = np.c_[response, np.zeros(160), np.full(160, np.nan)]
    alone, both = (word_rate_course(recording(values, clock), values, words) for values in (response, spoilt))
    np.testing.assert_allclose(both, alone)


@pytest.mark.parametrize(("sfreq_hz", "at_s"), [(100.0, 0.17), (250.0, 0.4), (1000.0, -0.2)])
def test_the_response_to_words_comes_back_at_its_latency(sfreq_hz: float, at_s: float) -> None:
    words = speech(400)
    random = np.random.default_rng(0)
    clock, offset_s = Clock(1 / sfreq_hz, 0.3), 2.0
    times = clock.times(int((words["onset"].iloc[-1] + 5) * sfreq_hz))
    bump = sum(np.exp(-0.5 * ((times - offset_s - onset - at_s) / 0.03) ** 2) for onset in words["onset"])
    response = 1e-13 * (np.outer(bump, [1.0, -2.0, 0.0]) + random.normal(size=(len(times), 3)))
    found = word_response(recording(response, clock, offset_s, "meg"), response, words)
    assert found is not None
    assert LATENCIES_S[found.field_power.argmax()] == pytest.approx(at_s, abs=0.02)
    assert found.snr > 4
    assert found.half_split_r > 0.7
    peak = found.channels[found.field_power.argmax()]
    assert peak[0] > 0 > peak[1]
    assert abs(peak[2]) < 0.2


def test_noise_answers_no_words() -> None:
    words = speech(400)
    noise = np.random.default_rng(0).normal(size=(20_000, 20))
    found = word_response(recording(noise, Clock(0.01), 0.0, "eeg"), noise, words)
    assert found is not None
    assert found.snr < 2.5
    assert abs(found.half_split_r) < 0.15


def test_channels_that_cannot_be_used_are_undefined_and_change_nothing() -> None:
    words = speech(100)
    noise = np.random.default_rng(0).normal(size=(5_000, 3))
    spoilt = np.c_[noise, np.ones(5_000), np.full(5_000, np.nan)]
    alone, both = (word_response(recording(v, Clock(0.01), 0.0, "eeg"), v, words) for v in (noise, spoilt))
    assert alone is not None
    assert both is not None
    np.testing.assert_allclose(both.field_power, alone.field_power)
    assert np.isnan(both.channels[:, 3:]).all()
    assert word_response(recording(spoilt[:, 3:], Clock(0.01), 0.0, "eeg"), spoilt[:, 3:], words) is None
    assert word_response(recording(noise[:50], Clock(0.01), 0.0, "eeg"), noise[:50], words) is None


def test_shared_responses_are_the_correlation_with_the_mean_of_the_others() -> None:
    random = np.random.default_rng(0)
    heard = random.normal(size=(200, 2))
    series = {name: heard + random.normal(size=(200, 2)) for name in "abcd"}
    found = shared_responses({name: Course(("A", "B"), Clock(2.0), values) for name, values in series.items()})
    assert found is not None
    z = {name: (values - values.mean(0)) / values.std(0) for name, values in series.items()}
    for row, name in enumerate("abcd"):
        others = np.mean([z[other] for other in "abcd" if other != name], axis=0)
        for column in range(2):
            expected = np.corrcoef(series[name][:, column], others[:, column])[0, 1]
            assert found.r[row, column] == pytest.approx(expected)


@given(late_s=st.floats(-3.0, 3.0), step_s=st.sampled_from([0.5, 1.0, 2.0]))
def test_subjects_are_compared_at_the_same_time_of_the_stimulus(late_s: float, step_s: float) -> None:
    def wave(times: Floats) -> Floats:
        return np.c_[np.sin(times / 7), np.cos(times / 5)]

    clocks = {"a": Clock(1.0), "b": Clock(step_s, late_s), "c": Clock(1.0, -late_s)}
    courses = {
        name: Course(("A", "B"), clock, wave(clock.times(round(150 / clock.step_s)))) for name, clock in clocks.items()
    }
    found = shared_responses(courses)
    assert found is not None
    assert found.r.min() > 0.99
    assert found.step_s == max(1.0, step_s)


def test_targets_are_matched_by_name_and_dead_ones_leave_the_others_alone() -> None:
    random = np.random.default_rng(0)
    heard = random.normal(size=(100, 2))
    dead = heard.copy()
    dead[:, 1] = 3.0
    courses = {
        "a": Course(("A", "B"), Clock(1.0), heard),
        "b": Course(("B", "A", "C"), Clock(1.0), np.c_[heard[:, ::-1], heard[:, :1]]),
        "c": Course(("A", "B"), Clock(1.0), dead),
    }
    found = shared_responses(courses)
    assert found is not None
    assert found.names == ("A", "B")
    np.testing.assert_allclose(found.r, [[1, 1], [1, 1], [1, np.nan]])


def test_one_subject_or_no_common_time_or_target_is_nothing_to_compare() -> None:
    course = Course(("A",), Clock(1.0), np.random.default_rng(0).normal(size=(50, 1)))
    assert shared_responses({"a": course}) is None
    assert shared_responses({"a": course, "b": Course(("B",), Clock(1.0), course.values)}) is None
    assert shared_responses({"a": course, "b": Course(("A",), Clock(1.0, 40.0), course.values)}) is None
    assert shared_responses({"a": course, "b": Course(("A",), Clock(1.0, 400.0), course.values)}) is None


def test_fast_signals_are_averaged_over_tenths_of_a_second() -> None:
    response = np.arange(1000.0)[:, None] * np.ones((1, 5))
    course = on_coarse_clock(recording(response, Clock(0.001, 0.5), 0.25, "meg"), response, 3, high_pass=False)
    assert course.names == ("target 0", "target 2", "target 4")
    np.testing.assert_allclose(course.values[:, 0], 49.5 + 100 * np.arange(10))
    # Row 49.5 is at 0.5 + 0.0495 s of the recording, and the stimulus starts at 0.25 s.
    np.testing.assert_allclose(course.clock.times(2), [0.2995, 0.3995])
