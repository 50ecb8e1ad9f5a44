"""Two clocks that tell the time of the same events: how far apart they are, and how fast the one gains on the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign.errors import DataError
from brainalign.types import Clock, Finding, Floats

__all__ = ["ClockFit", "fit_clock"]

# Clocks of computers and amplifiers differ by less than one in a thousand; more is another stimulus.
LARGEST_DRIFT = 5e-3
# An event that is further off than this was not the same event; of a recording that ran through, few are.
FAR_S, FAR_SHARE = 0.1, 0.1
# Fewer events than these, or over less time, say nothing of the rate; fewer than the first say nothing at all.
LEAST_EVENTS, EVENTS_OF_RATE, SPAN_OF_RATE_S = 5, 10, 10.0
# Events that lie so far off in the middle are not on one line with the stimulus's.
JITTER_S = 0.025
# A residual that deserves to be told: a sample at 100 Hz.
NOTABLE_S = 0.010
ROUNDS = 5


@dataclass(frozen=True)
class ClockFit:
    """``recording_s = offset_s + rate * stimulus_s``.

    Parameters
    ----------
    offset_s : float
        Seconds of the recording at which the stimulus starts.
    rate : float
        Seconds of the recording in one of the stimulus.
    residual_s : array (event,)
        Recorded less fitted times; NaN for the events that were left out as others than they seemed.
    """

    offset_s: float
    rate: float
    residual_s: Floats

    def clock(self, step_s: float, start_s: float = 0.0) -> Clock:
        """The recording's clock, told in seconds as long as the stimulus's."""
        return Clock(step_s / self.rate, start_s / self.rate)

    @property
    def stimulus_start_s(self) -> float:
        """Where the stimulus starts in the recording, on the clock that `clock` gives."""
        return self.offset_s / self.rate

    def findings(self, where: str) -> list[Finding]:
        """What is to be known of the fit: a drift, large residuals, events left out."""
        used = self.residual_s[np.isfinite(self.residual_s)]
        found = []
        drift_s = (self.rate - 1.0) * 60.0
        worst_s = float(np.abs(used).max())
        if worst_s > NOTABLE_S or abs(drift_s) > NOTABLE_S:
            message = (
                f"the recording's clock gains {drift_s * 1000:+.1f} ms a minute on the stimulus's, which is corrected; "
                f"events are then up to {worst_s * 1000:.0f} ms off (median {np.median(np.abs(used)) * 1000:.1f} ms)."
            )
            found.append(Finding("clock-drift", where, message))
        left_out = len(self.residual_s) - len(used)
        if left_out:
            message = (
                f"{left_out} of {len(self.residual_s)} events are more than {FAR_S:g} s from where the others are."
            )
            found.append(Finding("clock-outliers", where, message))
        return found


def fit_clock(stimulus_s: Floats, recording_s: Floats, where: str) -> ClockFit:
    """Fit a straight line through the times of the same events on two clocks, leaving out what lies far off.

    Parameters
    ----------
    stimulus_s, recording_s : array (event,)
        The same events, in seconds of the stimulus and of the recording.
    where : str
        For messages.

    Raises
    ------
    DataError
        If there are fewer than five events, or the clocks are not of the same events on a straight line: more than a
        tenth of them lie more than 0.1 s off, half of them more than 25 ms, or one clock gains more than 5 ms a second.

    Notes
    -----
    It begins with a line of medians, which fewer than half of the events cannot spoil, and then fits by least squares
    to those within 0.1 s of it, until these do not change. Of fewer than ten events, or where they span less than ten
    seconds, the rate is one. A recording that stopped and went on has no such line; it is refused.

    Examples
    --------
    >>> stimulus = np.arange(100.0)
    >>> fit = fit_clock(stimulus, 3.0 + 1.0001 * stimulus, "run 1")
    >>> round(fit.offset_s, 6), round(fit.rate, 6)
    (3.0, 1.0001)
    """
    if len(stimulus_s) < LEAST_EVENTS or len(stimulus_s) != len(recording_s):
        raise DataError(
            f"{where}: {len(recording_s)} recorded events for {len(stimulus_s)} of the stimulus; to tell when that "
            f"began, {LEAST_EVENTS} are needed."
        )
    stimulus_s, recording_s = np.asarray(stimulus_s, dtype=float), np.asarray(recording_s, dtype=float)
    offset_s, rate = _start(stimulus_s, recording_s)
    used = np.abs(recording_s - offset_s - rate * stimulus_s) <= FAR_S
    for _ in range(ROUNDS):
        if used.sum() < EVENTS_OF_RATE or np.ptp(stimulus_s[used]) < SPAN_OF_RATE_S:
            offset_s, rate = float(np.median((recording_s - stimulus_s)[used])) if used.any() else offset_s, 1.0
        else:
            rate, offset_s = map(float, np.polyfit(stimulus_s[used], recording_s[used], 1))
        residual_s = recording_s - offset_s - rate * stimulus_s
        before, used = used, np.abs(residual_s) <= FAR_S
        if (used == before).all():
            break
    middle_s = float(np.median(np.abs(residual_s[used]))) if used.any() else np.inf
    if used.mean() < 1 - FAR_SHARE or abs(rate - 1.0) > LARGEST_DRIFT or middle_s > JITTER_S:
        raise DataError(
            f"{where}: the recorded events do not follow the stimulus: {used.mean():.0%} of {len(used)} lie within "
            f"{FAR_S:g} s of a line (half of them within {middle_s * 1000:.0f} ms), on which a second lasts "
            f"{rate:.4f} s.\nIs it the recording of this stimulus, and did it run through without a stop?"
        )
    return ClockFit(offset_s, rate, np.where(used, residual_s, np.nan))


def _start(stimulus_s: Floats, recording_s: Floats) -> tuple[float, float]:
    """A line that half of the events may not spoil: Theil and Sen's median slope, over pairs far apart."""
    half = len(stimulus_s) // 2
    span_s = stimulus_s[half:] - stimulus_s[: len(stimulus_s) - half]
    far = span_s > 1.0
    slopes = (recording_s[half:] - recording_s[: len(stimulus_s) - half])[far] / span_s[far]
    rate = float(np.median(slopes)) if len(slopes) else 1.0
    if abs(rate - 1.0) > LARGEST_DRIFT:
        rate = 1.0
    return float(np.median(recording_s - rate * stimulus_s)), rate
