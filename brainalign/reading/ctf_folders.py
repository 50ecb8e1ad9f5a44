"""CTF recordings of the Donders Repository: folders of files, beside which tables of events hold the words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from brainalign.errors import DataError
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import Sensors, open_sensors
from brainalign.reading.signals import Signals
from brainalign.types import Clock, Floats

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["crop_of", "ctf_folders", "open_ctf", "unquoted"]

BEFORE_S, AFTER_S = 1.0, 2.0


def ctf_folders(paths: Sequence[str], pattern: str) -> dict[str, tuple[str, ...]]:
    r"""The files of each folder ``.ds`` whose path matches a regular expression as a whole.

    Examples
    --------
    >>> ctf_folders(["a_meg.ds/a.meg4", "a_meg.ds/a.res4", "b_rest.ds/b.res4"], r".*_meg\.ds")
    {'a_meg.ds': ('a_meg.ds/a.meg4', 'a_meg.ds/a.res4')}
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        inside = re.fullmatch(r"(.*?\.ds)/.+", path)
        if inside and re.fullmatch(pattern, inside[1]):
            found.setdefault(inside[1], []).append(path)
    return {folder: tuple(files) for folder, files in found.items()}


def open_ctf(folder: Path, signals: Signals, where: str, bad_channels: Sequence[str] = ()) -> Sensors:
    """Open a folder's sensors; MNE calls CTF's axial gradiometers magnetometers ("mag")."""
    return open_sensors(partial(open_recording, folder), signals, "meg", where, bad_channels=bad_channels)


def crop_of(sensors: Sensors, first_s: float, last_s: float, where: str) -> tuple[Clock, Callable[[], Floats]]:
    """The clock and the reader of what lies between a second before a first word and two seconds after a last.

    Raises
    ------
    DataError
        If the words are not in the recording.
    """
    if first_s > sensors.duration_s or last_s < 0:
        raise DataError(
            f"{where}: its words are at {first_s:.1f} to {last_s:.1f} s of a recording of {sensors.duration_s:.1f} s."
        )
    start_s, stop_s = max(0.0, first_s - BEFORE_S), min(sensors.duration_s, last_s + AFTER_S)
    return sensors.cropped_clock(start_s), partial(sensors.read, start_s, stop_s)


def unquoted(cell: str) -> str:
    """A cell without the quotation marks around it.

    Examples
    --------
    >>> unquoted('"the"')
    'the'
    """
    return cell[1:-1].replace('""', '"').strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
