"""Files that appear whole or not at all, their digests, and where brainalign keeps what it downloads and computes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
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
    "reserve_space",
    "sha256_of_file",
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
    part = path.with_name(f".{uuid.uuid4().hex}.tmp{path.suffix[:16]}")
    try:
        yield part
        fsync_path(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
        size = os.fstat(stream.fileno()).st_size
        if size and not _reserved(stream.fileno(), size):
            _fill_holes(stream.fileno(), size)


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
