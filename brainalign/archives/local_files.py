"""Files of the user's own: that they are there, and are what their names say."""

from __future__ import annotations

import re
from pathlib import Path

from brainalign.errors import DataError

__all__ = ["require_file"]


def require_file(path: Path) -> Path:
    """Return `path` if it is a file with its content.

    Raises
    ------
    DataError
        If it is missing, a folder, empty, or a placeholder of git-annex, DataLad or Git LFS.

    Examples
    --------
    >>> require_file(Path("none.csv"))
    Traceback (most recent call last):
    brainalign.errors.DataError: none.csv: no such file.
    """
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path}: a link whose content is not here; if it is git-annex's, run: datalad get {path.name}")
    if not path.exists():
        raise DataError(f"{path}: no such file.")
    if not path.is_file():
        raise DataError(f"{path}: a folder, not a file.")
    try:
        with path.open("rb") as stream:
            head = stream.read(200)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    if not head:
        raise DataError(f"{path}: the file is empty.")
    if re.match(rb"/\w+/objects/", head) or head.startswith(b"version https://git-lfs."):
        raise DataError(
            f"{path}: not downloaded, only a placeholder of it; run: datalad get {path.name} (or git lfs pull)"
        )
    return path
