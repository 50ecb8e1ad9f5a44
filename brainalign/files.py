"""Files that appear whole or not at all, their digests, and where brainalign keeps what it downloads and computes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import xxhash

__all__ = [
    "atomic_path",
    "cache_folder",
    "digest_of",
    "digest_of_file",
    "fsync_path",
    "known_sha256",
    "owned_name",
    "owner_is_gone",
    "reserve_space",
    "reserve_space_of",
    "sha256_of_file",
    "sweep_parts",
    "xxh3_of_file",
]

# What a file system answers that cannot reserve space.
CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


def cache_folder(*parts: str) -> Path:
    """The folder `parts` inside brainalign's cache; ``BRAINALIGN_CACHE`` names another than the user's own.

    Nothing is created.

    Examples
    --------
    >>> cache_folder("datasets", "alice").name
    'alice'
    """
    root = os.environ.get("BRAINALIGN_CACHE")
    if root:
        return Path(root).expanduser().joinpath(*parts)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("brainalign")).joinpath(*parts)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the name `path` only when the block ends well.

    The bytes are on the disk before the name is (fsync), so that neither a killed process nor a lost machine leaves a
    file that is half of what its name says. If the block raises, the temporary file is removed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "a.txt") as part:
    ...         _ = part.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since some writers choose the format by it; the name does not, since it may be a long one.
    part = path.with_name(f".{owned_name()}.tmp{path.suffix[:16]}")
    try:
        yield part
        fsync_path(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep_parts(folder: Path) -> None:
    """Remove what `atomic_path` could not, since its process was killed."""
    for part in folder.glob(".*-*-*.tmp*"):
        if owner_is_gone(part.name[1:].partition(".")[0]):
            part.unlink(missing_ok=True)


def owned_name() -> str:
    """A name that nobody else gives, and that says which process of which machine has given it."""
    return f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex}"


def owner_is_gone(name: str) -> bool:
    """Whether `owned_name` gave this name to a process of this machine that has ended.

    >>> owner_is_gone(owned_name()), owner_is_gone("of unknown origin")
    (False, False)
    """
    owner = re.fullmatch(r"([0-9a-f]{12})-(\d{1,9})-[0-9a-f]{32}", name)
    return owner is not None and owner[1] == _machine() and not _may_run(int(owner[2]))


def _may_run(process: int) -> bool:
    """Whether there may be such a process here, be it another user's, whose processes the machine may hide."""
    import psutil

    try:
        # One that was killed stays in the list until its parent has asked how it ended.
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@cache
def _machine() -> str:
    """Where a process's number means one process: this machine since it was started, this container."""
    marks = [platform.node()]
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        marks.append(os.readlink("/proc/self/ns/pid"))
    return digest_of({"marks": marks})[:12]


def fsync_path(path: Path) -> None:
    """Wait until a file's bytes, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reserve_space(path: Path) -> None:
    """Give a file with holes the space that its size promises, so that filling it later cannot fill the disk.

    A full disk is then an error now and no SIGBUS in the midst of writing through a memory map. Where the file system
    cannot reserve, zeros are written; one that compresses or copies on write may still run out later.

    Raises
    ------
    OSError
        If there is not so much space.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.truncate(100_000)
    ...     before = os.stat(file.name).st_blocks
    ...     reserve_space(Path(file.name))
    ...     before, 512 * os.stat(file.name).st_blocks >= 100_000
    (0, True)
    """
    with path.open("r+b", buffering=0) as stream:
        reserve_space_of(stream.fileno())


def reserve_space_of(descriptor: int) -> None:
    """The same for a file that is open, and may have no name."""
    size = os.fstat(descriptor).st_size
    if size and not _reserved(descriptor, size):
        _fill_holes(descriptor, size)


def _reserved(descriptor: int, size: int) -> bool:
    """Reserve; whether this system and file system can."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except AttributeError:  # macOS and Windows
        return False
    except OSError as error:
        if error.errno not in CANNOT_RESERVE:
            raise
        return False
    return True


def _fill_holes(descriptor: int, size: int, step: int = 2**20) -> None:
    """Write every byte anew: those that are there as they are, holes as the zeros that they read as."""
    for start in range(0, size, step):
        os.lseek(descriptor, start, os.SEEK_SET)
        content = os.read(descriptor, step)
        os.lseek(descriptor, start, os.SEEK_SET)
        while content:
            content = content[os.write(descriptor, content) :]


def digest_of_file(path: Path, kind: str) -> str:
    """The digest of a file's bytes, in hex; `kind` is "sha256", "sha1" or "md5"."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    return digest_of_file(path, "sha256")


def known_sha256(path: Path) -> str:
    """The SHA-256 of a file, which is read again only when its size or time has changed: for files that are large."""
    status = path.stat()
    return _sha256_of_state(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256_of_state(path: Path, size: int, modified_ns: int) -> str:
    return sha256_of_file(path)


def xxh3_of_file(path: Path) -> str:
    """The 128-bit XXH3 of a file's bytes, in hex.

    It finds every fault of a disk that a SHA-256 does, short of a chance of 2^-128, and thirty times as fast; an
    adversary, who could look for another file of the same sum, it does not keep out.
    """
    # Read rather than mapped: a sector that cannot be read is then an error and no SIGBUS.
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()


def digest_of(content: Mapping[str, Any]) -> str:
    """A SHA-256 of JSON-able `content`, the same whatever the order of its keys.

    Examples
    --------
    >>> digest_of({"a": 1, "b": [2.0]}) == digest_of({"b": [2.0], "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()
