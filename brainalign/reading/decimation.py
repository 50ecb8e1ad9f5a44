"""Signals at a lower rate, block by block: a low-pass without phase shift and the picking of rows, in one step.

The signal is put on a grid `up` times as fine, zeros between, smoothed by a symmetric filter h, and every `down`-th
moment is kept: ``y[m] = sum_n h[m * down - n * up] x[n]``, a polyphase filter (Crochiere and Rabiner, 1983). A row
depends on no more than a quarter of a second of the signal (at 100 Hz), so that blocks that overlap by so much give
what the whole would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from brainalign.types import Floats

__all__ = ["Decimation"]

# Of the new rate: what lies below is left as it is, what lies above (which would come back as something else) goes.
PASS_BELOW, STOP_ABOVE = 0.4, 0.5
ATTENUATION_DB = 80.0
# A rate such as 600.615 Hz is no fraction of 100 Hz that is worth its filter: the nearest with such a denominator is.
LARGEST_FACTOR = 4096
# Numbers (moments times channels) read at once: 32 MB.
AT_ONCE = 2**22


@dataclass(frozen=True)
class Decimation:
    """From `from_hz` rows a second to `to_hz`, or to the nearest rate that can be.

    Below 0.4 of the new rate a frequency keeps its size to within 0.02 %, above 0.5 of it, it is weakened by 80 dB, and
    none is shifted in time. Beyond the ends of a recording the signal is taken to go on mirrored in its last value.

    Parameters
    ----------
    from_hz : float
    to_hz : float, optional
        None, or no less than `from_hz`, keeps every row.

    Examples
    --------
    >>> tenth = Decimation(1000.0, 100.0)
    >>> tenth.rate_hz, tenth.n_rows(1001)
    (100.0, 101)
    """

    from_hz: float
    to_hz: float | None

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is to be done."""
        return self.ratio == 1

    @cached_property
    def ratio(self) -> Fraction:
        """New rate over old."""
        if self.to_hz is None or self.to_hz >= self.from_hz:
            return Fraction(1)
        return Fraction(self.to_hz / self.from_hz).limit_denominator(LARGEST_FACTOR) or Fraction(1, LARGEST_FACTOR)

    @property
    def rate_hz(self) -> float:
        """Rows a second that come out."""
        return self.from_hz * self.ratio.numerator / self.ratio.denominator

    def n_rows(self, n_times: int) -> int:
        """Rows of a signal of `n_times`: the first at its first moment, the last no later than its last."""
        return (n_times - 1) * self.ratio.numerator // self.ratio.denominator + 1

    def rows(self, read: Callable[[int, int], Floats], n_channels: int, n_times: int, first: int, stop: int) -> Floats:
        """Rows `first` to `stop`, read in blocks.

        Parameters
        ----------
        read : callable
            Gives the signal's moments from one number to before another, shape (channel, time).
        n_channels, n_times : int
            Of the signal.
        first, stop : int
            The first row wanted and the one after the last.

        Returns
        -------
        array (channel, row), float64
        """
        rows = np.empty((n_channels, stop - first))
        step = max(1, AT_ONCE // n_channels * self.ratio.numerator // self.ratio.denominator)
        for start in range(first, stop, step):
            end = min(start + step, stop)
            rows[:, start - first : end - first] = self._block(read, n_times, start, end)
        return rows

    @cached_property
    def _filter(self) -> Floats:
        """Taps on the fine grid, an odd number of them."""
        from scipy.signal import firwin, kaiserord

        up, down = self.ratio.numerator, self.ratio.denominator
        n_taps, beta = kaiserord(ATTENUATION_DB, 2 * (STOP_ABOVE - PASS_BELOW) / down)
        taps = firwin(n_taps | 1, (PASS_BELOW + STOP_ABOVE) / down, window=("kaiser", beta))
        # Each row is a mean with weights of its own, that add up to one: an electrode's offset may be ten thousand
        # times the brain's signal, and may not come back as a rhythm.
        for phase in range(up):
            taps[phase::up] /= taps[phase::up].sum()
        return taps

    def _block(self, read: Callable[[int, int], Floats], n_times: int, first: int, stop: int) -> Floats:
        if self.keeps_all:
            return read(first, stop)
        from scipy.signal import upfirdn

        up, down = self.ratio.numerator, self.ratio.denominator
        half = len(self._filter) // 2
        begin, end = -((half - first * down) // up), ((stop - 1) * down + half) // up + 1
        signal = read(max(begin, 0), min(end, n_times))
        outside = (max(-begin, 0), max(end - n_times, 0))
        if any(outside):
            signal = np.pad(signal, ((0, 0), outside), mode="reflect", reflect_type="odd")
        # The first row wanted lies so far into the filtered block; zeros before the filter make it a whole row.
        lag = first * down + half - begin * up
        shift = -lag % down
        filtered = upfirdn(np.r_[np.zeros(shift), self._filter], signal, up, down, axis=1)
        skipped = (lag + shift) // down
        return filtered[:, skipped : skipped + stop - first]
