"""What the sound alone carries: its loudness, spectrum, onsets and pitch.

Every space has one sample per stretch of ``1 / rate_hz`` seconds. Each stretch's borders are rounded to samples of the
sound on their own, so that rates that do not divide each other do not drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Audio, Features, Floats, Stimulus, StimulusPart

__all__ = ["SOUND_ENVELOPE", "Sound", "SoundSpace", "sound_envelope"]

CODE_VERSION = 1

SOUND_ENVELOPE = "sound_envelope"

SoundSpace = Literal["envelope", "mel_spectrum", "onsets", "onset_spectrum", "pitch"]

NAMES: dict[str, str] = {
    "envelope": "sound envelope",
    "mel_spectrum": "mel spectrum",
    "onsets": "acoustic onsets",
    "onset_spectrum": "onset spectrum",
    "pitch": "pitch",
}
IN_BANDS = ("mel_spectrum", "onsets", "onset_spectrum")
N_BANDS = 32
# From below the voices of men to where telephones stop mattering; a sound of 16,000 samples per second has all of it.
BANDS_HZ = (50.0, 8000.0)
# Adult speech lies within; the middle, on a logarithmic scale, is 173 Hz.
PITCH_HZ = (60.0, 500.0)

# The shortest window of a spectrum; at low rates two stretches, so that no sound falls between windows.
WINDOW_S = 0.025
# Spectra are read at least this finely, whatever the sound's rate, so that narrow bands are measured alike at each.
BIN_HZ = 10.0
# Below the noise of a quiet recording, so that digital silence does not stand out from a speaker's.
FLOOR_DB = -80.0

# What YIN compares with itself shifted; longer than the longest period (de Cheveigne & Kawahara, 2002).
YIN_WINDOW_S = 0.025
# The first dip of the normalised difference below this is the period, as in the paper; else the deepest is.
YIN_THRESHOLD = 0.1
# A dip above this is no period: a fifth of the power or more is not repeated.
VOICED_BELOW = 0.2
# Samples per shortest period: more of them cost time and bring nothing, since dips are interpolated.
SAMPLES_PER_PERIOD = 22
# Of a difference function, relative to the power: what is smaller is rounding.
ROUNDING = 1e-9
# Stretches whose spectra are in memory at once.
AT_ONCE = 2048


@dataclass(frozen=True)
class Sound:
    """Extract one property of the sound, on a clock of its own; alignment places it on the recording's.

    ==============  ====================================================================================
    envelope        root mean square, as `sound_envelope`; one column
    mel_spectrum    power in mel-spaced bands, in dB; `n_bands` columns
    onsets          how fast the bands become louder, in dB per second, averaged over the bands; one column
    onset_spectrum  the same, band by band; `n_bands` columns
    pitch           octaves above the middle of `range_hz`, and 1 where the sound is voiced; two columns
    ==============  ====================================================================================

    Parameters
    ----------
    space : {"envelope", "mel_spectrum", "onsets", "onset_spectrum", "pitch"}
        Which property.
    rate_hz : float
        Stretches per second; at most the sound's own rate.
    n_bands : int, optional
        Of the three spaces in bands; 32 by default.
    range_hz : (float, float), optional
        Lower edge of the lowest and upper edge of the highest band, by default 50 to 8,000 Hz; or the lowest and
        highest pitch, by default 60 to 500 Hz. The envelope has none.

    Raises
    ------
    RecipeError
        On construction, if a setting cannot be, or does not belong to the space; on extraction, if the sound's own
        rate is too low for `rate_hz` or `range_hz`.
    DataError
        On extraction, if the stimulus has no sound, or samples that are not finite.

    Notes
    -----
    *Bands.* Triangles with a peak of 1, evenly spaced and half overlapping on the mel scale ``2595 log10(1 + f /
    700)`` (O'Shaughnessy, 1987). A value is ``10 log10`` of the mean square that the band lets through, relative to
    full scale (1 for floating-point sound, 32,768 for 16-bit integers), in a Hann window around the stretch's middle
    of 25 ms, or of two stretches where that is longer. Values below -80 dB are set to -80 dB, so silence has -80 dB.

    *Onsets.* Each band's rise in dB since the stretch before, times `rate_hz`; falls count as 0 (Daube, Ince & Gross,
    2019). Before its first sample the sound is taken to be silent. Windows overlap, so a sudden sound may show one
    stretch early; silence has 0.

    *Pitch.* YIN (de Cheveigne & Kawahara, 2002) at the middle of the stretch, from the 42 ms around it (with the
    default range). Where the sound does not repeat itself to four fifths of its power, or does so at a pitch outside
    `range_hz`, both columns are 0. Beside the second column any constant would do as well for the first: the two span
    the same. That of the middle of the range keeps them least alike. Since only the middle counts, choose a `rate_hz`
    of 50 or more.

    Values depend on nothing but the sound within those windows (and, for the pitch, within the 1 to 3 ms beyond that
    resampling reads); outside the sound is silence. The last stretch may be shorter than the others: its onset,
    duration and envelope are of what there is, its window is where a whole stretch's would be.

    References
    ----------
    Daube, C., Ince, R. A. A., & Gross, J. (2019). Simple acoustic features can explain phoneme-based predictions of
    cortical responses to speech. Current Biology, 29, 1924-1937.
    de Cheveigne, A., & Kawahara, H. (2002). YIN, a fundamental frequency estimator for speech and music. Journal of
    the Acoustical Society of America, 111, 1917-1930.

    Examples
    --------
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0], "duration": [0.5], "text": ["beep"]})
    >>> tone = Audio(np.sin(2 * np.pi * 200 * np.arange(8000) / 16000), rate_hz=16000.0)
    >>> features = Sound("pitch").extract(Stimulus("beep", words, tone))
    >>> octaves, voiced = features.values[0, 25]
    >>> round(float(features.metadata["reference_hz"] * 2**octaves), 1), float(voiced)
    (200.0, 1.0)
    """

    space: SoundSpace
    rate_hz: float = 100.0
    n_bands: int | None = None
    range_hz: tuple[float, float] | None = None

    reads: ClassVar[tuple[StimulusPart, ...]] = ("sound",)
    needs: ClassVar[tuple[str, ...]] = ("sound",)

    def __post_init__(self) -> None:
        if self.space not in get_args(SoundSpace):
            raise RecipeError(f"Unknown property of sound '{self.space}'. {nearest(self.space, get_args(SoundSpace))}")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise RecipeError(f"rate_hz: more than 0, not {self.rate_hz:g}.")
        self._set_bands()
        self._set_range()

    def _set_bands(self) -> None:
        if self.space not in IN_BANDS:
            if self.n_bands is not None:
                raise RecipeError(f"n_bands: '{self.space}' has no bands; leave it out.")
            return
        n_bands = N_BANDS if self.n_bands is None else self.n_bands
        if n_bands < 1:
            raise RecipeError(f"n_bands: 1 or more, not {n_bands}.")
        object.__setattr__(self, "n_bands", n_bands)

    def _set_range(self) -> None:
        if self.space == "envelope":
            if self.range_hz is not None:
                raise RecipeError("range_hz: the envelope is of all frequencies; leave it out.")
            return
        default = PITCH_HZ if self.space == "pitch" else BANDS_HZ
        low, high = default if self.range_hz is None else (float(edge) for edge in self.range_hz)
        object.__setattr__(self, "range_hz", (low, high))
        if not (0 <= low < high < np.inf) or (self.space == "pitch" and low < 1 / YIN_WINDOW_S):
            least = f"{1 / YIN_WINDOW_S:g} Hz" if self.space == "pitch" else "0 Hz"
            raise RecipeError(f"range_hz: two rising frequencies from {least} on, not {low:g} and {high:g}.")
        if self.n_bands is not None:
            widths = np.diff(_mel_edges(self.n_bands, (low, high)))
            if widths.min() < 2 * BIN_HZ:
                raise RecipeError(
                    f"n_bands: {self.n_bands} bands in {low:g} to {high:g} Hz are as narrow as {widths.min():.3g} Hz, "
                    f"which a window of {1000 * WINDOW_S:g} ms cannot tell apart; choose fewer, or a wider range_hz."
                )

    @property
    def name(self) -> str:
        """The feature space's name: "mel spectrum", "pitch" ..."""
        return NAMES[self.space]

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the stimulus."""
        return {
            "kind": "sound",
            "space": self.space,
            "rate_hz": self.rate_hz,
            "n_bands": self.n_bands,
            "range_hz": None if self.range_hz is None else list(self.range_hz),
            "code": CODE_VERSION,
        }

    def extract(self, stimulus: Stimulus) -> Features:
        """Give the property in every stretch: kind "signal", one layer; ``metadata["dimensions"]`` names the columns.

        Every frequency in the metadata is in Hz.
        """
        if self.space == "envelope":
            return replace(sound_envelope(stimulus, self.rate_hz), name=self.name, layers=(self.name,))
        sound = _checked_sound(stimulus, self.rate_hz, f"Sound('{self.space}') out of the features")
        borders, stops = _stretches(sound, self.rate_hz)
        middles_s = (np.arange(len(borders)) + 0.5) / self.rate_hz
        values, metadata = self._pitch(sound, middles_s) if self.space == "pitch" else self._bands(sound, middles_s)
        return Features(
            name=self.name,
            layers=(self.name,),
            values=values[None].astype(np.float32),
            onset_s=borders / sound.rate_hz,
            duration_s=(stops - borders) / sound.rate_hz,
            kind="signal",
            metadata={"rate_hz": self.rate_hz, **metadata},
        )

    def _pitch(self, sound: Audio, middles_s: Floats) -> tuple[Floats, dict[str, Any]]:
        """Octaves above the middle of the range and voicing, shape (stretch, 2), and how they are meant."""
        assert self.range_hz is not None
        reference_hz = float(np.sqrt(self.range_hz[0] * self.range_hz[1]))
        frequency_hz, is_voiced = _yin(sound, middles_s, self.range_hz)
        octaves = np.where(is_voiced, np.log2(frequency_hz / reference_hz), 0.0)
        return np.column_stack([octaves, is_voiced]), {
            "dimensions": [f"octaves above {reference_hz:.0f} Hz", "voiced"],
            "range_hz": list(self.range_hz),
            "reference_hz": reference_hz,
        }

    def _bands(self, sound: Audio, middles_s: Floats) -> tuple[Floats, dict[str, Any]]:
        """The bands' power or its rise, shape (stretch, band) or (stretch, 1), and how they are meant."""
        assert self.range_hz is not None
        assert self.n_bands is not None
        edges = _mel_edges(self.n_bands, self.range_hz)
        window_s = max(WINDOW_S, 2 / self.rate_hz)
        values = _band_power_db(sound, middles_s, window_s, edges)
        dimensions = [f"{centre:.0f} Hz" for centre in edges[1:-1]]
        if self.space != "mel_spectrum":
            values = np.maximum(np.diff(values, axis=0, prepend=FLOOR_DB), 0.0) * self.rate_hz
        if self.space == "onsets":
            values, dimensions = values.mean(axis=1, keepdims=True), ["acoustic onsets"]
        return values, {
            "dimensions": dimensions,
            "range_hz": list(self.range_hz),
            "window_s": window_s,
            "floor_db": FLOOR_DB,
        }


