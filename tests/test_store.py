"""What is stored comes back bit by bit, or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainalign.errors import DataError, StoreWarning
from brainalign.files import digest_of, sha256_of_file
from brainalign.store import Entry, Store

KEY = digest_of({"what": "a test"})
FACTS = {"layers": ["a", "b"], "n": 3, "share": 0.1, "nothing": None, "name": "Ürümqi 日本", "deep": {"a": [True, []]}}


def arrays_of(seed: int = 0, n: int = 1000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"r": rng.normal(size=(n, 2)).astype(np.float32), "alpha": rng.integers(0, 9, n), "seed": np.array([seed])}


def assert_holds(entry: Entry | None, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> None:
    assert entry is not None
    assert list(entry.arrays) == list(arrays)
    for name, values in arrays.items():
        assert entry.arrays[name].dtype == values.dtype
        assert entry.arrays[name].shape == values.shape
        assert entry.arrays[name].tobytes() == values.tobytes()
    assert entry.facts == facts


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def record_of(store: Store) -> Path:
    return next(store.folder.rglob(f"{KEY}/record.json"))


def file_of(store: Store, name: str) -> Path:
    return next(path for path in files_in(record_of(store).parent) if path.name == name)


def start_child(work: Callable[[], None]) -> multiprocessing.Process:
    """Run `work` in a process of its own, that can be killed."""
    with warnings.catch_warnings():
        # Python 3.12 warns of threads that numpy's BLAS has started; the child uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
    return child


def finish(child: multiprocessing.Process) -> int | None:
    child.join(timeout=30)
    return child.exitcode


def read_after_a_fault(store: Store) -> Entry | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        return store.get(KEY)


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


def flip_a_bit(content: bytearray, rng: random.Random) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def zero_a_block(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    stop = min(len(content), start + rng.choice([1, 16, 512, 4096]))
    content[start:stop] = bytes(stop - start)


def zero_the_tail(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start:] = bytes(len(content) - start)


def append(content: bytearray, rng: random.Random) -> None:
    content += rng.randbytes(rng.choice([1, 7, 4096]))


@pytest.mark.parametrize(
    "fault", [flip_a_bit, cut, zero_a_block, zero_the_tail, append], ids=lambda fault: fault.__name__
)
def test_no_fault_of_the_disk_is_ever_read_as_data(store, fault):
    arrays = arrays_of(n=300)
    rng = random.Random(fault.__name__)
    n_found = 0
    for trial in range(75):
        store.put(KEY, arrays, FACTS)
        # As often the small record as one of the arrays.
        record, *payload = sorted(files_in(record_of(store).parent), key=lambda path: path.name != "record.json")
        path = record if trial % 2 else rng.choice(payload)
        content = bytearray(path.read_bytes())
        fault(content, rng)
        path.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            entry = store.get(KEY)
        if entry is None:
            n_found += 1
            assert [warning.category for warning in caught] == [StoreWarning]
            assert KEY in str(caught[0].message)
        else:
            # A bit of nothing but zeros was zeroed, or blanks came after the record.
            assert caught == []
            assert_holds(entry, arrays, FACTS)
    assert n_found > 65
    store.put(KEY, arrays, FACTS)
    assert_holds(store.get(KEY), arrays, FACTS)


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


def test_two_readers_of_one_damaged_entry_both_find_none(store, monkeypatch):
    store.put(KEY, arrays_of(), FACTS)
    record_of(store).write_text("damaged")
    warned = []

    def overtaken(message: str, category: type[Warning], stacklevel: int) -> None:
        warned.append(category)
        if len(warned) == 1:
            # While this reader warns, another puts the entry aside.
            assert store.get(KEY) is None

    monkeypatch.setattr(warnings, "warn", overtaken)
    assert store.get(KEY) is None
    assert warned == [StoreWarning, StoreWarning]


def test_an_entry_moved_under_another_key_is_not_believed(store):
    store.put(KEY, arrays_of(), FACTS)
    other = digest_of({"what": "another"})
    place = store.folder / other[:2] / other
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
            listed["sha256"] = sha256_of_file(path.parent / record["writer"] / f"{name}.npy")
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


@pytest.mark.parametrize("changes", [{"layout": 2}, {"arrays": ["r"]}, {"arrays": {"r": {}}}, {"key": None}], ids=str)
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


def die_at(event: int) -> None:
    """Kill this process at its nth opening, renaming or removing of a file."""
    left = event

    def count(name: str, _: tuple) -> None:
        nonlocal left
        if name in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def test_a_kill_at_any_file_operation_leaves_nothing_or_the_whole(tmp_path):
    arrays, codes = arrays_of(), []
    # The operation after the last is none: the child ends by itself.
    while not codes or codes[-1] == -signal.SIGKILL:
        store = Store(tmp_path / str(len(codes)))

        def work(store: Store = store) -> None:
            die_at(len(codes))
            store.put(KEY, arrays, FACTS)

        codes.append(finish(start_child(work)))
        entry = store.get(KEY)
        if entry is not None:
            assert_holds(entry, arrays, FACTS)
        store.put(KEY, arrays, FACTS)
        assert_holds(store.get(KEY), arrays, FACTS)
    assert codes[-1] == 0
    assert len(codes) > 8


def test_a_kill_at_a_random_moment_leaves_nothing_or_the_whole(tmp_path):
    arrays, moments, codes = arrays_of(n=500_000), random.Random(0), []
    started = time.perf_counter()
    assert finish(start_child(lambda: Store(tmp_path / "timed").put(KEY, arrays, FACTS))) == 0
    took = time.perf_counter() - started
    for trial in range(15):
        store = Store(tmp_path / str(trial))
        child = start_child(lambda store=store: store.put(KEY, arrays, FACTS))
        time.sleep(moments.uniform(0, took))
        child.kill()
        codes.append(finish(child))
        entry = store.get(KEY)
        if entry is not None:
            assert_holds(entry, arrays, FACTS)
        store.put(KEY, arrays, FACTS)
        assert_holds(store.get(KEY), arrays, FACTS)
    assert codes.count(-signal.SIGKILL) > 3


def test_what_a_killed_writer_left_is_gone_once_the_entry_is_made_again(tmp_path):
    codes = []
    while not codes or codes[-1] == -signal.SIGKILL:
        store = Store(tmp_path / str(len(codes)))

        def work(store: Store = store) -> None:
            die_at(len(codes))
            store.put(KEY, arrays_of(), FACTS)

        codes.append(finish(start_child(work)))
        store.put(KEY, arrays_of(), FACTS)
        names = sorted(path.name for path in files_in(store.folder))
        assert names == ["alpha.npy", "r.npy", "record.json", "seed.npy"]
        assert len(list(store.folder.rglob("*"))) == 7


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


# A disk that does not take it


def refused(store: Store, arrays: Mapping[str, np.ndarray], limit: int | None = None, user: int | None = None) -> str:
    """The message of the DataError with which a process of these limits ends its `put`."""
    reader, writer = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if user is not None:
            os.setuid(user)
        try:
            store.put(KEY, arrays, FACTS)
        except DataError as error:
            writer.send(str(error))
        else:
            writer.send("was put")

    child = start_child(work)
    message = reader.recv() if reader.poll(30) else "no answer"
    assert finish(child) == 0
    return message


@pytest.mark.parametrize("limit", [10, 3_000, 6_000, 20_000], ids=lambda limit: f"{limit} bytes")
def test_a_full_disk_is_an_error_that_says_so_and_leaves_no_entry(store, limit):
    # Of these, "alpha" takes 1.7 kB, "r" 40 kB and the record less than 1 kB.
    arrays = {"alpha": np.arange(200.0), "r": np.zeros((5000, 1))}
    message = refused(store, arrays, limit)
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
    refused(store, {"r": np.zeros(5000)}, limit=20_000)
    assert_holds(store.get(other), arrays_of(), FACTS)


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "store").write_text("a file")
    store = Store(tmp_path / "store")
    assert store.get(KEY) is None
    with pytest.raises(DataError, match=r"Cannot write the result .*/store/"):
        store.put(KEY, arrays_of(), FACTS)
    assert (tmp_path / "store").read_text() == "a file"


@pytest.fixture
def open_store() -> Iterator[Store]:
    """A store that any user of the machine can reach: pytest's own folders are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = Store(Path(folder) / "store")
        yield store
        for path in [store.folder, *store.folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)


