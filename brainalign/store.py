"""Results on disk under a key of all they depend on; `brainalign.store_layout` says how they lie there.

A record gets its name last, so that a killed process leaves no entry rather than half of one; the first writer of a
key wins, by a hard link, whatever the file system thinks of locks. What is damaged is put aside with a warning and
counts as absent, so that the caller computes it again.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import DTypeLike

from brainalign.errors import DataError, StoreWarning
from brainalign.files import cache_folder, fsync_path, reserve_space, xxh3_of_file
from brainalign.store_layout import (
    DAMAGE,
    LAYOUT,
    cannot_read,
    children,
    content_of,
    is_abandoned,
    key_of,
    paths_of_arrays,
    place_of,
    reason,
    record_of,
    sealed,
    writer_in,
    writer_name,
    writers_in,
)

if TYPE_CHECKING:
    # With it come pandas and xarray, which those who only ask what is there do without.
    from brainalign.types import Floats

__all__ = ["Entry", "Store", "Writer"]

# When an entry was last read is kept to the hour, so that many readers do not all write.
USED_TO_WITHIN_S = 3600.0

# What the system says where files are not what was written. Its other errors (no permission, too many open files) say
# nothing of the entry, which stays.
DAMAGE_NUMBERS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)


# What a file system answers where nothing fits any more; numpy says so of an array that was cut off without a number.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)


@dataclass(frozen=True)
class Entry:
    """What is stored under one key: named arrays, memory-mapped, and JSON-able facts beside them."""

    arrays: Mapping[str, Floats]
    facts: Mapping[str, Any]

    @property
    def on_disk(self) -> Mapping[str, Floats]:
        """The same arrays, each mapped when it is asked for: of thousands of entries, not all can be open at once."""
        return _OnDisk({name: Path(str(cast("np.memmap", values).filename)) for name, values in self.arrays.items()})


class _OnDisk(Mapping[str, "Floats"]):
    """Arrays that were verified, by their files; these are gone if the entry is."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths

    def __getitem__(self, name: str) -> Floats:
        path = self._paths[name]
        try:
            return _load(path)
        except FileNotFoundError as error:
            raise DataError(
                f"The stored result {path.parent.parent} was removed while it was read; run again."
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


@dataclass(frozen=True)
class Store:
    """A folder of entries.

    Parameters
    ----------
    folder : Path, optional
        By default ``store`` in brainalign's cache.

    Examples
    --------
    >>> import tempfile
    >>> from brainalign.files import digest_of
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> key = digest_of({"what": "squares", "n": 3})
    >>> store.get(key) is None
    True
    >>> store.put(key, {"values": np.arange(3.0) ** 2}, {"what": "squares"})
    >>> store.get(key).arrays["values"].tolist()
    [0.0, 1.0, 4.0]
    """

    folder: Path | None = None

    @property
    def root(self) -> Path:
        """Where the entries are, or will be."""
        return self.folder or cache_folder("store")

    def get(self, key: str) -> Entry | None:
        """The entry under `key`, or None where there is none that is whole.

        Every byte of it is read and verified; the arrays are memory maps, of which the reader's own changes stay its
        own.

        Warns
        -----
        StoreWarning
            If there is one that is damaged; it is put aside.

        Raises
        ------
        DataError
            If there is one that this user may not read, or that is damaged and cannot be put aside.
        """
        place = place_of(self.root, key)
        content = None
        try:
            content = content_of(place / "record.json")
            if content is None:
                return None
            entry = _read(place, content)
        except DAMAGE as error:
            _put_aside(place, content, str(error))
            return None
        except OSError as error:
            if error.errno not in DAMAGE_NUMBERS:
                raise cannot_read(place, error) from error
            _put_aside(place, content, reason(error))
            return None
        _mark_as_used(place / "record.json")
        _tidy(place)
        return entry

    def has(self, key: str) -> bool:
        """Whether there is an entry under `key`, by its record alone: whether it is whole is seen when it is read."""
        return os.path.exists(place_of(self.root, key) / "record.json")

    def put(self, key: str, arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> None:
        """Keep `arrays` and `facts` under `key`; where another writer was first, its entry stays.

        Raises
        ------
        DataError
            If the disk is full or the folder cannot be written to; nothing is left under the key.
        """
        place = place_of(self.root, key)
        if self.has(key):
            _sweep(place)
            return
        with self.writer(key) as writer:
            writer.commit(arrays, facts)

    @contextmanager
    def writer(self, key: str) -> Iterator[Writer]:
        """Write an entry piece by piece; it is there once committed, and nothing of it where the block ends before.

        Raises
        ------
        DataError
            If the folder cannot be written to.

        Examples
        --------
        >>> import tempfile
        >>> from brainalign.files import digest_of
        >>> store, key = Store(Path(tempfile.mkdtemp())), digest_of({"what": "a long story"})
        >>> with store.writer(key) as writer:
        ...     values = writer.allocate("values", (13, 2000, 8), np.float32)
        ...     for start in range(0, 2000, 500):
        ...         values[:, start : start + 500] = start
        ...     writer.commit({"onset_s": np.arange(2000) / 2}, {"what": "features"})
        >>> {name: array.shape for name, array in store.get(key).arrays.items()}
        {'values': (13, 2000, 8), 'onset_s': (2000,)}
        """
        place = place_of(self.root, key)
        # Each writer has a folder of its own, so that no two make a mixture; the record says whose it is.
        writer = Writer(place, place / writer_name())
        try:
            _make_folder(writer.folder)
            yield writer
        finally:
            # Whatever stopped it, and be it the user: what no record names only fills the disk. The record is asked,
            # since an interrupt may come between its getting its name and our learning of it.
            with suppress(OSError):
                if not writer.is_kept:
                    shutil.rmtree(writer.folder, ignore_errors=True)
                    place.rmdir()


@dataclass
class Writer:
    """An entry in the making, in a folder of its own that no reader looks into; see `Store.writer`."""

    place: Path
    folder: Path
    _allocated: dict[str, np.memmap[Any, Any]] = field(default_factory=dict, init=False, repr=False)

    def allocate(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> Floats:
        """An array of zeros that lies on disk, to be filled in any order; it takes no memory of the process's own.

        Parameters
        ----------
        name : str
            What the entry will call it.
        shape : sequence of int
        dtype : dtype
            Any but Python objects.

        Raises
        ------
        DataError
            If the disk has not so much space.
        """
        if name in self._allocated:
            raise ValueError(f"'{name}' is allocated already.")
        path = self.folder / f"{name}.npy"
        try:
            values = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=tuple(shape))
            reserve_space(path)
        except OSError as error:
            raise _cannot_write(self.place, error) from error
        self._allocated[name] = values
        return values

    def commit(self, arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> None:
        """Make an entry of what was allocated, `arrays` and `facts`; where another writer was first, its entry stays.

        What was allocated cannot be written to any more.

        Raises
        ------
        DataError
            If the disk is full; nothing is left under the key.
        """
        if self.is_kept:
            raise ValueError("This entry is committed already.")
        record = self.place / "record.json"
        try:
            self._write(arrays, facts)
            _claim(self.folder / "record.json", record)
        except OSError as error:
            # Another's entry may be there, and its writer may have swept this one away: it comes second.
            if not os.path.exists(record):
                raise _cannot_write(self.place, error) from error
        _sweep(self.place)

    @property
    def is_kept(self) -> bool:
        """Whether the entry is this writer's."""
        return writer_in(content_of(self.place / "record.json")) == self.folder.name

    def _write(self, arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> None:
        """Bring all onto the disk, the record last."""
        for values in self._allocated.values():
            values.flush()
            values.flags.writeable = False
        names = list(self._allocated)
        for name, values in arrays.items():
            if name in names:
                raise ValueError(f"'{name}' is allocated already.")
            np.save(self.folder / f"{name}.npy", np.asarray(values, order="C"), allow_pickle=False)
            names.append(name)
        record = {
            "layout": LAYOUT,
            "key": key_of(self.place),
            "writer": self.folder.name,
            "written_s": time.time(),
            "arrays": {name: _checks(self.folder / f"{name}.npy") for name in names},
            "facts": dict(facts),
        }
        own = self.folder / "record.json"
        own.write_bytes(sealed(record))
        for path in (own, self.folder, self.place):
            fsync_path(path)


# Reading


def _read(place: Path, content: bytes) -> Entry:
    """The entry at `place`; raises one of the errors of damaged files where it is not what was written."""
    record = record_of(place, content)
    arrays: dict[str, Floats] = {}
    for name, path in paths_of_arrays(place, record).items():
        if xxh3_of_file(path) != record["arrays"][name]["xxh3_128"]:
            raise ValueError(f"{path.name} is not what was written")
        arrays[name] = _load(path)
    return Entry(arrays, record["facts"])


def _load(path: Path) -> Floats:
    with path.open("rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise ValueError(f"{path.name} is no plain array")
    # Mapped and copied on write: a reader may change its own numbers, never the stored ones.
    return np.load(path, mmap_mode="c", allow_pickle=False)


def _mark_as_used(record: Path) -> None:
    # A store that others own, or that is read-only, does without.
    with suppress(OSError):
        if time.time() - record.stat().st_mtime > USED_TO_WITHIN_S:
            os.utime(record)


def _put_aside(place: Path, content: bytes | None, damage: str) -> None:
    """Take the name from a damaged record, which takes one reader only, and its arrays' folder with it."""
    record = place / "record.json"
    aside = place / f"damaged.{uuid.uuid4().hex[:8]}.json"
    try:
        # Since it was read, it may have been pruned, or put aside and made again.
        if content is not None and content_of(record) != content:
            return
        record.rename(aside)
    except FileNotFoundError:
        return  # another reader was first
    except OSError as error:
        raise DataError(
            f"The stored result {place} is damaged ({damage[:200]}) and cannot be put aside: {reason(error)}. "
            "Remove it."
        ) from error
    writer = writer_in(content)
    for folder in writers_in(place):
        if folder.name == writer:
            with suppress(OSError):
                folder.rename(aside.with_suffix(""))
    warnings.warn(
        f"The stored result {place} is damaged ({damage[:200]}): put aside as {aside.name}, computed again.",
        StoreWarning,
        stacklevel=3,
    )


# Writing


def _make_folder(folder: Path) -> None:
    try:
        try:
            folder.mkdir(parents=True)
        except FileNotFoundError:
            # One that gave up has removed the empty folder above between the making of the two.
            folder.mkdir(parents=True)
    except OSError as error:
        raise _cannot_write(folder.parent, error) from error


def _checks(path: Path) -> dict[str, Any]:
    """What an array's file must be found to be; it is on the disk by then."""
    fsync_path(path)
    return {"bytes": path.stat().st_size, "xxh3_128": xxh3_of_file(path)}


def _claim(own: Path, final: Path) -> None:
    """Give a written record its final name, unless another writer's has it."""
    try:
        os.link(own, final)
    except FileExistsError:
        return
    except OSError:
        # NFS may lose the answer to a link that was made; what it says of its own second try is not to be believed.
        if own.stat().st_nlink != 2 and not final.exists():
            # No hard links on this file system: the last writer wins, which is as whole an entry as the first one's.
            own.replace(final)


def _sweep(place: Path) -> None:
    """Remove what writers that were killed left beside a whole entry."""
    # Judged before the record is read: a writer that is dead by now can no longer become the one it names.
    abandoned = [folder for folder in writers_in(place) if is_abandoned(folder)]
    with suppress(OSError):
        winner = writer_in(content_of(place / "record.json"))
        for folder in writers_in(place):
            if folder.name == winner:
                (folder / "record.json").unlink(missing_ok=True)
            elif folder in abandoned and winner is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _tidy(place: Path) -> None:
    """Sweep where there is more than a record and its arrays: a writer was killed just before it would have swept."""
    kept = children(place)
    if len(kept) > 2 or any(os.path.exists(path / "record.json") for path in kept):
        _sweep(place)


def _cannot_write(place: Path, error: OSError) -> DataError:
    mend = "Free some space (brainalign cache prune), or set" if error.errno in NO_SPACE else "Set"
    return DataError(
        f"Cannot write the result {place}: {reason(error)}. {mend} BRAINALIGN_CACHE to a folder that you can write to; "
        "what was stored before is untouched."
    )
