"""The manifests, recipes and templates are found in a checkout, an editable install and a wheel installed elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from brainalign.manifests import list_manifests

ROOT = Path(__file__).parents[1]
WHERE = "from brainalign.manifests import manifest_folder; print(manifest_folder())"


def python(*arguments: str, executable: str = sys.executable, cwd: Path, **environment: str) -> str:
    """What a fresh interpreter prints."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [executable, *arguments], cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_checkout_finds_its_manifests(tmp_path: Path) -> None:
    found = python("-c", WHERE, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert Path(found) == ROOT / "data_manifests"


def test_the_installed_package_finds_its_manifests(tmp_path: Path) -> None:
    """`make test` installs it as editable."""
    folder = Path(python("-c", WHERE, cwd=tmp_path))
    assert sorted(path.stem for path in folder.glob("*.yaml")) == list_manifests()
    assert python("-m", "brainalign_cli.main", "--version", cwd=tmp_path).endswith("0.1.0")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "build", "--wheel", "--outdir", str(folder), str(ROOT), cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_a_wheel_in_a_fresh_environment_runs(wheel: Path, tmp_path: Path) -> None:
    python("-m", "venv", str(tmp_path / "venv"), cwd=tmp_path)
    fresh = str(tmp_path / "venv" / "bin" / "python")
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel), executable=fresh, cwd=tmp_path)
    # The libraries are lent by the environment of the tests; its own brainalign, if editable, is not on this path.
    site = python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", executable=fresh, cwd=tmp_path)
    (Path(site) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert Path(python("-c", WHERE, executable=fresh, cwd=tmp_path)) == Path(site) / "brainalign" / "data_manifests"
    command = str(tmp_path / "venv" / "bin" / "brainalign")
    settings = ["dataset.n_subjects=1", "dataset.n_runs=3", "dataset.n_words=120", "dataset.n_layers=1"]
    changes = [part for setting in settings for part in ("--set", setting)]
    out = python(
        command,
        *("run", "simulated", "--out", "out", "--jobs", "1", *changes, "--set", "features.0.n_layers=1"),
        executable=fresh,
        cwd=tmp_path,
        BRAINALIGN_CACHE=str(tmp_path / "cache"),
    )
    assert "Report: out/report.html" in out
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
def test_a_wheel_holds_all_that_is_not_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        "brainalign/py.typed",
        "brainalign/__init__.pyi",
        "brainalign/report/templates/report.html.jinja",
        "brainalign/recipes/demo.yaml",
        "brainalign/data_manifests/alice.yaml",
        "brainalign/data_manifests/alice_files.tsv",
        "brainalign_cli/main.py",
    }
    assert expected <= names
    assert not [name for name in names if name.startswith(("tests/", "data_manifests/", "cli/"))]


def test_the_manifests_hold_no_python() -> None:
    """One .py file among them would make editable installs miss them all."""
    assert {path.suffix for path in (ROOT / "data_manifests").rglob("*") if path.is_file()} <= {".yaml", ".tsv"}
