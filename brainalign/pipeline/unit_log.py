"""The log of one unit: plain text, a time before each line, no colours, no secrets."""

from __future__ import annotations

import io
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from brainalign.errors import DataWarning, FitWarning, StoreWarning
from brainalign.pipeline.extraction import Progress, silent
from brainalign.pipeline.redaction import redacted

__all__ = ["UnitLog", "unit_log"]

# How often a log says how far a unit is.
SECONDS_BETWEEN_LINES = 60.0


class UnitLog(io.TextIOBase):
    """A stream that writes whole lines to a log, each with the time before it."""

    def __init__(self, stream: TextIO, progress: Progress = silent) -> None:
        self._stream, self._told, self._rest, self._said_s = stream, progress, "", time.monotonic()

    def writable(self) -> bool:
        """Whether it can be written to: always."""
        return True

    def write(self, text: str) -> int:
        """Take text; what stands before a carriage return was meant to be overwritten, as bars are."""
        *lines, rest = (self._rest + text).split("\n")
        for line in lines:
            self.line(_last_drawn(line))
        self._rest = _last_drawn(rest) + "\r" * rest.endswith("\r")
        return len(text)

    def close(self) -> None:
        """Write what no end of a line came after."""
        rest, self._rest = self._rest, ""
        self.line(rest)

    def line(self, text: str) -> None:
        """Write one line."""
        if text.strip():
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._stream.write(f"{now} {redacted(text.rstrip())}\n")
            self._stream.flush()

    @contextmanager
    def warnings_too(self) -> Iterator[None]:
        """Within it what libraries warn of stands in the log, once for each place, and nowhere else.

        What brainalign's stages warn of is kept with their results, and told once, of the whole study; that a stored
        result was damaged is not, and is told to whoever looks on as well.
        """

        def write(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            self.write(warnings.formatwarning(message, category, filename, lineno, line))
            if issubclass(category, StoreWarning):
                shown(message, category, filename, lineno, file, line)

        with warnings.catch_warnings():
            shown, warnings.showwarning = warnings.showwarning, write
            warnings.simplefilter("default")
            warnings.simplefilter("always", StoreWarning)
            for category in (DataWarning, FitWarning):
                warnings.simplefilter("ignore", category)
            yield

    def progress(self, what: str, done: int, total: int, note: str = "") -> None:
        """Pass progress on, and write a line of it now and then."""
        self._told(what, done, total, note)
        if time.monotonic() - self._said_s > SECONDS_BETWEEN_LINES:
            self._said_s = time.monotonic()
            self.line(f"{what}: {done} of {total} done{f', {note}' if note else ''}")

    def failed(self, trace: str) -> None:
        """Write what went wrong."""
        self.close()
        self.write(f"{trace.rstrip()}\nfailed\n")

    def done(self, seconds: float) -> None:
        """Write that all is done."""
        self.close()
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
            log.close()
            log.line(f"stopped: {type(error).__name__}")
            raise
        finally:
            log.close()


def _last_drawn(line: str) -> str:
    """What of a line is left to see, of which each carriage return begins the drawing anew."""
    return line.rstrip("\r").rpartition("\r")[2]
