"""Results on disk under a key of all they depend on.

An entry exists if and only if its record does, names its own digest rightly, and every array it lists has the size and
SHA-256 it says. The record is written last, so that a killed process leaves no entry rather than half of one; the first
writer of a key wins, whatever the file system thinks of locks. What is damaged is put aside with a warning and counts
as absent, so that the caller computes it again.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.errors import DataError, StoreWarning
from brainalign.files import atomic_path, cache_folder, digest_of, sha256_of_file
from brainalign.types import Floats

__all__ = ["Entry", "Store"]

LAYOUT = 1


@dataclass(frozen=True)
class Entry:
    """What is stored under one key: named arrays, memory-mapped, and JSON-able facts beside them."""

    arrays: Mapping[str, Floats]
    facts: Mapping[str, Any]


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
    >>> store.put(key, {"values": np.arange(3.0) ** 2}, {"unit": "none"})
    >>> store.get(key).arrays["values"].tolist()
    [0.0, 1.0, 4.0]
    """

    folder: Path | None = None

    def get(self, key: str) -> Entry | None:
        """The entry under `key`, or None where there is none that is whole.

        Warns
        -----
        StoreWarning
            If there is one that is damaged; it is put aside.
        """
        place = self._place(key)
        if not (place / "record.json").exists():
            return None
        try:
            return _read(place)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._put_aside(place, str(error)[:200])
            return None

    def put(self, key: str, arrays: Mapping[str, Floats], facts: Mapping[str, Any]) -> None:
        """Keep `arrays` and `facts` under `key`; where another writer was first, its entry stays.

        Raises
        ------
        DataError
            If the disk is full or the folder cannot be written to; nothing is left under the key.
        """
        place = self._place(key)
        if (place / "record.json").exists():
            _sweep(place)
            return
        # Each writer has a folder of its own, so that no two make a mixture; the record says whose it is.
        own = place / uuid.uuid4().hex
        claimed = False
        try:
            listing = {}
            for name, values in arrays.items():
                with atomic_path(own / f"{name}.npy") as part:
                    np.save(part, np.asarray(values, order="C"), allow_pickle=False)
                    listing[name] = {"bytes": part.stat().st_size, "sha256": sha256_of_file(part)}
            # Through JSON first, so that the digest is of what a reader will find.
            record = json.loads(json.dumps({"layout": LAYOUT, "key": key, "writer": own.name, "arrays": listing}))
            record["facts"] = json.loads(json.dumps(dict(facts)))
            record["digest"] = digest_of(record)
            with atomic_path(own / "record.json") as part:
                part.write_text(json.dumps(record), encoding="utf-8")
            claimed = _claim(own / "record.json", place / "record.json")
        except OSError as error:
            if (place / "record.json").exists():
                return
            reason = error.strerror or error
            raise DataError(
                f"Cannot write the result {place}: {reason}. Free some space or name another folder "
                "by BRAINALIGN_CACHE; what was stored before is untouched."
            ) from error
        finally:
            # Whatever stopped it, and be it the user: what no record names only fills the disk.
            if not claimed:
                shutil.rmtree(own, ignore_errors=True)
        _sweep(place)

    def _put_aside(self, place: Path, damage: str) -> None:
        aside = place.with_name(f"{place.name}.damaged.{uuid.uuid4().hex[:8]}")
        warnings.warn(
            f"The stored result {place} is damaged ({damage}): put aside as {aside.name}, computed again.",
            StoreWarning,
            stacklevel=3,
        )
        try:
            place.rename(aside)
        except FileNotFoundError:
            return  # another reader was first
        except OSError as error:
            raise DataError(f"The damaged stored result {place} cannot be put aside: {error}. Remove it.") from error

    def _place(self, key: str) -> Path:
        folder = self.folder or cache_folder("store")
        return folder / key[:2] / key


def _read(place: Path) -> Entry:
    """The entry at `place`; raises one of the errors of damaged files where it is not what was written."""
    record = json.loads((place / "record.json").read_text(encoding="utf-8"))
    if record.pop("digest") != digest_of(record) or (record["key"], record["layout"]) != (place.name, LAYOUT):
        raise ValueError("its record is not what was written")
    arrays = {}
    for name, listed in record["arrays"].items():
        path = place / record["writer"] / f"{name}.npy"
        if not path.is_file():
            raise ValueError(f"{path.name} is missing")
        if path.stat().st_size != listed["bytes"] or sha256_of_file(path) != listed["sha256"]:
            raise ValueError(f"{path.name} is not what was written")
        arrays[name] = _load(path)
    return Entry(arrays, record["facts"])


def _load(path: Path) -> Floats:
    with path.open("rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            raise ValueError(f"{path.name} is no plain array")
    # Mapped and copied on write: a reader may change its own numbers, never the stored ones.
    return np.load(path, mmap_mode="c", allow_pickle=False)


def _claim(own: Path, final: Path) -> bool:
    """Give a written record its final name, unless another writer's has it; whether it was given."""
    try:
        os.link(own, final)
    except FileExistsError:
        return False
    except OSError:
        # No hard links on this file system: the last writer wins, which is as whole an entry as the first one's.
        own.replace(final)
    return True


def _sweep(place: Path) -> None:
    """Remove what writers that were killed, or came second, left beside a whole entry.

    One that is still at work finds its folder gone and the entry there: it has come second, and that is all.
    """
    try:
        writer = json.loads((place / "record.json").read_text(encoding="utf-8"))["writer"]
        for other in place.iterdir():
            if other.is_dir() and other.name != writer:
                shutil.rmtree(other, ignore_errors=True)
            elif other.name.startswith("."):
                other.unlink(missing_ok=True)
        (place / writer / "record.json").unlink(missing_ok=True)
    except (OSError, ValueError, KeyError):
        return  # the next reader finds what there is to find
