"""How a store lies on disk: a folder for each key, one in it for each writer, and the record that names the winner.

    ab/KEY.2/record.json          whose arrays these are, their sizes and checksums, facts, and a digest of itself
    ab/KEY.2/WRITER/r.npy         the arrays, in a folder of the writer's own
    ab/KEY.2/damaged.ID.json      what a reader found damaged and put aside, its arrays in damaged.ID/

An entry exists if and only if its record does, names its own digest rightly, and every array it lists has the size and
XXH3 checksum it says. The 2 is the layout's number: a version of brainalign with another layout sees none of these
entries and harms none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from brainalign.errors import DataError
from brainalign.files import digest_of, owned_name, owner_is_gone

__all__ = [
    "DAMAGE",
    "LAYOUT",
    "UNTOUCHED_S",
    "cannot_read",
    "children",
    "content_of",
    "is_abandoned",
    "key_of",
    "layout_of",
    "newest_s",
    "paths_of_arrays",
    "place_of",
    "reason",
    "record_of",
    "sealed",
    "states_below",
    "writer_in",
    "writer_name",
    "writers_in",
]

LAYOUT = 2

DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What making sense of a record or an array raises where it is not what was written."""

UNTOUCHED_S = 24 * 3600.0
"""Longer than any writer pauses between two blocks.

Younger folders of writers elsewhere are taken to be in use: to lose a mapped file over a network kills its process.
"""


def place_of(root: Path, key: str) -> Path:
    """The folder of all that lies under a key.

    >>> place_of(Path("store"), "ab12").as_posix()
    'store/ab/ab12.2'
    """
    return root / key[:2] / f"{key}.{LAYOUT}"


def key_of(place: Path) -> str:
    """Whose folder it is, in any layout."""
    return place.name.partition(".")[0]


def layout_of(place: Path) -> int:
    """The number after the key; the first layout had none."""
    number = place.name.partition(".")[2]
    return int(number) if number.isdecimal() else 1


# Records


def content_of(record: Path) -> bytes | None:
    """The bytes of a record, none where it is a folder; None where there is none."""
    try:
        return record.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        return b""


def sealed(record: Mapping[str, Any]) -> bytes:
    """A record as it is written, with a digest of all it says."""
    # Through JSON first, so that the digest is of what a reader will find.
    record = json.loads(json.dumps(record))
    return json.dumps({**record, "digest": digest_of(record)}).encode("ascii")


def record_of(place: Path, content: bytes) -> dict[str, Any]:
    """What the record at a place says; raises one of `DAMAGE` where that is not what was written there.

    >>> place = place_of(Path("store"), "ab12")
    >>> record_of(place, sealed({"key": "ab12", "layout": LAYOUT, "arrays": {}}))
    {'key': 'ab12', 'layout': 2, 'arrays': {}}
    """
    record = json.loads(content.decode("utf-8"))
    del record["digest"]
    # All bytes are compared: some flipped bits are the same in JSON, as the case of an escape is, or a digit beyond a
    # number's precision.
    if content != sealed(record) or (record["key"], record["layout"]) != (key_of(place), LAYOUT):
        raise ValueError("its record is not what was written")
    return record


def paths_of_arrays(place: Path, record: Mapping[str, Any]) -> dict[str, Path]:
    """The files of an entry's arrays; raises one of `DAMAGE` where one is missing or is not as large as it was."""
    paths = {name: place / record["writer"] / f"{name}.npy" for name in record["arrays"]}
    for name, path in paths.items():
        if not path.is_file():
            raise ValueError(f"{path.name} is missing")
        if path.stat().st_size != record["arrays"][name]["bytes"]:
            raise ValueError(f"{path.name} is not what was written")
    return paths


def writer_in(content: bytes | None) -> str | None:
    """Whom a record names as its writer, or None if it cannot be read so far."""
    try:
        writer = json.loads((content or b"").decode("utf-8"))["writer"]
    except DAMAGE:
        return None
    return writer if isinstance(writer, str) else None


# Writers


def writer_name() -> str:
    """A name that no other writer has, and that says which process of which machine has it."""
    return owned_name()


def writers_in(place: Path) -> list[Path]:
    """The folders of all writers at a place, whatever has become of them."""
    return [path for path in children(place) if path.is_dir() and not path.name.startswith("damaged.")]


def is_abandoned(folder: Path) -> bool:
    """Whether the process is gone that wrote here, or, where that cannot be known, nothing was written for long."""
    return owner_is_gone(folder.name) or time.time() - newest_s(states_below([folder])) > UNTOUCHED_S


# Files that others may remove meanwhile


def children(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it has vanished or cannot be looked into."""
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def states_below(paths: Iterable[Path]) -> Iterator[os.stat_result]:
    """The state of files, and of folders and all they hold, but for those that vanish meanwhile."""
    for path in paths:
        inner = [Path(folder, name) for folder, below, files in os.walk(path) for name in (*below, *files)]
        for each in (path, *inner):
            with suppress(OSError):
                yield each.lstat()


def newest_s(states: Iterable[os.stat_result]) -> float:
    """When any of these files was last written to; now, if all of them have vanished."""
    return max((state.st_mtime for state in states), default=time.time())


def cannot_read(path: Path, error: OSError) -> DataError:
    """What to say where the store, or something in it, may not be looked into."""
    return DataError(
        f"Cannot read the stored results at {path}: {reason(error)}. Have them made readable, or name another folder "
        "by BRAINALIGN_CACHE."
    )


def reason(error: OSError) -> str:
    """What the system says of an error, without its number and path."""
    return error.strerror or str(error)
