"""Arrays in npy, npz, HDF5 and mat files: what they are without reading them, and reading them, never running code."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from brainalign.archives.local_files import require_file
from brainalign.errors import BrainalignError, DataError, nearest
from brainalign.types import Floats

if TYPE_CHECKING:
    import h5py

__all__ = ["array_shape", "read_array"]

HDF5 = (".h5", ".hdf5", ".hf5")
SUFFIXES = (".npy", ".npz", ".mat", *HDF5)
# What is read of a file at a time: small beside a response, large beside a disk's block.
BLOCK_BYTES = 2**26
# What MATLAB calls its arrays of real numbers, where scipy lists them; the rest are no numbers.
MAT_TYPES = {"double": "f8", "single": "f4", "logical": "?"} | {
    f"{sign}int{bits}": f"{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


class _Array(Protocol):
    """What numpy's and h5py's arrays have in common, as far as it is needed."""

    @property
    def dtype(self) -> np.dtype: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


def array_shape(path: Path, key: str | None = None) -> tuple[int, int]:
    """The shape (row, column) of an array of numbers in a file; one of a single axis counts as one column.

    Parameters
    ----------
    path : Path
        A ``.npy``, ``.npz``, ``.mat``, ``.h5``, ``.hdf5`` or ``.hf5`` file.
    key : str, optional
        The array's name in an npz, mat or HDF5 file; needed where there are several.

    Raises
    ------
    DataError
        If there is no such array, or it is not one of real numbers with one or two axes and at least one row.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "bold.npy"
    ...     np.save(path, np.zeros(7))
    ...     array_shape(path)
    (7, 1)
    """
    with _opened(path, key) as array:
        return _checked_shape(path, array)


def read_array(path: Path, key: str | None = None, columns: Sequence[int] | None = None) -> Floats:
    """The array of a file, shape (row, column), float32.

    Besides what is returned, no more than 64 MB of it are in memory at a time; an array of an npz file, or of a mat
    file before version 7.3, is read whole first.

    Parameters
    ----------
    path, key
        As of `array_shape`.
    columns : sequence of int, optional
        Which columns, in this order; all by default.

    Raises
    ------
    DataError
        As `array_shape`; if there is no such column; and if a number is too large for float32.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "bold.npy"
    ...     np.save(path, np.arange(6).reshape(2, 3))
    ...     read_array(path, columns=[2, 0])
    array([[2., 0.],
           [5., 3.]], dtype=float32)
    """
    with _opened(path, key) as array:
        n_rows, n_columns = _checked_shape(path, array)
        chosen = slice(None) if columns is None else _checked_columns(path, columns, n_columns)
        values = np.empty((n_rows, n_columns if columns is None else len(columns)), dtype=np.float32)
        step = max(1, BLOCK_BYTES // (n_columns * array.dtype.itemsize))
        try:
            with np.errstate(over="raise"):
                for start in range(0, n_rows, step):
                    block = array[start : start + step].reshape(-1, n_columns)
                    values[start : start + step] = block[:, chosen]
        except FloatingPointError as error:
            raise DataError(f"{path}: holds numbers too large for float32 (3.4e38); rescale them.") from error
        return values


def _checked_shape(path: Path, array: _Array) -> tuple[int, int]:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: holds {array.dtype}, not real numbers; Python objects are never read.")
    if len(array.shape) not in (1, 2) or 0 in array.shape:
        raise DataError(f"{path}: an array of shape {array.shape}; expected (time, target), neither empty.")
    return (array.shape[0], 1) if len(array.shape) == 1 else (array.shape[0], array.shape[1])


def _checked_columns(path: Path, columns: Sequence[int], n_columns: int) -> np.ndarray:
    chosen = np.asarray(columns, dtype=np.intp)
    wrong = chosen[(chosen < 0) | (chosen >= n_columns)]
    if len(wrong):
        raise DataError(f"{path}: no column {wrong[0]}; it has {n_columns}, counted from 0.")
    return chosen


@contextmanager
def _opened(path: Path, key: str | None) -> Generator[_Array]:
    """The array, read no further than need be to know its type and shape."""
    require_file(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: arrays are read from {', '.join(SUFFIXES)}, not '{path.suffix}'.")
    open_array = {".npy": _npy_array, ".npz": _npz_array, ".mat": _mat_array}.get(suffix, _hdf5_array)
    try:
        with open_array(path, key) as array:
            yield array
    except BrainalignError:
        raise
    except Exception as error:  # their readers meet a damaged file with whatever they stumble over
        if "pickle" in str(error) or "Python objects" in str(error):
            raise DataError(f"{path}: holds Python objects, or is no {suffix} file; neither is ever opened.") from error
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a whole {suffix} file ({type(error).__name__}: {reason}).") from error


@contextmanager
def _npy_array(path: Path, key: str | None) -> Generator[_Array]:
    yield np.load(path, mmap_mode="r", allow_pickle=False)


@contextmanager
def _npz_array(path: Path, key: str | None) -> Generator[_Array]:
    # numpy leaves a file open that it opened and found damaged.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        yield file[_choose_key(path, key, file.files)]


@contextmanager
def _mat_array(path: Path, key: str | None) -> Generator[_Array]:
    import h5py

    if h5py.is_hdf5(path):
        with _hdf5_array(path, key) as dataset:
            yield _of_matlab_73(path, dataset)
        return
    from scipy.io import whosmat

    variables = {name: (shape, kind) for name, shape, kind in whosmat(str(path))}
    name = _choose_key(path, key, list(variables))
    shape, kind = variables[name]
    yield _MatVariable(path, name, tuple(shape), _mat_type(path, name, kind))


def _mat_type(path: Path, name: str, kind: str) -> np.dtype:
    if kind not in MAT_TYPES:
        full = f" Save full({name})." if kind == "sparse" else ""
        raise DataError(f"{path}: '{name}' is of MATLAB's class {kind}, not an array of real numbers.{full}")
    return np.dtype(MAT_TYPES[kind])


@dataclass(frozen=True)
class _MatVariable:
    """A variable of a mat file before version 7.3, read whole when its rows are first asked for."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        return self._values[rows]

    @cached_property
    def _values(self) -> np.ndarray:
        from scipy.io import loadmat

        values = np.asarray(loadmat(str(self.path), variable_names=[self.name])[self.name])
        if values.dtype.kind == "c":
            raise DataError(f"{self.path}: '{self.name}' holds complex numbers; save real ones.")
        return values


