"""Responses are read block by block, standardised, from whatever slices like an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from brainalign.encoding import responses as responses_module
from brainalign.encoding.responses import Responses, block_width


def values() -> np.ndarray:
    random = np.random.default_rng(0).normal(size=(40, 6)) * [1.0, 1e-15, 1e15, 1.0, 1.0, 3.0] + [0, 0, 0, 5, 0, 1e6]
    random[:, 3] = 5.0
    random[7, 4] = np.nan
    return random


def sources(folder: Path) -> dict[str, Any]:
    array = values()
    np.save(folder / "y.npy", array)
    with h5py.File(folder / "y.h5", "w") as file:
        file["y"] = array
    return {
        "array": array,
        "mapped": np.load(folder / "y.npy", mmap_mode="r"),
        "hdf5": h5py.File(folder / "y.h5", "r")["y"],
    }


@pytest.mark.parametrize("hold", [0, 2**20])
@pytest.mark.parametrize("source", ["array", "mapped", "hdf5"])
def test_what_is_read_is_standardised(source: str, hold: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses_module, "block_width", lambda n_samples: 4)
    responses = Responses(sources(tmp_path)[source], hold=hold)
    assert [block.stop - block.start for block in responses.blocks()] == [4, 2]
    assert responses.status.tolist() == ["ok", "ok", "ok", "constant", "nonfinite", "ok"]
    read = np.hstack([responses.read(block) for block in responses.blocks()])
    usable = [0, 1, 2, 5]
    np.testing.assert_allclose(read[:, usable].mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(read[:, usable].std(axis=0), 1.0, rtol=1e-9)
    np.testing.assert_array_equal(read[:, [3, 4]], 0.0)
    back = read * responses.scale + responses.mean
    np.testing.assert_allclose(back[:, [0, 1, 2, 3, 5]], values()[:, [0, 1, 2, 3, 5]], rtol=1e-9)


@pytest.mark.parametrize(
    ("given", "expected"), [("f2", "float32"), ("f4", "float32"), ("f8", "float64"), ("i4", "float64")]
)
def test_products_are_as_precise_as_the_values(given: str, expected: str) -> None:
    responses = Responses(np.arange(12).reshape(6, 2).astype(given))
    assert responses.dtype == expected
    assert responses.read(slice(0, 2)).dtype == expected


def test_what_other_estimators_see_is_on_its_own_scale() -> None:
    given = Responses(values()).as_given()
    np.testing.assert_array_equal(given[:, [0, 1, 2, 5]], values()[:, [0, 1, 2, 5]])
    np.testing.assert_array_equal(given[:, [3, 4]], 0.0)


@pytest.mark.parametrize("n_samples", [1, 100, 9_000, 10**7])
def test_a_block_fits_the_cache_but_is_worth_a_product(n_samples: int) -> None:
    width = block_width(n_samples)
    assert 64 <= width <= 2048
    assert width == 64 or width * n_samples <= 2**22 or n_samples == 1


def test_one_dimension_too_few_is_named() -> None:
    with pytest.raises(ValueError, match=r"shape \(sample, target\), not \(5,\)"):
        Responses(np.arange(5.0))


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i2", "i4", "u1", "u2", ">f4", "f2"])
def test_whole_numbers_over_all_of_their_range_vary(dtype: str) -> None:
    # Found in review: the span of 16-bit recordings was taken in 16 bits, and came out negative.
    kind = np.dtype(dtype)
    low, high = (-6e4, 6e4) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    array = np.linspace(low, high, 20).astype(kind)[:, None]
    responses = Responses(array)
    assert responses.status.tolist() == ["ok"]
    assert responses.read(slice(0, 1)).std() == pytest.approx(1.0, rel=1e-5)


def test_yes_and_no_are_numbers() -> None:
    responses = Responses(np.array([[True, True], [False, True]]))
    assert responses.status.tolist() == ["ok", "constant"]
    assert responses.read(slice(0, 2)).tolist() == [[1.0, 0.0], [-1.0, 0.0]]
