"""CTF recordings, which MNE reads and does not write: a folder of a header, the data and the head's coils."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REFERENCE, MEG_CHANNEL, MAX_COILS = 0, 5, 8
# The first grade of compensation ("G1BR"), and how many references it may use.
FIRST_GRADE, MAX_REFERENCES = 0x47314252, 50
# Where the run's description would begin; what comes before is filled with zeros where a reader needs nothing.
HEADER_BYTES = 1844
STEP_T = 1e-16
NAMES = ("MLC11-1706", "MRF23-1706", "MLT44-1706", "MZO02-1706")


def write_ctf(folder: Path, values_t: NDArray[np.floating], rate_hz: float, names: Sequence[str] = NAMES) -> Path:
    """A folder ``.ds`` of axial gradiometers around the head, shape (channel, time), kept to 0.1 fT.

    There is a reference magnetometer too, silent, of which the first grade takes nothing: MNE opens no file without.
    """
    assert len(values_t) == len(names)
    names = (*names, "BG1-1706")
    values_t = np.vstack([values_t, np.zeros_like(values_t[:1])])
    n_channels, n_times = values_t.shape
    folder.mkdir(parents=True, exist_ok=True)
    header = bytearray(HEADER_BYTES)
    struct.pack_into(">8s", header, 0, b"MEG42RS")
    struct.pack_into(">255s255s", header, 778, b"10:00", b"01-Jan-2020")
    struct.pack_into(">ih", header, 1288, n_times, n_channels)
    struct.pack_into(">ddh", header, 1296, rate_hz, n_times / rate_hz, 1)
    labels = b"".join(name.encode().ljust(32, b"\0") for name in names)
    channels = b"".join(_channel(place) for place in _places(n_channels - 1)) + _channel((0.0, 0.0, 20.0), REFERENCE)
    compensation = b"".join(_compensation(name, names[-1]) for name in names[:-1])
    no_filters = struct.pack(">h", 0)
    content = bytes(header) + no_filters + labels + channels + struct.pack(">h", n_channels - 1) + compensation
    (folder / f"{folder.stem}.res4").write_bytes(content)
    counts = np.rint(values_t / STEP_T).astype(">i4")
    (folder / f"{folder.stem}.meg4").write_bytes(b"MEG41CP\0" + counts.tobytes())
    (folder / f"{folder.stem}.hc").write_text(_head_coils())
    return folder


def _compensation(name: str, reference: str) -> bytes:
    references = reference.encode().ljust(31 * MAX_REFERENCES, b"\0")
    weights = bytes(8 * MAX_REFERENCES)
    return struct.pack(">32siih", name.encode(), FIRST_GRADE, 0, 1) + references + weights


def _channel(place_cm: tuple[float, ...], kind: int = MEG_CHANNEL) -> bytes:
    """A gradiometer of two coils, 5 cm one above the other, in the helmet's coordinates and in the head's."""
    outer = tuple(value * 1.5 for value in place_cm)
    normal = tuple(np.array(place_cm) / np.linalg.norm(place_cm))
    coils = b"".join(_coil(at, direction) for at, direction in ((place_cm, normal), (outer, tuple(-n for n in normal))))
    coils = coils.ljust(MAX_COILS * 80, b"\0")
    return struct.pack(">hhiddddhhi", kind, 0, 0, 1.0, 1.0 / STEP_T, 1.0, 0.0, 2, 0, 0) + coils + coils


def _coil(place_cm: Sequence[float], normal: Sequence[float]) -> bytes:
    return struct.pack(">3dd3ddhihd", *place_cm, 0.0, *normal, 0.0, 1, 0, 0, 2.5)


def _places(n_channels: int, radius_cm: float = 11.0) -> list[tuple[float, ...]]:
    """Places on the upper half of a sphere, each somewhere else."""
    angles = np.linspace(0.2, 5.5, n_channels)
    return [(radius_cm * np.cos(a) * 0.8, radius_cm * np.sin(a) * 0.8, radius_cm * 0.6) for a in angles]


def _head_coils() -> str:
    coils = {"nasion": (8.0, 0.0, -20.0), "left ear": (0.0, 7.0, -20.0), "right ear": (0.0, -7.0, -20.0)}
    lines = []
    for frame, raised_cm in (("dewar", 0.0), ("head", 20.0)):
        for name, (x, y, z) in coils.items():
            lines.append(f"measured {name} coil position relative to {frame} (cm):")
            lines += [f"\tx = {x}", f"\ty = {y}", f"\tz = {z + raised_cm}"]
    return "\n".join(lines) + "\n"