def sound_envelope(stimulus: Stimulus, rate_hz: float = 100.0) -> Features:
    """Give the sound's loudness over time: its root mean square in consecutive stretches of ``1 / rate_hz`` seconds.

    Parameters
    ----------
    stimulus : Stimulus
        With sound.
    rate_hz : float
        Stretches per second; at most the sound's own rate.

    Returns
    -------
    Features
        Of kind "signal": one layer, one dimension, one sample per stretch, with the second at which it begins and how
        long it lasts (the last may be shorter).

    Raises
    ------
    DataError
        If the stimulus has no sound, or samples that are not finite.
    RecipeError
        If `rate_hz` is not positive, or more than the sound's own.

    Examples
    --------
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0], "duration": [0.5], "text": ["beep"]})
    >>> sound = Audio(np.array([0.0, 0.0, 3.0, -3.0]), rate_hz=4.0)
    >>> sound_envelope(Stimulus("beep", words, sound), rate_hz=2.0).values.ravel()
    array([0., 3.], dtype=float32)
    """
    sound = _checked_sound(stimulus, rate_hz, "sound_envelope out of the baseline")
    borders, stops = _stretches(sound, rate_hz)
    power = np.add.reduceat(np.square(sound.samples, dtype=np.float64), borders) / (stops - borders)
    return Features(
        name=SOUND_ENVELOPE,
        layers=(SOUND_ENVELOPE,),
        values=np.sqrt(power)[None, :, None].astype(np.float32),
        onset_s=borders / sound.rate_hz,
        duration_s=(stops - borders) / sound.rate_hz,
        kind="signal",
        metadata={"rate_hz": rate_hz, "dimensions": [SOUND_ENVELOPE]},
    )


