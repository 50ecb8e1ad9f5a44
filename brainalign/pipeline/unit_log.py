"""The log of one unit: plain text, a time before each line, no colours, no secrets."""

from __future__ import annotations

import io
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from brainalign.pipeline.extraction import Progress, silent

__all__ = ["UnitLog", "redacted", "unit_log"]

# How often a log says how far a unit is.
SECONDS_BETWEEN_LINES = 60.0
# Colours and other commands to a terminal.
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
# Variables of the environment whose values are nobody's business.
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_KEY|AUTH", re.IGNORECASE)
# Shorter ones would be found in innocent text ("1", "yes").
SHORTEST_SECRET = 6


def redacted(text: str) -> str:
    """A text without commands to a terminal and without the values of secret variables of the environment."""
    text = ESCAPES.sub("", text)
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"[{name}]")
    # Passwords in addresses.
    return re.sub(r"(\w+://[^\s/:@]*):[^\s/@]+@", r"\1:[password]@", text)


class UnitLog(io.TextIOBase):
    """A stream that writes whole lines to a log, each with the time before it."""

    def __init__(self, stream: TextIO, progress: Progress = silent) -> None:
        self._stream, self._told, self._rest, self._said_s = stream, progress, "", time.monotonic()

    def writable(self) -> bool:
        """Whether it can be written to: always."""
        return True

    def write(self, text: str) -> int:
        """Take text; what stands before a carriage return was meant to be overwritten, as bars are."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self.line(line.rpartition("\r")[2])
        return len(text)

    def line(self, text: str) -> None:
        """Write one line."""
        if text.strip():
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._stream.write(f"{now} {redacted(text.rstrip())}\n")
            self._stream.flush()

    def progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Pass progress on, and write a line of it now and then."""
        self._told(what, done, total, note)
        if time.monotonic() - self._said_s > SECONDS_BETWEEN_LINES:
            self._said_s = time.monotonic()
            self.line(f"{what}: {done} of {total} done{f', {note}' if note else ''}")

    def failed(self, trace: str) -> None:
        """Write what went wrong."""
        self.write(f"{trace.rstrip()}\nfailed\n")

    def done(self, seconds: float) -> None:
        """Write that all is done."""
        self.line(f"done in {seconds:.1f} s")


@contextmanager
def unit_log(path: Path, about: str, progress: Progress = silent) -> Iterator[UnitLog]:
    """A unit's log, appended to; what is printed meanwhile goes there, unless someone is told of the progress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors="replace") as stream:
        log = UnitLog(stream, progress)
        log.line(f"{about}: begins on {platform.node()}, process {os.getpid()}")
        try:
            if progress is not silent:
                yield log
                return
            with redirect_stdout(log), redirect_stderr(log):
                yield log
        except BaseException as error:
            log.line(f"stopped: {type(error).__name__}")
            raise
