"""What the readers of fMRI images have in common: what they know of a run before reading it, TRs, means over sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainalign.errors import DataError
from brainalign.types import Finding, Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["LONGEST_TR_S", "Images", "Notes", "checked_tr", "mean_of_sets", "sets_of"]

# No TR is so long in seconds, nor so short in milliseconds.
LONGEST_TR_S = 20.0
# What is averaged at a time, in float64.
BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class Images:
    """What is known of a run before its numbers are read.

    Parameters
    ----------
    targets : pandas.DataFrame
        ``name`` and ``kind``, then for a "voxel" its indices ``i``, ``j``, ``k``; for a "parcel" its ``label`` and how
        many voxels or vertices it has; for a "vertex" its ``hemisphere`` and ``vertex``. ``x``, ``y``, ``z`` in mm
        where known: of a voxel, the centroid of a parcel, the centre of a sphere.
    space : dict
        As of `Recording`.
    tr_s : float
        Seconds from volume to volume.
    n_volumes : int
        Rows of the response.
    read : callable
        Gives the response, shape (volume, target), float32.
    steps : tuple of str
        What `read` does, in words.
    findings : tuple of Finding
        What was defaulted, corrected or left out.
    """

    targets: pd.DataFrame
    space: dict[str, Any]
    tr_s: float
    n_volumes: int
    read: Callable[[], Floats]
    steps: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Notes:
    """What is to be told of a recording while it is opened: collects the steps and the findings of its `Images`."""

    where: str
    steps: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def find(self, code: str, message: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, self.where, message))


def sets_of(labels: np.ndarray, wanted: np.ndarray) -> csr_array:
    """Which elements have which label: 1 at (label, element), of shape (len(wanted), len(labels)).

    Examples
    --------
    >>> sets_of(np.array([0, 7, 4, 7]), np.array([4, 7])).toarray().astype(int).tolist()
    [[0, 0, 1, 0], [0, 1, 0, 1]]
    """
    from scipy.sparse import csr_array

    elements = np.flatnonzero(np.isin(labels, wanted))
    order = np.argsort(wanted)
    rows = order[np.searchsorted(wanted[order], labels[elements])]
    return csr_array((np.ones(len(elements)), (rows, elements)), shape=(len(wanted), len(labels)))


def mean_of_sets(values: Floats, members: csr_array) -> Floats:
    """Mean over the members of each set that are numbers; NaN where none is.

    Parameters
    ----------
    values : array (row, element)
    members : sparse array (set, element)

    Returns
    -------
    array (row, set), float32

    Examples
    --------
    >>> values = np.array([[1.0, 3.0, np.nan]])
    >>> mean_of_sets(values, sets_of(np.array([1, 1, 2]), np.array([1, 2])))
    array([[ 2., nan]], dtype=float32)
    """
    means = np.empty((len(values), len(members.indptr) - 1), dtype=np.float32)
    step = max(1, BLOCK_BYTES // (8 * values.shape[1]))
    for start in range(0, len(values), step):
        block = values[start : start + step].astype(np.float64)
        known = np.isfinite(block)
        total = members @ np.where(known, block, 0.0).T
        with np.errstate(invalid="ignore"):
            means[start : start + step] = (total / (members @ known.T.astype(np.float64))).T
    return means


def checked_tr(path: Path, header_s: float, known_s: float | None, notes: Notes) -> float:
    """The TR in seconds: the one that is known, else the header's.

    Parameters
    ----------
    path : Path
        The image, for messages.
    header_s : float
        What its header says; 0 or NaN where that is nothing.
    known_s : float, optional
        What is known from elsewhere.
    notes : Notes
        Gets a finding, ``tr-differs``, where the two are not the same.

    Raises
    ------
    DataError
        If there is none, or it cannot be seconds.

    Examples
    --------
    >>> notes = Notes("run 1")
    >>> checked_tr(Path("bold.nii.gz"), 1.0, 1.5, notes)
    1.5
    >>> print(*notes.findings)
    run 1: bold.nii.gz: its header says a TR of 1 s; 1.5 s is taken.
    """
    has_header = np.isfinite(header_s) and header_s > 0
    tr_s = header_s if known_s is None else known_s
    if known_s is None and not has_header:
        raise DataError(
            f"{path}: its header has no TR (it says {header_s:g} s); write it there, or as RepetitionTime into the "
            "bold.json beside it."
        )
    if not (np.isfinite(tr_s) and tr_s > 0):
        raise DataError(f"{path}: a TR of {tr_s:g} s; it must be positive.")
    if tr_s > LONGEST_TR_S:
        raise DataError(
            f"{path}: a TR of {tr_s:g} s looks like milliseconds; RepetitionTime and the header's TR are seconds."
        )
    if has_header and abs(header_s - tr_s) > 1e-3:
        notes.find("tr-differs", f"{path.name}: its header says a TR of {header_s:g} s; {tr_s:g} s is taken.")
    # Headers keep float32: 0.72 is there 0.72000003.
    return float(f"{tr_s:.6g}")