def _checked_sound(stimulus: Stimulus, rate_hz: float, what_to_leave: str) -> Audio:
    sound = stimulus.audio
    if sound is None or len(sound.samples) == 0:
        raise DataError(f"stimulus '{stimulus.id}' has no sound; leave {what_to_leave}.")
    if not 0 < rate_hz <= sound.rate_hz:
        raise RecipeError(f"rate_hz: more than 0 and at most the sound's own {sound.rate_hz:g} Hz, not {rate_hz:g}.")
    if not np.isfinite(sound.samples).all():
        raise DataError(f"stimulus '{stimulus.id}': the sound has samples that are not finite.")
    return sound


def _stretches(sound: Audio, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """The first sample of each stretch, and the one after its last; the last stretch may be shorter."""
    n_samples = len(sound.samples)
    n_stretches = int(np.ceil(n_samples * rate_hz / sound.rate_hz - 1e-9))
    borders = np.round(np.arange(n_stretches) * sound.rate_hz / rate_hz).astype(np.intp)
    return borders, np.r_[borders[1:], n_samples]


def _mel_edges(n_bands: int, range_hz: tuple[float, float]) -> Floats:
    """The ``n_bands + 2`` frequencies, evenly spaced in mel, between which the triangles rise and fall."""
    low, high = (2595 * np.log10(1 + edge / 700) for edge in range_hz)
    return 700 * (10 ** (np.linspace(low, high, n_bands + 2) / 2595) - 1)


def _band_power_db(sound: Audio, middles_s: Floats, window_s: float, edges_hz: Floats) -> Floats:
    """The mean square that each triangle lets through in a window around each middle, in dB, (stretch, band)."""
    from scipy.fft import next_fast_len, rfft, rfftfreq

    if edges_hz[-1] > sound.rate_hz / 2 * (1 + 1e-9):
        raise RecipeError(
            f"range_hz: a sound of {sound.rate_hz:g} samples per second holds frequencies up to {sound.rate_hz / 2:g} "
            f"Hz, not {edges_hz[-1]:g}; lower the upper edge."
        )
    n_window = 2 * round(window_s * sound.rate_hz / 2) + 1
    window = np.hanning(n_window + 2)[1:-1]
    window /= np.sqrt(np.sum(window**2))
    n_fft = next_fast_len(max(n_window, int(np.ceil(sound.rate_hz / BIN_HZ))), real=True)
    frequency = rfftfreq(n_fft, 1 / sound.rate_hz)
    rising = (frequency[:, None] - edges_hz[:-2]) / np.diff(edges_hz)[:-1]
    falling = (edges_hz[2:] - frequency[:, None]) / np.diff(edges_hz)[1:]
    # Twice, for the negative frequencies; no triangle reaches 0 Hz or the Nyquist frequency itself.
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2 / n_fft)
    used = slice(int(np.argmax(triangles.any(axis=1))), int(len(frequency) - np.argmax(triangles.any(axis=1)[::-1])))
    power = [
        np.square(np.abs(rfft(piece * window.astype(np.float32), n_fft)[:, used])) @ triangles[used].astype(np.float32)
        for piece in _pieces(sound, middles_s, n_window)
    ]
    # In float64, in which silence is the floor exactly.
    return 10 * np.log10(np.maximum(np.concatenate(power).astype(np.float64), 10 ** (FLOOR_DB / 10)))


