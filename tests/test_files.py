"""Files appear whole or not at all, whatever happens in between; digests tell contents apart."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import xxhash
from child_processes import die_at, die_at_byte, finish, limit_files_to, start_child
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.files import (
    atomic_path,
    cache_folder,
    digest_of,
    fsync_path,
    reserve_space,
    sha256_of_file,
    xxh3_of_file,
)

WHOLE = b"whole" * 200_000  # 1 MB
OLD = b"what was there before"


def write(path: Path, content: bytes = WHOLE) -> None:
    """Write in pieces, as a real writer does."""
    with atomic_path(path) as part, part.open("wb") as stream:
        for start in range(0, len(content), 100_000):
            stream.write(content[start : start + 100_000])
            stream.flush()


# atomic_path


@pytest.mark.parametrize("name", ["a.txt", "a", ".hidden", "a.tar.gz", "Ürümqi 日本.npy", "a\nb", "-rf", "%s.json"])
def test_a_file_has_its_name_and_bytes_afterwards_and_nothing_lies_beside_it(tmp_path, name):
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == WHOLE
    assert os.listdir(tmp_path) == [name]


def test_a_name_of_255_bytes_is_possible(tmp_path):
    write(tmp_path / ("x" * 251 + ".txt"), b"whole")
    assert len(os.listdir(tmp_path)) == 1


def test_the_folder_is_made(tmp_path):
    write(tmp_path / "a" / "b" / "c.bin", b"whole")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"whole"


def test_the_temporary_file_keeps_the_suffix_and_lies_beside_the_final_one(tmp_path):
    with atomic_path(tmp_path / "scores.nc") as part:
        assert part.suffix == ".nc"
        assert part.parent == tmp_path
        part.write_bytes(b"")


def test_two_writers_of_one_file_have_temporary_files_of_their_own(tmp_path):
    with atomic_path(tmp_path / "a") as first, atomic_path(tmp_path / "a") as second:
        assert first != second
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert os.listdir(tmp_path) == ["a"]


def test_the_name_is_not_there_until_the_block_has_ended(tmp_path):
    with atomic_path(tmp_path / "a") as part:
        part.write_bytes(WHOLE)
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("before", [None, OLD])
def test_an_exception_in_the_block_passes_and_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / "a"
    if before is not None:
        path.write_bytes(before)

    def interrupted() -> None:
        with atomic_path(path) as part:
            part.write_bytes(WHOLE)
            raise error

    with pytest.raises(error):
        interrupted()
    assert (path.read_bytes() if path.exists() else None) == before
    assert os.listdir(tmp_path) == (["a"] if before else [])


def test_an_exception_before_anything_was_written_is_not_hidden(tmp_path):
    with pytest.raises(ValueError, match="mine"), atomic_path(tmp_path / "a"):
        raise ValueError("mine")


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        events.append(("fsync", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))
        fsync(descriptor)

    def noted_replace(part: Path, path: Path) -> Path:
        events.append(("rename", part.stat().st_ino, part.stat().st_size))
        return replace(part, path)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write(tmp_path / "a")
    inode = (tmp_path / "a").stat().st_ino
    assert events == [("fsync", inode, len(WHOLE)), ("rename", inode, len(WHOLE))]


def test_a_failing_fsync_gives_no_file(tmp_path, monkeypatch):
    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "a")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_file_is_as_readable_as_the_users_other_files(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_a_file_in_place_of_the_folder_is_an_error_and_stays(tmp_path):
    (tmp_path / "folder").write_bytes(OLD)
    with pytest.raises(OSError):
        write(tmp_path / "folder" / "a")
    assert (tmp_path / "folder").read_bytes() == OLD


def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(OLD)

    def fill() -> None:
        limit_files_to(300_000)
        try:
            write(path)
        except OSError:
            os._exit(28)

    assert finish(start_child(fill)) == 28
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("before", [None, OLD])
def test_a_kill_at_any_file_operation_leaves_the_old_or_the_new(tmp_path, before):
    codes = []
    # The operation after the last is none: the child ends by itself.
    while not codes or codes[-1] == -signal.SIGKILL:
        path = tmp_path / str(len(codes)) / "a"
        path.parent.mkdir()
        if before is not None:
            path.write_bytes(before)

        def work(path: Path = path) -> None:
            die_at(len(codes))
            write(path)

        codes.append(finish(start_child(work)))
        assert (path.read_bytes() if path.exists() else None) in (before, WHOLE)
    assert codes[-1] == 0
    assert path.read_bytes() == WHOLE
    assert len(codes) > 3


def test_a_kill_within_a_write_leaves_the_old(tmp_path):
    path, rng = tmp_path / "a", random.Random(0)
    path.write_bytes(OLD)
    for _ in range(12):

        def work(byte: int = rng.randrange(1, len(WHOLE))) -> None:
            die_at_byte(byte)
            write(path)

        assert finish(start_child(work)) == -signal.SIGXFSZ
        assert path.read_bytes() == OLD
    write(path)
    assert path.read_bytes() == WHOLE


def test_a_kill_at_a_random_moment_leaves_one_of_the_whole(tmp_path):
    path, other, moments = tmp_path / "a", WHOLE[::-1], random.Random(0)
    n_in_the_midst = 0
    for _ in range(100):
        path.write_bytes(OLD)
        reader, writer = multiprocessing.Pipe(duplex=False)

        def work(writer: Connection = writer) -> None:
            # Without end: however fast the machine is, the kill finds it at work.
            write(path)
            writer.send("has begun")
            while True:
                write(path, other)
                write(path)

        child = start_child(work)
        assert reader.poll(30)
        time.sleep(moments.uniform(0, 0.02))
        child.kill()
        assert finish(child) == -signal.SIGKILL
        assert path.read_bytes() in (WHOLE, other)
        left = [name for name in os.listdir(tmp_path) if name != "a"]
        n_in_the_midst += len(left)
        for name in left:
            (tmp_path / name).unlink()
        if n_in_the_midst == 10:
            return
    raise AssertionError(f"Of 100 kills, {n_in_the_midst} came in the midst of a file.")


# Space


def with_holes(path: Path, size: int) -> Path:
    with path.open("wb") as stream:
        stream.write(b"head")
        stream.truncate(size)
    return path


def blocks_of(path: Path) -> int:
    return 512 * path.stat().st_blocks


UNABLE = [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS]


@pytest.mark.parametrize(
    "unable", [None, "no such call", *UNABLE], ids=lambda unable: errno.errorcode.get(unable, unable)
)
@pytest.mark.parametrize("size", [4, 5, 100_000, 2**20, 3 * 2**20 + 1])
def test_space_is_reserved_and_no_byte_changed(tmp_path, monkeypatch, unable, size):
    def fail(*_: int) -> None:
        raise OSError(unable, os.strerror(unable))

    if unable == "no such call":
        monkeypatch.delattr(os, "posix_fallocate")
    elif unable is not None:
        monkeypatch.setattr(os, "posix_fallocate", fail)
    path = with_holes(tmp_path / "a", size)
    assert size < 100_000 or blocks_of(path) < size
    reserve_space(path)
    assert blocks_of(path) >= size
    assert path.read_bytes() == b"head" + bytes(size - 4)


def test_an_empty_file_needs_no_space(tmp_path):
    (tmp_path / "a").touch()
    reserve_space(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO], ids=errno.errorcode.get)
def test_a_disk_without_the_space_is_an_error(tmp_path, monkeypatch, number):
    def fail(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        reserve_space(with_holes(tmp_path / "a", 100_000))


def test_a_folder_can_be_synced_as_a_file_can(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    (tmp_path / "a").write_bytes(WHOLE)
    for path in (tmp_path / "a", tmp_path):
        fsync_path(path)
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]
    descriptors = os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else []
    fsync_path(tmp_path)
    assert len(descriptors) == (len(os.listdir("/proc/self/fd")) if descriptors else 0)


# Digests


def test_the_digest_of_a_file_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        # The reference implementation's own test vectors, seed 0.
        (b"", "99aa06d3014798d86001c324468d497f"),
        (b"abc", "06b05ab6733a618578af5f94892f3950"),
    ],
)
def test_the_xxh3_of_a_file_is_the_published_one(tmp_path, content, digest):
    (tmp_path / "a").write_bytes(content)
    assert xxh3_of_file(tmp_path / "a") == digest


def test_the_xxh3_of_a_file_read_in_blocks_is_that_of_the_whole(tmp_path):
    (tmp_path / "a").write_bytes(WHOLE)
    assert xxh3_of_file(tmp_path / "a") == xxhash.xxh3_128_hexdigest(WHOLE)


def test_the_digest_of_a_content_is_that_of_one_written_form():
    # Everything stored is found by it.
    content = {"model": "é", "layers": [1, 2.5, None, True], "nan": float("nan"), "": {"b": "", "a": []}}
    text = r'{"":{"a":[],"b":""},"layers":[1,2.5,null,true],"model":"\u00e9","nan":NaN}'
    assert digest_of(content) == hashlib.sha256(text.encode()).hexdigest()


# Few values, so that equal and nearly equal contents are drawn often.
SCALARS = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        10,
        1.0,
        0.0,
        -0.0,
        0.1,
        0.1 + 0.2,
        0.3,
        float("nan"),
        float("inf"),
        "",
        "1",
        "a",
        "é",
        "\ud800",
    ]
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab1é"), inner, max_size=2)
)
CONTENTS = st.dictionaries(st.sampled_from("ab1é"), VALUES, max_size=2)


def frozen(value: object) -> object:
    """Equal for the same JSON value and different for all others, types and the sign of zero included."""
    if isinstance(value, dict):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    return type(value).__name__, repr(value)


def reversed_keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(list(value))}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(CONTENTS)
def test_the_order_of_keys_does_not_matter_at_any_depth(content):
    assert digest_of(reversed_keys(content)) == digest_of(content)


@settings(deadline=None)
@given(CONTENTS, CONTENTS)
def test_digests_are_equal_exactly_where_contents_are(one, other):
    assert (digest_of(one) == digest_of(other)) == (frozen(one) == frozen(other))


def test_the_order_of_a_list_matters():
    assert digest_of({"a": [1, 2]}) != digest_of({"a": [2, 1]})


def test_what_json_cannot_hold_is_refused_rather_than_digested_by_its_address():
    with pytest.raises(TypeError):
        digest_of({"a": object()})


# The cache


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path))
    assert cache_folder("a", "b") == tmp_path / "a" / "b"
    assert os.listdir(tmp_path) == []


def test_the_users_home_is_written_as_a_tilde(monkeypatch):
    monkeypatch.setenv("BRAINALIGN_CACHE", "~/cache")
    assert cache_folder() == Path.home() / "cache"


@pytest.mark.parametrize("unset", [True, False], ids=["unset", "empty"])
def test_the_cache_is_the_platforms_own_by_default(monkeypatch, tmp_path, unset):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if unset:
        monkeypatch.delenv("BRAINALIGN_CACHE")
    else:
        monkeypatch.setenv("BRAINALIGN_CACHE", "")
    assert cache_folder("a").parts[-2:] == ("brainalign", "a")
