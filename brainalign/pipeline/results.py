"""The files of a result folder: scores, recipe and run record."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from brainalign.errors import DataError
from brainalign.files import atomic_path, sha256_of_file
from brainalign.safe_yaml import yaml_text
from brainalign.types import Scores

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["open_scores", "read_run", "save_scores", "write_json", "write_yaml", "writing_to"]

# Attributes that netCDF cannot hold as they are.
NESTED = ("answers", "baseline", "n_samples", "features", "findings", "solver", "space", "steps")

# What the system says where a disk takes no more, whoever may mend that.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Say where and how to mend it when the disk does not take what is written to a result folder.

    Raises
    ------
    DataError
        If it is full, read-only or gone.
    """
    try:
        yield
    except OSError as error:
        refused = _number_of(error) in REFUSED
        if not refused and folder.is_dir():
            raise
        why = error.strerror or str(error).splitlines()[0] if refused else "it is gone"
        mend = "Free some space" if _number_of(error) in FULL else "Make it writable, or name another with --out,"
        raise DataError(f"Cannot write to {folder}: {why}. {mend} and run again: what is finished stays.") from error


def _number_of(error: OSError) -> int | None:
    """The system's number of an error; HDF5 says it in words only."""
    if error.errno is not None:
        return error.errno
    return next((number for number in REFUSED if f"errno = {number}," in str(error)), None)


class _Forgiving(io.FileIO):
    """A file that keeps to itself that the disk takes no more: HDF5, which is told in the midst of closing, crashes."""

    refused: OSError | None = None

    def write(self, content: Buffer, /) -> int:
        """Write all, or drop it where the disk has refused before."""
        view = memoryview(content).cast("B")
        done = 0
        try:
            while self.refused is None and done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.refused = error
        return len(view)


def save_scores(scores: Scores, path: Path) -> str:
    """Write scores as netCDF, whole or not at all; gives the file's SHA-256."""
    plain = xr.Dataset(scores.data_vars, coords=scores.coords)
    plain.attrs = {name: json.dumps(value) if name in NESTED else value for name, value in scores.attrs.items()}
    encoding = {name: {"zlib": True, "complevel": 4} for name, values in plain.items() if values.dtype.kind == "f"}
    with atomic_path(path) as part, _Forgiving(part, "w+") as stream:
        try:
            plain.to_netcdf(stream, engine="h5netcdf", encoding=encoding)
        finally:
            # What HDF5 says of it has no number, and may be anything.
            if stream.refused is not None:
                raise stream.refused
    return sha256_of_file(path)


def open_scores(path: str | Path) -> Scores:
    """Read the scores of a result folder, or of a file ``scores.nc``.

    Parameters
    ----------
    path : str or Path
        The folder that ``brainalign run`` wrote, or the file in it.

    Raises
    ------
    DataError
        If there are none, or the file is damaged.
    """
    path = Path(path)
    path = path / "scores.nc" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"There are no scores at {path}; `brainalign run RECIPE --out FOLDER` writes them.")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as file:
            plain = file.load()
    except Exception as error:  # damaged HDF5 raises whatever the library trips over
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DataError(f"{path}: cannot be read as scores ({reason}). Remove it and run again.") from error
    scores = Scores(plain.data_vars, coords=plain.coords)
    scores.attrs = {name: json.loads(value) if name in NESTED else value for name, value in plain.attrs.items()}
    return scores


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON for people to read, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_yaml(content: dict[str, Any], path: Path) -> None:
    """Write YAML for people to read, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(yaml_text(content), encoding="utf-8")


def read_run(folder: Path) -> dict[str, Any] | None:
    """The run record of a result folder; None where there is none that can be read."""
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
