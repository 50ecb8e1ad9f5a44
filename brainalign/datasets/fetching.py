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
import threading
import time
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import requests
import urllib3

from brainalign.datasets.part_files import PartFile, claim_part
from brainalign.datasets.remote_files import RemoteFile, checksum_name
from brainalign.errors import ChecksumError, DataError, DataWarning, UnreachableError
from brainalign.files import atomic_path, digest_of_file
from brainalign.types import Finding

__all__ = ["Patience", "fetch_all", "fetch_file"]

CHUNK_BYTES = 1 << 18
SLOWEST_BYTES_PER_S = 1024
# So much more than at the last failure, and the failures are counted anew.
PROGRESS_BYTES = 1 << 20
LONGEST_WAIT_S = 120.0
BUSY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    Parameters
    ----------
    stall_s : float
        Seconds without an answer, or at less than 1 KiB/s, after which a connection is given up.
    tries : int
        Failures in a row, with less than 1 MiB gained, after which the download is given up. What cannot even be
        connected to is tried twice only.
    backoff_s : float
        Seconds before the second try; doubled with each further one. A server's ``Retry-After`` holds instead, up to
        two minutes.
    """

    stall_s: float = 30.0
    tries: int = 5
    backoff_s: float = 0.5


def fetch_file(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    checksum: str = "",
    mirror_key: str | None = None,
    patience: Patience = Patience(),
    progress: bool | None = None,
) -> Path:
    """Fetch one file, unless it is there already, and return `path`.

    The bytes are received into a file ``<path>.<random>.part``, which a later call takes up; they get the name `path`
    once their size and checksum are right.

    Parameters
    ----------
    url : str
        The original source, http(s).
    path : Path
        Where the file shall be.
    size : int, optional
        Its bytes.
    checksum : str
        "sha256:", "sha1:" or "md5:" and hex digits. Without it a server's mistakes cannot all be noticed.
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
    wanted = _Wanted(path, url, size, checksum, mirror_key)
    if not wanted.is_there():
        with _progress_bar(path.name, size, progress) as bar, _session() as session:
            _Fetcher(session, patience, bar).fetch(wanted)
    return path


def fetch_all(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    dataset: str,
    patience: Patience = Patience(),
    progress: bool | None = None,
    threads: int = 4,
) -> list[Finding]:
    """Fetch the files of a dataset that are not in `folder` yet; the first failure stops the rest.

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

    Returns
    -------
    list of Finding
        One, of code ``fetched``, that says how many files and bytes came; none where all were there.

    Raises
    ------
    ChecksumError, UnreachableError, DataError
        As in `fetch_file`.
    """
    wanted = [_wanted(file, folder, dataset) for file in files]
    missing = [file for file in wanted if not file.is_there()]
    if not missing:
        return []
    n_bytes = sum(file.size or 0 for file in missing)
    summary = f"{len(missing)} files, {n_bytes / 1e6:.1f} MB"
    _check_space(folder, n_bytes)
    with _progress_bar(f"{dataset}: {summary}", n_bytes, progress) as bar, _session() as session:
        _fetch_in_threads(_Fetcher(session, patience, bar), missing, threads)
    return [Finding("fetched", dataset, f"{summary}, fetched and verified into {folder}")]


