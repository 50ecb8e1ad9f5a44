"""What a file's bytes must be, and what they were found to be: checksums of large files are read once.

A recording of two gigabytes takes seconds to hash; a study has hundreds, and is run many times. So what was found is
remembered until the file's size, time or inode changes.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from brainalign.archives.remote_files import checksum_name
from brainalign.files import atomic_path, cache_folder

if TYPE_CHECKING:
    from _hashlib import HASH

__all__ = ["checksum_of", "fault_of", "new_hash", "read_checksum", "remember_checksum"]


def new_hash(kind: str, size: int | None = None) -> HASH:
    r"""Begin a checksum of a kind; `size`, the bytes that will come, is needed for "gitsha1" alone.

    Examples
    --------
    >>> empty = new_hash("gitsha1", 0)
    >>> empty.hexdigest()  # as `git hash-object` says of an empty file
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    if kind != "gitsha1":
        return hashlib.new(kind, usedforsecurity=False)
    # Git counts what it stores in: a header that says how long the content is.
    return hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)


def fault_of(path: Path, size: int | None, checksum: str, *, anew: bool = False) -> str:
    """What is wrong with a file that is there, by its size and checksum; empty if nothing is.

    Parameters
    ----------
    path : Path
    size : int, optional
        Its bytes, where they are known.
    checksum : str
        Its kind and hex digits, "sha256:..."; empty where none is known.
    anew : bool
        Whether to read the file also where it was found right before and looks the same.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a"
    ...     _ = file.write_bytes(b"abc")
    ...     fault_of(file, 4, "")
    'expected 4 bytes, found 3'
    """
    there = path.stat().st_size
    if size is not None and there != size:
        return f"expected {size} bytes, found {there}"
    kind, _, digits = checksum.partition(":")
    if digits and (found := checksum_of(path, kind, anew=anew)) != digits:
        return f"expected {checksum_name(kind)} {digits}, found {found}"
    return ""


def checksum_of(path: Path, kind: str, *, anew: bool = False) -> str:
    """The checksum of a file, in hex.

    Parameters
    ----------
    path : Path
    kind : {"sha256", "sha1", "md5", "gitsha1"}
        The last is what git calls a file's content.
    anew : bool
        Whether to read the file also where its size, time and inode are those of the last time.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a"
    ...     _ = file.write_bytes(b"abc")
    ...     checksum_of(file, "md5")
    '900150983cd24fb0d6963f7d28e17f72'
    """
    # Before the bytes are read: what is written to the file meanwhile is not what was hashed.
    state = _state(path)
    record = None if anew else _record_of(path, state)
    if record is not None and record.get(kind):
        return str(record[kind])
    digits = read_checksum(path, kind)
    _remember(path, state, kind, digits)
    return digits


def read_checksum(path: Path, kind: str) -> str:
    """The checksum of the bytes of a file as they are now, in hex; nothing is remembered."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: new_hash(kind, size)).hexdigest()


def remember_checksum(path: Path, kind: str, digits: str) -> None:
    """Write down what the checksum of a file was found to be; where that cannot be written it is found anew."""
    with suppress(OSError):
        _remember(path, _state(path), kind, digits)


def _remember(path: Path, state: dict[str, int], kind: str, digits: str) -> None:
    record = {**state, **(_record_of(path, state) or {}), kind: digits}
    with suppress(OSError), atomic_path(_place_of_record(path)) as part:
        part.write_text(json.dumps(record), encoding="utf-8")


def _record_of(path: Path, state: dict[str, int]) -> dict[str, object] | None:
    """What is remembered of the file in this state."""
    try:
        record = json.loads(_place_of_record(path).read_text(encoding="utf-8"))
        return record if all(record[name] == value for name, value in state.items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(path: Path) -> dict[str, int]:
    status = path.stat()
    # The inode tells a file from another that was put in its place with the same size and time.
    times = {"modified_ns": status.st_mtime_ns, "changed_ns": status.st_ctime_ns}
    return {"size": status.st_size, "inode": status.st_ino, **times}


def _place_of_record(path: Path) -> Path:
    name = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder("verified", name[:2], f"{name}.json")
