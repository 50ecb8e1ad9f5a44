"""Arrays in npy, npz and HDF5 files: what they are without reading them, and reading them, never running code."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainalign.datasets.local_files import require_file
from brainalign.errors import BrainalignError, DataError, nearest
from brainalign.types import Floats

if TYPE_CHECKING:
    import h5py

__all__ = ["array_shape", "read_array"]

HDF5 = (".h5", ".hdf5", ".hf5")
SUFFIXES = (".npy", ".npz", *HDF5)


def array_shape(path: Path, key: str | None = None) -> tuple[int, int]:
    """The shape (row, column) of an array of numbers in a file; one of a single axis counts as one column.

    Parameters
    ----------
    path : Path
        A ``.npy``, ``.npz``, ``.h5``, ``.hdf5`` or ``.hf5`` file.
    key : str, optional
        The array's name in an npz or HDF5 file; needed where there are several.

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


def read_array(path: Path, key: str | None = None) -> Floats:
    """The array of a file, shape (row, column), float32.

    Raises
    ------
    DataError
        As `array_shape`; and if a number is too large for float32.
    """
    with _opened(path, key) as array:
        shape = _checked_shape(path, array)
        try:
            with np.errstate(over="raise"):
                return np.asarray(array[...]).astype(np.float32).reshape(shape)
        except FloatingPointError as error:
            raise DataError(f"{path}: holds numbers too large for float32 (3.4e38); rescale them.") from error


def _checked_shape(path: Path, array: np.ndarray | h5py.Dataset) -> tuple[int, int]:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: holds {array.dtype}, not real numbers; Python objects are never read.")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise DataError(f"{path}: an array of shape {array.shape}; expected (time, target), neither empty.")
    return (array.shape[0], 1) if array.ndim == 1 else (array.shape[0], array.shape[1])


@contextmanager
def _opened(path: Path, key: str | None) -> Generator[np.ndarray | h5py.Dataset]:
    """The array, read no further than need be to know its type and shape."""
    require_file(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: arrays are read from {', '.join(SUFFIXES)}, not '{path.suffix}'.")
    open_array = {".npy": _npy_array, ".npz": _npz_array}.get(suffix, _hdf5_array)
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
def _npy_array(path: Path, key: str | None) -> Generator[np.ndarray]:
    yield np.load(path, mmap_mode="r", allow_pickle=False)


@contextmanager
def _npz_array(path: Path, key: str | None) -> Generator[np.ndarray]:
    # numpy leaves a file open that it opened and found damaged.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        yield file[_choose_key(path, key, file.files)]


@contextmanager
def _hdf5_array(path: Path, key: str | None) -> Generator[h5py.Dataset]:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        # visititems follows no links, so what is listed lies in this file.
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
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
