"""MEG, EEG, ECoG: the signal around each word, latency by latency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainalign.alignment.cleaning import ROUNDING
from brainalign.errors import DataError, RecipeError
from brainalign.types import Features, Finding, Floats, Recording, Stimulus

__all__ = ["EpochedRun", "Epochs"]

# Beyond the epoch itself, a band-pass from 0.5 Hz on spreads a sample over about so many seconds.
FILTER_SPAN_S = 2.0
# A signal (the sound envelope) counts for a word by its mean over so many seconds from the onset.
SIGNAL_WINDOW_S = 0.3


@dataclass(frozen=True)
class Epochs:
    """Cut the signal around each word's onset; every channel and latency is a target.

    Parameters
    ----------
    tmin_s, tmax_s : float
        First and last latency, in seconds from word onset.
    sfreq_hz : float
        Latencies per second.
    band_hz : (float or None, float or None)
        Band-pass (zero-phase, MNE's default filter) before cutting; its upper edge guards against aliasing. None
        leaves an edge open. A zero-phase filter smears a response to before its onset by about half a period.
    clip : float or None
        After robust scaling of each channel (median 0, interquartile range 1), values beyond this are clipped.

    Notes
    -----
    There is no baseline correction: in continuous speech it would subtract the response to the word before.

    Examples
    --------
    >>> Epochs(tmin_s=0.0, tmax_s=0.2, sfreq_hz=10.0, band_hz=(0.5, 5.0)).latencies_s.tolist()
    [0.0, 0.1, 0.2]
    """

    tmin_s: float = -0.3
    tmax_s: float = 1.0
    sfreq_hz: float = 50.0
    band_hz: tuple[float | None, float | None] = (0.5, 20.0)
    clip: float | None = 20.0

    def __post_init__(self) -> None:
        if self.tmax_s < self.tmin_s:
            raise RecipeError(f"alignment: tmax_s ({self.tmax_s}) comes before tmin_s ({self.tmin_s}).")
        if self.sfreq_hz <= 0 or (self.clip is not None and self.clip <= 0):
            raise RecipeError(f"alignment: sfreq_hz ({self.sfreq_hz}) and clip ({self.clip}) must be positive.")
        low, high = self.band_hz
        if low is not None and high is not None and low >= high:
            raise RecipeError(f"alignment: band_hz is {self.band_hz}; its lower edge must lie below its upper edge.")
        if high is not None and high > self.sfreq_hz / 2:
            raise RecipeError(
                f"alignment: band_hz lets {high} Hz pass, but {self.sfreq_hz} latencies per second show "
                f"{self.sfreq_hz / 2} Hz at most; lower the band's edge or raise sfreq_hz."
            )

    @property
    def span_s(self) -> float:
        """Seconds by which training and test samples must be apart."""
        return self.tmax_s - self.tmin_s + FILTER_SPAN_S

    @property
    def latencies_s(self) -> Floats:
        """The latencies, in seconds from word onset, shape (latency,)."""
        n_latencies = int(np.floor((self.tmax_s - self.tmin_s) * self.sfreq_hz + 1e-6)) + 1
        return np.round(self.tmin_s + np.arange(n_latencies) / self.sfreq_hz, 9)

    def align(self, recording: Recording, stimulus: Stimulus) -> EpochedRun:
        """Read one recording, filter and scale it, and cut it at the stimulus's words.

        Raises
        ------
        DataError
            If no word's epoch lies within the recording.
        """
        signal, clipped = self._prepare(recording)
        onset = recording.offset_s + stimulus.words["onset"].to_numpy(dtype=float)
        # Rows are picked at the recording's own rate, so that no latency is off by more than half a sample of it.
        moments = onset[:, None] + self.latencies_s - recording.clock.start_s
        rows = np.rint(moments / recording.clock.step_s).astype(int)
        words = np.flatnonzero((rows[:, 0] >= 0) & (rows[:, -1] < len(signal)))
        if len(words) == 0:
            raise DataError(
                f"{recording}: no word of stimulus '{stimulus.id}' has its epoch within the recording "
                f"({len(signal) * recording.clock.step_s:g} s from {recording.clock.start_s:g} s); check the offset."
            )
        epochs = signal[rows[words]]  # (word, latency, channel)
        responses = epochs.transpose(0, 2, 1).reshape(len(words), -1)
        return EpochedRun(recording, self.latencies_s, words, onset[words], responses, clipped, len(onset), len(signal))

    def _prepare(self, recording: Recording) -> tuple[Floats, float]:
        """The filtered and scaled signal (time, channel), and the share of it that was clipped."""
        signal = _scaled_to_one(recording.response().astype(np.float64))
        low, high = self.band_hz
        if high is not None and high >= recording.clock.sfreq_hz / 2:
            high = None
        if low is not None or high is not None:
            from mne.filter import filter_data

            signal = filter_data(signal.T, recording.clock.sfreq_hz, low, high, verbose="error").T
        signal = _robust_scale(signal)
        if self.clip is None:
            return signal, 0.0
        clipped = float((np.abs(signal) > self.clip).mean())
        return np.clip(signal, -self.clip, self.clip), clipped


@dataclass(frozen=True)
class EpochedRun:
    """One run cut at its words; made by `Epochs.align`.

    `responses` has shape (sample, target): samples are the words `words` of the stimulus, targets are the channels,
    each with all its latencies.
    """

    recording: Recording
    latencies_s: Floats
    words: np.ndarray
    times_s: Floats
    responses: Floats
    clipped: float
    n_words: int
    n_rows: int

    @property
    def findings(self) -> list[Finding]:
        """What was left out or clipped, by name."""
        found = []
        if len(self.words) < self.n_words:
            left_out = self.n_words - len(self.words)
            message = f"{left_out} of {self.n_words} words left out: their epochs reach beyond the recording."
            found.append(Finding("epochs-outside", str(self.recording), message))
        if self.clipped > 0:
            found.append(Finding("clipped", str(self.recording), f"{self.clipped:.2%} of the values were clipped."))
        return found

    def place(self, features: Features) -> Floats:
        """The features of the words kept, shape (layer, sample, dimension); a signal is averaged
        over the first 0.3 s of each word.
        """
        if features.kind == "word":
            return features.values[:, self.words].astype(np.float64)
        starts = self.times_s - self.recording.offset_s
        middle = features.onset_s + features.duration_s / 2
        # Moments come in order: those within a word's window are a run of them.
        begins = np.searchsorted(middle, starts)
        ends = np.searchsorted(middle, starts + SIGNAL_WINDOW_S)
        placed = np.zeros((len(features.layers), len(starts), features.values.shape[2]))
        for word, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            if end > begin:
                placed[:, word] = features.values[:, begin:end].mean(axis=1, dtype=np.float64)
        return placed

    def regressors(self) -> pd.DataFrame:
        """The recording's own regressors at word onsets, one per column."""
        given = self.recording.regressors()
        if given.shape[1] == 0:
            return pd.DataFrame(index=range(len(self.words)))
        if len(given) != self.n_rows:
            names = ", ".join(map(str, given.columns[:3]))
            raise DataError(
                f"{self.recording}: {len(given)} rows of {names} for {self.n_rows} samples; they must agree."
            )
        clock = self.recording.clock
        rows = np.rint((self.times_s - clock.start_s) / clock.step_s).astype(int)
        return given.iloc[rows].reset_index(drop=True)


def _scaled_to_one(response: Floats) -> Floats:
    """Each channel over its largest size: tesla and volts are so small that thresholds meant for rounding would bite.

    A channel with a value that is not finite becomes NaN throughout.
    """
    size = np.abs(response).max(axis=0)
    usable = np.isfinite(size)
    return np.where(usable, response / np.where(usable & (size > 0), size, 1.0), np.nan)


def _robust_scale(signal: Floats) -> Floats:
    """Each channel less its median, over its interquartile range; what is constant becomes zero."""
    low, median, high = np.percentile(signal, [25, 50, 75], axis=0)
    deviation = signal.std(axis=0)
    # Of a constant channel of size one, filtering leaves rounding, which would be blown up to noise of unit size.
    constant = deviation <= ROUNDING
    spread = np.where(high - low > ROUNDING, high - low, deviation)
    return np.where(constant, 0.0, (signal - median) / np.where(constant, 1.0, spread))
