"""Recordings placed at the times of their stimulus event by event, where no straight line relates the two clocks.

A computer that sends a trigger with each word may lag, pause or run at another pace than the table of words says. Where
`clocks.fit_clock` would leave words tens of milliseconds off, the rows of the response are read at the moments that the
events themselves give: between two events time runs evenly, before the first and after the last as fast as recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign.errors import DataError
from brainalign.reading.matching import in_order
from brainalign.reading.sensors import Sensors
from brainalign.types import Clock, Finding, Floats

__all__ = ["TimeMap", "map_times", "read_warped"]

# Neighbours on either side that an event is compared with: after a jump of the clock it agrees with those that follow.
NEIGHBOURS = 4
WRONG_S = 0.030
# What differs more in pace than this is not the same stimulus.
LARGEST_CHANGE = 0.2
# Of the stimulus's events so many must be in the recording, and so many of those that were matched be right.
FOUND_SHARE, RIGHT_SHARE = 1 / 3, 0.5
# What deserves to be told: a sample at 100 Hz, and a pause that nobody meant.
NOTABLE_S, JUMP_S = 0.010, 0.25
# Channels interpolated at a time.
AT_ONCE = 32


@dataclass(frozen=True)
class TimeMap:
    """The same events on two clocks, both in order.

    Parameters
    ----------
    stimulus_s, recording_s : array (event,)
        Seconds of the stimulus and of the recording.
    n_wrong : int
        Events that were left out, as they lay before others that they follow, or far from their neighbours.
    """

    stimulus_s: Floats
    recording_s: Floats
    n_wrong: int = 0

    def to_recording(self, stimulus_s: Floats) -> Floats:
        """Seconds of the recording at these of the stimulus."""
        return _interpolated(stimulus_s, self.stimulus_s, self.recording_s)

    def to_stimulus(self, recording_s: Floats) -> Floats:
        """Seconds of the stimulus at these of the recording."""
        return _interpolated(recording_s, self.recording_s, self.stimulus_s)

    def findings(self, where: str) -> list[Finding]:
        """How the clocks differ (``clock-warp``), where they jump (``clock-jump``), and events left out."""
        found = []
        rate, offset_s = np.polyfit(self.stimulus_s, self.recording_s, 1)
        off_s = np.abs(self.recording_s - offset_s - rate * self.stimulus_s)
        gain_s = 60 * (rate - 1)
        if off_s.max() > NOTABLE_S or abs(gain_s) > NOTABLE_S:
            message = (
                f"the recorded events gain {gain_s * 1000:+.0f} ms a minute on the stimulus's and lie up to "
                f"{off_s.max() * 1000:.0f} ms (median {np.median(off_s) * 1000:.1f} ms) off that line; the response "
                "was read at their own times."
            )
            found.append(Finding("clock-warp", where, message))
        jumps_s = np.diff(self.recording_s) - np.diff(self.stimulus_s)
        if np.abs(jumps_s).max() > JUMP_S:
            i = int(np.abs(jumps_s).argmax())
            message = (
                f"{np.count_nonzero(np.abs(jumps_s) > JUMP_S)} jumps of the clock, the largest of {jumps_s[i]:+.2f} s "
                f"after {self.stimulus_s[i]:.1f} s of the stimulus; the response nearby is distorted."
            )
            found.append(Finding("clock-jump", where, message))
        if self.n_wrong:
            total = self.n_wrong + len(self.stimulus_s)
            message = f"{self.n_wrong} of {total} events are not where their neighbours are, and were left out."
            found.append(Finding("clock-outliers", where, message))
        return found


def map_times(stimulus_s: Floats, recording_s: Floats, where: str) -> TimeMap:
    """Relate two clocks by the events that both tell, leaving out those that cannot be right.

    Parameters
    ----------
    stimulus_s, recording_s : array (event,)
        The same events, in order; NaN where one was not recorded.
    where : str
        For messages.

    Raises
    ------
    DataError
        If fewer than a third of the stimulus's events, or than half of those that the recording has, are in order near
        their neighbours, or they go at another pace.

    Examples
    --------
    >>> words = np.arange(20.0)
    >>> late = map_times(words, 5.0 + words + 0.1 * (words > 9), "run 1")
    >>> late.to_recording(np.array([-1.0, 9.5, 12.0])).round(2).tolist()
    [4.0, 14.55, 17.1]
    """
    stimulus_s, recording_s = np.asarray(stimulus_s, dtype=float), np.asarray(recording_s, dtype=float)
    told = np.isfinite(stimulus_s) & np.isfinite(recording_s)
    stimulus_s, recording_s = stimulus_s[told], recording_s[told]
    kept = in_order(recording_s)
    kept[kept] = _near_neighbours(stimulus_s[kept], recording_s[kept])
    # Two words at one moment have no time between them.
    kept[kept] = np.r_[True, (np.diff(recording_s[kept]) > 0) & (np.diff(stimulus_s[kept]) > 0)][: kept.sum()]
    if kept.sum() < max(2, FOUND_SHARE * len(told)) or kept.mean() < RIGHT_SHARE:
        raise DataError(
            f"{where}: of {len(told)} events of the stimulus {kept.sum()} are in the recording in order. Is it the "
            "recording of this stimulus?"
        )
    # Between most neighbours, and over the whole: events of another stimulus agree here and there.
    whole = float(np.ptp(recording_s[kept]) / np.ptp(stimulus_s[kept]))
    pace = max(_pace(stimulus_s[kept], recording_s[kept]), whole, key=lambda pace: abs(pace - 1))
    if abs(pace - 1) > LARGEST_CHANGE:
        raise DataError(
            f"{where}: a second of the stimulus lasts {pace:.2f} s in the recording. Is it the recording of this "
            "stimulus?"
        )
    return TimeMap(stimulus_s[kept], recording_s[kept], int(np.count_nonzero(~kept)))


def read_warped(sensors: Sensors, times: TimeMap, clock: Clock, n_rows: int) -> Floats:
    """The rows of a recording at the moments of `clock`, which tells the stimulus's time.

    Parameters
    ----------
    sensors : Sensors
    times : TimeMap
        From the stimulus to the recording.
    clock : Clock
        Of the rows wanted, in seconds of the stimulus.
    n_rows : int

    Returns
    -------
    array (time, channel), float32
        Cubic splines through the sensors' own rows; a row that falls on one of these is that row.
    """
    from scipy.interpolate import make_interp_spline

    moments_s = times.to_recording(clock.times(n_rows))
    # Two rows on either side are what a spline looks at.
    first_s = max(0.0, float(moments_s[0]) - 10 * sensors.clock.step_s)
    rows = sensors.read(first_s, float(moments_s[-1]) + 10 * sensors.clock.step_s)
    own = sensors.cropped_clock(first_s)
    places = np.clip((moments_s - own.start_s) / own.step_s, 0, len(rows) - 1)
    warped = np.empty((n_rows, rows.shape[1]), dtype=np.float32)
    for start in range(0, rows.shape[1], AT_ONCE):
        some = slice(start, start + AT_ONCE)
        # Tesla are so small that splines need them scaled.
        scale = float(np.abs(rows[:, some]).max()) or 1.0
        warped[:, some] = make_interp_spline(np.arange(len(rows)), rows[:, some] / scale, k=3)(places) * scale
    return warped


def _near_neighbours(stimulus_s: Floats, recording_s: Floats) -> np.ndarray:
    """Which events lie where those before them or those after them tell, at the pace of most. Shape (event,)."""
    if len(stimulus_s) <= NEIGHBOURS:
        return np.ones(len(stimulus_s), dtype=bool)
    lag_s = recording_s - _pace(stimulus_s, recording_s) * stimulus_s
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(lag_s, NEIGHBOURS, mode="reflect"), NEIGHBOURS)
    before_s, after_s = np.median(windows[: len(lag_s)], axis=1), np.median(windows[NEIGHBOURS + 1 :], axis=1)
    return np.minimum(np.abs(lag_s - before_s), np.abs(lag_s - after_s)) <= WRONG_S


def _pace(stimulus_s: Floats, recording_s: Floats) -> float:
    """Seconds of the recording in one of the stimulus, between most neighbours."""
    step_s = np.diff(stimulus_s)
    return float(np.median(np.diff(recording_s)[step_s > 0] / step_s[step_s > 0])) if (step_s > 0).any() else np.nan


def _interpolated(at: Floats, known: Floats, values: Floats) -> Floats:
    """Linear between what is known, and with a slope of one beyond it."""
    at = np.asarray(at, dtype=float)
    beyond = np.minimum(at - known[0], 0.0) + np.maximum(at - known[-1], 0.0)
    return np.interp(at, known, values) + beyond