def _of_matlab_73(path: Path, dataset: h5py.Dataset) -> _Array:
    """The array as MATLAB shows it, whose first axis is the file's last one."""
    name, kind = str(dataset.name).strip("/"), dataset.attrs.get("MATLAB_class")
    if kind is not None:
        # Text is kept as numbers, and of an array without elements there is its shape.
        _mat_type(path, name, kind.decode() if isinstance(kind, bytes) else str(kind))
        if "MATLAB_empty" in dataset.attrs:
            raise DataError(f"{path}: '{name}' is empty.")
    return _Transposed(dataset)


@dataclass(frozen=True)
class _Transposed:
    dataset: h5py.Dataset

    @property
    def dtype(self) -> np.dtype:
        return self.dataset.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.dataset.shape[::-1]

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        return self.dataset[..., rows].T


@contextmanager
def _hdf5_array(path: Path, key: str | None) -> Generator[h5py.Dataset]:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        # visititems follows no links, so what is listed lies in this file.
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        # MATLAB keeps the contents of its cells there.
        names = [name for name in names if not name.startswith("#refs#/")]
        dataset = file[_choose_key(path, key.strip("/") if key else None, names)]
        assert isinstance(dataset, h5py.Dataset)
        # The checksum of this file says nothing of bytes that lie in another one.
        if dataset.external or dataset.is_virtual:
            raise DataError(f"{path}: '{dataset.name}' keeps its numbers in other files; copy them into this one.")
        yield dataset


def _choose_key(path: Path, key: str | None, names: list[str]) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key is None:
        raise DataError(f"{path}: holds {len(names)} arrays; name one as `key`. {nearest('data', names)}")
    if key not in names:
        raise DataError(f"{path}: no array '{key}'. {nearest(key, names)}")
    return key
