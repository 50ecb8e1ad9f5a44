"""The unfinished file of a download: written by one process at a time, and taken up where it was left."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from _hashlib import HASH
    from io import BufferedRandom

__all__ = ["PartFile", "claim_part", "size_of_part"]


class PartFile:
    """What has been received of a file so far; made by `claim_part`, and released at the end of a ``with``.

    Parameters
    ----------
    path : Path
        Its name, beside the final one.
    stream : binary file
        Open for reading and writing, and locked where the file system has locks.
    begin_hash : callable
        Makes the checksum that is to be held to: it is taken of the bytes as they come, so that none is read again.
    """

    def __init__(self, path: Path, stream: BufferedRandom, begin_hash: Callable[[], HASH]) -> None:
        self.path = path
        self.stream = stream
        self.note = Path(f"{path}.from")
        self._begin_hash = begin_hash
        # What was left by another run is read once, here.
        self._hash = hashlib.file_digest(stream, begin_hash)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes received; what is written next follows them."""
        return self.stream.seek(0, os.SEEK_END)

    @property
    def digits(self) -> str:
        """The checksum of what was received, in hex."""
        return self._hash.hexdigest()

    def append(self, data: bytes) -> None:
        """Write `data` behind what there is."""
        self.stream.write(data)
        self._hash.update(data)

    def restart(self) -> None:
        """Forget what was received."""
        self.stream.seek(0)
        self.stream.truncate()
        self.note.unlink(missing_ok=True)
        self._hash = self._begin_hash()

    def remember_origin(self, url: str, validator: str | None, md5: str = "") -> None:
        """Keep what tells one version of the file at `url` from another (its ETag), and the MD5 the server states."""
        content = {"url": url, "validator": validator, "md5": md5}
        self.note.write_text(json.dumps(content), encoding="utf-8")

    def validator(self, url: str) -> str | None:
        """What `remember_origin` kept of `url` for `If-Range`; None if the bytes came from elsewhere."""
        return self._noted(url, "validator") or None

    def stated_md5(self, url: str) -> str:
        """The MD5 that the server at `url` stated; empty if it stated none."""
        return self._noted(url, "md5") or ""

    def publish(self, target: Path) -> None:
        """Give the file its final name, its bytes being on the disk."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.path.replace(target)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def close(self) -> None:
        """Release it; what was received stays for the next one who claims it, unless that is nothing."""
        try:
            if self.size == 0:
                self.discard()
        finally:
            self.stream.close()

    def _noted(self, url: str, what: str) -> str | None:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return note[what] if note["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):  # no note, or a torn one
            return None


def claim_part(target: Path, begin_hash: Callable[[], HASH]) -> PartFile | None:
    """Give the unfinished file of `target`, as a dead or failed download left it; None while another one writes to it.

    It is named ``<target>.part`` and locked, and a lock ends with its process. Where the file system has no locks it
    has a name of its own, ``<target>.<random>.part``: several may then be fetched at once, and none is taken up later.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = Path(folder) / "a.bin"
    ...     with claim_part(target, hashlib.sha256) as part:
    ...         part.append(b"half")
    ...     with claim_part(target, hashlib.sha256) as part:
    ...         part.size, claim_part(target, hashlib.sha256) is None
    (4, True)
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = _path_of_part(target)
    while True:
        # Made where it is not there, taken as it is where it is.
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            locked = _lock(stream)
            if locked and _is_at(stream, path):
                return PartFile(path, stream, begin_hash)
        except BaseException:
            stream.close()
            raise
        stream.close()
        if locked is None:
            return _part_without_lock(target, begin_hash)
        if not locked:
            return None


def size_of_part(target: Path) -> int:
    """Bytes that are here of a file that is unfinished, by whomever."""
    try:
        return _path_of_part(target).stat().st_size
    except FileNotFoundError:
        return 0


def _path_of_part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _part_without_lock(target: Path, begin_hash: Callable[[], HASH]) -> PartFile:
    _path_of_part(target).unlink(missing_ok=True)  # made only to learn that there are no locks
    path = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
    return PartFile(path, path.open("x+b"), begin_hash)


def _lock(stream: BufferedRandom) -> bool | None:
    """Whether the file is now locked by us; None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(stream: BufferedRandom, path: Path) -> bool:
    """Whether the file still has this name: who held it before may have given it the final one, or removed it."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False
