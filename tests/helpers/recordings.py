"""Small MEG and EEG recordings in the formats of the archives, written without the packages that read them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]

# KIT's kinds of channels, and where in its table of contents stands what.
KIT_GRADIOMETER, KIT_REFERENCE, KIT_TRIGGER = 2, 0x101, -1
KIT_SYSTEM, KIT_CHANNELS, KIT_CALIBRATION, KIT_AMPLIFIER, KIT_ACQUISITION, KIT_DATA, KIT_MARKERS = 1, 4, 5, 7, 8, 9, 12
KIT_RANGE_V, KIT_BITS, KIT_TESLA_PER_V = 10.0, 24, 1e-9


def sine(freq_hz: float, rate_hz: float, n_times: int, phase: float = 0.0) -> Values:
    """A sine of size one."""
    return np.sin(2 * np.pi * freq_hz * np.arange(n_times) / rate_hz + phase)


def write_fif(
    path: Path, values: Values, rate_hz: float, info: object = None, *, first_s: float = 0.0, split: str = "2GB"
) -> Path:
    """A FIF file of the channels that `info` (MNE's) describes, magnetometers by default, shape (channel, time)."""
    import mne

    if info is None:
        info = mne.create_info(len(values), rate_hz, "mag")
    with info._unlock():
        info["sfreq"] = rate_hz
    raw = mne.io.RawArray(values, info, first_samp=round(first_s * rate_hz), verbose="error")
    raw.save(path, overwrite=True, split_size=split, split_naming="bids", buffer_size_sec=1.0, verbose="error")
    return path


def helmet(system: str = "neuromag", every: int = 1) -> object:
    """MNE's description of every nth sensor position of a helmet ("neuromag", "ctf275")."""
    import mne

    info = mne.channels.read_meg_canonical_info(system)
    picks = mne.pick_types(info, meg=True, ref_meg=True)
    per_position = 3 if system == "neuromag" else 1
    return mne.pick_info(info, [pick for i, pick in enumerate(picks) if i // per_position % every == 0])


def write_brainvision(
    path: Path,
    values_v: Values,
    rate_hz: float,
    names: Sequence[str],
    marks: Sequence[tuple[str, str, int]] = (),
) -> Path:
    """A BrainVision recording of microvolts in float32; `marks` are (kind, name, sample)."""
    first = "Brain Vision Data Exchange {} File, Version 1.0"
    header = [
        first.format("Header"),
        "[Common Infos]",
        "Codepage=UTF-8",
        f"DataFile={path.stem}.eeg",
        f"MarkerFile={path.stem}.vmrk",
        "DataFormat=BINARY",
        "DataOrientation=MULTIPLEXED",
        f"NumberOfChannels={len(names)}",
        f"SamplingInterval={1e6 / rate_hz:.10g}",
        "[Binary Infos]",
        "BinaryFormat=IEEE_FLOAT_32",
        "[Channel Infos]",
        *(f"Ch{i}={name},,1,µV" for i, name in enumerate(names, 1)),
    ]
    markers = [
        first.format("Marker"),
        "[Common Infos]",
        f"DataFile={path.stem}.eeg",
        "[Marker Infos]",
        "Mk1=New Segment,,1,1,0,20240101000000000000",
        *(f"Mk{i}={kind},{name},{sample + 1},1,0" for i, (kind, name, sample) in enumerate(marks, 2)),
    ]
    path.write_text("\n".join(header) + "\n", encoding="utf-8")
    path.with_suffix(".vmrk").write_text("\n".join(markers) + "\n", encoding="utf-8")
    path.with_suffix(".eeg").write_bytes((values_v.T * 1e6).astype("<f4").tobytes())
    return path


def write_edf(path: Path, values_v: Values, rate_hz: int, names: Sequence[str], largest_v: float) -> Path:
    """An EDF file in records of a second, 16 bits between ``-largest_v`` and ``largest_v``; whole seconds only."""
    n_channels, n_times = values_v.shape
    n_records, left_over = divmod(n_times, rate_hz)
    assert left_over == 0
    largest_uv = f"{largest_v * 1e6:.8g}"[:8]
    step_uv = 2 * float(largest_uv) / 65535
    whole = ["0", "X X X X", "Startdate 01-JAN-2024 X X X", "01.01.24", "00.00.00"]
    head = _padded(whole, [8, 80, 80, 8, 8])
    head += _padded([str(256 * (n_channels + 1)), "", str(n_records), "1", str(n_channels)], [8, 44, 8, 8, 4])
    for width, texts in (
        (16, list(names)),
        (80, [""] * n_channels),
        (8, ["uV"] * n_channels),
        (8, [f"-{largest_uv}"[:8]] * n_channels),
        (8, [largest_uv] * n_channels),
        (8, ["-32768"] * n_channels),
        (8, ["32767"] * n_channels),
        (80, [""] * n_channels),
        (8, [str(rate_hz)] * n_channels),
        (32, [""] * n_channels),
    ):
        head += _padded(texts, [width] * n_channels)
    counts = np.rint((values_v * 1e6 + float(largest_uv)) / step_uv - 32768).astype("<i2")
    records = counts.reshape(n_channels, n_records, rate_hz).transpose(1, 0, 2)
    path.write_bytes(head + records.tobytes())
    return path


def write_kit(
    path: Path,
    sensors_t: Values,
    rate_hz: float,
    *,
    references_t: Values | None = None,
    triggers_v: Values | None = None,
) -> Path:
    """A KIT recording (``.con``): gradiometers around the head, reference magnetometers, and trigger channels.

    The sensors lie on a sphere of 12 cm, looking outwards; MNE names all channels by their number (``MEG 001``).
    Numbers are kept to 0.6 fT.
    """
    n_times = sensors_t.shape[1]
    references_t = np.zeros((3, n_times)) if references_t is None else references_t
    triggers_v = np.zeros((8, n_times)) if triggers_v is None else triggers_v
    kinds = [KIT_GRADIOMETER] * len(sensors_t) + [KIT_REFERENCE] * len(references_t) + [KIT_TRIGGER] * len(triggers_v)
    places = [*_places_on_sphere(len(sensors_t)), *[(0.0, 0.0, 0.3, 0.0, 0.0)] * len(references_t)]
    channels = b""
    for i, kind in enumerate(kinds):
        place = places[i] if kind != KIT_TRIGGER else ()
        entry = struct.pack("<i5d", kind, *place) if place else struct.pack("<iii", kind, i, 0) + b"TRIG%d" % i
        channels += entry.ljust(76, b"\0")
    step_v = KIT_RANGE_V / 2**KIT_BITS
    counts = np.vstack([np.vstack([sensors_t, references_t]) / (step_v * KIT_TESLA_PER_V), triggers_v / step_v])
    data = np.rint(counts.T).astype("<i4")
    _write_kit_sections(
        path,
        {
            KIT_SYSTEM: (_kit_system(len(kinds)), 1),
            KIT_CHANNELS: (channels, len(kinds)),
            KIT_CALIBRATION: (struct.pack("<2d", 0.0, KIT_TESLA_PER_V) * len(kinds), len(kinds)),
            KIT_AMPLIFIER: (struct.pack("<i", 0x0500), 1),
            KIT_ACQUISITION: (struct.pack("<idii", 1, rate_hz, n_times, n_times), 1),
            KIT_DATA: (data.tobytes(), data.size),
        },
    )
    return path


def write_kit_markers(path: Path, points_m: Values) -> Path:
    """A KIT marker file (``.mrk``): where five coils on the head were, in the helmet's coordinates, shape (5, 3)."""
    marks = b"".join(struct.pack("<4i6d", 0, 0, 1, 1, *point, *point) for point in points_m)
    _write_kit_sections(
        path, {KIT_MARKERS: (struct.pack("<i32di", 1, *[0.0] * 32, len(points_m)) + marks.ljust(760, b"\0"), 1)}
    )
    return path


def _kit_system(n_channels: int) -> bytes:
    names = b"Miniature".ljust(128, b"\0") + b"Model".ljust(128, b"\0")
    times = struct.pack("<2i", 1_600_000_000, 1_600_000_000)
    devices = b"".join(struct.pack("<4i", 0, 0, 0, value) for value in (1, 10, 1, 1))
    adc = struct.pack("<d3i", KIT_RANGE_V, 0, 32, KIT_BITS)
    counted = struct.pack("<i", n_channels) + b"written by a test".ljust(256, b"\0")
    return struct.pack("<3i", 2, 4, 34) + names + counted + times + devices + bytes(4 * 29) + adc


def _write_kit_sections(path: Path, sections: dict[int, tuple[bytes, int]], n_sections: int = 32) -> None:
    """The sections of a KIT file behind their table of contents: offset, size of an item, room for, number of items."""
    table = [(0, 16, n_sections, n_sections)] + [(0, 0, 0, 0)] * (n_sections - 1)
    content = b""
    for number, (section, count) in sections.items():
        table[number] = (16 * n_sections + len(content), len(section) // count, count, count)
        content += section
    path.write_bytes(b"".join(struct.pack("<4i", *entry) for entry in table) + content)


def _places_on_sphere(n_places: int, radius_m: float = 0.12) -> list[tuple[float, ...]]:
    """x, y, z and the polar and azimuth angles of the normal in degrees, evenly over the upper half."""
    numbers = np.arange(n_places)
    theta = np.arccos(1 - (numbers + 0.5) / n_places)
    phi = np.pi * (1 + np.sqrt(5)) * numbers % (2 * np.pi)
    x, y, z = radius_m * np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    return list(zip(x, y, z, np.degrees(theta), np.degrees(phi), strict=True))


def _padded(texts: Sequence[str], widths: Sequence[int]) -> bytes:
    return b"".join(text.encode("ascii").ljust(width) for text, width in zip(texts, widths, strict=True))
