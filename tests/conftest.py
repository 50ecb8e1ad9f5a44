"""What all tests share: the folder of real files, where there is one, and a cache of the test session's own."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

# Set before torch is imported anywhere: tests are small, and two spinning threads cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Tests of these files wait for other processes more than they compute, and for long: the others go on beside them.
BEGUN_FIRST = ("test_slurm.py", "test_faults.py", "test_dask.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one at the end."""
    sizes = Counter(item.path for item in items)

    def rank(item: pytest.Item) -> tuple[int, int]:
        name = item.path.name
        return BEGUN_FIRST.index(name) if name in BEGUN_FIRST else len(BEGUN_FIRST), -sizes[item.path]

    items.sort(key=rank)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models that lies beside a checkout on the developers' machines."""
    folder = Path(os.environ.get("BRAINALIGN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the developers' folder of real files at {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_llama(shared: Path) -> Path:
    """A trained causal language model of 5 layers x 64 dimensions."""
    return shared / "models" / "stories260K"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's cache, mirror and data."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BRAINALIGN_CACHE", str(folder))
    monkeypatch.delenv("BRAINALIGN_MIRROR", raising=False)
    return folder
