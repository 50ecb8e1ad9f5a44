"""Results on disk under a key of all they depend on.

    ab/KEY.2/record.json          whose arrays these are, their sizes and checksums, facts, and a digest of itself
    ab/KEY.2/WRITER/r.npy         the arrays, in a folder of the writer's own
    ab/KEY.2/damaged.ID.json      what a reader found damaged and put aside, its arrays in damaged.ID/

An entry exists if and only if its record does, names its own digest rightly, and every array it lists has the size and
XXH3 checksum it says. The record gets its name last, so that a killed process leaves no entry rather than half of one;
the first writer of a key wins, by a hard link, whatever the file system thinks of locks. What is damaged is put aside
with a warning and counts as absent, so that the caller computes it again.

The 2 is the layout's number: a version of brainalign with another layout sees none of these entries and harms none.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import stat
import time
import uuid
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from brainalign.errors import DataError, RecipeError, StoreWarning
from brainalign.files import cache_folder, digest_of, fsync_path, reserve_space, xxh3_of_file
from brainalign.types import Floats

__all__ = ["LEFTOVERS", "Entry", "Store", "Stored", "Writer"]

LAYOUT = 2

LEFTOVERS = ("damaged", "unfinished", "outdated")
"""The kinds of what no reader will ever use: put aside, left by a killed writer, or of an older layout."""

# Longer than any writer pauses between two blocks. Younger folders of writers elsewhere are taken to be in use: to lose
# a mapped file over a network kills its process.
UNTOUCHED_S = 24 * 3600.0

# When an entry was last read is kept to the hour, so that many readers do not all write.
USED_TO_WITHIN_S = 3600.0

# What reading raises where files are not what was written. Other errors (no permission, too many open files) say
# nothing of the entry, which stays.
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
DAMAGE_NUMBERS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)


@dataclass(frozen=True)
class Entry:
    """What is stored under one key: named arrays, memory-mapped, and JSON-able facts beside them."""

    arrays: Mapping[str, Floats]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """What lies in a store, seen from outside: an entry, or what is left of one.

    Parameters
    ----------
    key : str
    kind : str
        The facts' ``what`` ("features", "fit"; "other" where they have none); for what is no entry "damaged",
        "unfinished", "outdated", "newer" (of another layout) or "in the making".
    name : str
        The facts' ``name``, or nothing.
    n_bytes : int
        Of all its files.
    modified_s, used_s : float
        Seconds since 1970 when it was written, and last read (to within an hour; when it was written where the store
        cannot be written to by its readers).
    paths : tuple of Path
        What to remove, in this order, to be rid of it.
    """

    key: str
    kind: str
    name: str
    n_bytes: int
    modified_s: float
    used_s: float
    paths: tuple[Path, ...] = field(repr=False)


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
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> key = digest_of({"what": "squares", "n": 3})
    >>> store.get(key) is None
    True
    >>> store.put(key, {"values": np.arange(3.0) ** 2}, {"what": "squares"})
    >>> store.get(key).arrays["values"].tolist()
    [0.0, 1.0, 4.0]
    >>> [stored.kind for stored in store.entries()]
    ['squares']
    """

    folder: Path | None = None

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
        place = self._place(key)
        content = None
        try:
            content = _content(place / "record.json")
            if content is None:
                return None
            entry = _read(place, content)
        except DAMAGE as error:
            _put_aside(place, content, str(error))
            return None
        except OSError as error:
            if error.errno not in DAMAGE_NUMBERS:
                raise _cannot_read(place, error) from error
            _put_aside(place, content, _reason(error))
            return None
        _mark_as_used(place / "record.json")
        return entry

    def put(self, key: str, arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> None:
        """Keep `arrays` and `facts` under `key`; where another writer was first, its entry stays.

        Raises
        ------
        DataError
            If the disk is full or the folder cannot be written to; nothing is left under the key.
        """
        place = self._place(key)
        if os.path.exists(place / "record.json"):
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
        >>> store, key = Store(Path(tempfile.mkdtemp())), digest_of({"what": "a long story"})
        >>> with store.writer(key) as writer:
        ...     values = writer.allocate("values", (13, 2000, 8), np.float32)
        ...     for start in range(0, 2000, 500):
        ...         values[:, start : start + 500] = start
        ...     writer.commit({"onset_s": np.arange(2000) / 2}, {"what": "features"})
        >>> {name: array.shape for name, array in store.get(key).arrays.items()}
        {'values': (13, 2000, 8), 'onset_s': (2000,)}
        """
        place = self._place(key)
        # Each writer has a folder of its own, so that no two make a mixture; the record says whose it is.
        writer = Writer(place, place / f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex}")
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

    def entries(self) -> Iterator[Stored]:
        """All that lies in the store, entries and leftovers, in no order that means anything.

        Records are read, arrays are not: of damage, only what sizes show is seen.

        Raises
        ------
        DataError
            If the folder cannot be listed.
        """
        for place in self._places():
            yield from _stored_in(place) if _layout_of(place) == LAYOUT else [_stored_by_others(place)]

    def prune(
        self,
        *,
        older_than_days: float | None = None,
        max_bytes: int | None = None,
        kinds: Collection[str] | None = None,
        dry_run: bool = False,
    ) -> list[Stored]:
        """Remove entries and leftovers; what a writer is still at work on stays.

        An entry that another process is reading stays readable to it, but for network file systems, where the reader
        fails: prune those when no job runs.

        Parameters
        ----------
        older_than_days : float, optional
            Remove what was last used longer ago.
        max_bytes : int, optional
            Remove leftovers, then what was used longest ago, until at most so much is left.
        kinds : collection of str, optional
            Look only at what is of these kinds (see `Stored`); all of it goes where neither age nor size is given.
        dry_run : bool
            Remove nothing, only say what would go.

        Returns
        -------
        list of Stored
            What was removed, in this order.

        Raises
        ------
        RecipeError
            If neither age, size nor kinds are given.
        DataError
            If something cannot be removed.
        """
        if older_than_days is None and max_bytes is None and kinds is None:
            raise RecipeError("Say what to remove from the store: by older_than_days, max_bytes or kinds.")
        found = [stored for stored in self.entries() if stored.kind != "in the making"]
        candidates = [stored for stored in found if kinds is None or stored.kind in kinds]
        chosen = _to_prune(candidates, older_than_days, max_bytes)
        if not dry_run:
            for stored in chosen:
                for path in stored.paths:
                    _remove(path)
            for place in self._places():
                with suppress(OSError):
                    place.rmdir()
        return chosen

    def _place(self, key: str) -> Path:
        return self._root / key[:2] / f"{key}.{LAYOUT}"

    @property
    def _root(self) -> Path:
        return self.folder or cache_folder("store")

    def _places(self) -> Iterator[Path]:
        """The folders of all keys, of any layout. Whatever else lies in the store is none of ours."""
        for shard in _folders_in(self._root):
            if re.fullmatch(r"[0-9a-f]{2}", shard.name):
                yield from (place for place in _folders_in(shard) if place.name.startswith(shard.name))


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
        return _writer_in(_content(self.place / "record.json")) == self.folder.name

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
        listing = {name: _checks(self.folder / f"{name}.npy") for name in names}
        record = {
            "layout": LAYOUT,
            "key": _key_of(self.place),
            "writer": self.folder.name,
            "written_s": time.time(),
            "arrays": listing,
            "facts": dict(facts),
        }
        # Through JSON first, so that the digest is of what a reader will find.
        record = json.loads(json.dumps(record))
        record["digest"] = digest_of(record)
        own = self.folder / "record.json"
        own.write_bytes(_in_bytes(record))
        for path in (own, self.folder, self.place):
            fsync_path(path)


# Reading


def _content(record: Path) -> bytes | None:
    """The bytes of a record, none where it is a folder; None where there is none."""
    try:
        return record.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        return b""


def _read(place: Path, content: bytes) -> Entry:
    """The entry at `place`; raises one of the errors of damaged files where it is not what was written."""
    record = _record_of(place, content)
    arrays = {}
    for name, listed in record["arrays"].items():
        path = place / record["writer"] / f"{name}.npy"
        if not path.is_file():
            raise ValueError(f"{path.name} is missing")
        if path.stat().st_size != listed["bytes"] or xxh3_of_file(path) != listed["xxh3_128"]:
            raise ValueError(f"{path.name} is not what was written")
        arrays[name] = _load(path)
    return Entry(arrays, record["facts"])


def _record_of(place: Path, content: bytes) -> dict[str, Any]:
    """What a record says; raises one of `DAMAGE` where that is not what was written there."""
    record = json.loads(content.decode("utf-8"))
    # Some flipped bits are the same in JSON: the case of an escape, a digit beyond a number's precision.
    is_as_written = content == _in_bytes(record) and record.pop("digest") == digest_of(record)
    if not is_as_written or (record["key"], record["layout"]) != (_key_of(place), LAYOUT):
        raise ValueError("its record is not what was written")
    return record


def _in_bytes(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode("ascii")


def _load(path: Path) -> Floats:
    with path.open("rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise ValueError(f"{path.name} is no plain array")
    # Mapped and copied on write: a reader may change its own numbers, never the stored ones.
    return np.load(path, mmap_mode="c", allow_pickle=False)


def _cannot_read(place: Path, error: OSError) -> DataError:
    return DataError(
        f"Cannot read the stored result {place}: {_reason(error)}. Have it made readable, or name another folder by "
        "BRAINALIGN_CACHE."
    )


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
        if content is not None and _content(record) != content:
            return
        record.rename(aside)
    except FileNotFoundError:
        return  # another reader was first
    except OSError as error:
        raise DataError(
            f"The stored result {place} is damaged ({damage[:200]}) and cannot be put aside: {_reason(error)}. "
            "Remove it."
        ) from error
    writer = _writer_in(content)
    for folder in _writers_in(place):
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
    abandoned = [folder for folder in _writers_in(place) if _is_abandoned(folder)]
    with suppress(OSError):
        winner = _writer_in(_content(place / "record.json"))
        for folder in _writers_in(place):
            if folder.name == winner:
                (folder / "record.json").unlink(missing_ok=True)
            elif folder in abandoned and winner is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _writers_in(place: Path) -> list[Path]:
    """The folders of all writers at a place, whatever has become of them."""
    return [path for path in _children(place) if path.is_dir() and not path.name.startswith("damaged.")]


def _children(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it has vanished or cannot be looked into."""
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _writer_in(content: bytes | None) -> str | None:
    """Whom a record names as its writer, or None if it cannot be read so far."""
    try:
        writer = json.loads((content or b"").decode("utf-8"))["writer"]
    except DAMAGE:
        return None
    return writer if isinstance(writer, str) else None


def _is_abandoned(folder: Path) -> bool:
    """Whether the process is gone that wrote here, or, where that cannot be known, nothing was written for long."""
    owner = re.fullmatch(r"([0-9a-f]{12})-(\d{1,9})-[0-9a-f]{32}", folder.name)
    if owner is not None and owner[1] == _machine() and not _may_run(int(owner[2])):
        return True
    return time.time() - _newest_s([folder]) > UNTOUCHED_S


def _may_run(process: int) -> bool:
    """Whether there may be such a process here, be it another user's, whose processes the machine may hide."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@cache
def _machine() -> str:
    """Where a process's number means one process: this machine since it was started, this container."""
    marks = [platform.node()]
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        marks.append(os.readlink("/proc/self/ns/pid"))
    return digest_of({"marks": marks})[:12]


def _cannot_write(place: Path, error: OSError) -> DataError:
    return DataError(
        f"Cannot write the result {place}: {_reason(error)}. Free some space (brainalign cache prune) or name another "
        "folder by BRAINALIGN_CACHE; what was stored before is untouched."
    )


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


# Housekeeping


def _stored_in(place: Path) -> Iterator[Stored]:
    """The entry at a place of this layout, what was put aside, and the folders of writers that no record names."""
    # Judged before the record is read; see _sweep.
    abandoned = {folder: _is_abandoned(folder) for folder in _writers_in(place)}
    content = _content_or_error(place / "record.json")
    winner = _writer_in(content)
    if content is not None:
        yield _stored_entry(place, content, [folder for folder in abandoned if folder.name == winner])
    for record in _children(place):
        if re.fullmatch(r"damaged\..*\.json", record.name):
            yield _stored(place, "damaged", [record.with_suffix(""), record])
    for folder, is_abandoned in abandoned.items():
        if folder.name != winner:
            yield _stored(place, "unfinished" if is_abandoned else "in the making", [folder])


def _stored_by_others(place: Path) -> Stored:
    """What another version of brainalign keeps under a key, or is writing."""
    is_young = time.time() - _newest_s([place]) < UNTOUCHED_S
    if is_young and not os.path.exists(place / "record.json"):
        return _stored(place, "in the making", [place])
    return _stored(place, "outdated" if _layout_of(place) < LAYOUT else "newer", [place])


def _stored_entry(place: Path, content: bytes, folders: Sequence[Path]) -> Stored:
    paths = [place / "record.json", *folders]
    try:
        record = _record_of(place, content)
        sizes = {name: listed["bytes"] for name, listed in record["arrays"].items()}
        found = {name: (place / record["writer"] / f"{name}.npy").stat().st_size for name in sizes}
        facts = record["facts"]
        kind, name = str(facts.get("what") or "other"), str(facts.get("name") or "")
    except (*DAMAGE, OSError):
        return _stored(place, "damaged", paths)
    if found != sizes:
        return _stored(place, "damaged", paths)
    return _stored(place, kind, paths, name, record["written_s"], _newest_s(paths[:1]))


def _stored(
    place: Path,
    kind: str,
    paths: Sequence[Path],
    name: str = "",
    modified_s: float | None = None,
    used_s: float | None = None,
) -> Stored:
    """Measure what lies at `paths`; times that are not given are those of the newest file."""
    there = tuple(path for path in paths if path.exists())
    n_bytes = sum(found.st_size for found in _stats_of(there) if not stat.S_ISDIR(found.st_mode))
    newest_s = _newest_s(there) if modified_s is None or used_s is None else 0.0
    return Stored(
        _key_of(place),
        kind,
        name,
        n_bytes,
        newest_s if modified_s is None else modified_s,
        newest_s if used_s is None else used_s,
        there,
    )


def _to_prune(candidates: Iterable[Stored], older_than_days: float | None, max_bytes: int | None) -> list[Stored]:
    """Which of the candidates go: leftovers first, then what was used longest ago."""
    ordered = sorted(candidates, key=lambda stored: (stored.kind not in LEFTOVERS, stored.used_s, stored.key))
    if older_than_days is None and max_bytes is None:
        return ordered
    old_s = time.time() - 86400 * older_than_days if older_than_days is not None else -np.inf
    chosen = [stored for stored in ordered if stored.used_s < old_s]
    if max_bytes is not None:
        kept = [stored for stored in ordered if stored.used_s >= old_s]
        left = sum(stored.n_bytes for stored in kept)
        for stored in kept:
            if left <= max_bytes:
                break
            chosen.append(stored)
            left -= stored.n_bytes
    return chosen


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return  # another was first
    except OSError as error:
        raise DataError(f"Cannot remove {path}: {_reason(error)}. What is not removed stays as it was.") from error


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(
            f"Cannot list the stored results in {folder}: {_reason(error)}. Have it made readable, or name another "
            "folder by BRAINALIGN_CACHE."
        ) from error


def _content_or_error(record: Path) -> bytes | None:
    try:
        return _content(record)
    except OSError as error:
        raise _cannot_read(record.parent, error) from error


def _stats_of(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    """The state of files, and of folders and all they hold, but for those that vanish meanwhile."""
    for path in paths:
        inner = [Path(folder, name) for folder, below, files in os.walk(path) for name in (*below, *files)]
        for each in (path, *inner):
            with suppress(OSError):
                yield each.lstat()


def _newest_s(paths: Iterable[Path]) -> float:
    """When anything at these paths was last written to; now, if all of it has vanished."""
    return max((found.st_mtime for found in _stats_of(paths)), default=time.time())


def _key_of(place: Path) -> str:
    return place.name.partition(".")[0]


def _layout_of(place: Path) -> int:
    """The number after the key; the first layout had none."""
    number = place.name.partition(".")[2]
    return int(number) if number.isdecimal() else 1
