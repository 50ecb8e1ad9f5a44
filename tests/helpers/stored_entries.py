"""Entries of a store to try things on, and what lies on disk for them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from brainalign.errors import DataError, StoreWarning
from brainalign.files import digest_of, sha256_of_file
from brainalign.store import Entry, Store
from brainalign.store_layout import place_of

KEY = digest_of({"what": "a test"})
FACTS = {"layers": ["a", "b"], "n": 3, "share": 0.1, "nothing": None, "name": "Ürümqi 日本", "deep": {"a": [True, []]}}


def arrays_of(seed: int = 0, n: int = 1000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"r": rng.normal(size=(n, 2)).astype(np.float32), "alpha": rng.integers(0, 9, n), "seed": np.array([seed])}


def put_streamed(store: Store, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> None:
    """What `put` does, with the first array filled piece by piece."""
    (first, values), *others = arrays.items()
    with store.writer(key) as writer:
        allocated = writer.allocate(first, values.shape, values.dtype)
        for start in range(0, len(values), 1000):
            allocated[start : start + 1000] = values[start : start + 1000]
        writer.commit(dict(others), facts)


def put_in_layout_1(store: Store, key: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> Path:
    """An entry as brainalign wrote them before they were checked by XXH3."""
    place = store.folder / key[:2] / key
    own = place / "0123456789abcdef0123456789abcdef"
    own.mkdir(parents=True)
    listing = {}
    for name, values in arrays.items():
        np.save(own / f"{name}.npy", values)
        listing[name] = {
            "bytes": (own / f"{name}.npy").stat().st_size,
            "sha256": sha256_of_file(own / f"{name}.npy"),
        }
    record = {"layout": 1, "key": key, "writer": own.name, "arrays": listing, "facts": facts}
    (place / "record.json").write_text(json.dumps({**record, "digest": digest_of(record)}))
    return place


def assert_holds(entry: Entry | None, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> None:
    assert entry is not None
    assert list(entry.arrays) == list(arrays)
    for name, values in arrays.items():
        assert entry.arrays[name].dtype == values.dtype
        assert entry.arrays[name].shape == values.shape
        assert entry.arrays[name].tobytes() == values.tobytes()
    assert entry.facts == facts


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def record_of(store: Store) -> Path:
    return place_of(store.root, KEY) / "record.json"


def file_of(store: Store, name: str) -> Path:
    return next(path for path in files_in(record_of(store).parent) if path.name == name)


def read_after_a_fault(store: Store) -> Entry | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        return store.get(KEY)


def refusal(work: Callable[[], object]) -> str:
    """The message of the DataError that `work` raises."""
    with pytest.raises(DataError) as caught:
        work()
    return str(caught.value)


def age(folder: Path, seconds: float) -> None:
    """Let everything there be so much older."""
    for path in [*folder.rglob("*"), folder]:
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))
