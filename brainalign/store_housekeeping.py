"""A store seen from outside: what lies in it, how large it is, when it was last used, and what may go."""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from brainalign.errors import DataError, RecipeError
from brainalign.store import Store
from brainalign.store_layout import (
    DAMAGE,
    LAYOUT,
    UNTOUCHED_S,
    cannot_read,
    children,
    content_of,
    is_abandoned,
    key_of,
    layout_of,
    newest_s,
    paths_of_arrays,
    reason,
    record_of,
    states_below,
    writer_in,
    writers_in,
)

__all__ = ["LEFTOVERS", "Stored", "entries", "prune"]

LEFTOVERS = ("damaged", "unfinished", "outdated")
"""The kinds of what no reader will ever use: put aside, left by a killed writer, or of an older layout."""


@dataclass(frozen=True)
class Stored:
    """What lies in a store: an entry, or what is left of one.

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


def entries(store: Store) -> Iterator[Stored]:
    """All that lies in a store, entries and leftovers, in no order that means anything.

    Records are read, arrays are not: of damage, only what sizes show is seen.

    Raises
    ------
    DataError
        If the folder cannot be listed.

    Examples
    --------
    >>> import tempfile
    >>> from brainalign.files import digest_of
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> store.put(digest_of({"n": 3}), {"values": np.arange(3.0) ** 2}, {"what": "squares", "name": "three"})
    >>> [(stored.kind, stored.name) for stored in entries(store)]
    [('squares', 'three')]
    """
    for place in _places(store):
        yield from _stored_in(place) if layout_of(place) == LAYOUT else [_stored_by_others(place)]


def prune(
    store: Store,
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
    store : Store
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

    Examples
    --------
    >>> import tempfile
    >>> from brainalign.files import digest_of
    >>> store = Store(Path(tempfile.mkdtemp()))
    >>> for what in ("features", "fit"):
    ...     store.put(digest_of({"what": what}), {"values": np.arange(3.0)}, {"what": what})
    >>> [stored.kind for stored in prune(store, kinds=["fit"])]
    ['fit']
    >>> [stored.kind for stored in entries(store)]
    ['features']
    """
    if older_than_days is None and max_bytes is None and kinds is None:
        raise RecipeError("Say what to remove from the store: by older_than_days, max_bytes or kinds.")
    found = [stored for stored in entries(store) if stored.kind != "in the making"]
    chosen = _to_prune(
        [stored for stored in found if kinds is None or stored.kind in kinds], older_than_days, max_bytes
    )
    if not dry_run:
        for stored in chosen:
            for path in stored.paths:
                _remove(path)
        for place in _places(store):
            with suppress(OSError):
                place.rmdir()
    return chosen


# Looking


def _places(store: Store) -> Iterator[Path]:
    """The folders of all keys, of any layout. Whatever else lies in the store is none of ours."""
    for shard in _folders_in(store.root):
        if re.fullmatch(r"[0-9a-f]{2}", shard.name):
            yield from (place for place in _folders_in(shard) if place.name.startswith(shard.name))


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot_read(folder, error) from error


def _stored_in(place: Path) -> Iterator[Stored]:
    """The entry at a place of this layout, what was put aside, and the folders of writers that no record names."""
    # Judged before the record is read: a writer that is dead by now can no longer become the one it names.
    abandoned = {folder: is_abandoned(folder) for folder in writers_in(place)}
    try:
        content = content_of(place / "record.json")
    except OSError as error:
        raise cannot_read(place, error) from error
    winner = writer_in(content)
    if content is not None:
        yield _entry(place, content, [folder for folder in abandoned if folder.name == winner])
    for record in children(place):
        if re.fullmatch(r"damaged\..*\.json", record.name):
            yield _measured(place, "damaged", [record.with_suffix(""), record])
    for folder, is_left in abandoned.items():
        if folder.name != winner:
            yield _measured(place, "unfinished" if is_left else "in the making", [folder])


def _stored_by_others(place: Path) -> Stored:
    """What another version of brainalign keeps under a key, or is writing."""
    stored = _measured(place, "outdated" if layout_of(place) < LAYOUT else "newer", [place])
    is_young = time.time() - stored.modified_s < UNTOUCHED_S
    if is_young and not os.path.exists(place / "record.json"):
        return replace(stored, kind="in the making")
    return stored


def _entry(place: Path, content: bytes, folders: Sequence[Path]) -> Stored:
    """What a record says of its entry; the folders are those of its writer."""
    stored = _measured(place, "damaged", [place / "record.json", *folders])
    try:
        record = record_of(place, content)
        paths_of_arrays(place, record)
        facts, modified_s = record["facts"], record["written_s"]
        kind, name = str(facts.get("what") or "other"), str(facts.get("name") or "")
    except (*DAMAGE, OSError):
        return stored
    used_s = newest_s(states_below([place / "record.json"]))
    return replace(stored, kind=kind, name=name, modified_s=modified_s, used_s=used_s)


def _measured(place: Path, kind: str, paths: Sequence[Path]) -> Stored:
    """What lies at `paths`, with no name; its times are those of the newest file."""
    there = tuple(path for path in paths if path.exists())
    states = list(states_below(there))
    n_bytes = sum(state.st_size for state in states if not stat.S_ISDIR(state.st_mode))
    return Stored(key_of(place), kind, "", n_bytes, newest_s(states), newest_s(states), there)


# Removing


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
        raise DataError(f"Cannot remove {path}: {reason(error)}. What is not removed stays as it was.") from error