def _yin(sound: Audio, middles_s: Floats, range_hz: tuple[float, float]) -> tuple[Floats, np.ndarray]:
    """The frequency at which the sound repeats itself around each middle, and whether it does so at all."""
    sound = _resampled_for_pitch(sound, range_hz[1])
    shortest, longest = int(sound.rate_hz / range_hz[1]), int(np.ceil(sound.rate_hz / range_hz[0]))
    n_window = round(YIN_WINDOW_S * sound.rate_hz)
    frequencies, voicing = [], []
    for piece in _pieces(sound, middles_s, n_window + longest + 1):
        difference = _difference(piece.astype(np.float64), n_window)
        lag, aperiodicity = _first_dip(difference)
        frequencies.append(sound.rate_hz / _interpolated(difference, lag))
        voicing.append((aperiodicity < VOICED_BELOW) & (lag >= shortest) & (lag <= longest))
    return np.concatenate(frequencies), np.concatenate(voicing)


def _resampled_for_pitch(sound: Audio, highest_hz: float) -> Audio:
    """The sound at `SAMPLES_PER_PERIOD` times the highest pitch, low-passed at half of what that can hold.

    Above, harmonics would turn so far within one lag that a period between two lags would be missed.
    """
    from scipy.ndimage import convolve1d
    from scipy.signal import firwin, resample_poly

    if sound.rate_hz < 8 * highest_hz:
        raise RecipeError(
            f"range_hz: pitch up to {highest_hz:g} Hz needs 8 times as many samples per second, and the sound has "
            f"{sound.rate_hz:g}; lower the upper edge."
        )
    ratio = Fraction(SAMPLES_PER_PERIOD * highest_hz / sound.rate_hz).limit_denominator(1000)
    finest = max(ratio.numerator, ratio.denominator)
    low_pass = firwin(20 * finest + 1, 0.5 / finest, window=("kaiser", 5.0))
    samples = sound.samples / np.float32(_full_scale(sound))
    if ratio == 1:
        # resample_poly would not filter.
        return Audio(convolve1d(samples, low_pass, mode="constant"), sound.rate_hz)
    samples = resample_poly(samples, ratio.numerator, ratio.denominator, window=low_pass)
    return Audio(samples, sound.rate_hz * float(ratio))


