"""JSON files that stand beside recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError
from brainalign.reading.tables import decode_text

__all__ = ["read_json", "time_of_slices_s"]


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises
    ------
    DataError
        If the file is missing, or no JSON object.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "bold.json"
    ...     _ = file.write_text('{"RepetitionTime": 1.5}')
    ...     read_json(file)
    {'RepetitionTime': 1.5}
    """
    try:
        content = json.loads(decode_text(require_file(path)))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(content).__name__}.")
    return content


def time_of_slices_s(sidecar: Mapping[str, Any], where: str) -> float:
    """When, after a volume began, its slices were taken on average: ``SliceTiming`` of BIDS; 0 where that is not told.

    Volumes whose slices were brought to one time are at that mean as well: AFNI's 3dTshift takes it by default, and
    fMRIPrep the middle of the TR. Of volumes that were not, it is the best single time.

    Raises
    ------
    DataError
        If the times are none, or longer than the TR, as milliseconds are.

    Examples
    --------
    >>> time_of_slices_s({"RepetitionTime": 2.0, "SliceTiming": [0.0, 1.0, 0.5, 1.5]}, "bold.json")
    0.75
    """
    times = sidecar.get("SliceTiming")
    if not times:
        return 0.0
    tr_s = sidecar.get("RepetitionTime", 20.0)
    if not all(isinstance(time, (int, float)) and 0 <= time <= tr_s for time in times):
        raise DataError(f"{where}: SliceTiming is not of seconds within a TR of {tr_s:g} s: {str(times)[:60]} ...")
    return sum(times) / len(times)
