"""What lies in a store is said, and only what was asked for goes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from child_processes import answer_of, finish, folder_for_all, make_read_only, start_child
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_entries import (
    FACTS,
    KEY,
    age,
    arrays_of,
    assert_holds,
    file_of,
    files_in,
    put_in_layout_1,
    put_streamed,
    read_after_a_fault,
    record_of,
    refusal,
)

from brainalign import store_housekeeping
from brainalign.errors import RecipeError
from brainalign.files import digest_of
from brainalign.store import Store
from brainalign.store_housekeeping import LEFTOVERS, Stored, entries, prune
from brainalign.store_layout import LAYOUT, UNTOUCHED_S, place_of, writer_name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def key_of(name: str) -> str:
    return digest_of({"name": name})


def fill(store: Store) -> None:
    """Two features, two fits and one that says nothing of itself; the later, the longer ago used, a day each."""
    for number, (what, name) in enumerate(
        [("features", "a"), ("fit", "a"), ("features", "b"), ("fit", "b"), (None, "c")]
    ):
        facts = {"what": what, "name": name} if what else {}
        store.put(key_of(f"{what} {name}"), {"r": np.zeros(1000 * (1 + number))}, facts)
        record = place_of(store.root, key_of(f"{what} {name}")) / "record.json"
        used_s = time.time() - 86400 * (number + 0.5)
        os.utime(record, (used_s, used_s))


def leave_behind(store: Store) -> None:
    """One damaged entry, one that a killed writer left, one of the older layout."""
    store.put(KEY, arrays_of(), FACTS)
    file_of(store, "r.npy").write_bytes(b"damaged")
    read_after_a_fault(store)

    def die() -> None:
        with store.writer(key_of("killed")) as writer:
            writer.allocate("r", (1000,), float)
            os.kill(os.getpid(), signal.SIGKILL)

    assert finish(start_child(die)) == -signal.SIGKILL
    put_in_layout_1(store, key_of("old"), arrays_of(), FACTS)


def names_of(found: Iterable[Stored]) -> list[str]:
    return [f"{stored.kind} {stored.name}".strip() for stored in found]


# Listing


def test_entries_say_what_they_are(store):
    before = time.time()
    fill(store)
    found = {f"{stored.kind} {stored.name}": stored for stored in entries(store)}
    assert sorted(found) == ["features a", "features b", "fit a", "fit b", "other "]
    fit = found["fit b"]
    assert fit.key == key_of("fit b")
    assert fit.n_bytes == sum(path.stat().st_size for path in files_in(place_of(store.root, fit.key)))
    assert before <= fit.modified_s <= time.time()
    assert fit.used_s == pytest.approx(time.time() - 3.5 * 86400, abs=60)


def test_a_store_that_is_not_there_has_no_entries(store):
    assert list(entries(store)) == []
    assert prune(store, max_bytes=0) == []
    assert not store.folder.exists()


def test_all_that_lies_in_the_store_is_listed_with_its_bytes(store):
    fill(store)
    leave_behind(store)
    assert sorted(names_of(entries(store))) == [
        "damaged",
        "features a",
        "features b",
        "fit a",
        "fit b",
        "other",
        "outdated",
        "unfinished",
    ]
    assert sum(stored.n_bytes for stored in entries(store)) == sum(
        path.stat().st_size for path in files_in(store.folder)
    )


def test_reading_an_entry_is_using_it(store):
    fill(store)
    key = key_of("fit b")
    modified_s = next(stored.modified_s for stored in entries(store) if stored.key == key)
    store.get(key)
    [found] = [stored for stored in entries(store) if stored.key == key]
    assert found.used_s == pytest.approx(time.time(), abs=60)
    assert found.modified_s == modified_s


def test_listing_is_not_using(store):
    fill(store)
    before = {stored.key: stored.used_s for stored in entries(store)}
    assert {stored.key: stored.used_s for stored in entries(store)} == before


@pytest.mark.parametrize("damage", ["record", "arrays", "no arrays"])
def test_an_entry_that_is_seen_to_be_damaged_is_listed_as_such_and_can_be_pruned(store, damage):
    store.put(KEY, arrays_of(), FACTS)
    path = record_of(store) if damage == "record" else file_of(store, "r.npy")
    if damage == "no arrays":
        shutil.rmtree(path.parent)
    else:
        path.write_bytes(path.read_bytes()[:-1])
    assert "damaged" in names_of(entries(store))
    prune(store, kinds=["damaged"])
    assert store.get(KEY) is None
    store.put(KEY, arrays_of(), FACTS)
    assert_holds(store.get(KEY), arrays_of(), FACTS)


def test_what_a_newer_brainalign_keeps_is_said_to_be_its_own_and_goes_like_an_entry(store):
    fill(store)
    store.put(KEY, arrays_of(), FACTS)
    place = place_of(store.root, KEY)
    place.rename(place.with_name(f"{KEY}.{LAYOUT + 1}"))
    [newer] = [stored for stored in entries(store) if stored.key == KEY]
    assert (newer.kind, newer.name) == ("newer", "")
    assert newer.n_bytes == sum(path.stat().st_size for path in files_in(place.with_name(f"{KEY}.{LAYOUT + 1}")))
    assert names_of(prune(store, older_than_days=0))[-1] == "newer"
    assert list(entries(store)) == []


# Pruning


@pytest.mark.parametrize(
    ("options", "removed"),
    [
        ({"older_than_days": 3}, ["other", "fit b"]),
        ({"older_than_days": 30}, []),
        ({"older_than_days": 0}, ["other", "fit b", "features b", "fit a", "features a"]),
        ({"kinds": ["fit"]}, ["fit b", "fit a"]),
        ({"kinds": ["fit"], "older_than_days": 3}, ["fit b"]),
        # They take 8, 16, 24, 32, 40 kB and some hundred bytes each.
        ({"max_bytes": 60_000}, ["other", "fit b"]),
        ({"max_bytes": 130_000}, []),
        ({"max_bytes": 0}, ["other", "fit b", "features b", "fit a", "features a"]),
        ({"max_bytes": 60_000, "older_than_days": 2}, ["other", "fit b", "features b"]),
        ({"max_bytes": 30_000, "kinds": ["features"]}, ["features b"]),
        ({"kinds": ["no such kind"]}, []),
    ],
    ids=str,
)
def test_what_was_used_longest_ago_is_pruned_first(store, options, removed):
    fill(store)
    before = names_of(entries(store))
    assert names_of(prune(store, dry_run=True, **options)) == removed
    assert names_of(entries(store)) == before
    assert names_of(prune(store, **options)) == removed
    assert sorted([*names_of(entries(store)), *removed]) == sorted(before)
    for what, name in [("features", "a"), ("fit", "b")]:
        assert (store.get(key_of(f"{what} {name}")) is None) == (f"{what} {name}" in removed)


def test_leftovers_go_before_any_entry(store):
    fill(store)
    leave_behind(store)
    total = sum(stored.n_bytes for stored in entries(store))
    removed = names_of(prune(store, max_bytes=total - 30_000))
    assert sorted(removed[:3]) == ["damaged", "outdated", "unfinished"]
    assert len(removed) == 3


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_a_leftover_can_be_pruned_by_its_kind_and_nothing_else_goes(store, kind):
    fill(store)
    leave_behind(store)
    before = set(names_of(entries(store)))
    assert names_of(prune(store, kinds=[kind])) == [kind]
    assert set(names_of(entries(store))) == before - {kind}


def test_nothing_is_left_where_all_was_pruned(store):
    fill(store)
    leave_behind(store)
    prune(store, max_bytes=0)
    assert list(entries(store)) == []
    assert list(store.folder.glob("*/*")) == []


def test_what_is_none_of_ours_is_neither_listed_nor_removed(store):
    fill(store)
    shard = next(store.folder.glob("*/*")).parent
    elsewhere = store.folder.parent / "elsewhere"
    strange = [
        store.folder / "thesis.tex",
        store.folder / "notes" / "notes of old" / "a.txt",
        shard / "zz" / "b.txt",
        elsewhere / "ee of mine" / "c.txt",
    ]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not yours")
    (store.folder / "ee").symlink_to(elsewhere)
    age(store.folder, 2 * UNTOUCHED_S)
    age(elsewhere, 2 * UNTOUCHED_S)
    assert len(list(entries(store))) == 5
    prune(store, max_bytes=0)
    assert [path.read_text() for path in strange] == 4 * ["not yours"]


def test_without_a_reason_nothing_is_pruned(store):
    fill(store)
    with pytest.raises(RecipeError, match="older_than_days, max_bytes or kinds"):
        prune(store)
    assert len(list(entries(store))) == 5


AGES = st.integers(0, 5)
STORED = st.builds(
    lambda kind, n_bytes, days, key: Stored(str(key), kind, "", n_bytes, 0.0, time.time() - 86400 * (days + 0.5), ()),
    st.sampled_from(["fit", "features", "damaged"]),
    st.integers(0, 10),
    AGES,
    st.integers(0, 100),
)


@settings(deadline=None)
@given(st.lists(STORED, max_size=8), st.none() | AGES, st.none() | st.integers(0, 40))
def test_pruning_keeps_what_it_may_and_no_more(candidates, older_than_days, max_bytes):
    chosen = store_housekeeping._to_prune(candidates, older_than_days, max_bytes)
    kept = [stored for stored in candidates if all(stored is not other for other in chosen)]
    assert len(chosen) + len(kept) == len(candidates)
    if older_than_days is None and max_bytes is None:
        assert kept == []
        return
    young_s = time.time() - 86400 * older_than_days if older_than_days is not None else 0.0
    assert all(stored.used_s >= young_s for stored in kept)
    if max_bytes is None:
        assert all(stored.used_s < young_s for stored in chosen)
        return
    left = sum(stored.n_bytes for stored in kept)
    assert left <= max_bytes
    for_space = [stored for stored in chosen if stored.used_s >= young_s]
    if for_space:
        # One fewer would have been too much, and none that is kept was to go before it.
        assert left + for_space[-1].n_bytes > max_bytes
        last = (for_space[-1].kind not in LEFTOVERS, for_space[-1].used_s)
        assert all((stored.kind not in LEFTOVERS, stored.used_s) >= last for stored in kept)


# Writers at work


@pytest.mark.parametrize(("seconds", "stays"), [(0, True), (0.9 * UNTOUCHED_S, True), (1.1 * UNTOUCHED_S, False)])
def test_what_a_writer_on_another_machine_left_goes_when_it_is_a_day_old(store, seconds, stays):
    # There is no such process here, which says nothing of one there.
    child = start_child(lambda: None)
    assert finish(child) == 0
    other = place_of(store.root, KEY) / f"0123456789ab-{child.pid}-{32 * '0'}"
    other.mkdir(parents=True)
    np.save(other / "r.npy", np.zeros(3))
    age(other, seconds)
    assert [stored.kind for stored in entries(store)] == ["in the making" if stays else "unfinished"]
    prune(store, max_bytes=0)
    assert other.exists() == stays
    store.put(KEY, arrays_of(), FACTS)
    assert other.exists() == stays


def test_a_process_of_another_user_is_taken_to_be_at_work(store, monkeypatch):
    own = place_of(store.root, KEY) / f"{writer_name().partition('-')[0]}-1-{32 * '0'}"
    own.mkdir(parents=True)

    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    store.put(KEY, arrays_of(), FACTS)
    prune(store, max_bytes=0)
    assert own.is_dir()


@pytest.mark.parametrize("is_old", [False, True])
def test_what_an_older_brainalign_may_be_writing_is_left_to_it_for_a_day(store, is_old):
    place = put_in_layout_1(store, KEY, arrays_of(), FACTS)
    (place / "record.json").unlink()
    if is_old:
        age(place, 1.1 * UNTOUCHED_S)
    assert names_of(entries(store)) == ["outdated" if is_old else "in the making"]
    prune(store, max_bytes=0)
    assert place.exists() != is_old


def test_a_writer_at_work_is_not_pruned(store):
    with store.writer(KEY) as writer:
        writer.allocate("r", (1000,), float)[:] = 1.0
        assert names_of(entries(store)) == ["in the making"]
        for options in ({"max_bytes": 0}, {"older_than_days": 0}, {"kinds": ["unfinished", "in the making"]}):
            assert prune(store, **options) == []
        writer.commit({}, FACTS)
    assert_holds(store.get(KEY), {"r": np.ones(1000)}, FACTS)


def test_pruning_while_four_processes_write_and_read_breaks_none(store):
    def work(seed: int) -> None:
        for number in range(20):
            key, arrays = digest_of({"number": number}), arrays_of(number)
            put_streamed(store, key, arrays, FACTS)
            entry = store.get(key)
            if entry is not None:
                assert_holds(entry, arrays, FACTS)

    children = [start_child(lambda seed=seed: work(seed)) for seed in range(4)]
    while any(child.is_alive() for child in children):
        prune(store, max_bytes=10_000)
    assert [finish(child) for child in children] == 4 * [0]
    assert not {"damaged", "unfinished"} & set(names_of(entries(store)))


# What may not be read or written


@pytest.fixture
def open_store() -> Iterator[Store]:
    """A store that any user of the machine can reach."""
    with folder_for_all() as folder:
        yield Store(folder / "store")


def test_a_read_only_store_can_be_listed_and_not_pruned(open_store):
    fill(open_store)
    make_read_only(open_store.folder)

    def look_and_prune() -> str:
        assert len(list(entries(open_store))) == 5
        return refusal(lambda: prune(open_store, max_bytes=0))

    message = answer_of(look_and_prune, as_another=True)
    assert message.startswith(f"Cannot remove {open_store.folder}")
    assert "Permission denied" in message
    assert len(list(entries(open_store))) == 5


@pytest.mark.parametrize("hidden", ["store", "key", "record"])
def test_what_may_not_be_looked_into_is_an_error_that_names_it(open_store, hidden):
    open_store.put(KEY, arrays_of(), FACTS)
    place = place_of(open_store.root, KEY)
    path, named = {
        "store": (open_store.folder, open_store.folder),
        "key": (place, place),
        "record": (place / "record.json", place),
    }[hidden]
    path.chmod(0o000)
    message = answer_of(lambda: refusal(lambda: list(entries(open_store))), as_another=True)
    assert message.startswith(f"Cannot read the stored results at {named}: Permission denied")
