"""Files that appear whole or not at all, their digests, and where brainalign keeps what it downloads and computes."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_path", "cache_folder", "digest_of", "sha256_of_file"]


def cache_folder(*parts: str) -> Path:
    """The folder `parts` inside brainalign's cache; ``BRAINALIGN_CACHE`` names another than the user's own.

    Nothing is created.

    Examples
    --------
    >>> cache_folder("datasets", "alice").name
    'alice'
    """
    root = os.environ.get("BRAINALIGN_CACHE")
    if root:
        return Path(root).expanduser().joinpath(*parts)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("brainalign")).joinpath(*parts)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the name `path` only when the block ends well.

    The bytes are on the disk before the name is (fsync), so that neither a killed process nor a lost machine leaves a
    file that is half of what its name says. If the block raises, the temporary file is removed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "a.txt") as part:
    ...         _ = part.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since some writers choose the format by it; the name does not, since it may be a long one.
    part = path.with_name(f".{uuid.uuid4().hex}.tmp{path.suffix[:16]}")
    try:
        yield part
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(content: Mapping[str, Any]) -> str:
    """A SHA-256 of JSON-able `content`, the same whatever the order of its keys.

    Examples
    --------
    >>> digest_of({"a": 1, "b": [2.0]}) == digest_of({"b": [2.0], "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()
