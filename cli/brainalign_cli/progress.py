"""Progress on stderr: a bar for each thing that is being done, or lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

__all__ = ["Bars"]

# In a log, what takes long says so often how far it is.
SECONDS_BETWEEN_LINES = 60.0


class Bars:
    """A progress callback that draws bars; where stderr is no terminal it writes a line now and then instead.

    A line is written when a thing begins, and each minute while it goes on.

    Parameters
    ----------
    quiet : bool
        Show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._draws = sys.stderr.isatty() and not quiet
        self._bar: tqdm | None = None
        self._what = ""
        self._said_s = self._started_s = time.monotonic()
        self._done_before = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` of `what` is done, and a remark such as a speed."""
        if self._bar is None or what != self._what:
            self._close()
            self._bar = tqdm(desc=what, total=total, initial=done, disable=not self._draws, leave=True)
            self._what = what
            self._started_s, self._done_before = time.monotonic(), done
            if done < total:
                self._say(f"{what} ({done} of {total} done) ...")
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if time.monotonic() - self._said_s >= SECONDS_BETWEEN_LINES:
            self._say(f"{what}: {done} of {total} done{f', {note}' if note else ''}{self._time_left(done, total)}")

    def _time_left(self, done: int, total: int) -> str:
        new = done - self._done_before
        if new <= 0 or done >= total:
            return ""
        left_s = (time.monotonic() - self._started_s) / new * (total - done)
        return f", about {tqdm.format_interval(left_s)} left"

    def _say(self, line: str) -> None:
        self._said_s = time.monotonic()
        if not self._draws and not self._quiet:
            print(line, file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
