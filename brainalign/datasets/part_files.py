"""The unfinished file of a download: written by one process at a time, and taken up where it was left."""

from __future__ import annotations

import glob
import json
import os
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["PartFile", "claim_part"]


class PartFile:
    """What has been received of a file so far; made by `claim_part`.

    Parameters
    ----------
    path : Path
        Its name, beside the final one.
    stream : binary file
        Open for reading and writing, and locked where the file system has locks.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.stream = stream
        self.note = Path(f"{path}.from")

    @property
    def size(self) -> int:
        """Bytes received; what is written next follows them."""
        return self.stream.seek(0, os.SEEK_END)

    def append(self, data: bytes) -> None:
        """Write `data` behind what there is."""
        self.stream.write(data)

    def restart(self) -> None:
        """Forget what was received."""
        self.stream.seek(0)
        self.stream.truncate()
        self.note.unlink(missing_ok=True)

    def remember_origin(self, url: str, validator: str | None) -> None:
        """Keep what tells one version of the file at `url` from another (its ETag), for a later `If-Range`."""
        self.note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def validator(self, url: str) -> str | None:
        """What `remember_origin` kept of `url`; None if the bytes came from elsewhere or the note is torn."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return note["validator"] if note["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

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


@contextmanager
def claim_part(target: Path) -> Generator[PartFile]:
    """Give the largest unfinished file that a dead or failed download of `target` left, or a new one.

    It is named ``<target>.<random>.part`` and nobody else writes to it: it is locked, and a lock ends with its
    process. Where there are no locks, nothing that was left is taken up.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with claim_part(Path(folder) / "a.bin") as part:
    ...         part.append(b"half")
    ...     with claim_part(Path(folder) / "a.bin") as part:
    ...         part.size
    4
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    left = sorted(_claim_what_was_left(target), key=lambda part: part.size)
    part = left.pop() if left else _new_part(target)
    for smaller in left:
        smaller.discard()
        smaller.stream.close()
    try:
        yield part
    finally:
        part.close()


def _claim_what_was_left(target: Path) -> Iterator[PartFile]:
    for name in glob.glob(f"{glob.escape(str(target))}.*.part"):
        # It may be published, removed or another user's by now.
        with suppress(FileNotFoundError, PermissionError):
            stream = Path(name).open("r+b")  # noqa: SIM115  PartFile closes it
            if _lock(stream, Path(name)):
                yield PartFile(Path(name), stream)
            else:
                stream.close()


def _new_part(target: Path) -> PartFile:
    while True:
        path = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}.part")
        stream = path.open("x+b")
        # Between creation and lock another process may have taken it for one that was left.
        if _lock(stream, path) is not False:
            return PartFile(path, stream)
        stream.close()


def _lock(stream: BinaryIO, path: Path) -> bool | None:
    """Whether the file `path` is now locked by us; None where there are no locks."""
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
    # Its former owner may have given it the final name, or removed it, before the lock was ours.
    return path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat())
