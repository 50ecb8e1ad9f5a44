"""Results on disk under a key of all they depend on.

An entry exists if and only if its record does, names its own digest rightly, and every array it lists has the size and
SHA-256 it says. The record is written last, so that a killed process leaves no entry rather than half of one; the first
writer of a key wins, whatever the file system thinks of locks. What is damaged is put aside with a warning and counts
as absent, so that the caller computes it again.
"""

from __future__ import annotations

import json
import os
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
        record_path = place / "record.json"
        if not record_path.exists():
            return None
        damage = self._damage(place)
        if damage is None:
            record = json.loads(record_path.read_text(encoding="utf-8"))
            # Mapped and copied on write: a reader may change its own numbers, never the stored ones.
            arrays = {
                name: np.load(place / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in record["arrays"]
            }
            return Entry(arrays, record["facts"])
        aside = place.with_name(f"{place.name}.damaged.{os.getpid()}.{os.urandom(4).hex()}")
        warnings.warn(
            f"The stored result {place} is damaged ({damage}): put aside as {aside.name}, computed again.",
            StoreWarning,
            stacklevel=2,
        )
        try:
            place.rename(aside)
        except OSError as error:
            raise DataError(f"The damaged stored result {place} cannot be put aside: {error}. Remove it.") from error
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
            return
        try:
            listing = {}
            for name, values in arrays.items():
                with atomic_path(place / f"{name}.npy") as part:
                    np.save(part, np.ascontiguousarray(values), allow_pickle=False)
                    listing[name] = {"bytes": part.stat().st_size, "sha256": sha256_of_file(part)}
            record = {"layout": LAYOUT, "key": key, "arrays": listing, "facts": dict(facts)}
            record["digest"] = digest_of(record)
            with atomic_path(place / "record.json") as part:
                part.write_text(json.dumps(record), encoding="utf-8")
        except OSError as error:
            raise DataError(
                f"Cannot write the result {place}: {error.strerror}. Free some space or name another folder "
                "by BRAINALIGN_CACHE; what was stored before is untouched."
            ) from error

    def _place(self, key: str) -> Path:
        folder = self.folder or cache_folder("store")
        return folder / key[:2] / key

    def _damage(self, place: Path) -> str | None:
        """What is wrong with the entry at `place`; None where nothing is."""
        try:
            record = json.loads((place / "record.json").read_text(encoding="utf-8"))
            if record.pop("digest") != digest_of(record) or record["key"] != place.name:
                return "its record is not what was written"
            for name, listed in record["arrays"].items():
                path = place / f"{name}.npy"
                if path.stat().st_size != listed["bytes"] or sha256_of_file(path) != listed["sha256"]:
                    return f"{path.name} is not what was written"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"unreadable: {error}"
        return None
