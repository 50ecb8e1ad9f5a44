"""The data manifests: one YAML file per dataset, checked when read."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.safe_yaml import read_yaml
from brainalign.types import Modality

__all__ = ["Manifest", "list_manifests", "manifest_folder", "read_manifest"]


class Manifest(BaseModel):
    """What is known of a dataset before any of it is downloaded.

    `files` names a table beside the manifest (tab separated: path, bytes, checksum); `source` is the https address
    under which those paths lie; `facts` are the loader's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    loader: str
    title: str
    modality: tuple[Modality, ...]
    citation: str
    licence: str
    description: str
    source: str | None = None
    files: str | None = None
    facts: dict[str, Any] = {}

    def file_table(self) -> pd.DataFrame:
        """The files of the dataset: columns ``path``, ``bytes``, ``checksum`` ("sha256:..." )."""
        if self.files is None:
            return pd.DataFrame({"path": [], "bytes": [], "checksum": []})
        return pd.read_csv(
            manifest_folder() / self.files, sep="\t", dtype={"path": str, "checksum": str}, keep_default_na=False
        )


def manifest_folder() -> Path:
    """Where the manifests are: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("brainalign")))
    for folder in (package / "data_manifests", package.parent / "data_manifests"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"brainalign's installation is incomplete: no data_manifests in or beside {package}")


def list_manifests() -> list[str]:
    """The names of all datasets, sorted."""
    return sorted(path.stem for path in manifest_folder().glob("*.yaml"))


@cache
def read_manifest(name: str) -> Manifest:
    """The manifest of the dataset `name`.

    Raises
    ------
    RecipeError
        If there is no such dataset, with the nearest name there is.
    DataError
        If the manifest is malformed; the message names file and field.

    Examples
    --------
    >>> read_manifest("alice").modality
    ('fmri',)
    """
    if name not in list_manifests():
        raise RecipeError(f"Unknown dataset '{name}'. {nearest(name, list_manifests())}")
    path = manifest_folder() / f"{name}.yaml"
    try:
        manifest = Manifest.model_validate(read_yaml(path.read_text(encoding="utf-8"))[0])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: malformed manifest: {field or 'it'}: {first['msg'].lower()}.") from error
    except (RecipeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: malformed manifest: {error}") from error
    if manifest.name != name or not manifest.modality:
        raise DataError(f"{path}: malformed manifest: its name must be '{name}', and its modality at least one.")
    return manifest
