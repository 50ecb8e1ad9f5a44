"""What is stored comes back bit by bit, or not at all."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from child_processes import (
    answer_of,
    die_at,
    die_at_byte,
    die_at_call,
    finish,
    folder_for_all,
    limit_files_to,
    make_read_only,
    start_child,
)
from disk_faults import FAULTS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stored_entries import (
    FACTS,
    KEY,
    arrays_of,
    assert_holds,
    file_of,
    files_in,
    put_in_layout_1,
    put_streamed,
    record_of,
    refusal,
)

from brainalign import store as store_module
from brainalign.errors import DataError, StoreWarning
from brainalign.files import digest_of, xxh3_of_file
from brainalign.store import Entry, Store
from brainalign.store_housekeeping import entries
from brainalign.store_layout import DAMAGE, key_of, place_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# Putting and getting

DTYPES = hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes()
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


@settings(deadline=None, max_examples=60)
@given(values=ARRAYS, fortran=st.booleans())
def test_any_plain_array_comes_back_bit_by_bit(values, fortran):
    values = np.asarray(values, order="F" if fortran else "C")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.put(KEY, {"values": values}, {})
        assert_holds(store.get(KEY), {"values": values}, {})


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0, 2), (1,), (1, 1)])
def test_the_shape_is_kept_down_to_a_single_number(store, shape):
    store.put(KEY, {"values": np.ones(shape)}, {})
    assert store.get(KEY).arrays["values"].shape == shape


def test_a_view_is_stored_as_what_it_shows(store):
    values = np.arange(24.0).reshape(4, 6)[::2, ::-3]
    store.put(KEY, {"values": values}, {})
    assert store.get(KEY).arrays["values"].tolist() == [[5.0, 2.0], [17.0, 14.0]]


FACT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=5), FACT, max_size=4))
def test_any_facts_that_json_can_hold_come_back(facts):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.put(KEY, {}, facts)
        # Repr, so that NaN counts as itself and 1 not as 1.0 or True.
        assert repr(store.get(KEY).facts) == repr(facts)


def test_facts_with_numbers_as_keys_are_found_again(store):
    # JSON writes them as text, which sorts "10" before "2".
    store.put(KEY, {}, {"by_layer": {2: "a", 10: "b"}})
    assert store.get(KEY).facts == {"by_layer": {"2": "a", "10": "b"}}


def test_what_was_never_put_is_none_without_a_warning(store):
    assert store.get(KEY) is None
    assert not store.folder.exists()


def test_one_key_does_not_answer_for_another(store):
    other = KEY[:-1] + ("0" if KEY[-1] != "0" else "1")
    store.put(KEY, arrays_of(), FACTS)
    assert store.get(other) is None


def test_a_new_process_reads_the_same(store):
    store.put(KEY, arrays_of(), FACTS)
    assert_holds(Store(store.folder).get(KEY), arrays_of(), FACTS)


def test_the_first_writer_of_a_key_wins(store):
    store.put(KEY, arrays_of(1), {"writer": 1})
    store.put(KEY, arrays_of(2), {"writer": 2})
    assert_holds(store.get(KEY), arrays_of(1), {"writer": 1})


def test_a_reader_may_change_its_numbers_and_never_the_stored_ones(store):
    store.put(KEY, arrays_of(), FACTS)
    entry = store.get(KEY)
    entry.arrays["r"][:] = 0.0
    entry.arrays["r"].flush()
    assert not entry.arrays["r"].any()
    assert_holds(store.get(KEY), arrays_of(), FACTS)


def test_what_is_read_outlives_the_entry(store):
    store.put(KEY, arrays_of(), FACTS)
    entry = store.get(KEY)
    for path in files_in(store.folder):
        path.unlink()
    assert_holds(entry, arrays_of(), FACTS)


def test_the_default_folder_is_in_the_cache(own_cache):
    Store().put(KEY, arrays_of(), FACTS)
    assert record_of(Store(own_cache / "store")).is_file()


@pytest.mark.parametrize("name", ["a b", "日本 Ürümqi", "with\nnewline", "%s{0}", "x" * 200])
def test_the_folder_may_have_any_name(tmp_path, name):
    store = Store(tmp_path / name)
    store.put(KEY, arrays_of(), FACTS)
    assert_holds(store.get(KEY), arrays_of(), FACTS)


def test_an_array_of_objects_is_never_written(store):
    with pytest.raises(ValueError, match="allow_pickle"):
        store.put(KEY, {"values": np.array([{"a": 1}], dtype=object)}, {})
    assert store.get(KEY) is None
    assert files_in(store.folder) == []


def test_facts_that_json_cannot_hold_are_an_error_and_no_entry(store):
    with pytest.raises(TypeError):
        store.put(KEY, arrays_of(), {"a": object()})
    assert store.get(KEY) is None


@pytest.mark.parametrize(
    ("last", "facts", "error"),
    [
        (np.array([None], dtype=object), {}, ValueError),
        (np.zeros(3), {"a": object()}, TypeError),
        (KeyboardInterrupt, {}, KeyboardInterrupt),
    ],
    ids=["objects", "facts", "interrupted"],
)
def test_whatever_stops_a_writer_nothing_of_its_entry_stays(store, last, facts, error):
    def stop() -> None:
        if last is KeyboardInterrupt:
            raise KeyboardInterrupt

    # The first array is on the disk by then, and may be gigabytes.
    arrays = Interrupted({"first": np.zeros(1000), "last": last}, stop)
    with pytest.raises(error):
        store.put(KEY, arrays, facts)
    assert store.get(KEY) is None
    assert files_in(store.folder) == []


# Damage


@pytest.mark.parametrize("part", ["record", "arrays"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_no_fault_of_the_disk_is_ever_read_as_data(store, fault, part):
    arrays = arrays_of(n=100)
    store.put(KEY, arrays, FACTS)
    whole = {path: path.read_bytes() for path in files_in(store.folder)}
    paths = [path for path in whole if (path.name == "record.json") == (part == "record")]
    rng = random.Random(f"{fault.__name__} {part}")
    n_changed = 0
    for _ in range(400):
        path = rng.choice(paths)
        content = bytearray(whole[path])
        fault(content, rng)
        # A new file: some file systems flush one that is overwritten, and hundreds take long.
        path.unlink()
        path.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            entry = store.get(KEY)
        if content == whole[path]:
            # A block of nothing but zeros was zeroed, or one was copied onto itself.
            assert caught == []
            assert_holds(entry, arrays, FACTS)
        else:
            n_changed += 1
            assert entry is None
            assert [warning.category for warning in caught] == [StoreWarning]
            assert KEY in str(caught[0].message)
        shutil.rmtree(store.folder)
        for kept, bytes_ in whole.items():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(bytes_)
    assert n_changed > 300
    assert_holds(store.get(KEY), arrays, FACTS)


def test_every_single_bit_of_a_small_entry_counts(store):
    store.put(KEY, {"r": np.array([0.1])}, {})
    whole = {path: path.read_bytes() for path in files_in(store.folder)}
    place = record_of(store).parent
    for path, content in whole.items():
        for position in range(8 * len(content)):
            flipped = bytearray(content)
            flipped[position // 8] ^= 1 << position % 8
            path.unlink()
            path.write_bytes(flipped)
            with pytest.raises((*DAMAGE, OSError)):
                store_module._read(place, (place / "record.json").read_bytes())
        path.write_bytes(content)
    assert_holds(store.get(KEY), {"r": np.array([0.1])}, {})


@pytest.mark.parametrize("name", ["record.json", "r.npy", "alpha.npy"])
@pytest.mark.parametrize("fault", ["emptied", "a folder", "random"])
def test_a_file_that_is_something_else_is_put_aside_and_made_again(store, name, fault):
    store.put(KEY, arrays_of(), FACTS)
    path = file_of(store, name)
    path.unlink()
    if fault == "a folder":
        path.mkdir()
    else:
        path.write_bytes(b"" if fault == "emptied" else random.Random(0).randbytes(3000))
    with pytest.warns(StoreWarning, match="damaged"):
        assert store.get(KEY) is None
    assert store.get(KEY) is None
    store.put(KEY, arrays_of(), FACTS)
    assert_holds(store.get(KEY), arrays_of(), FACTS)


@pytest.mark.parametrize("name", ["r.npy", "alpha.npy"])
def test_a_lost_array_is_named(store, name):
    store.put(KEY, arrays_of(), FACTS)
    file_of(store, name).unlink()
    with pytest.warns(StoreWarning, match=name):
        assert store.get(KEY) is None


def test_without_its_record_there_is_no_entry_and_another_can_be_put(store):
    store.put(KEY, arrays_of(1), FACTS)
    record_of(store).unlink()
    assert store.get(KEY) is None
    store.put(KEY, arrays_of(2), FACTS)
    assert_holds(store.get(KEY), arrays_of(2), FACTS)


def test_what_was_damaged_is_kept_for_whoever_wants_to_look(store):
    store.put(KEY, arrays_of(), FACTS)
    path = file_of(store, "r.npy")
    path.write_bytes(b"damaged")
    with pytest.warns(StoreWarning, match="put aside as"):
        store.get(KEY)
    assert [path.read_bytes() for path in files_in(store.folder) if path.name == "r.npy"] == [b"damaged"]


def test_two_readers_of_one_damaged_entry_both_find_none_and_one_puts_it_aside(store, monkeypatch):
    store.put(KEY, arrays_of(), FACTS)
    record_of(store).write_text("damaged")
    read = store_module._read

    def overtaken(place: Path, content: bytes) -> Entry:
        # While this reader reads, another finds the damage and puts the entry aside.
        monkeypatch.setattr(store_module, "_read", read)
        assert store.get(KEY) is None
        return read(place, content)

    monkeypatch.setattr(store_module, "_read", overtaken)
    with pytest.warns(StoreWarning, match="damaged") as caught:
        assert store.get(KEY) is None
    assert len(caught) == 1
    assert [stored.kind for stored in entries(store)].count("damaged") == 1


def test_a_late_reader_of_a_damaged_entry_does_not_put_the_new_one_aside(store, monkeypatch):
    store.put(KEY, arrays_of(1), {"writer": 1})
    file_of(store, "r.npy").write_bytes(b"damaged")
    read = store_module._read

    def overtaken(place: Path, content: bytes) -> Entry:
        # While this reader reads, another puts the entry aside and makes it anew.
        monkeypatch.setattr(store_module, "_read", read)
        with pytest.warns(StoreWarning, match="damaged"):
            assert store.get(KEY) is None
        store.put(KEY, arrays_of(2), {"writer": 2})
        return read(place, content)

    monkeypatch.setattr(store_module, "_read", overtaken)
    assert store.get(KEY) is None
    assert_holds(store.get(KEY), arrays_of(2), {"writer": 2})


@pytest.mark.parametrize(
    ("number", "is_damage"),
    [(errno.EIO, True), (errno.ENOENT, True), (errno.EMFILE, False), (errno.EACCES, False), (errno.ENOMEM, False)],
    ids=errno.errorcode.get,
)
def test_an_error_that_says_nothing_of_the_entry_leaves_it_alone(store, monkeypatch, number, is_damage):
    def failing(_: Path) -> str:
        raise OSError(number, os.strerror(number))

    store.put(KEY, arrays_of(), FACTS)
    with monkeypatch.context() as context:
        context.setattr(store_module, "xxh3_of_file", failing)
        if is_damage:
            with pytest.warns(StoreWarning, match=os.strerror(number)):
                assert store.get(KEY) is None
        else:
            with pytest.raises(DataError, match=os.strerror(number)):
                store.get(KEY)
    if not is_damage:
        assert_holds(store.get(KEY), arrays_of(), FACTS)


def test_an_entry_of_the_older_layout_is_absent_and_not_damaged(store):
    # No warning: all of them are errors here.
    old = put_in_layout_1(store, KEY, arrays_of(1), FACTS)
    before = {path: path.read_bytes() for path in files_in(old)}
    assert store.get(KEY) is None
    store.put(KEY, arrays_of(2), FACTS)
    assert_holds(store.get(KEY), arrays_of(2), FACTS)
    # An older brainalign that shares the store finds its own still.
    assert {path: path.read_bytes() for path in files_in(old)} == before
    assert sorted(stored.kind for stored in entries(store)) == ["other", "outdated"]


def test_an_entry_moved_under_another_key_is_not_believed(store):
    store.put(KEY, arrays_of(), FACTS)
    other = digest_of({"what": "another"})
    place = place_of(store.root, other)
    place.parent.mkdir(exist_ok=True)
    record_of(store).parent.rename(place)
    with pytest.warns(StoreWarning, match=other):
        assert store.get(other) is None


def forge(store: Store, **changes: object) -> None:
    """Write a record that agrees with itself and with the files beside it, as a malicious writer could."""
    path = record_of(store)
    record = {**json.loads(path.read_text()), **changes}
    del record["digest"]
    for name, listed in record["arrays"].items():
        if (path.parent / record["writer"] / f"{name}.npy").is_file():
            listed["bytes"] = (path.parent / record["writer"] / f"{name}.npy").stat().st_size
            listed["xxh3_128"] = xxh3_of_file(path.parent / record["writer"] / f"{name}.npy")
    path.write_text(json.dumps({**record, "digest": digest_of(record)}))


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["pickle", "objects", "archive of objects"])
def test_an_array_replaced_by_code_is_refused_even_where_its_record_vouches_for_it(store, tmp_path, form):
    store.put(KEY, arrays_of(), FACTS)
    path, trap = file_of(store, "r.npy"), tmp_path / "trap"
    payload = np.array([Trap(trap)], dtype=object)
    with path.open("wb") as stream:
        if form == "pickle":
            pickle.dump(Trap(trap), stream)
        elif form == "objects":
            np.save(stream, payload, allow_pickle=True)
        else:
            np.savez(stream, payload, allow_pickle=True)
    forge(store)
    with pytest.warns(StoreWarning, match="damaged"):
        assert store.get(KEY) is None
    assert not trap.exists()


@pytest.mark.parametrize("changes", [{"layout": 1}, {"arrays": ["r"]}, {"arrays": {"r": {}}}, {"key": None}], ids=str)
def test_a_record_of_another_layout_is_not_believed(store, changes):
    store.put(KEY, {}, FACTS)
    path = record_of(store)
    record = {**json.loads(path.read_text()), **changes}
    del record["digest"]
    path.write_text(json.dumps({**record, "digest": digest_of(record)}))
    with pytest.warns(StoreWarning, match="damaged"):
        assert store.get(KEY) is None


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 100_000, "null", "[]", '"digest"', "1", '{"digest": 1}', "9" * 5000]
)
def test_a_record_of_any_other_json_is_not_believed(store, content):
    store.put(KEY, {}, FACTS)
    record_of(store).write_text(content)
    with pytest.warns(StoreWarning, match="damaged"):
        assert store.get(KEY) is None


# Killed writers


WAYS = pytest.mark.parametrize("put", [Store.put, put_streamed], ids=["put", "streamed"])


def assert_nothing_or_the_whole(store: Store, arrays: Mapping[str, np.ndarray]) -> None:
    entry = store.get(KEY)
    if entry is not None:
        assert_holds(entry, arrays, FACTS)
    store.put(KEY, arrays, FACTS)
    assert_holds(store.get(KEY), arrays, FACTS)


@WAYS
def test_a_kill_at_any_file_operation_leaves_nothing_or_the_whole(tmp_path, put):
    arrays, codes = arrays_of(), []
    # The operation after the last is none: the child ends by itself.
    while not codes or codes[-1] == -signal.SIGKILL:
        store = Store(tmp_path / str(len(codes)))

        def work(store: Store = store) -> None:
            die_at(len(codes))
            put(store, KEY, arrays, FACTS)

        codes.append(finish(start_child(work)))
        assert_nothing_or_the_whole(store, arrays)
    assert codes[-1] == 0
    assert len(codes) > 8


@WAYS
def test_a_kill_at_any_call_leaves_nothing_or_the_whole(tmp_path, put):
    arrays, n_calls = arrays_of(), 0

    def count(*_: object) -> None:
        nonlocal n_calls
        n_calls += 1

    # Counted once, after what is loaded on first use has been.
    Store(tmp_path / "first").put(KEY, arrays, FACTS)
    sys.setprofile(count)
    try:
        put(Store(tmp_path / "counted"), KEY, arrays, FACTS)
    finally:
        sys.setprofile(None)
    assert n_calls > 500
    rng = random.Random(0)
    for trial in range(40):
        store = Store(tmp_path / str(trial))

        def work(store: Store = store, call: int = rng.randrange(n_calls - 50)) -> None:
            die_at_call(call)
            put(store, KEY, arrays, FACTS)

        assert finish(start_child(work)) == -signal.SIGKILL
        assert_nothing_or_the_whole(store, arrays)


@WAYS
def test_a_kill_within_a_write_leaves_nothing_or_the_whole(tmp_path, put):
    arrays, rng = arrays_of(n=5000), random.Random(0)
    for trial in range(20):
        store = Store(tmp_path / str(trial))

        def work(store: Store = store, byte: int = rng.randrange(1, 40_000)) -> None:
            die_at_byte(byte)
            put(store, KEY, arrays, FACTS)

        # The first array has 40,000 bytes and a header: none gets past it.
        assert finish(start_child(work)) == -signal.SIGXFSZ
        assert store.get(KEY) is None
        assert_nothing_or_the_whole(store, arrays)


@WAYS
def test_a_kill_at_a_random_moment_leaves_nothing_or_the_whole(tmp_path, put):
    arrays, moments = arrays_of(n=100_000), random.Random(0)
    n_in_the_midst = 0
    for trial in range(100):
        store = Store(tmp_path / str(trial))
        reader, writer = multiprocessing.Pipe(duplex=False)

        def work(store: Store = store, writer: Connection = writer) -> None:
            # Without end: however fast the machine is, the kill finds it at work.
            for number in itertools.count():
                put(store, digest_of({"number": number}), arrays, FACTS)
                if number == 0:
                    writer.send("has begun")

        child = start_child(work)
        assert reader.poll(30)
        time.sleep(moments.uniform(0, 0.03))
        child.kill()
        assert finish(child) == -signal.SIGKILL
        places = list(store.folder.glob("*/*"))
        for place in places:
            n_in_the_midst += not (place / "record.json").exists()
            key = key_of(place)
            assert (store.get(key) is None) == (not (place / "record.json").exists())
            store.put(key, arrays, FACTS)
            assert_holds(store.get(key), arrays, FACTS)
        assert {stored.kind for stored in entries(store)} == {"other"}
        shutil.rmtree(store.folder)
        if n_in_the_midst == 10:
            return
    raise AssertionError(f"Of 100 kills, {n_in_the_midst} came in the midst of an entry.")


@WAYS
def test_what_a_killed_writer_left_is_gone_once_the_entry_is_made_again(tmp_path, put):
    codes = []
    while not codes or codes[-1] == -signal.SIGKILL:
        store = Store(tmp_path / str(len(codes)))

        def work(store: Store = store) -> None:
            die_at(len(codes))
            put(store, KEY, arrays_of(), FACTS)

        codes.append(finish(start_child(work)))
        store.put(KEY, arrays_of(), FACTS)
        names = sorted(path.name for path in files_in(store.folder))
        assert names == ["alpha.npy", "r.npy", "record.json", "seed.npy"]
        assert len(list(store.folder.rglob("*"))) == 7


def test_an_interrupt_just_after_the_record_has_its_name_leaves_the_whole(store, monkeypatch):
    link = os.link

    def interrupted(source: Path, target: Path) -> None:
        link(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.put(KEY, arrays_of(), FACTS)
    assert_holds(store.get(KEY), arrays_of(), FACTS)


# Writing piece by piece


def test_what_is_filled_in_blocks_comes_back_bit_by_bit(store):
    arrays = arrays_of()
    put_streamed(store, KEY, arrays, FACTS)
    assert_holds(store.get(KEY), arrays, FACTS)


@settings(deadline=None, max_examples=60)
@given(ARRAYS)
def test_any_array_can_be_allocated(values):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        with store.writer(KEY) as writer:
            allocated = writer.allocate("values", values.shape, values.dtype)
            assert allocated.tobytes() == bytes(values.nbytes)
            allocated[...] = values
            np.testing.assert_array_equal(allocated, values)
            written = allocated.tobytes()
            writer.commit({}, {})
        found = store.get(KEY).arrays["values"]
        assert (found.dtype, found.shape, found.tobytes()) == (values.dtype, values.shape, written)


def test_nothing_is_left_without_commit(store):
    with store.writer(KEY) as writer:
        writer.allocate("r", (1000, 2), np.float32)[:] = 1.0
        assert len(files_in(store.folder)) == 1
    assert store.get(KEY) is None
    assert files_in(store.folder) == []
    assert not place_of(store.root, KEY).exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError, MemoryError])
def test_an_error_of_the_callers_own_passes_and_leaves_nothing(store, error):
    def fail() -> None:
        with store.writer(KEY) as writer:
            writer.allocate("r", (1000, 2), np.float32)
            raise error

    with pytest.raises(error):
        fail()
    assert files_in(store.folder) == []


def test_nothing_can_be_changed_once_committed(store):
    with store.writer(KEY) as writer:
        values = writer.allocate("r", (10,), float)
        writer.commit({}, {})
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1.0
        with pytest.raises(ValueError, match="committed already"):
            writer.commit({"other": np.zeros(3)}, {})
    assert_holds(store.get(KEY), {"r": np.zeros(10)}, {})


def test_two_arrays_of_one_name_are_a_mistake(store):
    with store.writer(KEY) as writer:
        writer.allocate("r", (10,), float)
        with pytest.raises(ValueError, match="'r' is allocated already"):
            writer.allocate("r", (10,), float)
        with pytest.raises(ValueError, match="'r' is allocated already"):
            writer.commit({"r": np.zeros(3)}, {})
    assert store.get(KEY) is None


def test_objects_cannot_be_allocated(store):
    with store.writer(KEY) as writer, pytest.raises(ValueError, match="Python objects"):
        writer.allocate("r", (10,), object)


def test_space_is_reserved_before_anything_is_written(store):
    with store.writer(KEY) as writer:
        writer.allocate("r", (1000, 1000), np.float32)
        [path] = files_in(store.folder)
        assert 512 * path.stat().st_blocks >= 4_000_000


def test_all_is_on_the_disk_before_the_record_has_its_name(store, monkeypatch):
    synced, link, fsync = [], os.link, os.fsync

    def noted_fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def noted_link(own: Path, final: Path) -> None:
        # The folders too, or their names for what is in them could be lost.
        for path in (*own.parent.iterdir(), own.parent, final.parent):
            assert path.stat().st_ino in synced
        synced.append("linked")
        link(own, final)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    put_streamed(store, KEY, arrays_of(), FACTS)
    assert "linked" in synced


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of private memory")
def test_memory_does_not_grow_with_what_is_written(store):
    shape = (8, 2000, 4000)  # 256 MB

    def work() -> None:
        in_use = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (in_use + 2**26, in_use + 2**26))
        try:
            np.ones(shape, np.float32)
        except MemoryError:
            pass
        else:
            os._exit(3)
        with store.writer(KEY) as writer:
            values = writer.allocate("values", shape, np.float32)
            for start in range(0, shape[1], 500):
                values[:, start : start + 500] = start
            writer.commit({}, {})

    assert finish(start_child(work)) == 0
    values = store.get(KEY).arrays["values"]
    assert [values[0, start, 0] for start in (0, 499, 500, 1999)] == [0, 0, 500, 1500]


# Several writers


class Interrupted(Mapping):
    """Arrays whose writer is overtaken: `between` happens before its last array is asked for."""

    def __init__(self, arrays: Mapping[str, np.ndarray], between: Callable[[], None]) -> None:
        self.arrays, self.between = arrays, between

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def __len__(self) -> int:
        return len(self.arrays)

    def __iter__(self) -> Iterator[str]:
        *first, last = self.arrays
        yield from first
        self.between()
        yield last


def test_a_writer_that_is_overtaken_leaves_the_others_entry_whole(store):
    # Two machines need not compute the same bits: a mixture would be nobody's result.
    overtaken = Interrupted(arrays_of(1), lambda: store.put(KEY, arrays_of(2), {"writer": 2}))
    store.put(KEY, overtaken, {"writer": 1})
    assert_holds(store.get(KEY), arrays_of(2), {"writer": 2})


def test_a_reader_between_two_writers_sees_the_first_whole(store):
    def between() -> None:
        store.put(KEY, arrays_of(2), {"writer": 2})
        seen.append(store.get(KEY))

    seen: list[Entry | None] = []
    store.put(KEY, Interrupted(arrays_of(1), between), {"writer": 1})
    assert_holds(seen[0], arrays_of(2), {"writer": 2})


def test_nothing_of_an_unfinished_entry_can_be_read(store):
    def between() -> None:
        seen.append(store.get(KEY))

    seen: list[Entry | None] = []
    store.put(KEY, Interrupted(arrays_of(1), between), {"writer": 1})
    assert seen == [None]
    assert_holds(store.get(KEY), arrays_of(1), {"writer": 1})


def test_four_processes_that_put_one_key_leave_the_whole_entry_of_one(tmp_path):
    for trial in range(8):
        store = Store(tmp_path / str(trial))
        writers = [
            start_child(lambda seed=seed, store=store: store.put(KEY, arrays_of(seed, n=20_000), {"writer": seed}))
            for seed in range(4)
        ]
        assert [finish(writer) for writer in writers] == [0, 0, 0, 0]
        entry = store.get(KEY)
        assert entry is not None
        assert_holds(entry, arrays_of(entry.facts["writer"], n=20_000), entry.facts)


def lost_answer(error: OSError) -> Callable[[Path, Path], None]:
    """A server whose answer to a link was lost: the link is made, the second try fails."""
    link = os.link

    def linked(own: Path, final: Path) -> None:
        link(own, final)
        raise error

    return linked


@pytest.mark.parametrize(
    "error", [FileExistsError(errno.EEXIST, "File exists"), OSError(errno.EIO, "I/O error")], ids=str
)
def test_a_link_that_reports_failure_and_was_made_is_a_success(store, monkeypatch, error):
    monkeypatch.setattr(os, "link", lost_answer(error))
    # Nor need the new name be seen at once, and to rename one link of a file to the other is nothing to rely on.
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(Path, "replace", lambda *_: pytest.fail("renamed what was linked"))
    store.put(KEY, arrays_of(1), FACTS)
    assert_holds(store.get(KEY), arrays_of(1), FACTS)
    store.put(KEY, arrays_of(2), FACTS)
    assert_holds(store.get(KEY), arrays_of(1), FACTS)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK], ids=errno.errorcode.get)
def test_a_file_system_without_links_holds_whole_entries_too(store, monkeypatch, number):
    def refuse(*_: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    overtaken = Interrupted(arrays_of(1), lambda: store.put(KEY, arrays_of(2), {"writer": 2}))
    store.put(KEY, overtaken, {"writer": 1})
    assert_holds(store.get(KEY), arrays_of(2), {"writer": 2})
    assert len(files_in(store.folder)) == 4


def test_a_writer_that_is_at_work_is_left_to_it_by_one_that_was_faster(store):
    # To lose a mapped file over a network kills its process.
    with store.writer(KEY) as writer:
        values = writer.allocate("r", (1000,), float)
        store.put(KEY, arrays_of(2), {"writer": 2})
        store.put(KEY, arrays_of(3), {"writer": 3})
        assert (writer.folder / "r.npy").is_file()
        values[:] = 1.0
        writer.commit({}, {"writer": 1})
    assert_holds(store.get(KEY), arrays_of(2), {"writer": 2})
    assert len(files_in(store.folder)) == 4


def test_an_empty_folder_that_another_removes_is_made_again(store, monkeypatch):
    mkdir, n_calls = os.mkdir, 0

    def overtaken(path: str | Path, mode: int = 0o777) -> None:
        nonlocal n_calls
        if Path(path).parent == place_of(store.root, KEY):
            n_calls += 1
            if n_calls == 2:
                place_of(store.root, KEY).rmdir()
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", overtaken)
    store.put(KEY, arrays_of(), FACTS)
    assert n_calls > 2
    assert_holds(store.get(KEY), arrays_of(), FACTS)


# A disk that does not take it


def put_on_a_full_disk(store: Store, arrays: Mapping[str, np.ndarray], limit: int) -> str:
    """The message of the error where a file can have `limit` bytes."""

    def put() -> None:
        limit_files_to(limit)
        store.put(KEY, arrays, FACTS)

    return answer_of(lambda: refusal(put))


@pytest.mark.parametrize("limit", [10, 3_000, 6_000, 20_000], ids=lambda limit: f"{limit} bytes")
def test_a_full_disk_is_an_error_that_says_so_and_leaves_no_entry(store, limit):
    # Of these, "alpha" takes 1.7 kB, "r" 40 kB and the record less than 1 kB.
    arrays = {"alpha": np.arange(200.0), "r": np.zeros((5000, 1))}
    message = put_on_a_full_disk(store, arrays, limit)
    assert message.startswith(f"Cannot write the result {store.folder}")
    assert "Free some space" in message
    assert "None" not in message
    assert len(message.splitlines()) <= 3
    assert store.get(KEY) is None
    # What fitted would fill the disk for nobody.
    assert files_in(store.folder) == []
    store.put(KEY, arrays, FACTS)
    assert_holds(store.get(KEY), arrays, FACTS)


def test_a_full_disk_leaves_other_entries_readable(store):
    other = digest_of({"what": "another"})
    store.put(other, arrays_of(), FACTS)
    assert "Free some space" in put_on_a_full_disk(store, {"r": np.zeros(5000)}, limit=20_000)
    assert_holds(store.get(other), arrays_of(), FACTS)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system to fill")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@WAYS
def test_a_disk_that_is_full_is_an_error_and_what_was_there_stays(tiny_disk, put):
    store, other = Store(tiny_disk / "store"), digest_of({"what": "another"})
    store.put(other, arrays_of(), FACTS)
    before = files_in(store.folder)
    with pytest.raises(DataError, match=r"(?s)Cannot write the result .*No space left|requested and .* written"):
        put(store, KEY, {"r": np.ones(1_000_000), "alpha": np.zeros(3)}, FACTS)
    assert store.get(KEY) is None
    assert files_in(store.folder) == before
    assert_holds(store.get(other), arrays_of(), FACTS)


def test_what_was_allocated_can_be_filled_though_others_fill_the_disk(tiny_disk):
    store = Store(tiny_disk / "store")

    def work() -> None:
        with store.writer(KEY) as writer:
            values = writer.allocate("r", (100_000,), float)
            with suppress(OSError), (tiny_disk / "others").open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            assert shutil.disk_usage(tiny_disk).free == 0
            values[:] = np.arange(100_000)
            (tiny_disk / "others").unlink()
            writer.commit({}, FACTS)

    # In a process of its own: without the space reserved, a SIGBUS would end it.
    assert finish(start_child(work)) == 0
    assert_holds(store.get(KEY), {"r": np.arange(100_000.0)}, FACTS)


def test_an_array_larger_than_the_disk_is_refused_before_it_is_written(store):
    def allocate() -> None:
        limit_files_to(100_000)
        with store.writer(KEY) as writer:
            writer.allocate("r", (50_000,), float)

    assert "Free some space" in answer_of(lambda: refusal(allocate))
    assert files_in(store.folder) == []


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "store").write_text("a file")
    store = Store(tmp_path / "store")
    assert store.get(KEY) is None
    with pytest.raises(DataError, match=r"Cannot write the result .*/store/"):
        store.put(KEY, arrays_of(), FACTS)
    assert (tmp_path / "store").read_text() == "a file"


@pytest.fixture
def open_store() -> Iterator[Store]:
    """A store that any user of the machine can reach."""
    with folder_for_all() as folder:
        yield Store(folder / "store")


def test_a_read_only_folder_is_an_error_that_names_it(open_store):
    open_store.folder.mkdir()
    make_read_only(open_store.folder)
    message = answer_of(lambda: refusal(lambda: open_store.put(KEY, arrays_of(), FACTS)), as_another=True)
    assert message.startswith(f"Cannot write the result {open_store.folder}")
    assert "Permission denied" in message


def test_a_shared_store_that_is_read_only_can_be_read(open_store):
    open_store.put(KEY, arrays_of(), FACTS)
    make_read_only(open_store.folder)

    def work() -> bool:
        assert_holds(open_store.get(KEY), arrays_of(), FACTS)
        # First writer wins: there is nothing to write.
        open_store.put(KEY, arrays_of(2), FACTS)
        return True

    assert answer_of(work, as_another=True)


def test_a_damaged_entry_that_cannot_be_put_aside_is_an_error_that_says_what_to_do(open_store):
    open_store.put(KEY, arrays_of(), FACTS)
    record_of(open_store).write_text("damaged")
    make_read_only(open_store.folder)
    message = answer_of(lambda: refusal(lambda: open_store.get(KEY)), as_another=True)
    assert KEY in message
    assert message.endswith("Remove it.")


@pytest.mark.parametrize("call", ["get", "put"])
def test_a_store_that_may_not_be_looked_into_is_an_error_that_names_it(open_store, call):
    open_store.put(KEY, arrays_of(), FACTS)
    open_store.folder.chmod(0o000)
    calls = {"get": lambda: open_store.get(KEY), "put": lambda: open_store.put(KEY, arrays_of(), FACTS)}
    message = answer_of(lambda: refusal(calls[call]), as_another=True)
    assert str(open_store.folder) in message
    assert "Permission denied" in message
