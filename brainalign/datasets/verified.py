"""Checksums of large files, read once: they are remembered until the file's size or time changes.

A recording of two gigabytes takes seconds to hash; a study has hundreds, and is run many times.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from brainalign.files import atomic_path, cache_folder, digest_of_file

__all__ = ["checksum_of", "remember_checksum"]


def checksum_of(path: Path, kind: str, *, anew: bool = False) -> str:
    """The checksum of a file, in hex.

    Parameters
    ----------
    path : Path
    kind : {"sha256", "sha1", "md5"}
    anew : bool
        Whether to read the file also where its size and time are those of the last time.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a"
    ...     _ = file.write_bytes(b"abc")
    ...     checksum_of(file, "md5")
    '900150983cd24fb0d6963f7d28e17f72'
    """
    record = None if anew else _record_of(path)
    if record is not None and record.get(kind):
        return str(record[kind])
    digits = digest_of_file(path, kind)
    remember_checksum(path, kind, digits)
    return digits


def remember_checksum(path: Path, kind: str, digits: str) -> None:
    """Write down what the checksum of a file was found to be; where that cannot be written it is found anew."""
    record = {**_state(path), **(_record_of(path) or {}), kind: digits}
    with suppress(OSError), atomic_path(_place_of_record(path)) as part:
        part.write_text(json.dumps(record), encoding="utf-8")


def _record_of(path: Path) -> dict[str, object] | None:
    """What is remembered of the file as it is now."""
    try:
        record = json.loads(_place_of_record(path).read_text(encoding="utf-8"))
        return record if all(record[name] == value for name, value in _state(path).items()) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(path: Path) -> dict[str, int]:
    status = path.stat()
    # The inode tells a file from another that was put in its place with the same size and time.
    return {"size": status.st_size, "modified_ns": status.st_mtime_ns, "inode": status.st_ino}


def _place_of_record(path: Path) -> Path:
    name = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder("verified", name[:2], f"{name}.json")
