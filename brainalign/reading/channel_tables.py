"""BIDS tables of channels and electrodes: which channel is of what kind, which are bad and why, and where they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign.errors import DataError, nearest
from brainalign.reading.tables import Table, read_table
from brainalign.types import Finding

__all__ = ["Channels", "read_channels", "read_electrodes"]

# What MNE calls BIDS's kinds of channels; all others are no recording of a brain.
KINDS = {
    "EEG": "eeg",
    "ECOG": "ecog",
    "SEEG": "seeg",
    "DBS": "dbs",
    "EOG": "eog",
    "HEOG": "eog",
    "VEOG": "eog",
    "ECG": "ecg",
    "EMG": "emg",
}
# No electrode is farther from the origin of any head's coordinates.
LARGEST_HEAD_M = 0.5
METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}


@dataclass(frozen=True)
class Channels:
    """What a ``channels.tsv`` tells.

    Parameters
    ----------
    kinds : mapping of str to str
        MNE's kind of each channel, by name.
    bads : mapping of str to str
        The bad channels, and why ("n/a" where the table does not say).
    """

    kinds: Mapping[str, str]
    bads: Mapping[str, str]

    def findings(self, where: str, what_then: str) -> list[Finding]:
        """What is bad and why, and what is done about it: nothing, or one finding of code ``bad-channels``."""
        if not self.bads:
            return []
        reasons = Counter(self.bads.values())
        told = ", ".join(f"{n} {reason if reason != 'n/a' else 'without a reason'}" for reason, n in reasons.items())
        message = f"channels.tsv calls {len(self.bads)} of {len(self.kinds)} channels bad ({told}); {what_then}."
        return [Finding("bad-channels", where, message)]


def read_channels(path: Path) -> Channels:
    r"""Read a ``channels.tsv``, with or without a byte-order mark.

    Raises
    ------
    DataError
        If a column is missing, or a status is neither good, bad nor n/a; the message names the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "channels.tsv"
    ...     _ = file.write_text("name\ttype\tstatus\nG1\tECOG\tbad\nDC1\tMISC\tgood\n", encoding="utf-8-sig")
    ...     read_channels(file)
    Channels(kinds={'G1': 'ecog', 'DC1': 'misc'}, bads={'G1': 'n/a'})
    """
    table = read_table(path)
    names, types = table.texts("name"), table.texts("type")
    statuses = table.texts("status") if "status" in table.columns else ["n/a"] * len(table)
    reasons = table.texts("status_description") if "status_description" in table.columns else ["n/a"] * len(table)
    for status, row in zip(statuses, table.row_names, strict=True):
        if status.lower() not in ("good", "bad", "n/a", ""):
            raise DataError(f"{path}, {row}: the status is {status!r}; expected good, bad or n/a.")
    return Channels(
        kinds={name: KINDS.get(kind.upper(), "misc") for name, kind in zip(names, types, strict=True)},
        bads={
            name: reason or "n/a"
            for name, status, reason in zip(names, statuses, reasons, strict=True)
            if status.lower() == "bad"
        },
    )


def read_electrodes(path: Path, unit: str) -> pd.DataFrame:
    r"""Read the places of an ``electrodes.tsv``, in metres.

    Parameters
    ----------
    path : Path
    unit : {"m", "cm", "mm"}
        Of the table: ``EEGCoordinateUnits`` or ``iEEGCoordinateUnits`` of the ``coordsystem.json`` beside it.

    Returns
    -------
    pandas.DataFrame
        Columns ``name``, ``x``, ``y``, ``z``, NaN where the table says "n/a".

    Raises
    ------
    DataError
        If a column is missing, the unit is none of these, or a place is no number.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "electrodes.tsv"
    ...     _ = file.write_text("name\tx\ty\tz\nG1\t60.0\t-1.5\t0\nVEOG\tn/a\tn/a\tn/a\n")
    ...     read_electrodes(file, "mm")
       name     x       y    z
    0    G1  0.06 -0.0015  0.0
    1  VEOG   NaN     NaN  NaN
    """
    if unit not in METRES:
        raise DataError(f"{path}: places are in {unit!r}. {nearest(unit, METRES)}")
    table = read_table(path)
    places = {axis: METRES[unit] * _numbers_or_nan(table, axis) for axis in ("x", "y", "z")}
    farthest_m = float(np.abs(np.nan_to_num(np.array(list(places.values())))).max())
    if farthest_m > LARGEST_HEAD_M:
        raise DataError(f"{path}: places up to {farthest_m:g} m from the middle of the head; are they in {unit}?")
    return pd.DataFrame({"name": table.texts("name"), **places})


def _numbers_or_nan(table: Table, column: str) -> np.ndarray:
    values = []
    for text, row in zip(table.texts(column), table.row_names, strict=True):
        try:
            values.append(math.nan if text == "n/a" else float(text))
        except ValueError as error:
            raise DataError(f"{table.path}, {row}: {column} {text!r} is neither a number nor n/a.") from error
    return np.array(values, dtype=float)
