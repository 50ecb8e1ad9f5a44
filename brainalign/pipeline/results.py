"""The files of a result folder: scores, recipe and run record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xarray as xr

from brainalign.errors import DataError
from brainalign.files import atomic_path, sha256_of_file
from brainalign.safe_yaml import yaml_text
from brainalign.types import Scores

__all__ = ["open_scores", "read_run", "save_scores", "write_json", "write_yaml"]

# Attributes that netCDF cannot hold as they are.
NESTED = ("answers", "baseline", "n_samples", "features", "findings", "solver", "space", "steps")


def save_scores(scores: Scores, path: Path) -> str:
    """Write scores as netCDF, whole or not at all; gives the file's SHA-256."""
    plain = xr.Dataset(scores.data_vars, coords=scores.coords)
    plain.attrs = {name: json.dumps(value) if name in NESTED else value for name, value in scores.attrs.items()}
    encoding = {name: {"zlib": True, "complevel": 4} for name, values in plain.items() if values.dtype.kind == "f"}
    with atomic_path(path) as part:
        plain.to_netcdf(part, engine="h5netcdf", encoding=encoding)
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
