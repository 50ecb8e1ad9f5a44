"""Progress bars on stderr, one for each thing that is being done."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

__all__ = ["Bars"]


class Bars:
    """A progress callback that draws a bar; draws none if `quiet`, or if stderr is not a terminal."""

    def __init__(self, quiet: bool) -> None:
        self._disable = True if quiet else not sys.stderr.isatty()
        self._bar: tqdm | None = None
        self._what = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` of `what` is done."""
        if self._bar is None or what != self._what:
            self._close()
            self._bar = tqdm(desc=what, total=total, initial=done, disable=self._disable, leave=True)
            self._what = what
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