@dataclass(frozen=True)
class _Wanted:
    """A file with its place here and its sources."""

    path: Path
    url: str
    size: int | None
    checksum: str
    mirror_key: str | None

    def is_there(self) -> bool:
        """Whether it is in its place and right; warns where it is there and wrong."""
        if not self.path.is_file():
            return False
        fault = self.fault_of(self.path)
        if fault:
            warnings.warn(f"{self.path} is damaged ({fault}); it is fetched again.", DataWarning, stacklevel=3)
        return not fault

    def fault_of(self, path: Path) -> str:
        """What is wrong with the bytes at `path`; empty if nothing is."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"expected {self.size} bytes, found {size}"
        kind, _, digits = self.checksum.partition(":")
        if digits and (found := digest_of_file(path, kind)) != digits:
            return f"expected {checksum_name(kind)} {digits}, found {found}"
        return ""

    def mirror(self) -> Path | str | None:
        """Its place in the mirror, a file or a URL; None without a mirror."""
        mirror = os.environ.get("BRAINALIGN_MIRROR", "").strip()
        if not mirror or self.mirror_key is None:
            return None
        if re.match(r"https?://", mirror, re.IGNORECASE):
            return f"{mirror.rstrip('/')}/{quote(self.mirror_key)}"
        return Path(mirror).expanduser() / self.mirror_key


def _wanted(file: RemoteFile, folder: Path, dataset: str) -> _Wanted:
    return _Wanted(folder / file.path, file.url, file.size, file.checksum, f"{dataset}/{file.path}")


class _Bar(Protocol):
    def update(self, n: float | None = 1) -> bool | None: ...


class _RetryableError(Exception):
    """A try failed in a way that another may mend."""

    def __init__(self, reason: str, wait_s: float | None = None, connected: bool = True) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.connected = connected


class _WrongContentError(Exception):
    """What the server sends cannot be the file."""


@dataclass(frozen=True)
class _Fetcher:
    """Fetches files, one call each; calls may run at the same time."""

    session: requests.Session
    patience: Patience
    bar: _Bar
    stop: threading.Event = field(default_factory=threading.Event)
    mirror_is_dead: threading.Event = field(default_factory=threading.Event)

    def fetch(self, wanted: _Wanted) -> None:
        """Ask the mirror, then the source."""
        try:
            if not self._fetch_from_mirror(wanted):
                self._download(wanted, wanted.url)
        except OSError as error:  # of the disk: those of the network do not leave _receive
            raise DataError(
                f"{wanted.path} cannot be put in place: {error}. BRAINALIGN_CACHE names another folder."
            ) from error

    def _fetch_from_mirror(self, wanted: _Wanted) -> bool:
        """Whether the mirror gave the file; one that lacks it or does not answer is passed over."""
        mirror = wanted.mirror()
        if isinstance(mirror, Path):
            return mirror.is_file() and self._copy(wanted, mirror)
        if mirror is None or self.mirror_is_dead.is_set():
            return False
        try:
            return self._download(wanted, mirror)
        except UnreachableError as error:
            # Not to wait for it anew with each file.
            if isinstance(error.__cause__, _RetryableError) and not error.__cause__.connected:
                self.mirror_is_dead.set()
            return False

    def _copy(self, wanted: _Wanted, mirror: Path) -> bool:
        with atomic_path(wanted.path) as part:
            shutil.copyfile(mirror, part)
            if fault := wanted.fault_of(part):
                raise ChecksumError(f"{mirror} (a mirror of {wanted.url}): {fault}. Nothing was kept.")
            self.bar.update(part.stat().st_size)
        return True

    def _download(self, wanted: _Wanted, url: str) -> bool:
        if urlsplit(url).scheme.lower() not in ("http", "https"):
            raise DataError(f"{url}: only http and https are fetched.")
        with claim_part(wanted.path) as part:
            self.bar.update(part.size)
            # A wrong file gets one more chance, from its first byte. A server that says the bytes are compressed may
            # mean the file's own compression, so the second time they are taken as they come.
            for decode in (True, False):
                fault = self._receive_all(wanted, url, part, decode)
                if not fault:
                    part.publish(wanted.path)
                    return True
                self._restart(part)
        raise ChecksumError(f"{wanted.path.name} from {url}: {fault}.\nThis was so twice; nothing of it was kept.")

    def _receive_all(self, wanted: _Wanted, url: str, part: PartFile, decode: bool) -> str:
        """Receive what is missing of `part`, try by try; say what is wrong with it then."""
        n_failures, mark = 0, part.size
        while True:
            try:
                self._receive(wanted, url, part, decode)
                part.stream.flush()
                return wanted.fault_of(part.path)
            except _WrongContentError as error:
                return str(error)
            except _RetryableError as error:
                if part.size >= mark + PROGRESS_BYTES:
                    n_failures, mark = 0, part.size
                n_failures += 1
                if n_failures >= (self.patience.tries if error.connected else min(2, self.patience.tries)):
                    raise self._unreachable(wanted, url, part, error, n_failures) from error
                wait_s = self.patience.backoff_s * 2 ** (n_failures - 1) if error.wait_s is None else error.wait_s
                if self.stop.wait(min(wait_s, LONGEST_WAIT_S)):
                    raise CancelledError from error

    def _receive(self, wanted: _Wanted, url: str, part: PartFile, decode: bool) -> None:
        """Receive what is missing of `part` in one request."""
        if wanted.size is not None and part.size == wanted.size:
            return
        headers = _range_headers(wanted, url, part)
        if not headers:
            self._restart(part)
        with _network_faults():
            response = self.session.get(
                url,
                headers={"Accept-Encoding": "identity", **headers},
                stream=True,
                timeout=(min(10.0, self.patience.stall_s), self.patience.stall_s),
            )
        with response:
            self._check_status(wanted, url, part, response)
            encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
            if not encoded:
                _check_length(wanted, response)
                part.remember_origin(url, _validator_of(response))
            try:
                self._write_body(wanted, part, response, decode and encoded)
            except _RetryableError:
                if encoded:  # ranges count compressed bytes, of which none were kept
                    self._restart(part)
                raise

    def _check_status(self, wanted: _Wanted, url: str, part: PartFile, response: requests.Response) -> None:
        """Raise unless what follows belongs at the end of `part`, which is emptied where all of the file comes."""
        status = response.status_code
        if status == 200:
            self._restart(part)
        elif status == 206:
            self._check_range(wanted, part, response)
        elif status == 416:
            self._restart(part)
            raise _RetryableError("the server has no such range", wait_s=0.0)
        elif status in BUSY:
            raise _RetryableError(f"the server answers {status} {response.reason}", _retry_after_s(response))
        else:
            raise self._unreachable(wanted, url, part, f"the server answers {status} {response.reason}", 1)

    def _check_range(self, wanted: _Wanted, part: PartFile, response: requests.Response) -> None:
        said = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said.strip())
        if not match or int(match[1]) != part.size:
            self._restart(part)
            raise _RetryableError(f"the server sent another range than was asked for ({said!r})", wait_s=0.0)
        if wanted.size is not None and match[2] not in ("*", str(wanted.size)):
            raise _WrongContentError(f"expected {wanted.size} bytes, the server has {match[2]}")

    def _write_body(self, wanted: _Wanted, part: PartFile, response: requests.Response, decode: bool) -> None:
        """Append the response's body to `part` until it ends; raise where it comes too slowly or ends too early."""
        window_start, window_bytes = time.monotonic(), 0
        while data := self._read(response, decode):
            part.append(data)
            self.bar.update(len(data))
            if wanted.size is not None and part.size > wanted.size:
                raise _WrongContentError(f"expected {wanted.size} bytes, the server sends more")
            window_bytes += len(data)
            elapsed_s = time.monotonic() - window_start
            if elapsed_s >= self.patience.stall_s:
                if window_bytes < SLOWEST_BYTES_PER_S * elapsed_s:
                    raise _RetryableError(f"only {window_bytes} bytes came in {elapsed_s:.0f} s")
                window_start, window_bytes = time.monotonic(), 0
        if wanted.size is not None and part.size < wanted.size:
            if decode:
                raise _WrongContentError(f"expected {wanted.size} bytes, the server's unpack to {part.size}")
            raise _RetryableError(f"the connection ended after {part.size} of {wanted.size} bytes")

    def _read(self, response: requests.Response, decode: bool) -> bytes:
        if self.stop.is_set():
            raise CancelledError
        # read1 gives what has come; read would wait for the whole chunk, however slowly it drips.
        with _network_faults():
            return response.raw.read1(CHUNK_BYTES, decode_content=decode) or b""

    def _restart(self, part: PartFile) -> None:
        self.bar.update(-part.size)
        part.restart()

    def _unreachable(self, wanted: _Wanted, url: str, part: PartFile, reason: object, n_tries: int) -> UnreachableError:
        self.bar.update(-part.size)
        tries = f" ({n_tries} tries)" if n_tries > 1 else ""
        lines = [f"{url} cannot be fetched{tries}: {reason}."]
        if part.size:
            lines.append(f"{part.size} bytes are kept in {part.path}; running again goes on from there.")
        if mirror := wanted.mirror():
            lines.append(f"BRAINALIGN_MIRROR gave no copy either: {mirror}")
        elif wanted.mirror_key:
            lines.append("BRAINALIGN_MIRROR may name a folder or URL with a copy, <mirror>/<dataset>/<path>.")
        return UnreachableError("\n".join(lines))


