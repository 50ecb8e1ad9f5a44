"""Trigger channels, and the sequences that are found in them."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.reading.triggers import match_values, read_triggers

LENGTHS = np.random.default_rng(0).integers(1, 14, size=300).tolist()


def _raw(channel: np.ndarray, first_samp: int = 0) -> mne.io.BaseRaw:
    info = mne.create_info(["STI101"], 1000.0, "stim")
    return mne.io.RawArray(channel[None], info, first_samp=first_samp, verbose="error")


@pytest.mark.parametrize("first_samp", [0, 75_000])
@pytest.mark.parametrize("stuck", [0, 2048])
def test_triggers_count_from_the_files_first_sample_whatever_bit_is_stuck(first_samp: int, stuck: int) -> None:
    channel = np.full(3000, stuck)
    for start, value in ((500, 4), (800, 11), (1100, 4)):
        channel[start : start + 50] += value
    times_s, values = read_triggers(_raw(channel, first_samp), "STI101", "run", bits=0xFF)
    np.testing.assert_allclose(times_s, [0.5, 0.8, 1.1])
    assert values.tolist() == [4, 11, 4]


def test_a_channel_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError, match="no trigger channel 'STI008'"):
        read_triggers(_raw(np.zeros(10)), "STI008", "run")


@given(start=st.integers(0, 250), missing=st.integers(1, 50), before=st.lists(st.integers(20, 30), max_size=5))
def test_words_whose_triggers_are_missing_are_not_matched_and_the_others_are(
    start: int, missing: int, before: list[int]
) -> None:
    found = [*before, *LENGTHS[:start], *LENGTHS[start + missing :]]
    matched = match_values(LENGTHS, found)
    known = matched >= 0
    assert [LENGTHS[i] for i in np.flatnonzero(known)] == [found[i] for i in matched[known]]
    assert (np.diff(matched[known]) > 0).all()
    assert np.count_nonzero(known) >= len(LENGTHS) - missing - 10


def test_what_agrees_by_chance_is_not_matched() -> None:
    assert (match_values(LENGTHS, [3, 5, 3]) == -1).all()
