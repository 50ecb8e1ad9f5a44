"""One file over the network: try by try, taken up where the last try ended, and named only when it is right."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import requests
import urllib3

from brainalign.archives.part_files import PartFile, claim_part, size_of_part
from brainalign.archives.remote_files import checksum_name
from brainalign.archives.verified import fault_of, new_hash, read_checksum, remember_checksum
from brainalign.errors import ChecksumError, DataError, UnreachableError

if TYPE_CHECKING:
    from _hashlib import HASH

__all__ = ["HUB", "USUAL_PATIENCE", "NoConnectionError", "Patience", "Transfer", "Wanted", "admission", "authorization"]

HUB = "https://huggingface.co"
CHUNK_BYTES = 1 << 18
SLOWEST_BYTES_PER_S = 1024
# So much more than at the last failure, and the failures are counted anew.
PROGRESS_BYTES = 1 << 20
LONGEST_WAIT_S = 120.0
BUSY = (408, 425, 429, 500, 502, 503, 504)
# How often it is looked whether another process has finished.
LOOK_S = 0.1


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
    others_s : float
        Seconds without a new byte after which another process that fetches the same file is waited for no longer.
    """

    stall_s: float = 30.0
    tries: int = 5
    backoff_s: float = 0.5
    others_s: float = 900.0


USUAL_PATIENCE = Patience()


class NoConnectionError(UnreachableError):
    """A server cannot even be connected to."""


@dataclass(frozen=True)
class Wanted:
    """A file with its place here, its source, and what its bytes must be (see `RemoteFile`)."""

    path: Path
    url: str
    size: int | None
    checksum: str

    @property
    def kind(self) -> str:
        """The kind of checksum that is taken; MD5 where none is known, since some servers state that."""
        return self.checksum.partition(":")[0] or "md5"

    def begin_hash(self) -> HASH:
        """Begin the checksum that its bytes are held to as they come; see `digits_of`."""
        return new_hash(self.kind, self.size)

    def digits_of(self, part: PartFile) -> str:
        """The checksum of what was received."""
        if self.kind != "gitsha1" or self.size is not None:
            return part.digits
        # Git counts the size in, before the content: where it is not known beforehand, the bytes are read again.
        part.stream.flush()
        return read_checksum(part.path, self.kind)

    def fault(self, size: int, digits: str, stated_md5: str = "") -> str:
        """What is wrong with bytes of this size and checksum, of which a server stated an MD5; empty if nothing is."""
        if self.size is not None and size != self.size:
            return f"expected {self.size} bytes, found {size}"
        known = self.checksum.partition(":")[2]
        if digits == (known or stated_md5 or digits):
            return ""
        expected = known or f"(of the server's ETag) {stated_md5}"
        return f"expected {checksum_name(self.kind)} {expected}, found {digits}"

    def is_here(self) -> bool:
        """Whether it is in its place and right."""
        return self.path.is_file() and not fault_of(self.path, self.size, self.checksum)


class Bar(Protocol):
    """What shows progress."""

    def update(self, n: float | None = 1) -> bool | None:
        """Count `n` bytes more."""
        ...


def authorization(url: str) -> dict[str, str]:
    """The header that shows the user's token, ``HF_TOKEN``, to the Hugging Face Hub and to nobody else."""
    token = os.environ.get("HF_TOKEN", "").strip()
    return {"Authorization": f"Bearer {token}"} if token and _is_on_hub(url) else {}


def admission(url: str, reason: str) -> str:
    """A line that says how to be admitted, where the Hub refuses for want of that; else empty."""
    refused = _is_on_hub(url) and re.search("answers 40[13]", reason)
    return "\nIts owner admits who asks on its page; then set HF_TOKEN to a token of yours." if refused else ""


