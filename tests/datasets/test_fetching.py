"""Downloads over a server that fails on purpose: right bytes under the name, or none."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from brainalign.datasets.fetching import Patience, RemoteFile, fetch_all, fetch_file, remote_files
from brainalign.errors import ChecksumError, DataError, DataWarning, UnreachableError
from brainalign.manifests import Manifest, read_manifest

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTE = Patience(stall_s=0.4, tries=4, backoff_s=0.01)


class Handler(BaseHTTPRequestHandler):
    """Asks the server's `answer` what to do with each GET."""

    server: FaultyServer

    def do_GET(self) -> None:
        self.server.requests.append(self)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.server.answer(self, len(self.server.requests))
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass

    def head(self, status: int, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def body(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.n_bytes += len(data)

    def asked_from(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


class FaultyServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Handler] = []
        self.n_bytes = 0
        self.answer: Callable[[Handler, int], None] = serve

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def serve(handler: Handler, n: int, content: bytes = CONTENT, etag: str = '"one"', stop: int | None = None) -> None:
    """Answer as a good server does, ranges and all; after `stop` bytes the connection is cut."""
    start = handler.asked_from()
    if start and handler.headers.get("If-Range", etag) == etag:
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206, len(content) - start, ETag=etag, Content_Range=span)
    else:
        start = 0
        handler.head(200, len(content), ETag=etag)
    handler.body(content[start : None if stop is None else start + stop])


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.bin"


def fetch(server: FaultyServer, target: Path, patience: Patience = HASTE, key: str | None = None) -> Path:
    url = f"{server.url}/file.bin"
    return fetch_file(url, target, size=len(CONTENT), sha256=SHA256, mirror_key=key, patience=patience, progress=False)


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
    fetch_file(f"{server.url}/a.gz", target, size=len(content), sha256=digest, patience=HASTE, progress=False)
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
    fetch_file(f"{server.url}/big", target, size=len(content), sha256=digest, patience=HASTE, progress=False)
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


def test_an_offline_machine_is_told_at_once(tmp_path: Path) -> None:
    files = [RemoteFile(f"f{i}", 1, "0" * 64) for i in range(146)]
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"\(2 tries\).*refused"):
        # Port 9 of the own machine: nothing listens there.
        fetch_all(files, tmp_path, dataset="set", source="http://127.0.0.1:9/", patience=HASTE, progress=False)
    assert time.monotonic() - start < 3


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


def test_a_dataset_is_fetched_in_parallel_and_summed_up(server: FaultyServer, tmp_path: Path) -> None:
    files = [RemoteFile(f"sub/f{i}", len(CONTENT), SHA256) for i in range(6)]
    options = {"dataset": "set", "source": server.url, "patience": HASTE, "progress": False}
    [finding] = fetch_all(files, tmp_path, **options)
    assert finding.message.startswith("6 files, 1.8 MB")
    assert all((tmp_path / file.path).read_bytes() == CONTENT for file in files)
    assert fetch_all(files, tmp_path, **options) == []
    assert len(server.requests) == 6


def test_too_little_space_is_said_before_anything_is_fetched(server: FaultyServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="MB are needed"):
        fetch_all([RemoteFile("a", 1 << 60, SHA256)], tmp_path / "new", dataset="set", source=server.url)
    assert server.requests == []


def test_progress_is_shown_when_asked_for(server: FaultyServer, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    files = [RemoteFile("a", len(CONTENT), SHA256)]
    fetch_all(files, tmp_path, dataset="set", source=server.url, progress=True)
    assert "set: 1 files, 0.3 MB" in capfd.readouterr().err


# Mirrors


def test_a_folder_is_asked_first(
    server: FaultyServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / "set").mkdir(parents=True)
    (tmp_path / "mirror" / "set" / "file.bin").write_bytes(CONTENT)
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(tmp_path / "mirror"))
    fetch(server, target, key="set/file.bin")
    assert target.read_bytes() == CONTENT
    assert server.requests == []


