"""JSON files that stand beside recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError
from brainalign.reading.tables import decode_text

__all__ = ["read_json"]


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
