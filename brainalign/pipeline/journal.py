"""What has become of units: each process appends to a file of its own, anyone reads them all.

A line is written whole and at once; one that a kill cut short is passed over. A process that lives touches its file
now and then, so that what runs and what was lost can be told apart from any machine.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from brainalign.files import fsync_path, owned_name, owner_is_gone

__all__ = ["LOST_AFTER_S", "Event", "Journal", "latest_events", "units_lost"]

EventKind = Literal["started", "done", "failed", "lost"]

# A living process touches its file so often; one that has not for so long is dead, or its machine is.
HEARTBEAT_S = 20.0
LOST_AFTER_S = 150.0


@dataclass(frozen=True)
class Event:
    """One line: what happened to which unit, when (seconds since 1970), by whom, and what else is known.

    Nobody writes that a unit is lost: what was started, by a process that is gone since, reads so.
    """

    unit: str
    kind: EventKind
    at_s: float
    process: str
    facts: Mapping[str, Any]


class Journal:
    """The file of one process.

    Parameters
    ----------
    folder : Path
        Where the files of all processes are.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{owned_name()}.jsonl"

    def write(self, unit: str, kind: EventKind, facts: Mapping[str, Any] | None = None) -> None:
        """Append an event."""
        line = json.dumps({"unit": unit, "kind": kind, "at_s": time.time(), "facts": dict(facts or {})})
        # One write to a file opened for appending.
        with self.path.open("ab", buffering=0) as stream:
            stream.write(f"{line}\n".encode())
        if kind != "started":
            fsync_path(self.path)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Touch the file now and then as long as the block takes."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_S):
                # It may not be there yet, or its folder no more.
                with suppress(OSError):
                    os.utime(self.path)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def latest_events(folder: Path, now_s: float | None = None) -> dict[str, Event]:
    """The last event of each unit; one that was started by a process that is gone is lost."""
    now_s = time.time() if now_s is None else now_s
    found: dict[str, Event] = {}
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        lost = now_s - path.stat().st_mtime > LOST_AFTER_S or owner_is_gone(path.stem)
        for event in _events(path):
            known = found.get(event.unit)
            if event.kind == "started" and lost:
                event = replace(event, kind="lost")
            # What was finished stays so, whoever began it again.
            if known is None or (known.kind != "done" and event.at_s >= known.at_s) or event.kind == "done":
                found[event.unit] = event
    return found


def units_lost(folder: Path, since_s: float) -> set[str]:
    """The ids of units that were begun since then by processes that are gone, and ended by none."""
    return {unit for unit, event in latest_events(folder).items() if event.at_s >= since_s and event.kind == "lost"}


def _events(path: Path) -> Iterator[Event]:
    for line in path.read_bytes().splitlines():
        try:
            content = json.loads(line)
            yield Event(content["unit"], content["kind"], content["at_s"], path.stem, content["facts"])
        except (ValueError, KeyError, TypeError):
            continue  # cut short by a kill
