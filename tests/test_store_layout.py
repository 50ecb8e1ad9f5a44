"""A record says what was written, or nothing; a writer's folder says whether anyone may still be writing in it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from child_processes import finish, start_child
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_entries import FACTS, KEY, age

from brainalign.files import digest_of
from brainalign.store_layout import (
    DAMAGE,
    LAYOUT,
    UNTOUCHED_S,
    content_of,
    is_abandoned,
    key_of,
    layout_of,
    newest_s,
    paths_of_arrays,
    place_of,
    record_of,
    sealed,
    states_below,
    writer_in,
    writer_name,
    writers_in,
)

RECORD = {"layout": LAYOUT, "key": KEY, "writer": "a", "arrays": {"r": {"bytes": 152}}, "facts": FACTS}
PLACE = place_of(Path("store"), KEY)


def written_to(folder: Path) -> Path:
    """A writer's folder with an array of three numbers, 152 bytes."""
    folder.mkdir(parents=True)
    np.save(folder / "r.npy", np.arange(3.0))
    return folder


# Places


def test_a_place_says_its_key_and_layout():
    assert PLACE.parent == Path("store") / KEY[:2]
    assert (key_of(PLACE), layout_of(PLACE)) == (KEY, LAYOUT)


@pytest.mark.parametrize(
    ("name", "layout"), [(KEY, 1), (f"{KEY}.1", 1), (f"{KEY}.3", 3), (f"{KEY}.10", 10), (f"{KEY}.x", 1)]
)
def test_places_of_other_layouts_are_told_apart(name, layout):
    place = PLACE.with_name(name)
    assert (key_of(place), layout_of(place)) == (KEY, layout)


# Records


FACT = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), FACT | st.lists(FACT, max_size=3), max_size=4))
def test_a_sealed_record_is_read_as_it_was(facts):
    # Repr, so that NaN counts as itself and 1 not as 1.0 or True.
    assert repr(record_of(PLACE, sealed({**RECORD, "facts": facts}))) == repr({**RECORD, "facts": facts})


def test_no_flipped_bit_of_a_record_is_believed():
    content = sealed(RECORD)
    for position in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(DAMAGE):
            record_of(PLACE, bytes(flipped))


@pytest.mark.parametrize(
    "other", [{"key": KEY[::-1]}, {"layout": LAYOUT - 1}, {"layout": LAYOUT + 1}], ids=["key", "older", "newer"]
)
def test_a_record_of_another_place_is_not_believed(other):
    with pytest.raises(ValueError, match="not what was written"):
        record_of(PLACE, sealed({**RECORD, **other}))


def test_a_record_that_says_the_same_in_other_bytes_is_not_believed():
    indented = json.dumps(json.loads(sealed(RECORD)), indent=1).encode()
    with pytest.raises(ValueError, match="not what was written"):
        record_of(PLACE, indented)


def test_the_digest_is_of_all_that_the_record_says():
    record = json.loads(sealed(RECORD))
    assert record.pop("digest") == digest_of(RECORD)
    assert record == RECORD


def test_the_arrays_are_in_the_folder_of_the_writer_that_the_record_names(tmp_path):
    path = written_to(tmp_path / "a") / "r.npy"
    written_to(tmp_path / "b")
    assert paths_of_arrays(tmp_path, RECORD) == {"r": path}


@pytest.mark.parametrize("n_bytes", [None, 0, 151, 153])
def test_an_array_that_is_missing_or_of_another_size_is_named(tmp_path, n_bytes):
    path = written_to(tmp_path / "a") / "r.npy"
    if n_bytes is None:
        path.unlink()
    else:
        os.truncate(path, n_bytes)
    with pytest.raises(ValueError, match=r"r\.npy is (missing|not what was written)"):
        paths_of_arrays(tmp_path, RECORD)


def test_a_record_that_is_not_there_a_folder_and_a_file_are_told_apart(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"content")
    assert content_of(tmp_path / "nothing") is None
    assert content_of(tmp_path / "file" / "record.json") is None
    assert content_of(tmp_path / "folder") == b""
    assert content_of(tmp_path / "file") == b"content"


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"1", b'{"writer": 1}', b"\xff", b"[" * 100_000])
def test_a_record_that_cannot_be_read_names_no_writer(content):
    assert writer_in(content) is None


def test_a_record_that_is_damaged_elsewhere_names_its_writer_still():
    assert writer_in(sealed(RECORD).replace(b"layout", b"lay0ut")) == "a"


# Writers


def test_no_two_writers_have_one_name():
    assert len({writer_name() for _ in range(100)}) == 100


def test_what_was_put_aside_is_no_writers(tmp_path):
    for name in ("b", "a", "damaged.12345678"):
        written_to(tmp_path / name)
    (tmp_path / "record.json").write_text("{}")
    assert writers_in(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert writers_in(tmp_path / "nothing") == []


def test_a_living_writers_folder_is_its_own_for_a_day_and_a_dead_ones_at_once_abandoned(tmp_path):
    own = written_to(tmp_path / writer_name())
    machine, _, number = own.name.split("-")
    child = start_child(lambda: None)
    assert finish(child) == 0
    others = written_to(tmp_path / f"{machine}-{child.pid}-{number}")
    assert [is_abandoned(own), is_abandoned(others)] == [False, True]
    age(own, 1.1 * UNTOUCHED_S)
    assert is_abandoned(own)


@pytest.mark.parametrize("name", [f"0123456789ab-999999999-{32 * '0'}", "0123456789ab", "of another layout"])
def test_where_the_writer_is_not_known_its_newest_file_decides(tmp_path, name):
    folder = written_to(tmp_path / name)
    age(folder, 1.1 * UNTOUCHED_S)
    assert is_abandoned(folder)
    os.utime(folder / "r.npy")
    assert not is_abandoned(folder)


# Files that others may remove meanwhile


def test_files_that_vanish_while_they_are_looked_at_are_passed_over(tmp_path, monkeypatch):
    folder = written_to(tmp_path / "a")
    (folder / "s.npy").write_bytes(bytes(7))
    lstat = Path.lstat

    def overtaken(path: Path) -> os.stat_result:
        if path.name == "r.npy":
            path.unlink()
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", overtaken)
    assert len(list(states_below([folder, tmp_path / "nothing"]))) == 2


def test_what_has_vanished_counts_as_new():
    assert newest_s([]) == pytest.approx(time.time(), abs=60)
