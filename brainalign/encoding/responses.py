"""Responses read in blocks of targets, from memory or from a file, each target on a scale of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from brainalign.encoding.metrics import is_constant
from brainalign.types import Floats

__all__ = ["Responses", "block_width", "blocks_of", "target_status"]

# Values read at once (32 MB in float64), and targets at most. Fixed: sums over blocks of another width differ in their
# last bits.
VALUES_AT_ONCE = 2**22
TARGETS_AT_ONCE = 2048


def block_width(n_samples: int) -> int:
    """How many targets of so many samples are read at once."""
    return max(64, min(TARGETS_AT_ONCE, VALUES_AT_ONCE // max(n_samples, 1)))


def blocks_of(n_targets: int, width: int) -> Iterator[slice]:
    """Consecutive slices of at most `width` targets."""
    for start in range(0, n_targets, width):
        yield slice(start, min(start + width, n_targets))


def target_status(responses: Floats) -> np.ndarray:
    """For each target of responses (sample, target): "ok", "constant" or "nonfinite"."""
    status = np.full(responses.shape[1], "ok", dtype="<U9")
    status[is_constant(np.nan_to_num(responses, nan=0.0, posinf=0.0, neginf=0.0))] = "constant"
    status[~np.isfinite(responses).all(axis=0)] = "nonfinite"
    return status


class Responses:
    """Responses (sample, target) as the encoders read them: blocks of standardised targets.

    Scores do not depend on a target's offset and scale. Standardised, values of 1e6 or 1e-15 keep their digits in
    float32 too. A target that is constant or not finite reads as zeros; `status` names it.

    Parameters
    ----------
    array : array (n, v)
        Anything with `shape` and `dtype` that slices like an array: numpy's, memory-mapped, HDF5 or Zarr. Read a block
        of targets at a time, never whole.
    dtype : {"float32", "float64"}, optional
        Of the products with these responses; by default float32 for values of at most that precision.
    hold : int
        Bytes that a standardised copy may fill; one that would be larger is made block by block at each reading.
    each : int, optional
        Targets of each of several subjects that stand side by side. No block spans two, and the way to fit is chosen
        as for one, so that each subject's scores are to the last bit those of a fit by itself.

    Attributes
    ----------
    status : array (v,) of str
        "ok", "constant" or "nonfinite".
    mean, scale : arrays (v,)
        What was taken off each target, and what the rest was divided by.

    Raises
    ------
    ValueError
        If the array has not two dimensions, or not `each` targets some whole number of times.

    Examples
    --------
    >>> responses = Responses(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> responses.read(slice(0, 2)).tolist(), responses.status.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], ['ok', 'constant'])
    """

    def __init__(self, array: Any, dtype: str | None = None, hold: int = 0, each: int | None = None) -> None:
        if len(array.shape) != 2:
            raise ValueError(f"responses must have shape (sample, target), not {tuple(array.shape)}.")
        self.array = array
        self.n_samples, self.n_targets = array.shape
        self.each = self.n_targets if each is None else each
        if self.n_targets % max(self.each, 1):
            raise ValueError(f"{self.n_targets} targets are not those of subjects with {self.each} each.")
        narrow = np.dtype(array.dtype).kind == "f" and np.dtype(array.dtype).itemsize <= 4
        self.dtype = dtype or ("float32" if narrow else "float64")
        self.mean, self.scale = np.zeros(self.n_targets), np.ones(self.n_targets)
        self.status = np.full(self.n_targets, "ok", dtype="<U9")
        for block in self.blocks():
            values = np.asarray(array[:, block])
            self.status[block] = target_status(values)
            finite = np.where(self.status[block] != "nonfinite", values, 0.0).astype(np.float64)
            self.mean[block] = finite.mean(axis=0)
            finite -= self.mean[block]
            self.scale[block] = np.where(self.status[block] == "ok", _deviation(finite), 1.0)
        self._held: np.ndarray | None = None
        if self.n_samples * self.n_targets * np.dtype(self.dtype).itemsize <= hold:
            self._held = np.empty((self.n_samples, self.n_targets), dtype=self.dtype)
            for block in self.blocks():
                self._held[:, block] = self._standardised(block)

    def blocks(self, at_most: int | None = None) -> list[slice]:
        """All targets in blocks of the width in which they are read, or narrower."""
        width = block_width(self.n_samples)
        own = list(blocks_of(self.each, width if at_most is None else min(width, at_most)))
        subjects = range(0, self.n_targets, max(self.each, 1))
        return [slice(first + block.start, first + block.stop) for first in subjects for block in own]

    def read(self, block: slice) -> np.ndarray:
        """The standardised responses (n, width of the block)."""
        return self._standardised(block) if self._held is None else self._held[:, block]

    def as_given(self) -> np.ndarray:
        """All responses (n, v) on their own scale, in float64; what cannot be used is zeros."""
        return np.where(self.status == "ok", np.asarray(self.array), 0.0).astype(np.float64)

    def _standardised(self, block: slice) -> np.ndarray:
        values = np.array(self.array[:, block], dtype=np.float64)
        values -= self.mean[block]
        values /= self.scale[block]
        values[:, self.status[block] != "ok"] = 0.0
        return values.astype(self.dtype, copy=False)


def _deviation(centred: Floats) -> Floats:
    """Standard deviation of columns whose squares may be too small or too large for their type."""
    size = np.abs(centred).max(axis=0)
    size = np.where(size > 0, size, 1.0)
    return size * np.sqrt(((centred / size) ** 2).mean(axis=0))
