"""Checksums that are remembered: right as long as the file is the same, and found anew when it is not."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from child_processes import answer_of, folder_for_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainalign.archives.verified import checksum_of, fault_of, new_hash, remember_checksum

KINDS = ("md5", "sha1", "sha256")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"abc")
    return tmp_path / "a"


@pytest.fixture
def n_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often a file was hashed so far."""
    read: list[int] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda stream, kind: read.append(1) or digest(stream, kind))
    return lambda: len(read)


def replace(file: Path, content: bytes) -> None:
    """Put another file in its place, with the time of the first."""
    status = file.stat()
    other = file.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


def rewrite_later(file: Path, content: bytes) -> None:
    modified_ns = file.stat().st_mtime_ns
    file.write_bytes(content)
    os.utime(file, ns=(modified_ns, modified_ns + 10_000_000))


def append(file: Path, content: bytes) -> None:
    file.write_bytes(b"abc" + content)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_checksums_are_those_of_the_bytes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    for kind in KINDS:
        assert checksum_of(tmp_path / "a", kind, anew=True) == hashlib.new(kind, content).hexdigest()


def test_gits_checksum_is_that_of_git(file: Path) -> None:
    said = subprocess.run(["git", "hash-object", str(file)], capture_output=True, text=True, check=True).stdout
    assert checksum_of(file, "gitsha1") == said.strip()
    begun = new_hash("gitsha1", 3)
    begun.update(b"ab")
    begun.update(b"c")
    assert begun.hexdigest() == said.strip()


def test_a_file_is_read_once_for_each_kind(file: Path, n_read: Callable[[], int]) -> None:
    for _ in range(3):
        for kind in KINDS:
            assert checksum_of(file, kind) == hashlib.new(kind, b"abc").hexdigest()
    assert n_read() == 3


@pytest.mark.parametrize("change", [replace, rewrite_later, append], ids=["replaced", "rewritten", "longer"])
def test_a_file_that_changes_is_read_again(change: Callable[[Path, bytes], None], file: Path) -> None:
    checksum_of(file, "md5")
    change(file, b"xyz")
    assert checksum_of(file, "md5") == hashlib.md5(file.read_bytes()).hexdigest()


def test_a_file_changed_in_place_with_its_time_put_back_is_read_again(file: Path) -> None:
    checksum_of(file, "md5")
    status = file.stat()
    with file.open("r+b") as stream:
        stream.write(b"xyz")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert checksum_of(file, "md5") == hashlib.md5(b"xyz").hexdigest()


def test_a_file_is_read_anew_where_that_is_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where a disk loses bits: nothing that the file system tells has changed.
    monkeypatch.setattr("brainalign.archives.verified._state", lambda path: {"size": path.stat().st_size})
    checksum_of(file, "md5")
    file.write_bytes(b"xyz")
    assert checksum_of(file, "md5") == hashlib.md5(b"abc").hexdigest()
    assert checksum_of(file, "md5", anew=True) == hashlib.md5(b"xyz").hexdigest()
    assert checksum_of(file, "md5") == hashlib.md5(b"xyz").hexdigest()


def test_what_is_written_while_a_file_is_read_is_not_taken_for_what_was_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.file_digest

    def read_then_change(stream: object, kind: object) -> object:
        found = digest(stream, kind)
        rewrite_later(file, b"xyz")
        return found

    monkeypatch.setattr(hashlib, "file_digest", read_then_change)
    checksum_of(file, "md5")
    monkeypatch.setattr(hashlib, "file_digest", digest)
    assert checksum_of(file, "md5") == hashlib.md5(b"xyz").hexdigest()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"size": 3}'])
def test_a_damaged_record_is_as_none(damage: bytes, file: Path, own_cache: Path) -> None:
    checksum_of(file, "md5")
    [record] = own_cache.rglob("verified/*/*.json")
    record.write_bytes(damage)
    assert checksum_of(file, "md5") == hashlib.md5(b"abc").hexdigest()


def test_where_nothing_can_be_remembered_the_file_is_read() -> None:
    def look() -> str:
        os.environ["BRAINALIGN_CACHE"] = str(folder)
        return checksum_of(folder / "a", "md5")

    with folder_for_all() as folder:
        (folder / "a").write_bytes(b"abc")
        folder.chmod(0o555)
        assert answer_of(look, as_another=True) == hashlib.md5(b"abc").hexdigest()
        assert [path.name for path in folder.iterdir()] == ["a"]


def test_what_was_found_elsewhere_is_remembered_and_a_file_that_is_gone_is_not(
    file: Path, n_read: Callable[[], int], own_cache: Path
) -> None:
    remember_checksum(file, "md5", hashlib.md5(b"abc").hexdigest())
    assert fault_of(file, 3, f"md5:{hashlib.md5(b'abc').hexdigest()}") == ""
    assert n_read() == 0
    file.unlink()
    remember_checksum(file.with_name("gone"), "md5", "0" * 32)
    assert len(list(own_cache.rglob("*.json"))) == 1


@pytest.mark.parametrize(
    ("size", "checksum", "fault"),
    [
        (3, "", ""),
        (None, "", ""),
        (2, "", "expected 2 bytes, found 3"),
        (3, f"md5:{'0' * 32}", f"expected MD5 {'0' * 32}, found {hashlib.md5(b'abc').hexdigest()}"),
        (None, f"sha256:{hashlib.sha256(b'abc').hexdigest()}", ""),
    ],
)
def test_a_fault_says_what_was_expected_and_what_was_found(
    size: int | None, checksum: str, fault: str, file: Path
) -> None:
    assert fault_of(file, size, checksum) == fault
