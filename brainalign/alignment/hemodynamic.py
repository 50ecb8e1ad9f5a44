"""fMRI: words become regressors on the volumes' clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from brainalign.alignment.cleaning import Cleaner, cleaner
from brainalign.alignment.delays import delay
from brainalign.alignment.resampling import Resampling, resampled
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Features, Finding, Floats, Recording, Stimulus

__all__ = ["Hemodynamic", "HemodynamicRun"]

# A volume still carries the response to a word heard so long ago (the peak and most of the undershoot), so training
# and test volumes must be at least so far apart.
RESPONSE_SPAN_S = 20.0
# Delays of a finite impulse response when none are named: around the peak of the response (Huth et al., 2016).
DEFAULT_DELAYS_S = (2.0, 8.0)


@dataclass(frozen=True)
class Hemodynamic:
    """Place words on the volumes of an fMRI run, and clean both sides alike.

    Parameters
    ----------
    resampling : {"hrf", "lanczos", "sum", "mean"}
        See `resampling_matrix`. "hrf" assumes one shape of response everywhere and costs no dimensions, which suits
        short recordings; the others are followed by delays, from which the encoder learns the shape.
    delays : tuple of int, optional
        In volumes. By default none for "hrf", and for the others all within 2 to 8 s.
    high_pass_s : float or None
        Period in seconds of the slowest fluctuation kept, in responses and regressors.
    confounds : bool
        Whether to regress the recording's confounds (motion) out of responses and regressors.
    trim_s : (float, float)
        Seconds to leave out at the beginning (unsettled signal, words without context) and at the end of the part of
        the run in which the stimulus is heard.

    Examples
    --------
    >>> Hemodynamic(resampling="lanczos").volumes_of_delay(tr_s=2.0)
    (1, 2, 3, 4)
    """

    resampling: Resampling = "hrf"
    delays: tuple[int, ...] | None = None
    high_pass_s: float | None = 128.0
    confounds: bool = True
    trim_s: tuple[float, float] = (10.0, 10.0)

    def __post_init__(self) -> None:
        if self.resampling not in get_args(Resampling):
            known = nearest(self.resampling, get_args(Resampling))
            raise RecipeError(f"alignment: there is no resampling '{self.resampling}'. {known}")
        if self.delays is not None and (len(self.delays) == 0 or min(self.delays) < 0):
            raise RecipeError(f"alignment: delays are {self.delays}; give whole volumes, none negative, at least one.")
        if self.high_pass_s is not None and self.high_pass_s <= 0:
            raise RecipeError(f"alignment: high_pass_s is {self.high_pass_s}; a period in seconds is positive.")
        if min(self.trim_s) < 0:
            raise RecipeError(f"alignment: trim_s is {self.trim_s}; seconds to leave out cannot be negative.")

    @property
    def span_s(self) -> float:
        """Seconds by which training and test samples must be apart."""
        return RESPONSE_SPAN_S

    def volumes_of_delay(self, tr_s: float) -> tuple[int, ...]:
        """The delays in volumes at this TR."""
        if self.delays is not None:
            return self.delays
        if self.resampling == "hrf":
            return (0,)
        first, last = np.ceil(DEFAULT_DELAYS_S[0] / tr_s - 1e-9), np.floor(DEFAULT_DELAYS_S[1] / tr_s + 1e-9)
        if last < first:
            low, high = DEFAULT_DELAYS_S
            raise RecipeError(
                f"alignment: no volume of TR {tr_s:g} s lies {low:g} to {high:g} s later; name the delays."
            )
        return tuple(range(int(first), int(last) + 1))

    def align(self, recording: Recording, stimulus: Stimulus) -> HemodynamicRun:
        """Read one recording and prepare to place features on its volumes.

        Raises
        ------
        DataError
            If too few volumes remain, or the confounds do not have one row per volume.
        """
        response = recording.response().astype(np.float64)
        times = recording.clock.times(len(response))
        rows = self._rows_heard(times, recording, stimulus)
        if len(rows) < 10:
            raise DataError(
                f"{recording}: {len(rows)} of {len(response)} volumes lie within stimulus '{stimulus.id}' "
                f"(heard from {recording.offset_s:g} s on); check the clock, the offset and trim_s."
            )
        confounds = _rows_of(recording.confounds() if self.confounds else pd.DataFrame(), rows, len(times), recording)
        clean = cleaner(times[rows], confounds, self.high_pass_s, str(recording), int(rows[0]))
        return HemodynamicRun(self, recording, len(times), rows, clean, _standardise(response[rows], clean))

    def _rows_heard(self, times: Floats, recording: Recording, stimulus: Stimulus) -> np.ndarray:
        """The volumes from the first word until the response to the last has passed, less what is trimmed."""
        start = recording.offset_s + float(stimulus.words["onset"].iloc[0])
        stop = recording.offset_s + stimulus.duration_s + RESPONSE_SPAN_S / 2
        start, stop = max(start, times[0]) + self.trim_s[0], min(stop, times[-1]) - self.trim_s[1]
        return np.flatnonzero((times >= start - 1e-6) & (times <= stop + 1e-6))


@dataclass(frozen=True)
class HemodynamicRun:
    """One run on the volumes' clock; made by `Hemodynamic.align`.

    `responses` (sample, target) are the volumes kept, cleaned, with a standard deviation of one; a target that never
    varies is zero throughout.
    """

    settings: Hemodynamic
    recording: Recording
    n_volumes: int
    rows: np.ndarray
    clean: Cleaner
    responses: Floats

    latencies_s: Floats | None = None

    @property
    def times_s(self) -> Floats:
        """Seconds of each sample in the recording."""
        return self.recording.clock.times(self.n_volumes)[self.rows]

    @property
    def findings(self) -> list[Finding]:
        """What was left out, by name."""
        return []

    def place(self, features: Features) -> Floats:
        """Regressors from features, shape (layer, sample, delays x dimension), cleaned like the responses."""
        clock = self.recording.clock
        onset = self.recording.offset_s + features.onset_s
        resampling = self.settings.resampling
        if features.kind == "signal" and resampling == "sum":
            resampling = "mean"  # a signal has no count: what matters is its level within the volume
        regressors = resampled(features.values, onset, features.duration_s, clock, self.n_volumes, resampling)
        return self._delayed_and_clean(regressors)

    def regressors(self) -> pd.DataFrame:
        """The recording's own regressors, on the volumes kept, cleaned like the responses, one per column.

        They come delayed as the response is, and are therefore not delayed again.
        """
        given = self.recording.regressors()
        values = _rows_of(given, self.rows, self.n_volumes, self.recording)
        return pd.DataFrame(self.clean(values.to_numpy(dtype=np.float64)), columns=given.columns)

    def _delayed_and_clean(self, regressors: Floats) -> Floats:
        delayed = delay(regressors, self.settings.volumes_of_delay(self.recording.clock.step_s))
        return self.clean(delayed[:, self.rows])


def _rows_of(table: pd.DataFrame, rows: np.ndarray, n_volumes: int, recording: Recording) -> pd.DataFrame:
    if table.shape[1] == 0:
        return pd.DataFrame(index=range(len(rows)))
    if len(table) != n_volumes:
        names = ", ".join(map(str, table.columns[:3]))
        raise DataError(f"{recording}: {len(table)} rows of {names} ... for {n_volumes} volumes; they must agree.")
    return table.iloc[rows].reset_index(drop=True)


def _standardise(response: Floats, clean: Cleaner) -> Floats:
    # A target with an infinite value is undefined, like one with NaN; infinity would spread a warning's worth of them.
    cleaned = clean(np.where(np.isfinite(response), response, np.nan))
    deviation = cleaned.std(axis=0)
    return cleaned / np.where(deviation == 0, 1.0, deviation)
