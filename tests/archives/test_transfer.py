"""One file over a server that fails on purpose: right bytes under the name, or none."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from faulty_server import CONTENT, SHA256, FaultyServer, Handler, running_server, serve

from brainalign.archives import transfer
from brainalign.archives.fetching import Patience, fetch_file
from brainalign.archives.transfer import Transfer, Wanted, authorization
from brainalign.archives.verified import checksum_of
from brainalign.errors import ChecksumError, DataError, DataWarning, UnreachableError

HASTE = Patience(stall_s=0.4, tries=4, backoff_s=0.01)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.bin"


def fetch(server: FaultyServer, target: Path, patience: Patience = HASTE, key: str | None = None) -> Path:
    url = f"{server.url}/file.bin"
    return fetch_file(
        url, target, size=len(CONTENT), checksum=f"sha256:{SHA256}", mirror_key=key, patience=patience, progress=False
    )


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@dataclass
class Fault:
    """What the n-th request meets; a good answer follows."""

    answer: Callable[[Handler, int], None]
    most_bytes: float = 1.0
    n_requests: int | None = None


def first(fault: Callable[[Handler], None], n_times: int = 1) -> Callable[[Handler, int], None]:
    return lambda handler, n: fault(handler) if n <= n_times else serve(handler, n)


def cut_each(handler: Handler, n: int) -> None:
    serve(handler, n, stop=110_000)


def ignore_range(handler: Handler, n: int) -> None:
    handler.head(200, len(CONTENT))
    handler.body(CONTENT[: 50_000 if n == 1 else None])


def lie_about_range(handler: Handler, n: int) -> None:
    if n == 1:
        serve(handler, n, stop=50_000)
    elif handler.asked_from():
        handler.head(206, len(CONTENT), Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.body(CONTENT)
    else:
        serve(handler, n)


def send_wrong_rest(handler: Handler, n: int) -> None:
    """The header names the range asked for, the body is another."""
    start = handler.asked_from()
    if n == 1:
        serve(handler, n, stop=50_000)
    elif start:
        handler.head(206, None, Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.body(CONTENT[: len(CONTENT) - start])
    else:
        serve(handler, n)


def change_upstream(handler: Handler, n: int) -> None:
    """The first bytes are of an older file, whose name tag is another."""
    if n == 1:
        serve(handler, n, content=CONTENT[::-1], etag='"old"', stop=50_000)
    else:
        serve(handler, n)


def refuse_range(handler: Handler, n: int) -> None:
    if n == 1:
        serve(handler, n, stop=50_000)
    elif handler.asked_from():
        handler.head(416, 0)
    else:
        serve(handler, n)


def redirect(handler: Handler, n: int) -> None:
    if handler.path == "/file.bin":
        handler.head(302, 0, Location="/elsewhere")
    else:
        serve(handler, n)


def stall(handler: Handler) -> None:
    handler.head(200, len(CONTENT), ETag='"one"')
    handler.body(CONTENT[:50_000])
    time.sleep(0.8)


def drip(handler: Handler) -> None:
    handler.head(200, len(CONTENT))
    for i in range(20):
        handler.body(CONTENT[i : i + 1])
        time.sleep(0.05)


def compress(handler: Handler, n: int) -> None:
    data = gzip.compress(CONTENT)
    handler.head(200, len(data), Content_Encoding="gzip")
    handler.body(data)


def mislabel(handler: Handler, n: int) -> None:
    handler.head(200, len(CONTENT), Content_Encoding="gzip")
    handler.body(CONTENT)


def no_length(handler: Handler) -> None:
    handler.head(200)
    handler.body(CONTENT[:50_000])


def chunked_cut(handler: Handler) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.head(200, Transfer_Encoding="chunked")
    handler.body(b"c350\r\n" + CONTENT[:50_000] + b"\r\nffff\r\n" + CONTENT[50_000:50_003])


RECOVERED = {
    "good": Fault(serve, n_requests=1),
    "connection cut three times": Fault(cut_each, n_requests=3),
    "no reply": Fault(first(lambda handler: None), n_requests=2),
    "range ignored": Fault(ignore_range, most_bytes=1.2),
    "range lies": Fault(lie_about_range, most_bytes=2.4),
    "range header right, bytes wrong": Fault(send_wrong_rest, most_bytes=2.1),
    "range refused": Fault(refuse_range, most_bytes=1.2),
    "changed upstream midway": Fault(change_upstream, most_bytes=1.2),
    "wrong bytes once": Fault(first(lambda h: serve(h, 1, content=CONTENT[::-1])), most_bytes=2.0),
    "another length once": Fault(first(lambda h: serve(h, 1, content=b"<html>moved</html>")), most_bytes=1.1),
    "empty body once": Fault(first(lambda h: h.head(200, 0)), n_requests=2),
    "503 three times": Fault(first(lambda h: h.head(503, 0), 3), n_requests=4),
    "429 with Retry-After": Fault(first(lambda h: h.head(429, 0, Retry_After="0")), n_requests=2),
    "503 with a date that has passed": Fault(
        first(lambda h: h.head(503, 0, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")), n_requests=2
    ),
    "503 with nonsense": Fault(first(lambda h: h.head(503, 0, Retry_After="soon")), n_requests=2),
    "redirect": Fault(redirect, n_requests=2),
    "stall once": Fault(first(stall), n_requests=2),
    "slow drip once": Fault(first(drip), n_requests=2, most_bytes=1.01),
    "gzip transport": Fault(compress, n_requests=1, most_bytes=1.1),
    "called gzip and is not": Fault(mislabel, n_requests=2, most_bytes=2.0),
    "no length, cut": Fault(first(no_length), n_requests=2),
    "chunked, cut": Fault(first(chunked_cut), n_requests=2, most_bytes=1.01),
}


@pytest.mark.parametrize("fault", RECOVERED.values(), ids=RECOVERED.keys())
def test_recoverable_faults_end_in_the_right_file_and_nothing_else(
    fault: Fault, server: FaultyServer, target: Path
) -> None:
    server.answer = fault.answer
    assert fetch(server, target) == target
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]
    assert server.n_bytes <= fault.most_bytes * len(CONTENT)
    if fault.n_requests is not None:
        assert len(server.requests) == fault.n_requests


def test_compression_is_declined(server: FaultyServer, target: Path) -> None:
    fetch(server, target)
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


def test_a_file_that_is_itself_compressed_survives_a_server_that_labels_it_so(
    server: FaultyServer, target: Path
) -> None:
    content = gzip.compress(CONTENT)

    def label(handler: Handler, n: int) -> None:
        handler.head(200, len(content), Content_Encoding="gzip")
        handler.body(content)

    server.answer = label
    digest = hashlib.sha256(content).hexdigest()
    fetch_file(
        f"{server.url}/a.gz", target, size=len(content), checksum=f"sha256:{digest}", patience=HASTE, progress=False
    )
    assert target.read_bytes() == content


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda h, n: serve(h, n, content=CONTENT[::-1]), SHA256),
        (lambda h, n: serve(h, n, content=b"<html>log in</html>"), "expected 300000 bytes, the server sends 19"),
        (lambda h, n: serve(h, n, content=b""), "the server sends 0"),
        (lambda h, n: serve(h, n, content=CONTENT + b"x"), "expected 300000 bytes, the server sends 300001"),
    ],
    ids=["wrong bytes", "web page", "empty", "too long"],
)
def test_wrong_bytes_always_are_an_error_that_keeps_nothing(
    answer: Callable[[Handler, int], None], message: str, server: FaultyServer, target: Path
) -> None:
    server.answer = answer
    with pytest.raises(ChecksumError, match=message) as error:
        fetch(server, target)
    assert "file.bin" in str(error.value)
    assert str(error.value).count("\n") <= 2
    assert names(target) == []
    assert len(server.requests) == 2


def test_an_endless_body_is_cut_off(server: FaultyServer, target: Path) -> None:
    def flood(handler: Handler, n: int) -> None:
        handler.head(200)
        while True:
            handler.body(CONTENT)

    server.answer = flood
    with pytest.raises(ChecksumError, match="sends more"):
        fetch(server, target)
    assert names(target) == []


@pytest.mark.parametrize(
    ("answer", "reason", "n_requests"),
    [
        (lambda h, n: h.head(503, 0), "503 Service Unavailable", 4),
        (lambda h, n: h.head(404, 0), "404 Not Found", 1),
        (lambda h, n: h.head(403, 0), "403 Forbidden", 1),
        (lambda h, n: h.head(302, 0, Location="/file.bin"), "redirected without end", None),
        (lambda h, n: h.head(302, 0, Location="file:///etc/hostname"), "no http address", None),
        (lambda h, n: None, "tries", 4),
    ],
    ids=["503", "404", "403", "redirect loop", "redirect to a file", "no reply"],
)
def test_what_cannot_be_had_is_an_error_with_the_reason(
    answer: Callable[[Handler, int], None], reason: str, n_requests: int | None, server: FaultyServer, target: Path
) -> None:
    server.answer = answer
    with pytest.raises(UnreachableError, match=reason) as error:
        fetch(server, target, key="set/file.bin")
    assert f"{server.url}/file.bin" in str(error.value)
    assert "BRAINALIGN_MIRROR" in str(error.value)
    assert str(error.value).count("\n") <= 2
    assert names(target) == []
    assert n_requests is None or len(server.requests) == n_requests


def test_what_was_received_is_kept_and_taken_up_by_the_next_call(server: FaultyServer, target: Path) -> None:
    server.answer = lambda handler, n: serve(handler, n, stop=40_000) if n <= 4 else serve(handler, n)
    with pytest.raises(UnreachableError, match=r"160000 bytes are kept in .*\.part; running again"):
        fetch(server, target)
    assert not target.exists()
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1].headers["Range"] == "bytes=160000-"
    assert server.requests[-1].headers["If-Range"] == '"one"'
    assert server.n_bytes == len(CONTENT)
    assert names(target) == ["file.bin"]


def test_progress_renews_the_patience(server: FaultyServer, target: Path) -> None:
    content = np.random.default_rng(1).bytes(8 << 20)
    server.answer = lambda handler, n: serve(handler, n, content=content, stop=(1 << 20) + 1)
    digest = hashlib.sha256(content).hexdigest()
    fetch_file(
        f"{server.url}/big", target, size=len(content), checksum=f"sha256:{digest}", patience=HASTE, progress=False
    )
    assert len(server.requests) == 8
    assert server.n_bytes == len(content)


def test_without_checksum_or_tag_a_part_is_not_trusted(server: FaultyServer, target: Path) -> None:
    def untagged(handler: Handler, n: int) -> None:
        handler.head(200, len(CONTENT))
        handler.body(CONTENT[: 50_000 if n == 1 else None])

    server.answer = untagged
    fetch_file(f"{server.url}/file.bin", target, patience=HASTE, progress=False)
    assert "Range" not in server.requests[1].headers
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_damaged_is_not_built_upon(server: FaultyServer, target: Path) -> None:
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT[:99_999] + b"x")
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert [request.headers.get("Range") for request in server.requests] == ["bytes=100000-", None]
    assert names(target) == ["file.bin"]


def test_a_part_that_is_whole_is_verified_and_named_without_a_request(server: FaultyServer, target: Path) -> None:
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT)
    fetch(server, target)
    assert names(target) == ["file.bin"]
    assert server.requests == []


def test_bytes_are_hashed_as_they_come_and_not_read_again(
    server: FaultyServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = cut_each
    read: list[int] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda stream, kind: read.append(1) or digest(stream, kind))
    fetch(server, target)
    assert len(read) == 1  # of the part that was begun, and empty
    assert checksum_of(target, "sha256") == SHA256
    assert len(read) == 1


@pytest.mark.parametrize(
    ("kind", "digits"),
    [
        ("md5", hashlib.md5(CONTENT).hexdigest()),
        ("sha1", hashlib.sha1(CONTENT).hexdigest()),
        ("gitsha1", hashlib.sha1(b"blob 300000\0" + CONTENT).hexdigest()),
    ],
)
def test_every_kind_of_checksum_is_held_to(kind: str, digits: str, server: FaultyServer, target: Path) -> None:
    options = {"size": len(CONTENT), "checksum": f"{kind}:{digits}", "patience": HASTE, "progress": False}
    fetch_file(f"{server.url}/a", target, **options)
    assert target.read_bytes() == CONTENT
    server.answer = lambda handler, n: serve(handler, n, content=CONTENT[::-1])
    with pytest.raises(ChecksumError, match=f"expected .* {digits}, found"):
        fetch_file(f"{server.url}/b", target.with_name("b"), **options)
    assert names(target) == ["file.bin"]


@pytest.mark.parametrize(
    "checksum", [f"sha256:{SHA256}", f"gitsha1:{hashlib.sha1(b'blob 300000' + bytes(1) + CONTENT).hexdigest()}"]
)
def test_a_file_whose_size_is_not_known_is_taken_up_and_verified(
    checksum: str, server: FaultyServer, target: Path
) -> None:
    options = {"checksum": checksum, "patience": HASTE, "progress": False}
    server.answer = lambda handler, n: serve(handler, n, stop=50_000) if n == 1 else serve(handler, n)
    fetch_file(f"{server.url}/file.bin", target, **options)
    assert target.read_bytes() == CONTENT
    assert server.n_bytes == len(CONTENT)
    server.answer = lambda handler, n: serve(handler, n, content=CONTENT[:-1])
    with pytest.raises(ChecksumError, match=r"expected .*, found"):
        fetch_file(f"{server.url}/other", target.with_name("other"), **options)
    assert names(target) == ["file.bin"]


def test_a_part_of_unknown_size_that_was_whole_is_not_fetched_again(server: FaultyServer, target: Path) -> None:
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(CONTENT)
    server.answer = lambda handler, n: handler.head(416, 0, Content_Range=f"bytes */{len(CONTENT)}")
    fetch_file(f"{server.url}/a", target, checksum=f"sha256:{SHA256}", patience=HASTE, progress=False)
    assert names(target) == ["file.bin"]
    assert len(server.requests) == 1


# Files of which nobody told a checksum


def amazon(content: bytes, **headers: str) -> Callable[[Handler, int], None]:
    """Answer as S3 does, whose ETag is an MD5; of CONTENT, whatever is sent."""
    etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'

    def answer(handler: Handler, n: int) -> None:
        handler.server_version, handler.sys_version = "AmazonS3", ""
        handler.version_string = lambda: "AmazonS3"
        handler.head(200, len(content), ETag=etag, **headers)
        handler.body(content)

    return answer


def download(server: FaultyServer, target: Path) -> str:
    """Fetch a file whose checksum is not known; the one that its bytes were held to."""
    with requests.Session() as session:
        one = Transfer(session, HASTE, SimpleNamespace(update=lambda n: None))
        return one.download(Wanted(target, "", len(CONTENT), ""), f"{server.url}/file.bin")


def test_bytes_are_held_to_the_md5_that_s3_states(server: FaultyServer, target: Path) -> None:
    server.answer = amazon(CONTENT)
    assert download(server, target) == f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    server.answer = amazon(CONTENT[::-1])
    with pytest.raises(ChecksumError, match=r"expected MD5 \(of the server's ETag\) "):
        download(server, target.with_name("other"))
    assert names(target) == ["file.bin"]


@pytest.mark.parametrize(
    "answer",
    [
        amazon(CONTENT[::-1], x_amz_server_side_encryption="aws:kms"),
        amazon(CONTENT[::-1], x_amz_server_side_encryption_customer_algorithm="AES256"),
        lambda h, n: serve(h, n, content=CONTENT[::-1], etag=f'"{hashlib.md5(CONTENT).hexdigest()}"'),
        lambda h, n: serve(h, n, etag=f'"{hashlib.md5(CONTENT).hexdigest()}-3"'),
    ],
    ids=["encrypted", "encrypted with a key of one's own", "not S3", "in several parts"],
)
def test_an_etag_that_need_not_be_an_md5_is_not_taken_for_one(
    answer: Callable[[Handler, int], None], server: FaultyServer, target: Path
) -> None:
    server.answer = answer
    assert download(server, target) == ""
    assert target.stat().st_size == len(CONTENT)


# The user's token


@pytest.fixture
def hub(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> FaultyServer:
    """The server as the Hub of a user who has a token."""
    monkeypatch.setattr(transfer, "HUB", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return server


def test_the_token_is_shown_to_the_hub_and_not_where_it_redirects_to(hub: FaultyServer, target: Path) -> None:
    with running_server() as elsewhere:
        hub.answer = lambda h, n: h.head(302, 0, Location=f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/a")
        fetch(hub, target)
        assert [request.headers.get("Authorization") for request in hub.requests] == ["Bearer hf_secret"]
        assert [request.headers.get("Authorization") for request in elsewhere.requests] == [None]
    assert target.read_bytes() == CONTENT


def test_the_token_is_shown_to_no_other_host(
    server: FaultyServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(server, target)
    assert server.requests[0].headers.get("Authorization") is None
    assert authorization("https://huggingface.co.evil.example/a") == {}
    assert authorization("http://huggingface.co/a") == {}
    assert authorization("https://huggingface.co/a") == {"Authorization": "Bearer hf_secret"}


def test_the_token_is_in_no_message_and_no_file(
    hub: FaultyServer, target: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    hub.answer = lambda handler, n: serve(handler, n, stop=50_000) if n == 1 else handler.head(403, 0)
    with pytest.raises(UnreachableError, match="403") as error:
        fetch(hub, target)
    with pytest.raises(UnreachableError, match="set HF_TOKEN to a token of yours"):
        fetch(hub, target.with_name("another"))
    kept = "".join(path.read_text(errors="replace") for path in target.parent.iterdir())
    assert "hf_secret" not in f"{error.value} {caplog.text} {kept}"


def test_without_a_token_none_is_shown(hub: FaultyServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    fetch(hub, target)
    assert hub.requests[0].headers.get("Authorization") is None


# What is there


def test_a_file_that_is_there_costs_no_request(server: FaultyServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch(server, target)
    assert server.requests == []


def test_a_damaged_file_is_fetched_again_with_a_warning(server: FaultyServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT[:-1] + b"x")
    with pytest.warns(DataWarning, match=r"file\.bin is damaged"):
        fetch(server, target)
    assert target.read_bytes() == CONTENT


def test_an_unknown_host_is_told_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"no-such-host\.invalid"):
        fetch_file("http://no-such-host.invalid/a", tmp_path / "a", patience=HASTE, progress=False)
    assert time.monotonic() - start < 15


def test_only_http_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only http and https"):
        fetch_file("file:///etc/hostname", tmp_path / "a")


def test_a_folder_that_cannot_be_written_is_named(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"data.file\.bin cannot be put in place"):
        fetch(server, tmp_path / "data" / "file.bin")
