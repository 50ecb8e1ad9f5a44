"""Recordings whose events do not lie on a line with those of the stimulus."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.reading.sensors import open_sensors
from brainalign.reading.signals import Signals
from brainalign.reading.warping import map_times, read_warped
from brainalign.types import Clock

WORDS = np.cumsum(np.tile([0.2, 0.4, 0.3], 40))


@given(
    rate=st.floats(0.9, 1.1),
    offset_s=st.floats(-50.0, 50.0),
    jump_s=st.floats(-0.1, 3.0),
    at=st.integers(10, 110),
)
def test_events_are_where_they_were_and_what_lies_between_them_too(
    rate: float, offset_s: float, jump_s: float, at: int
) -> None:
    recorded = offset_s + rate * WORDS + np.where(np.arange(len(WORDS)) >= at, jump_s, 0.0)
    times = map_times(WORDS, recorded, "run")
    np.testing.assert_allclose(times.to_recording(WORDS), recorded, atol=1e-9)
    np.testing.assert_allclose(times.to_stimulus(recorded), WORDS, atol=1e-9)
    between = times.to_recording(np.linspace(WORDS[0] - 5, WORDS[-1] + 5, 500))
    assert (np.diff(between) > 0).all()


@given(
    wrong=st.sets(st.integers(0, 23).map(lambda i: 5 * i + 2), max_size=20),
    off_s=st.sampled_from([-9.0, -0.05, 0.05, 4.0]),
)
def test_wrong_events_are_left_out_and_do_not_move_the_others(wrong: set[int], off_s: float) -> None:
    recorded = 10.0 + WORDS
    places = np.array(sorted(wrong), dtype=int)
    moved = recorded.copy()
    moved[places] += off_s
    times = map_times(WORDS, moved, "run")
    assert times.n_wrong == len(wrong)
    np.testing.assert_allclose(times.to_recording(WORDS), recorded, atol=1e-9)
    assert ("clock-outliers" in [finding.code for finding in times.findings("run")]) == bool(wrong)


def test_events_that_were_not_recorded_get_times_between_their_neighbours() -> None:
    recorded = 10.0 + WORDS
    recorded[30:40] = np.nan
    times = map_times(WORDS, recorded, "run")
    np.testing.assert_allclose(times.to_recording(WORDS), 10.0 + WORDS)
    assert times.n_wrong == 0
    assert times.findings("run") == []


def test_a_drift_and_a_jump_are_told() -> None:
    recorded = 1.001 * WORDS + 2.0 * (WORDS > 20)
    codes = [finding.code for finding in map_times(WORDS, recorded, "run").findings("run")]
    assert codes == ["clock-warp", "clock-jump"]


@pytest.mark.parametrize(
    "recorded",
    [WORDS[::-1], np.full(len(WORDS), np.nan), 2.0 * WORDS, np.zeros(len(WORDS))],
    ids=["backwards", "none", "another pace", "one moment"],
)
def test_events_of_another_stimulus_are_an_error(recorded: np.ndarray) -> None:
    with pytest.raises(DataError, match="recording of this stimulus"):
        map_times(WORDS, recorded, "run")


def test_rows_are_the_signal_at_the_events_own_times() -> None:
    rate_hz, freq_hz = 100.0, 3.0
    signal = np.sin(2 * np.pi * freq_hz * np.arange(6000) / rate_hz)

    def open_raw() -> mne.io.BaseRaw:
        info = mne.create_info([f"MEG {i:03d}" for i in range(40)], rate_hz, "mag")
        return mne.io.RawArray(1e-13 * np.outer(np.arange(1, 41), signal), info, verbose="error")

    sensors = open_sensors(open_raw, Signals(rate_hz=None), "meg", "run")
    times = map_times(WORDS, 5.0 + 1.002 * WORDS + 0.04 * (WORDS > 10), "run")
    clock = Clock(0.01, 0.5)
    rows = read_warped(sensors, times, clock, 3000)
    expected = np.sin(2 * np.pi * freq_hz * times.to_recording(clock.times(3000)))
    np.testing.assert_allclose(rows, 1e-13 * np.outer(expected, np.arange(1, 41)), atol=1e-3 * 4e-12)
    assert rows.dtype == np.float32


@pytest.mark.parametrize("seed", range(5))
def test_a_few_events_that_agree_by_chance_are_no_recording_of_the_stimulus(seed: int) -> None:
    random = np.random.default_rng(seed)
    recorded = np.full(len(WORDS), np.nan)
    some = np.sort(random.choice(len(WORDS), len(WORDS) // 4, replace=False))
    recorded[some] = 10.0 + WORDS[some]
    with pytest.raises(DataError, match=f"of {len(WORDS)} events of the stimulus {len(some)} are in the recording"):
        map_times(WORDS, recorded, "run")


def test_events_that_agree_with_their_neighbours_but_not_over_the_whole_are_refused() -> None:
    recorded = 10.0 + WORDS + 4.0 * (np.arange(len(WORDS)) // 10)
    with pytest.raises(DataError, match="a second of the stimulus lasts"):
        map_times(WORDS, recorded, "run")
