from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.features.speech_windows import (
    FrameGrid,
    Pass,
    batches,
    causal_passes,
    chunk_passes,
    cut,
    resample,
    stops_before,
)

RATES_HZ = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 12_345.6]


@st.composite
def items(draw) -> tuple[np.ndarray, np.ndarray, int]:
    """Onsets that grow, stops, and the length of the sound, in samples; they may overlap and lie at its end."""
    gaps = draw(st.lists(st.integers(0, 60), min_size=1, max_size=40))
    lengths = draw(st.lists(st.integers(0, 20), min_size=len(gaps), max_size=len(gaps)))
    onsets = np.cumsum(gaps).astype(float)
    stops = onsets.astype(int) + lengths
    n_sound = int(stops.max()) + draw(st.integers(1, 80))
    return onsets, stops, n_sound


@given(items(), st.integers(1, 100), st.integers(1, 30))
def test_a_causal_pass_ends_at_its_items_stop_and_is_as_long_as_there_is_sound(placed, n_context: int, n_least: int):
    assume(n_least <= n_context)
    _, stops, _ = placed
    passes = causal_passes(stops, n_context, n_least)
    assert [window.stop for window in passes] == stops.tolist()
    assert [(window.first, window.stop_item) for window in passes] == [(i, i + 1) for i in range(len(stops))]
    for window in passes:
        assert len(window) == max(min(n_context, window.stop), n_least)


@given(items(), st.integers(62, 200))
def test_each_item_is_in_one_chunk_with_a_third_on_either_side(placed, n_context: int):
    onsets, stops, n_sound = placed
    passes = chunk_passes(onsets, stops, n_sound, n_context, 1, ["item"] * len(onsets))
    given_items = [item for window in passes for item in range(window.first, window.stop_item)]
    assert given_items == list(range(len(onsets)))
    for window in passes:
        assert len(window) == min(n_context, n_sound)
        for item in range(window.first, window.stop_item):
            assert window.start == 0 or onsets[item] - window.start >= n_context / 3
            assert window.stop == n_sound or window.stop - stops[item] >= n_context / 3


def test_chunks_advance_by_about_a_third_and_none_is_read_for_nothing() -> None:
    onsets = np.arange(0.0, 1000.0)
    passes = chunk_passes(onsets, np.arange(1, 1001), 1000, 90, 1, ["moment"] * 1000)
    assert len(passes) <= 1000 / 30
    assert all(window.stop_item > window.first for window in passes)


def test_an_item_longer_than_a_third_of_a_chunk_is_named() -> None:
    with pytest.raises(DataError, match="word 2 is longer than a third of context_s"):
        chunk_passes(np.array([0.0, 50.0]), np.array([10, 90]), 300, 90, 1, ["word 1", "word 2"])


@given(items(), st.integers(1, 500), st.integers(1, 60))
def test_batches_hold_neighbours_of_one_length_within_the_bound(placed, n_samples: int, n_context: int) -> None:
    passes = causal_passes(placed[1], n_context, 1)
    made = list(batches(passes, n_samples))
    assert [window for batch in made for window in batch] == passes
    for batch in made:
        assert len({len(window) for window in batch}) == 1
        assert len(batch) == 1 or sum(map(len, batch)) <= n_samples


def test_passes_that_the_network_fills_up_are_batched_whatever_their_length() -> None:
    passes = causal_passes(np.array([3, 5, 6, 7, 8]), 5, 1)
    assert [len(batch) for batch in batches(passes, n_samples=30, filled_to=10)] == [3, 2]


def test_before_the_sound_is_silence() -> None:
    np.testing.assert_array_equal(cut(np.array([1.0, 2.0, 3.0]), Pass(-2, 1, 0, 1)), [0, 0, 1])
    np.testing.assert_array_equal(cut(np.array([1.0, 2.0, 3.0]), Pass(-2, 0, 0, 1)), [0, 0])
    np.testing.assert_array_equal(cut(np.array([1.0, 2.0, 3.0]), Pass(1, 3, 0, 1)), [2, 3])


HALVES = st.integers(0, 100).map(lambda count: count / 2)


@given(HALVES, HALVES, st.integers(1, 12))
def test_frames_are_those_whose_centres_lie_within_or_else_the_nearest(onset: float, length: float, n_frames: int):
    grid = FrameGrid(first=2.5, step=4)
    found = grid.within(onset, onset + length, n_frames)
    centres = 2.5 + 4 * np.arange(n_frames)
    inside = np.flatnonzero((centres >= onset) & (centres < onset + length))
    if len(inside):
        np.testing.assert_array_equal(np.arange(n_frames)[found], inside)
    else:
        (frame,) = np.arange(n_frames)[found]
        distances = np.abs(centres - (onset + length / 2))
        assert distances[frame] == pytest.approx(distances.min())


def test_a_frame_at_a_words_end_is_not_within_whatever_the_rounding() -> None:
    stop = (2.2 + 0.6) * 16_000
    assert stop > 140 * 320
    assert FrameGrid(first=0, step=320).within(2.2 * 16_000, stop, n_frames=1000) == slice(110, 140)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_resampled_sound_is_the_same_sound(rate_hz: float) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(int(rate_hz)) / rate_hz)
    resampled, exact_hz, _ = resample(tone, rate_hz, 16_000)
    assert exact_hz == pytest.approx(16_000, rel=1e-6)
    assert resampled.dtype == np.float32
    expected = np.sin(2 * np.pi * 440 * np.arange(len(resampled)) / exact_hz)
    middle = slice(500, -500)
    np.testing.assert_allclose(resampled[middle], expected[middle], atol=5e-3)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("end_s", [0.1, 0.25003, 1 / 3])
def test_no_sample_before_a_stop_knows_what_is_heard_later(rate_hz: float, end_s: float) -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(size=int(rate_hz / 2))
    changed = sound.copy()
    changed[int(np.ceil(end_s * rate_hz - 1e-9)) :] = 5.0
    before, exact_hz, reach = resample(sound, rate_hz, 16_000)
    after, _, _ = resample(changed, rate_hz, 16_000)
    (stop,) = stops_before(np.array([end_s]), exact_hz, reach, len(before))
    np.testing.assert_array_equal(before[:stop], after[:stop])
    # Nor is more given up than the filter asks for: about a millisecond.
    assert stop >= end_s * 16_000 - 25
    assert (before[stop : stop + 26] != after[stop : stop + 26]).any()
