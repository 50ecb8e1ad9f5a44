"""The command ``brainalign cache``: what the cache folder holds, and what may go."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from brainalign.errors import BrainalignError
    from brainalign.store_housekeeping import Stored

__all__ = ["cache"]

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
KINDS = ("features", "fit", "other", "damaged", "unfinished", "outdated")
FOLDERS = {
    "store": "features and fits; `brainalign cache prune` removes some",
    "datasets": "downloads; a folder that is removed is downloaded again when needed",
    "models": "downloads; a folder that is removed is downloaded again when needed",
}


class Size(click.ParamType):
    """A number of bytes, written as 500MB or 10GB."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Give the number of bytes, or say what a size looks like."""
        units = {unit.upper(): factor for unit, factor in UNITS.items()}
        read = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)", str(value).strip().upper())
        if read is None:
            self.fail(f"'{value}' is no size; write it as 500MB or 10GB.", param, ctx)
        return int(float(read[1]) * units[read[2]])


@click.group()
def cache() -> None:
    """Say what the cache folder holds, and remove what is not needed any more."""


@cache.command("list")
@click.option("--entries", is_flag=True, help="One line per entry in place of sums.")
def list_command(entries: bool) -> None:
    """List what is stored, summed by kind and feature space."""
    found = sorted(_stored(), key=lambda stored: (stored.kind, stored.name, -stored.used_s))
    if not found:
        click.echo(f"Nothing is stored in {_folder('store')}.")
    elif entries:
        for stored in found:
            click.echo(f"{_line(stored.kind, stored.name, stored.n_bytes)} used {_date(stored.used_s)}  {stored.key}")
    else:
        _print_sums(found)
    if found:
        click.echo(f"{human(sum(stored.n_bytes for stored in found)):>9}  total, in {_folder('store')}")


@cache.command()
def size() -> None:
    """Say how large the parts of the cache folder are."""
    root = _folder()
    if not os.path.exists(root):
        click.echo(f"There is no cache yet; it will be {root}.")
        return
    sizes = {name: _size_of(root / name) for name in (*FOLDERS, *_others_in(root))}
    for name, n_bytes in sizes.items():
        click.echo(f"{human(n_bytes):>9}  {_printable(name):<13} {FOLDERS.get(name, '')}".rstrip())
    click.echo(f"{human(sum(sizes.values())):>9}  {'total':<13} in {root}")


@cache.command()
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="What was last used longer ago.")
@click.option("--max-size", type=Size(), help="What was used longest ago, until so much is left: 10GB.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only what is of this kind.")
@click.option("--dry-run", is_flag=True, help="Remove nothing, only say what would go.")
def prune(older_than: float | None, max_size: int | None, kinds: tuple[str, ...], dry_run: bool) -> None:
    """Remove stored features and fits; they are computed again when needed.

    What a running job is writing stays. On a network file system, prune when no job reads.
    """
    from brainalign import store_housekeeping
    from brainalign.errors import RecipeError
    from brainalign.store import Store

    found = _stored()
    if older_than is None and max_size is None and not kinds:
        _print_sums(found)
        raise RecipeError(
            "Say what to remove: --older-than DAYS, --max-size 10GB or --kind features; "
            "with --dry-run nothing is removed yet."
        )
    removed = store_housekeeping.prune(
        Store(_folder("store")),
        older_than_days=older_than,
        max_bytes=max_size,
        kinds=kinds or None,
        dry_run=dry_run,
    )
    _print_sums(removed)
    n_bytes = sum(stored.n_bytes for stored in removed)
    left = sum(stored.n_bytes for stored in found) - n_bytes
    verb = "Would remove" if dry_run else "Removed"
    click.echo(f"{verb} {_count(len(removed), 'entry', 'entries')}, {human(n_bytes)}; {human(max(left, 0))} stay.")


def human(n_bytes: float) -> str:
    """A number of bytes in the largest unit of which there is one: 79.9 MB."""
    unit, factor = next(((u, f) for u, f in reversed(UNITS.items()) if n_bytes >= f), ("B", 1))
    return f"{n_bytes:.0f} B" if factor == 1 else f"{n_bytes / factor:.1f} {unit}"


def _stored() -> list[Stored]:
    from brainalign.store import Store
    from brainalign.store_housekeeping import entries

    return list(entries(Store(_folder("store"))))


def _folder(*parts: str) -> Path:
    """The cache or a part of it, where that can be one."""
    from brainalign.errors import DataError
    from brainalign.files import cache_folder

    root = cache_folder()
    if os.path.exists(root) and not os.path.isdir(root):
        raise DataError(f"The cache {root} is a file, no folder; name another by BRAINALIGN_CACHE.")
    return cache_folder(*parts)


def _print_sums(found: Iterable[Stored]) -> None:
    """One line per kind and name."""
    sums: dict[tuple[str, str], list[int]] = {}
    for stored in found:
        sums.setdefault((stored.kind, stored.name), []).append(stored.n_bytes)
    for (kind, name), sizes in sorted(sums.items()):
        click.echo(f"{_line(kind, name, sum(sizes))} {_count(len(sizes), 'entry', 'entries')}")


def _line(kind: str, name: str, n_bytes: int) -> str:
    return f"{human(n_bytes):>9}  {_printable(kind):<13} {_printable(name):<24}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))


def _printable(text: str) -> str:
    """The text without what would move a terminal's cursor; others may have named what lies in a shared cache."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _others_in(root: Path) -> list[str]:
    """What lies in the cache beside the folders we know."""
    try:
        return sorted(set(os.listdir(root)) - set(FOLDERS))
    except OSError as error:
        raise _cannot_list(error) from error


def _size_of(path: Path) -> int:
    """The bytes of all files at and below a path; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return _bytes_of(path)
    return sum(
        _bytes_of(Path(folder, name)) for folder, _, names in os.walk(path, onerror=_said_plainly) for name in names
    )


def _bytes_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0  # not there, or removed meanwhile


def _said_plainly(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise _cannot_list(error) from error


def _cannot_list(error: OSError) -> BrainalignError:
    from brainalign.errors import DataError

    return DataError(f"Cannot list {error.filename}: {error.strerror}. Have it made readable.")
