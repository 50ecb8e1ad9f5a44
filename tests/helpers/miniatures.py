"""Small archives with planted truth: what the tests of loaders build in a public dataset's own layout and formats."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainalign.alignment import resampling_matrix
from brainalign.errors import DataWarning
from brainalign.features import ToyModel
from brainalign.files import sha256_of_file
from brainalign.manifests import Manifest
from brainalign.pipeline import score_layers
from brainalign.types import Clock, Dataset, Floats, Scores, Stimulus

MODEL = ToyModel(n_layers=3, dimension=6)
LAYERS = (0, 1, 2, 3)
NOISE_SHARE = 0.2
LATENCY_S = 0.25


def serve_miniature(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the archive of the dataset named like `folder` have that folder's files, which a mirror beside it gives."""
    real = Manifest.file_table

    def table(self: Manifest) -> pd.DataFrame:
        if self.name != folder.name:
            return real(self)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return pd.DataFrame(
            {
                "path": [path.relative_to(folder).as_posix() for path in paths],
                "bytes": [path.stat().st_size for path in paths],
                "checksum": [f"sha256:{sha256_of_file(path)}" for path in paths],
                "source": next(iter(self.sources)),
                "s3_version": "",
            }
        )

    monkeypatch.setattr(Manifest, "file_table", table)
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(folder.parent))


def planted_bold(
    stimulus: Stimulus, clock: Clock, offset_s: float, n_rows: int, layers: Sequence[int] = LAYERS, seed: int = 0
) -> Floats:
    """BOLD in which target t follows `layers[t]` of `MODEL` through the HRF, shape (n_rows, target), float32.

    `seed` is of the noise; a target reads its layer in the same way in all runs.
    """
    features = MODEL.extract(stimulus)
    place = resampling_matrix(features.onset_s + offset_s, features.duration_s, clock, n_rows, "hrf")
    drives = np.stack([features.values[layer] @ _weights(target) for target, layer in enumerate(layers)], axis=1)
    return _with_noise(place @ drives, seed)


def planted_signal(
    stimulus: Stimulus,
    onset_s: Floats,
    rate_hz: float,
    n_rows: int,
    layers: Sequence[int] = LAYERS,
    latency_s: float = LATENCY_S,
    seed: int = 0,
) -> Floats:
    """Signals in which each word, heard at `onset_s` of the recording, adds a bump `latency_s` later.

    Channel c follows `layers[c]` of `MODEL`; shape (n_rows, channel), float32, unit variance.
    """
    features = MODEL.extract(stimulus)
    drives = np.stack([features.values[layer] @ _weights(target) for target, layer in enumerate(layers)], axis=1)
    times = np.arange(n_rows) / rate_hz
    signal = np.zeros((n_rows, len(layers)))
    for centre_s, drive in zip(np.asarray(onset_s) + latency_s, drives, strict=True):
        near = slice(*np.searchsorted(times, [centre_s - 0.2, centre_s + 0.2]))
        signal[near] += np.exp(-0.5 * ((times[near] - centre_s) / 0.04) ** 2)[:, None] * drive
    return _with_noise(signal, seed)


def check_planted_layers(data: Dataset, layers: Sequence[int] = LAYERS, latency_s: float = LATENCY_S) -> Scores:
    """Score the data and assert that each target's best layer is the planted one, and the best latency too."""
    # What the loaders tell of real event files (words past the end, clocks that drift) is tested where it is made.
    with warnings.catch_warnings(action="ignore", category=DataWarning):
        scores = score_layers(data, MODEL, baseline=(), store=None)
    r = scores["r"].mean("fold").transpose("layer", "target", ...).values
    n_subjects = len(np.unique(scores["subject"]))
    if "latency" in scores.dims:
        found = scores["latency"].values[r.max(axis=0).argmax(axis=1)]
        np.testing.assert_allclose(found, latency_s, atol=0.04)
        r = r.max(axis=2)
    assert r.argmax(axis=0).tolist() == list(layers) * n_subjects, r.round(2)
    assert (r.max(axis=0) > 0.4).all(), r.round(2)
    return scores


def write_textgrid(path: Path, tiers: dict[str, list[tuple[float, float, str]]], encoding: str = "utf-8") -> None:
    """A TextGrid of interval tiers; what lies between the intervals given is empty."""
    end = max(stop for intervals in tiers.values() for _, stop, _ in intervals)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end!r}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items()):
        filled = _without_gaps(intervals, end)
        lines += [f"    item [{number + 1}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end!r}", f"        intervals: size = {len(filled)}"]
        for i, (start, stop, label) in enumerate(filled):
            text = label.replace('"', '""')
            lines += [f"        intervals [{i + 1}]:", f"            xmin = {start!r}", f"            xmax = {stop!r}"]
            lines += [f'            text = "{text}"']
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def _without_gaps(intervals: list[tuple[float, float, str]], end: float) -> list[tuple[float, float, str]]:
    filled, last = [], 0.0
    for start, stop, label in intervals:
        if start > last:
            filled.append((last, start, ""))
        filled.append((start, stop, label))
        last = stop
    return [*filled, (last, end, "")] if last < end else filled


def _weights(target: int) -> Floats:
    return np.random.default_rng([7, target]).normal(size=MODEL.dimension)


def _with_noise(signal: Floats, seed: int) -> Floats:
    noise = np.random.default_rng([11, seed]).normal(size=signal.shape)
    return (signal / signal.std(axis=0) * np.sqrt(1 - NOISE_SHARE) + noise * np.sqrt(NOISE_SHARE)).astype(np.float32)
