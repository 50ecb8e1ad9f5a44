"""Folders of CTF recordings, from the names of their files."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from brainalign.errors import DataError
from brainalign.reading.ctf_folders import crop_of, ctf_folders, unquoted
from brainalign.reading.sensors import open_sensors
from brainalign.reading.signals import Signals


def test_files_of_folders_within_a_folder_are_its_own() -> None:
    paths = ["sub-1/meg/a_meg.ds/a.meg4", "sub-1/meg/a_meg.ds/hz.ds/hz.res4", "sub-1/meg/a_events.tsv"]
    assert ctf_folders(paths, r"sub-\d/meg/a_meg\.ds") == {"sub-1/meg/a_meg.ds": tuple(paths[:2])}


@pytest.mark.parametrize(
    ("cell", "word"), [('"the"', "the"), ("the", "the"), ('""', ""), ('"', '"'), ('"a ""b"""', 'a "b"')]
)
def test_quotation_marks_around_a_cell_are_none_of_its_word(cell: str, word: str) -> None:
    assert unquoted(cell) == word


def _opened() -> mne.io.BaseRaw:
    info = mne.create_info(["MEG 001"], 100.0, "mag")
    return mne.io.RawArray(np.arange(1000.0)[None], info, verbose="error")


def test_a_crop_begins_a_second_before_its_words_and_ends_two_after() -> None:
    sensors = open_sensors(_opened, Signals(rate_hz=None), "meg", "run")
    clock, read = crop_of(sensors, 3.0, 5.0, "run")
    assert clock.start_s == 2.0
    np.testing.assert_array_equal(read()[:, 0], np.arange(200, 700))
    assert crop_of(sensors, 0.5, 9.5, "run")[0].start_s == 0.0


@pytest.mark.parametrize(("first_s", "last_s"), [(11.0, 20.0), (-5.0, -1.0)])
def test_words_outside_the_recording_are_an_error(first_s: float, last_s: float) -> None:
    sensors = open_sensors(_opened, Signals(rate_hz=None), "meg", "run")
    with pytest.raises(DataError, match="of a recording of"):
        crop_of(sensors, first_s, last_s, "run")
