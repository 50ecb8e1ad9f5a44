"""What a response shows when it is looked at."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from brainalign.datasets import check_recording
from brainalign.types import Clock, Recording, Stimulus

GOOD = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)


def record(response: np.ndarray, offset_s: float = 0.0, start_s: float = 0.0) -> Recording:
    names = [f"T{i}" for i in range(response.shape[1])]
    targets = pd.DataFrame({"name": names, "kind": "sensor"})
    return Recording("s1", "2", "story", "fmri", Clock(2.0, start_s), offset_s, targets, lambda: response, "")


def story(*onset_s: float) -> Stimulus:
    return Stimulus("story", pd.DataFrame({"onset": onset_s, "duration": 0.1, "text": "word"}))


def with_columns(columns: list[int], value: float) -> np.ndarray:
    response = GOOD.copy()
    response[:, columns] = value
    return response


def test_a_good_response_has_no_findings() -> None:
    assert check_recording(record(GOOD), GOOD, story(0.0, 99.0)) == []


@pytest.mark.parametrize("value", [0.0, 5.0, -1e20, 1e-30])
def test_constant_targets_are_named(value: float) -> None:
    response = with_columns([1, 6], value)
    [finding] = check_recording(record(response), response)
    assert finding.code == "constant-target"
    assert (
        str(finding)
        == "subject s1, run 2: 2 of 8 targets are constant: T1, T6. Each has no score where this run is held out."
    )


def test_constant_up_to_rounding_is_constant() -> None:
    response = GOOD.copy()
    response[:, 3] = np.where(np.arange(50) % 2, np.float32(1000), np.nextafter(np.float32(1000), np.float32(2000)))
    assert [finding.code for finding in check_recording(record(response), response)] == ["constant-target"]


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_small_and_large_units_are_not_constant(scale: float) -> None:
    response = (GOOD * scale).astype(np.float32)
    assert check_recording(record(response), response) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_targets_that_are_not_finite_are_named_with_their_rows(value: float) -> None:
    response = GOOD.copy()
    response[[3, 4], 2] = value
    response[0, 5] = value
    [finding] = check_recording(record(response), response)
    assert finding.code == "nonfinite-target"
    assert "2 of 8 targets hold NaN or infinite values: T2 (2 rows), T5 (1 rows)." in finding.message


def test_long_lists_are_abbreviated() -> None:
    response = with_columns(list(range(7)), 1.0)
    [finding] = check_recording(record(response), response)
    assert "7 of 8 targets are constant: T0, T1, T2, T3, T4 and 2 more." in finding.message


@pytest.mark.parametrize(("value", "kind"), [(0.0, "constant"), (np.nan, "not finite")])
def test_a_recording_of_which_nothing_is_left_is_one_finding(value: float, kind: str) -> None:
    response = np.full_like(GOOD, value)
    [finding] = check_recording(record(response), response)
    assert finding.code == "empty-recording"
    assert f"all 8 targets are {kind}; the recording is left out" in finding.message


def test_a_mixture_of_dead_targets_is_empty_too() -> None:
    response = with_columns([0, 1, 2, 3], np.nan)
    response[:, 4:] = 1.0
    [finding] = check_recording(record(response), response)
    assert finding.code == "empty-recording"
    assert "constant or not finite" in finding.message


def test_words_past_the_end_are_counted() -> None:
    [finding] = check_recording(record(GOOD), GOOD, story(1.0, 50.0, 100.0, 120.0))
    assert finding.code == "words-past-end"
    assert "2 of 4 words (50.0%) begin after the response ends, at 100 s" in finding.message


def test_the_end_is_counted_on_the_stimulus_clock() -> None:
    assert check_recording(record(GOOD, offset_s=10.0, start_s=20.0), GOOD, story(109.9)) == []
    [finding] = check_recording(record(GOOD, offset_s=10.0, start_s=20.0), GOOD, story(110.0))
    assert "at 110 s" in finding.message


def test_milliseconds_are_suspected() -> None:
    [finding] = check_recording(record(GOOD), GOOD, story(500.0, 40_000.0, 99_000.0))
    assert finding.code == "milliseconds"
    assert "99000 s" in finding.message
