"""Datasets by name: from a manifest to the loader it names, with the settings it is given checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from brainalign.manifests import list_manifests, read_manifest
from brainalign.registry import DATASETS, find
from brainalign.settings import checked_settings
from brainalign.types import Dataset

__all__ = ["list_datasets", "load_dataset"]


def list_datasets() -> list[str]:
    """The names that `load_dataset` knows, sorted.

    Examples
    --------
    >>> list_datasets()[:3]
    ['alice', 'armeni2022', 'arrays']
    """
    return list_manifests()


def load_dataset(
    name: str,
    *,
    root: Path | str | None = None,
    subjects: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Give a dataset; nothing of it is read or fetched until asked for.

    Parameters
    ----------
    name : str
        One of `list_datasets`.
    root : Path or str, optional
        The folder where its files are.
    subjects : sequence of str, optional
        Which subjects; all by default.
    options : mapping, optional
        Further settings of its loader, as in a recipe: ``{"radius_mm": 10}`` for "alice". The loader's class
        documents them (`Alice`, `Arrays`).

    Raises
    ------
    RecipeError
        If there is no such dataset or setting, with the nearest there is; or a setting has a wrong value.

    Examples
    --------
    >>> load_dataset("alice", subjects=["s18"]).subjects
    ('s18',)
    """
    manifest = read_manifest(name)
    loader = find(manifest.loader, DATASETS, "loader")
    given = {"root": root, "subjects": subjects}
    settings = {**(options or {}), **{key: value for key, value in given.items() if value is not None}}
    return loader(**checked_settings(loader, settings, "dataset"))