def _range_headers(wanted: _Wanted, url: str, part: PartFile) -> dict[str, str]:
    """Ask for the rest of `part`; empty where it could not be told whether that is of the same file."""
    validator = part.validator(url)
    too_much = wanted.size is not None and part.size > wanted.size
    if part.size == 0 or too_much or (validator is None and not wanted.checksum):
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    return headers if validator is None else {**headers, "If-Range": validator}


def _validator_of(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag", "")
    # A weak ETag says that two files mean the same, not that their bytes are the same.
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _check_length(wanted: _Wanted, response: requests.Response) -> None:
    length = response.headers.get("Content-Length", "")
    if response.status_code == 200 and wanted.size is not None and length.isdigit() and int(length) != wanted.size:
        kind = response.headers.get("Content-Type", "unknown type")
        raise _WrongContentError(f"expected {wanted.size} bytes, the server sends {length} of {kind!r}")


def _retry_after_s(response: requests.Response) -> float | None:
    """Seconds that the server wants us to wait, told as a number or a date."""
    said = response.headers.get("Retry-After", "").strip()
    if said.isdigit():
        return float(said)
    try:
        moment = parsedate_to_datetime(said)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a time zone
        return None


@contextmanager
def _network_faults() -> Generator[None]:
    """Tell the faults of the network, which another try may mend, from all others."""
    try:
        yield
    except requests.TooManyRedirects as error:
        raise _RetryableError("it is redirected without end", connected=False) from error
    except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
        raise _RetryableError(f"it is redirected to what is no http address ({error})", connected=False) from error
    except urllib3.exceptions.DecodeError as error:
        raise _WrongContentError("the server calls the bytes compressed, and they are not") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _RetryableError(_root_cause(error), connected=not _is_connection_refused(error)) from error


def _is_connection_refused(error: BaseException) -> bool:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    never = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    kinds = (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
    return isinstance(error, kinds) or isinstance(reason, never)


def _root_cause(error: BaseException) -> str:
    """What a nested network error says at its core, without the names of objects."""
    inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else error
    text = str(getattr(inner, "reason", None) or inner) or type(inner).__name__
    return re.sub(r"^\w+\(.*?\): ", "", text)[:200]


def _fetch_in_threads(fetcher: _Fetcher, missing: Sequence[_Wanted], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(fetcher.fetch, wanted) for wanted in missing]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            # One failure is told, not one for each file.
            fetcher.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


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
def _progress_bar(title: str, n_bytes: int | None, progress: bool | None) -> Generator[_Bar]:
    from tqdm import tqdm

    # None leaves it to tqdm, which shows nothing where stderr is no terminal.
    disable = None if progress is None else not progress
    with tqdm(desc=title, total=n_bytes, unit="B", unit_scale=True, disable=disable) as bar:
        yield bar
