"""The data manifests: one YAML file per dataset, checked when read."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.safe_yaml import read_yaml
from brainalign.types import Modality

__all__ = ["Listing", "Manifest", "list_manifests", "manifest_folder", "read_manifest"]


class Listing(BaseModel):
    """An archive that tells its own files, sizes and checksums when asked: see `brainalign.archives.listings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    archive: Literal["osf", "hugging_face"]
    # Nodes of OSF (their files are one tree), or the repository of a dataset on the Hugging Face Hub.
    places: tuple[str, ...]
    # A commit of the Hub's repository; OSF has none.
    revision: str | None = None


class Manifest(BaseModel):
    """What is known of a dataset before any of it is downloaded.

    `files` names a table beside the manifest (tab separated): ``path``, ``bytes``, ``checksum`` ("sha256:...",
    "md5:...", "sha1:..."), and at will ``source`` (which of `sources`; "archive" where there is no such column) and
    ``s3_version`` (what pins the bytes of an object of S3). A size that is not known is left empty. `sources` are https
    addresses in which ``{path}``, ``{bytes}``, ``{checksum}`` (in hex) and ``{suffix}`` (".fif") stand for those of a
    file. `listing` is for archives that tell their files when asked, `instructions` for data that users must get
    themselves; `facts` are the loader's.

    `verified` says whether the table was compared with the archive's own list of files; `unverified` what was not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    loader: str
    title: str
    modality: tuple[Modality, ...]
    citation: str
    licence: str
    description: str
    # Where in the list of datasets: what is open, checksummed and used most comes first.
    rank: int = 100
    languages: tuple[str, ...] = ()
    n_subjects: int | None = None
    hours_per_subject: float | None = None
    homepage: str | None = None
    rows: Literal["time", "items"] = "time"
    sources: dict[str, str] = {}
    files: str | None = None
    listing: Listing | None = None
    instructions: str | None = None
    verified: bool = True
    unverified: str | None = None
    facts: dict[str, Any] = {}

    def file_table(self) -> pd.DataFrame:
        """The files of the dataset: columns ``path``, ``bytes``, ``checksum``, ``source``, ``s3_version``."""
        columns = {"path": "", "bytes": 0, "checksum": "", "source": "archive", "s3_version": ""}
        if self.files is None:
            return pd.DataFrame({name: [] for name in columns})
        # No cell is guessed at: a path or version that reads "NA" is one.
        table = pd.read_csv(manifest_folder() / self.files, sep="\t", dtype=str, keep_default_na=False)
        table["bytes"] = table["bytes"].mask(table["bytes"] == "").astype("Int64")
        return table.assign(**{name: default for name, default in columns.items() if name not in table})


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
