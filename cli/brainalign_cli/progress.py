"""Progress on stderr: a bar for each thing that is being done, or a line in a log."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

__all__ = ["Bars"]


class Bars:
    """A progress callback that draws bars; where stderr is no terminal it writes a line per thing begun instead.

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
            self._bar = tqdm(desc=what, total=total, initial=done, disable=not self._draws, leave=True)
            self._what = what
            if not self._draws and not self._quiet and done < total:
                print(f"{what} ({done} of {total} done) ...", file=sys.stderr, flush=True)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
