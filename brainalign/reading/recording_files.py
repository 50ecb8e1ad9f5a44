"""Recordings of MEG, EEG and iEEG opened by the ends of their names; what MNE stumbles over becomes a DataError."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainalign.archives.local_files import require_file
from brainalign.errors import BrainalignError, DataError
from brainalign.types import Floats

if TYPE_CHECKING:
    from mne.io import BaseRaw

__all__ = ["data_errors", "open_recording"]

KIT_RAW_DATA = 9


def open_recording(
    path: Path,
    *,
    markers: Sequence[Path] = (),
    digitized: Path | None = None,
    head_shape: Path | None = None,
    kinds: Mapping[str, str] | None = None,
    renames: Mapping[str, str] | None = None,
    montage: str | None = None,
) -> BaseRaw:
    """Open a recording by the end of its name; its signals are not read.

    Parameters
    ----------
    path : Path
        FIF (``.fif``, ``.fif.gz``; recorded with active shielding or not), KIT (``.con``, ``.sqd``), CTF (a folder
        ``.ds``), BrainVision (``.vhdr``), ``.edf``, ``.bdf`` or EEGLAB (``.set``).
    markers, digitized, head_shape : Path, optional
        KIT's marker files (one, or those before and after, which are averaged), and its digitised points (ELP) and
        head shape (HSP). Without them the sensors' places in the head are not known.
    kinds : mapping of str to str, optional
        MNE's kinds of channels that the file does not tell: ``{"EXG1": "misc"}``. Names that the file has not are
        passed over.
    renames : mapping of str to str, optional
        New names of channels, before `kinds`.
    montage : str, optional
        One of MNE's standard montages ("biosemi128"), for EEG files that hold no positions.

    Raises
    ------
    DataError
        If a file is missing, was not downloaded, is damaged, cut off or of another kind.

    Examples
    --------
    >>> open_recording(Path("run.fif"))
    Traceback (most recent call last):
    brainalign.errors.DataError: run.fif: no such file.
    """
    path = Path(path)
    suffix = ".fif" if path.name.lower().endswith(".fif.gz") else path.suffix.lower()
    for file in _files_of(path, suffix):
        require_file(file)
    with data_errors(str(path)):
        raw = _read_raw(path, suffix, markers, digitized, head_shape)
        raw.rename_channels({old: new for old, new in (renames or {}).items() if old in raw.ch_names}, verbose="error")
        known = {name: kind for name, kind in (kinds or {}).items() if name in raw.ch_names}
        raw.set_channel_types(known, on_unit_change="ignore")
        if montage is not None:
            raw.set_montage(montage, match_case=False, on_missing="ignore", verbose="error")
    return raw


@contextmanager
def data_errors(where: str, failed: str = "cannot be read") -> Generator[None]:
    """Turn whatever MNE stumbles over into a DataError."""
    try:
        yield
    except (BrainalignError, MemoryError):
        raise
    except Exception as error:  # a damaged file is met with any of them
        reason = " ".join(str(error).split())[:300]
        if "split" in reason.lower():
            raise DataError(
                f"{where}: one of several parts of a recording, and others are missing: {reason}\n"
                "Put all parts (split-01, split-02 ...) into one folder."
            ) from error
        mend = "Is the file whole? Compare it with the archive's." if failed == "cannot be read" else "Leave it out."
        raise DataError(f"{where}: {failed} ({type(error).__name__}: {reason}).\n{mend}") from error


def _read_raw(
    path: Path, suffix: str, markers: Sequence[Path], digitized: Path | None, head_shape: Path | None
) -> BaseRaw:
    from mne import io

    if suffix == ".fif":
        return io.read_raw_fif(path, allow_maxshield=True, verbose="warning")
    if suffix in (".con", ".sqd"):
        _check_length_of_kit(path)
        for file in (*markers, digitized, head_shape):
            if file is not None:
                require_file(file)
        marks = [str(file) for file in markers] or None
        return io.read_raw_kit(
            path, mrk=marks, elp=_digitized_points(digitized), hsp=_digitized_points(head_shape), verbose="warning"
        )
    if suffix == ".ds":
        return io.read_raw_ctf(path, clean_names=True, verbose="warning")
    read = {
        ".vhdr": io.read_raw_brainvision,
        ".edf": io.read_raw_edf,
        ".bdf": io.read_raw_bdf,
        ".set": io.read_raw_eeglab,
    }[suffix]
    return read(path, verbose="warning")


def _files_of(path: Path, suffix: str) -> list[Path]:
    """The files without which the recording is nothing."""
    if suffix == ".ds":
        if not path.is_dir():
            raise DataError(f"{path}: no such folder; a CTF recording is a folder .ds, to be copied whole.")
        files = sorted(path.glob("*.meg4")) + sorted(path.glob("*.res4"))
        if len({file.suffix for file in files}) < 2:
            raise DataError(f"{path}: a CTF folder holds a .meg4 and a .res4; copy the whole folder.")
        return files
    if suffix == ".vhdr":
        header = require_file(path).read_bytes().decode("utf-8", "replace")
        named = re.findall(r"^(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$", header, flags=re.MULTILINE)
        return [path, *(path.parent / name.replace("$b", path.stem) for name in named)]
    if suffix == ".set":
        data = path.with_suffix(".fdt")
        return [path, data] if data.exists() or data.is_symlink() else [path]
    if suffix not in (".fif", ".con", ".sqd", ".edf", ".bdf"):
        raise DataError(f"{path}: recordings are read from .fif, .con, .sqd, .ds, .vhdr, .edf, .bdf and .set.")
    return [path]


def _digitized_points(path: Path | None) -> Path | Floats | None:
    """Points as MNE takes them; those that BIDS names ``.pos`` in metres, which FastSCAN writes in millimetres."""
    if path is None or path.suffix.lower() != ".pos":
        return path
    return np.loadtxt(path, comments="%", ndmin=2) / 1000.0


def _check_length_of_kit(path: Path) -> None:
    """Raise if a KIT file ends before its samples do, which MNE would give as zeros."""
    with path.open("rb") as stream:
        stream.seek(16 * KIT_RAW_DATA)
        offset, size, _, count = np.frombuffer(stream.read(16), dtype="<i4").tolist()
    expected = offset + size * count
    if path.stat().st_size < expected:
        raise DataError(f"{path}: {path.stat().st_size} bytes of {expected}; the file was cut off. Fetch it again.")
