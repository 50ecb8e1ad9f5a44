"""Sound files of stimuli."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError
from brainalign.types import Audio, Floats

__all__ = ["read_sound"]


def read_sound(path: Path, start_s: float = 0.0) -> Audio:
    """Read a wav file, its channels averaged, from `start_s` seconds on.

    Raises
    ------
    DataError
        If it is no wav file, or has no sound after `start_s`.

    Examples
    --------
    >>> import tempfile
    >>> from scipy.io import wavfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "story.wav"
    ...     wavfile.write(path, 100, np.full((300, 2), 16384, dtype=np.int16))
    ...     read_sound(path, start_s=1.0)
    Audio(samples=array([0.5, 0.5, ...], dtype=float32), rate_hz=100.0)
    """
    from scipy.io import wavfile

    require_file(path)
    try:
        # scipy warns of every part of the file that is no sound, such as its title.
        with warnings.catch_warnings(action="ignore", category=wavfile.WavFileWarning):
            rate_hz, samples = wavfile.read(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not a wav file that can be read: {error}.") from error
    samples = samples[round(start_s * rate_hz) :]
    if len(samples) == 0:
        raise DataError(f"{path}: holds no sound{f' after {start_s:g} s' if start_s else ''}.")
    return Audio(_as_mono(samples), float(rate_hz))


def _as_mono(samples: np.ndarray) -> Floats:
    """Samples between -1 and 1, shape (n,); several channels are averaged."""
    if samples.dtype == np.uint8:
        scaled = (samples.astype(np.float32) - 128.0) / 128.0
    elif samples.dtype.kind == "i":
        scaled = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    else:
        scaled = samples.astype(np.float32)
    return scaled if scaled.ndim == 1 else scaled.mean(axis=1)
