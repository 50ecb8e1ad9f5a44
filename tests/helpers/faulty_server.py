"""A web server of a test's own, that answers each request as the test says: well, or with a fault."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


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


@contextmanager
def running_server() -> Iterator[FaultyServer]:
    """A server that runs until the end of the block."""
    with FaultyServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