def _difference(pieces: Floats, n_window: int) -> Floats:
    """The squared difference of each piece's first `n_window` samples and the same shifted, (piece, lag): eq. 6."""
    from scipy.fft import irfft, next_fast_len, rfft

    pieces = pieces - pieces.mean(axis=1, keepdims=True)
    n_fft, n_lags = next_fast_len(pieces.shape[1], real=True), pieces.shape[1] - n_window + 1
    product = np.conj(rfft(pieces[:, :n_window], n_fft)) * rfft(pieces, n_fft)
    summed = np.cumsum(np.pad(pieces**2, ((0, 0), (1, 0))), axis=1)
    power = summed[:, n_window:] - summed[:, :n_lags]
    difference = power[:, :1] + power - 2 * irfft(product, n_fft)[:, :n_lags]
    return np.where(difference > ROUNDING * power[:, :1], difference, 0.0)


def _first_dip(difference: Floats) -> tuple[np.ndarray, Floats]:
    """The lag of the period, and how deep the normalised difference dips there; 1 where it never dips."""
    lags = np.arange(1, difference.shape[1])
    mean = np.cumsum(difference[:, 1:], axis=1) / lags
    normalised = np.ones_like(difference)
    np.divide(difference[:, 1:], mean, out=normalised[:, 1:], where=mean > 0)
    before, here, after = normalised[:, :-2], normalised[:, 1:-1], normalised[:, 2:]
    is_dip = (before > here) & (here <= after)
    curvature = np.where(is_dip, before - 2 * here + after, 1.0)
    # The lowest point of the parabola through the three, which at low rates lies well below the sample.
    depth = np.where(is_dip, np.maximum(here - (before - after) ** 2 / (8 * curvature), 0.0), 1.0)
    is_deep = depth < YIN_THRESHOLD
    chosen = np.where(is_deep.any(axis=1), is_deep.argmax(axis=1), depth.argmin(axis=1))
    return chosen + 1, depth[np.arange(len(depth)), chosen]


def _interpolated(difference: Floats, lag: np.ndarray) -> Floats:
    """The lags at which parabolas through the difference at `lag` and its neighbours are lowest."""
    before, here, after = (np.take_along_axis(difference, lag[:, None] + k, axis=1)[:, 0] for k in (-1, 0, 1))
    curvature = before - 2 * here + after
    shift = np.divide(before - after, 2 * curvature, out=np.zeros_like(here), where=curvature > 0)
    # Where nothing dips the lag is meaningless, but must not be 0.
    return np.maximum(lag + np.clip(shift, -1.0, 1.0), 1.0)


def _pieces(sound: Audio, middles_s: Floats, n_samples: int) -> Iterator[Floats]:
    """Pieces of `n_samples` around the middles, many at a time, (piece, sample), relative to full scale."""
    scale = _full_scale(sound)
    padded = np.pad(sound.samples, n_samples)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_samples)
    starts = np.round(middles_s * sound.rate_hz).astype(np.intp) + n_samples - n_samples // 2
    # The middle of a last, shorter stretch may lie beyond the sound's end.
    starts = np.minimum(starts, len(windows) - 1)
    for first in range(0, len(starts), AT_ONCE):
        yield windows[starts[first : first + AT_ONCE]].astype(np.float32) / np.float32(scale)


def _full_scale(sound: Audio) -> float:
    """The largest size that samples of this type can have; 1 for floating-point numbers."""
    kind = np.dtype(sound.samples.dtype)
    if kind.kind == "f":
        return 1.0
    if kind.kind == "i":
        return 2.0 ** (8 * kind.itemsize - 1)
    raise DataError(f"A sound is floating-point numbers or signed integers, not {kind}; convert it.")
