"""Arrays in files: what was planted comes back whole or by columns, and what is no array of numbers is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_array

from brainalign.errors import DataError
from brainalign.reading import array_files
from brainalign.reading.array_files import array_shape, read_array

VALUES = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def write_mat73(path: Path, name: str, stored: np.ndarray, kind: str = "double", **attributes: object) -> None:
    """As MATLAB writes it: a header of text before the HDF5, axes the other way round, a class."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file[name] = stored
        file[name].attrs["MATLAB_class"] = np.bytes_(kind)
        for key, value in attributes.items():
            file[name].attrs[key] = value
        file["#refs#/a"] = np.zeros(3)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


WRITERS: dict[str, Callable[[Path], None]] = {
    "x.npy": lambda path: np.save(path, VALUES.astype(np.float64)),
    "x.npz": lambda path: np.savez(path, x=VALUES, other=np.zeros(3)),
    "x.h5": lambda path: h5py.File(path, "w").create_dataset("x", data=VALUES, chunks=(7, 2)).file.close(),
    "v5.mat": lambda path: savemat(path, {"x": VALUES, "words": "text", "other": np.zeros(3)}),
    "v7.mat": lambda path: savemat(path, {"x": VALUES.astype(np.float64)}, do_compression=True),
    "v4.mat": lambda path: savemat(path, {"x": VALUES.astype(np.float64)}, format="4"),
    "v73.mat": lambda path: write_mat73(path, "x", VALUES.T.astype(np.float64)),
}


@pytest.mark.parametrize("columns", [None, [3, 0, 3], []], ids=["all", "some", "none"])
@pytest.mark.parametrize("block_rows", [1, 7, 1000])
@pytest.mark.parametrize("name", WRITERS)
def test_planted_values_come_back(
    name: str, block_rows: int, columns: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_files, "BLOCK_BYTES", block_rows * 4 * 4)
    WRITERS[name](tmp_path / name)
    assert array_shape(tmp_path / name, "x") == (30, 4)
    found = read_array(tmp_path / name, "x", columns)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VALUES if columns is None else VALUES[:, columns])


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint64", "bool", "float32"])
def test_matlab_s_types_of_numbers_are_read(kind: str, tmp_path: Path) -> None:
    values = np.array([[0, 1], [1, 0], [1, 1]], dtype=kind)
    savemat(tmp_path / "x.mat", {"x": values})
    np.testing.assert_array_equal(read_array(tmp_path / "x.mat"), values.astype(np.float32))


def test_a_single_axis_is_one_column(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VALUES[:, 0])
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy", columns=[0, 0]), VALUES[:, [0, 0]])


def test_a_large_dataset_is_never_whole_in_memory_as_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "BLOCK_BYTES", 2**20)
    with h5py.File(tmp_path / "story.hf5", "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(300, 9000))
    read_array(tmp_path / "story.hf5", columns=[0])
    tracemalloc.start()
    values = read_array(tmp_path / "story.hf5", "data")
    _, peak = tracemalloc.get_traced_memory()
    read_array(tmp_path / "story.hf5", "data", columns=range(10))
    tracemalloc.stop()
    assert values.nbytes == 300 * 9000 * 4
    assert peak < values.nbytes + 4 * 2**20


def write_struct(path: Path) -> None:
    savemat(path, {"x": {"field": VALUES}})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_struct, "'x' is of MATLAB's class struct, not an array of real numbers"),
        (lambda path: savemat(path, {"x": "words"}), "class char"),
        (lambda path: savemat(path, {"x": np.array([1, "a"], dtype=object)}), "class cell"),
        (lambda path: savemat(path, {"x": csc_array(np.eye(3))}), r"class sparse, .* Save full\(x\)"),
        (lambda path: savemat(path, {"x": VALUES + 1j}), "'x' holds complex numbers"),
        (lambda path: savemat(path, {"x": np.zeros((0, 3))}), r"shape \(0, 3\); expected"),
        (lambda path: savemat(path, {"x": np.zeros((2, 3, 4))}), r"shape \(2, 3, 4\); expected"),
        (lambda path: savemat(path, {"y": VALUES, "z": VALUES}), "no array 'x'. Known: y, z"),
        (lambda path: path.write_bytes(b"no mat file at all, only text" * 20), "not a whole .mat file"),
        (lambda path: path.write_text("/annex/objects/MD5-s1--2"), "not downloaded"),
        (lambda path: write_mat73(path, "x", np.array([[104, 105]], np.uint16), "char"), "'x' is of .* class char"),
        (lambda path: write_mat73(path, "x", np.array([0, 3]), MATLAB_empty=1), "'x' is empty"),
        (lambda path: write_mat73(path, "y", VALUES), "no array 'x'. Known: y"),
        (lambda path: write_mat73(path, "x", np.full((2, 2), 1e300)), "too large for float32"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write(tmp_path / "x.mat")
    with pytest.raises(DataError, match=rf"x\.mat: .*{message}"):
        read_array(tmp_path / "x.mat", "x")


@pytest.mark.parametrize("name", ["v5.mat", "v7.mat", "v73.mat"])
def test_a_truncated_file_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=rf"{name}: (not a whole \.mat file|no array 'x')"):
        read_array(path, "x")


@pytest.mark.parametrize("column", [-1, 4])
def test_a_column_that_is_not_there_is_named(column: int, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VALUES)
    with pytest.raises(DataError, match=f"no column {column}; it has 4, counted from 0"):
        read_array(tmp_path / "x.npy", columns=[0, column])