def _is_on_hub(url: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(HUB)[:2]  # scheme and host


@dataclass(frozen=True)
class Transfer:
    """Downloads files, one call each; calls may run at the same time.

    Parameters
    ----------
    session : requests.Session
    patience : Patience
    bar : Bar
    stop : threading.Event
        Once it is set, calls end with `CancelledError`, and what they received stays for a later one.
    """

    session: requests.Session
    patience: Patience
    bar: Bar
    stop: threading.Event = field(default_factory=threading.Event)

    def download(self, wanted: Wanted, url: str) -> str:
        """Bring a file from `url` to its place, unless another process has done so meanwhile.

        Returns
        -------
        str
            The checksum that its bytes were held to: the one it must have, or the MD5 that the server stated; empty
            where there was neither, so that only its size could be.

        Raises
        ------
        ChecksumError
            If the bytes are not the expected ones, twice; nothing of them is kept.
        UnreachableError
            If it cannot be had; what was received is kept.
        """
        if urlsplit(url).scheme.lower() not in ("http", "https"):
            raise DataError(f"{url}: only http and https are fetched.")
        with self._claim(wanted) as part:
            if wanted.is_here():
                self.bar.update(wanted.size)
                part.discard()
                return wanted.checksum
            self.bar.update(part.size)
            # A wrong file gets one more chance, from its first byte. A server that says the bytes are compressed may
            # mean the file's own compression, so the second time they are taken as they come.
            for decode in (True, False):
                fault = self._receive_all(wanted, url, part, decode)
                if not fault:
                    return _publish(wanted, url, part)
                self._restart(part)
        raise ChecksumError(f"{wanted.path.name} from {url}: {fault}.\nThis was so twice; nothing of it was kept.")

    def _claim(self, wanted: Wanted) -> PartFile:
        """The unfinished file, as soon as no other process writes to it."""
        size, since_s = -1, time.monotonic()
        while (part := claim_part(wanted.path, wanted.begin_hash)) is None:
            if size_of_part(wanted.path) != size:
                size, since_s = size_of_part(wanted.path), time.monotonic()
            if time.monotonic() - since_s > self.patience.others_s:
                raise UnreachableError(
                    f"{wanted.path} is being fetched by another process, which has received nothing for "
                    f"{self.patience.others_s:.0f} s. End that process and run again."
                )
            if self.stop.wait(LOOK_S):
                raise CancelledError
        return part

    def _receive_all(self, wanted: Wanted, url: str, part: PartFile, decode: bool) -> str:
        """Receive what is missing of `part`, try by try; say what is wrong with it then."""
        n_failures, mark = 0, part.size
        while True:
            try:
                self._receive(wanted, url, part, decode)
                return wanted.fault(part.size, wanted.digits_of(part), part.stated_md5(url))
            except _WrongContentError as error:
                return str(error)
            except _RetryableError as error:
                if part.size >= mark + PROGRESS_BYTES:
                    n_failures, mark = 0, part.size
                n_failures += 1
                if n_failures >= (self.patience.tries if error.connected else min(2, self.patience.tries)):
                    raise self._unreachable(url, part, error, n_failures) from error
                wait_s = self.patience.backoff_s * 2 ** (n_failures - 1) if error.wait_s is None else error.wait_s
                if self.stop.wait(min(wait_s, LONGEST_WAIT_S)):
                    raise CancelledError from error

    def _receive(self, wanted: Wanted, url: str, part: PartFile, decode: bool) -> None:
        """Receive what is missing of `part` in one request; none where nothing is."""
        trusted = bool(wanted.checksum) or part.validator(url) is not None
        if wanted.size is not None and part.size == wanted.size and trusted:
            return
        headers = _range_headers(wanted, url, part) if trusted else {}
        if not headers:
            self._restart(part)
        with _network_faults():
            response = self.session.get(
                url,
                headers={"Accept-Encoding": "identity", **headers, **authorization(url)},
                stream=True,
                timeout=(min(10.0, self.patience.stall_s), self.patience.stall_s),
            )
        with response:
            if trusted and _is_complete(part, response):
                return
            self._check_status(wanted, url, part, response)
            encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
            if not encoded:
                _check_length(wanted, response)
                part.remember_origin(url, _validator_of(response), _stated_md5(response))
            try:
                self._write_body(wanted, part, response, decode and encoded)
            except _RetryableError:
                if encoded:  # ranges count compressed bytes, of which none were kept
                    self._restart(part)
                raise

    def _check_status(self, wanted: Wanted, url: str, part: PartFile, response: requests.Response) -> None:
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
            raise self._unreachable(url, part, f"the server answers {status} {response.reason}", 1)

    def _check_range(self, wanted: Wanted, part: PartFile, response: requests.Response) -> None:
        said = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said.strip())
        if not match or int(match[1]) != part.size:
            self._restart(part)
            raise _RetryableError(f"the server sent another range than was asked for ({said!r})", wait_s=0.0)
        if wanted.size is not None and match[2] not in ("*", str(wanted.size)):
            raise _WrongContentError(f"expected {wanted.size} bytes, the server has {match[2]}")

    def _write_body(self, wanted: Wanted, part: PartFile, response: requests.Response, decode: bool) -> None:
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

    def _unreachable(self, url: str, part: PartFile, reason: object, n_tries: int) -> UnreachableError:
        self.bar.update(-part.size)
        tries = f" ({n_tries} tries)" if n_tries > 1 else ""
        text = f"{url} cannot be fetched{tries}: {reason}."
        if part.size:
            text += f"\n{part.size} bytes are kept in {part.path}; running again goes on from there."
        else:
            text += admission(url, str(reason))
        lost = isinstance(reason, _RetryableError) and not reason.connected
        return NoConnectionError(text) if lost else UnreachableError(text)


class _RetryableError(Exception):
    """A try failed in a way that another may mend."""

    def __init__(self, reason: str, wait_s: float | None = None, connected: bool = True) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.connected = connected


class _WrongContentError(Exception):
    """What the server sends cannot be the file."""


def _publish(wanted: Wanted, url: str, part: PartFile) -> str:
    stated, digits = part.stated_md5(url), wanted.digits_of(part)
    part.publish(wanted.path)
    # Just found to be so: the file need not be read again to learn it.
    remember_checksum(wanted.path, wanted.kind, digits)
    return wanted.checksum or (f"md5:{stated}" if stated else "")


def _range_headers(wanted: Wanted, url: str, part: PartFile) -> dict[str, str]:
    """Ask for the rest of `part`; empty where there is none to be asked for."""
    if part.size == 0 or (wanted.size is not None and part.size >= wanted.size):
        return {}
    validator = part.validator(url)
    headers = {"Range": f"bytes={part.size}-"}
    return headers if validator is None else {**headers, "If-Range": validator}


def _is_complete(part: PartFile, response: requests.Response) -> bool:
    """Whether the server has nothing beyond what was received."""
    return response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{part.size}"


def _validator_of(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag", "")
    # A weak ETag says that two files mean the same, not that their bytes are the same.
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _stated_md5(response: requests.Response) -> str:
    """The MD5 of the whole file, which S3 gives as the ETag of an object that came in one part and has no key."""
    headers = response.headers
    etag = re.fullmatch('"([0-9a-f]{32})"', headers.get("ETag", ""))
    encryption = headers.get("x-amz-server-side-encryption", "AES256")
    own_key = "x-amz-server-side-encryption-customer-algorithm" in headers
    plain = headers.get("Server") == "AmazonS3" and encryption == "AES256" and not own_key
    return etag[1] if etag and plain else ""


def _check_length(wanted: Wanted, response: requests.Response) -> None:
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