def make_read_only(store: Store) -> int | None:
    """Take away the right to write; root has it all the same, so give another user to become."""
    for path in [store.folder, *store.folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return 65534 if os.getuid() == 0 else None


def test_a_read_only_folder_is_an_error_that_names_it(open_store):
    open_store.folder.mkdir()
    message = refused(open_store, arrays_of(), user=make_read_only(open_store))
    assert message.startswith(f"Cannot write the result {open_store.folder}")
    assert "Permission denied" in message


def test_a_shared_store_that_is_read_only_can_be_read(open_store):
    open_store.put(KEY, arrays_of(), FACTS)
    user = make_read_only(open_store)

    def work() -> None:
        if user is not None:
            os.setuid(user)
        assert_holds(open_store.get(KEY), arrays_of(), FACTS)
        # First writer wins: there is nothing to write.
        open_store.put(KEY, arrays_of(2), FACTS)

    assert finish(start_child(work)) == 0


def test_a_damaged_entry_that_cannot_be_put_aside_is_an_error_that_says_what_to_do(open_store):
    open_store.put(KEY, arrays_of(), FACTS)
    record_of(open_store).write_text("damaged")
    user = make_read_only(open_store)
    reader, writer = multiprocessing.Pipe(duplex=False)

    def work() -> None:
        if user is not None:
            os.setuid(user)
        warnings.simplefilter("ignore", StoreWarning)
        try:
            open_store.get(KEY)
        except DataError as error:
            writer.send(str(error))

    assert finish(start_child(work)) == 0
    assert reader.poll(1)
    message = reader.recv()
    assert KEY in message
    assert message.endswith("Remove it.")