def test_a_url_is_asked_first(server: FaultyServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", f"{server.url}/mirror/")
    fetch(server, target, key="set/file.bin")
    assert [request.path for request in server.requests] == ["/mirror/set/file.bin"]


@pytest.mark.parametrize("kind", ["folder", "url", "dead url", "no folder"])
def test_a_mirror_without_the_file_is_passed_over(
    kind: str, server: FaultyServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = {
        "folder": str(tmp_path),
        "url": f"{server.url}/mirror",
        "dead url": "http://127.0.0.1:9",
        "no folder": str(tmp_path / "none"),
    }
    monkeypatch.setenv("BRAINALIGN_MIRROR", mirrors[kind])
    server.answer = lambda handler, n: handler.head(404, 0) if "mirror" in handler.path else serve(handler, n)
    fetch(server, target, key="set/file.bin")
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_a_mirror_with_wrong_bytes_is_an_error_naming_it(
    kind: str, server: FaultyServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.bin").write_bytes(CONTENT[::-1])
    mirror = str(tmp_path) if kind == "folder" else f"{server.url}/mirror"
    monkeypatch.setenv("BRAINALIGN_MIRROR", mirror)
    server.answer = lambda handler, n: serve(handler, n, content=CONTENT[::-1] if "mirror" in handler.path else CONTENT)
    with pytest.raises(ChecksumError, match=SHA256) as error:
        fetch(server, target, key="set/file.bin")
    assert mirror in str(error.value)
    assert names(target) == []


def test_an_unreachable_source_says_that_the_mirror_had_nothing(
    server: FaultyServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(tmp_path))
    server.answer = lambda handler, n: handler.head(404, 0)
    with pytest.raises(UnreachableError, match="BRAINALIGN_MIRROR gave no copy either"):
        fetch(server, target, key="set/file.bin")


def test_a_dead_mirror_is_asked_once_not_for_each_file(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", "http://127.0.0.1:9")
    files = [RemoteFile(f"f{i}", len(CONTENT), SHA256) for i in range(20)]
    patience = Patience(stall_s=0.4, tries=4, backoff_s=0.2)
    start = time.monotonic()
    fetch_all(files, tmp_path, dataset="set", source=server.url, patience=patience, progress=False, threads=1)
    assert time.monotonic() - start < 2
    assert len(server.requests) == 20


# Processes

FETCH = """
import sys
from pathlib import Path
from brainalign.datasets.fetching import fetch_file
fetch_file(sys.argv[1], Path(sys.argv[2]), size=int(sys.argv[3]), sha256=sys.argv[4], progress=False)
"""


def start_process(server: FaultyServer, target: Path, before: str = "") -> subprocess.Popen:
    arguments = [f"{server.url}/file.bin", str(target), str(len(CONTENT)), SHA256]
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", before + FETCH, *arguments],
        env={**os.environ, "PYTHONPATH": root},
        stderr=subprocess.PIPE if before else None,
    )


def serve_slowly(handler: Handler, n: int) -> None:
    start = handler.asked_from()
    if start:
        handler.head(206, len(CONTENT) - start, Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
    else:
        handler.head(200, len(CONTENT))
    for i in range(start, len(CONTENT), 10_000):
        handler.body(CONTENT[i : i + 10_000])
        time.sleep(0.005)


def test_a_killed_download_is_finished_by_the_next_one(server: FaultyServer, target: Path) -> None:
    server.answer = serve_slowly
    moments = np.random.default_rng(2).uniform(10_000, len(CONTENT), size=5)
    for n_bytes in moments:
        process = start_process(server, target)
        served, deadline = server.n_bytes, time.monotonic() + 20
        while server.n_bytes - served < n_bytes and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if target.exists():
            assert target.read_bytes() == CONTENT
            target.unlink()
    server.answer = serve
    served = server.n_bytes
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]
    assert server.n_bytes - served <= len(CONTENT)


def test_a_full_disk_is_our_error_and_leaves_no_file_that_looks_whole(server: FaultyServer, target: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    process = start_process(server, target, limit)
    assert process.wait(timeout=60) == 1
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert "DataError" in said
    assert "cannot be put in place: [Errno 27]" in said
    assert not target.exists()
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]


def test_processes_that_fetch_one_file_do_not_spoil_each_other(server: FaultyServer, target: Path) -> None:
    server.answer = serve_slowly
    processes = [start_process(server, target) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]


# Manifests


def test_every_shipped_table_of_files_is_safe() -> None:
    table = remote_files(read_manifest("alice"))
    assert len(table) == 117
    assert table["alice_stim_shared/LICENSE.txt"].size == 268


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", "C:\\a", "a\\b", "", "a\x07b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "files.tsv"
    table.write_text(f"path\tbytes\tchecksum\n{path}\t1\tsha256:{'0' * 64}\n")
    manifest = read_manifest("alice").model_copy(update={"files": str(table)})
    with pytest.raises(DataError, match="leads out"):
        remote_files(manifest)


def test_a_checksum_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files.tsv").write_text("path\tbytes\tchecksum\na\t1\tmd5:0\n")
    manifest: Manifest = read_manifest("alice").model_copy(update={"files": str(tmp_path / "files.tsv")})
    with pytest.raises(DataError, match="'md5:0'"):
        remote_files(manifest)
