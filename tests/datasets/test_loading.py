"""Datasets by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import brainalign.datasets
from brainalign.datasets import Alice, list_datasets, load_dataset
from brainalign.errors import RecipeError
from brainalign.manifests import read_manifest


def test_every_dataset_has_a_sound_manifest() -> None:
    assert {"alice", "arrays", "bids", "simulated", "lebel2023", "meg_masc", "podcast"} <= set(list_datasets())
    for name in list_datasets():
        manifest = read_manifest(name)
        assert manifest.name == name
        assert manifest.title
        assert manifest.citation
        assert manifest.licence


def test_settings_reach_the_loader(tmp_path: Path) -> None:
    data = load_dataset(
        "alice", root=str(tmp_path), subjects=["s22", "s18"], options={"radius_mm": 10, "regions": ["LIFG"]}
    )
    assert isinstance(data, Alice)
    assert data.subjects == ("s18", "s22")
    assert data.archive.root == tmp_path
    assert data.radius_mm == 10
    assert data.regions == ("LIFG",)
    assert data.citation.startswith("Brennan")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alcie", {}, "Unknown dataset 'alcie'. Did you mean 'alice'"),
        ("alice", {"radius": 6}, "dataset.radius: unknown key. Did you mean 'radius_mm'"),
        ("alice", {"radius_mm": 7}, "dataset.radius_mm: input should be 6 or 10, not '?7'?"),
        ("alice", {"regions": 3}, "dataset.regions: must be a list, .*not '?3'?"),
        ("arrays", {}, "dataset.words: missing"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(name: str, options: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        load_dataset(name, options=options)
    assert "\n" not in str(error.value)


def test_importing_is_light() -> None:
    code = "import sys, brainalign.datasets; print(*{name.split('.')[0] for name in sys.modules})"
    root = str(Path(__file__).resolve().parents[2])
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    ).stdout.split()
    assert {"numpy", "pandas", "requests", "pydantic", "h5py", "pyarrow", "praatio"}.isdisjoint(loaded)


@pytest.mark.parametrize("name", brainalign.datasets.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert callable(getattr(brainalign.datasets, name))
