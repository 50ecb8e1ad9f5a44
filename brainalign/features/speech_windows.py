"""Which stretch of sound is read for which word or moment, and which frames are whose: arithmetic only, no model.

Positions are in samples of the sound at the model's rate; items are words or moments, in the order of their onsets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import ceil

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["FrameGrid", "Pass", "batches", "causal_passes", "chunk_passes", "cut", "resample", "stops_before"]

# Taps of scipy's default low-pass filter on either side, in samples of the slower of the two rates.
FILTER_REACH = 10

# Times are sums and products, which are off by this much of a sample or frame at most: 0.1 + 0.2 is more than 0.3.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Pass:
    """Sound from `start` to `stop`, read at once, that gives the items `first` to `stop_item`.

    Where `start` is negative, silence stands before the sound.
    """

    start: int
    stop: int
    first: int
    stop_item: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class FrameGrid:
    """Where a network's output frames lie: frame i is centred on sample ``first + i * step`` of what it reads.

    Parameters
    ----------
    first, step : float
        In samples.
    """

    first: float
    step: float

    def within(self, onset: float, stop: float, n_frames: int) -> slice:
        """The frames centred within ``[onset, stop)``; where there is none, the one in which the middle lies.

        A frame is as long as the step. The first or the last frame stands for what lies before or after them all.

        Examples
        --------
        >>> grid = FrameGrid(first=200, step=320)
        >>> grid.within(320, 960, n_frames=10), grid.within(530, 540, n_frames=10)
        (slice(1, 3, None), slice(1, 2, None))
        """
        begin = max(0, ceil((onset - self.first) / self.step - ROUNDING))
        end = min(n_frames, ceil((stop - self.first) / self.step - ROUNDING))
        if begin < end:
            return slice(begin, end)
        nearest = round(((onset + stop) / 2 - self.first) / self.step)
        nearest = min(max(nearest, 0), n_frames - 1)
        return slice(nearest, nearest + 1)


def resample(samples: Floats, rate_hz: float, to_hz: float) -> tuple[Floats, float, int]:
    """Bring sound to another rate, and say how far ahead the filter looks.

    Returns
    -------
    resampled : array, float32
    rate_hz : float
        Its rate, which differs from `to_hz` by less than a part in a million, and only where the rates have no small
        ratio. Sample n is at ``n / rate_hz`` seconds.
    reach : int
        Sample n depends on nothing later than ``reach`` samples after it.

    Examples
    --------
    >>> sound, rate_hz, reach = resample(np.ones(48_000), 48_000, 16_000)
    >>> len(sound), rate_hz, reach
    (16000, 16000.0, 10)
    """
    from scipy.signal import resample_poly

    samples = np.asarray(samples, dtype=np.float32)
    ratio = Fraction(to_hz / rate_hz).limit_denominator(5000)
    if ratio == 1:
        return samples, rate_hz, 0
    resampled = resample_poly(samples, ratio.numerator, ratio.denominator)
    return resampled, rate_hz * ratio.numerator / ratio.denominator, ceil(FILTER_REACH * max(Fraction(1), ratio))


def stops_before(times_s: Floats, rate_hz: float, reach: int, n_sound: int) -> NDArray[np.intp]:
    """For each time, how many samples of the sound depend on nothing at or after it.

    >>> stops_before(np.array([0.5, 0.50001, 9.0]), rate_hz=10, reach=0, n_sound=20)
    array([ 5,  6, 20])
    """
    stops = np.ceil(np.asarray(times_s) * rate_hz - ROUNDING).astype(np.intp) - reach
    return np.clip(stops, 0, n_sound)


def causal_passes(stops: NDArray[np.intp], n_context: int, n_least: int) -> list[Pass]:
    """One pass per item over the `n_context` samples up to its stop; fewer only where the sound begins.

    Parameters
    ----------
    stops : array of int
        From `stops_before`.
    n_context, n_least : int
        Samples of a pass, and what a network must have to give one frame: a shorter pass begins in the silence before
        the sound.

    Examples
    --------
    >>> [(p.start, p.stop) for p in causal_passes(np.array([1, 4, 9]), n_context=5, n_least=2)]
    [(-1, 1), (0, 4), (4, 9)]
    """
    starts = np.minimum(np.maximum(stops - n_context, 0), stops - n_least)
    return [
        Pass(start, stop, item, item + 1)
        for item, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True))
    ]


def chunk_passes(
    onsets: Floats, stops: NDArray[np.intp], n_sound: int, n_context: int, n_least: int, names: Sequence[str]
) -> list[Pass]:
    """Overlapping passes of `n_context` samples, in which each item has a third of that on either side.

    It has less only where the sound begins or ends.

    Parameters
    ----------
    onsets, stops : array
        Of each item; onsets grow.
    n_sound, n_context, n_least : int
        Samples of the sound, of a pass, and as in `causal_passes`.
    names : sequence of str
        Of the items, for the error's message.

    Raises
    ------
    DataError
        If an item is longer than the third that is left for it.

    Examples
    --------
    >>> onsets = np.arange(0.0, 20.0)
    >>> passes = chunk_passes(onsets, np.arange(1, 21), 20, n_context=9, n_least=1, names=["moment"] * 20)
    >>> [(p.start, p.stop, p.first, p.stop_item) for p in passes]
    [(0, 9, 0, 6), (3, 12, 6, 9), (6, 15, 9, 12), (9, 18, 12, 15), (11, 20, 15, 20)]
    """
    margin = -(-n_context // 3)
    # The last end so far: a long word may end after the next one does.
    ends = np.maximum.accumulate(stops)
    passes: list[Pass] = []
    item = 0
    while item < len(onsets):
        stop = min(max(0, int(onsets[item]) - margin) + n_context, n_sound)
        start = min(max(0, stop - n_context), stop - n_least)
        last = n_sound if stop == n_sound else stop - margin
        stop_item = int(np.searchsorted(ends, last, side="right"))
        if stop_item <= item:
            raise DataError(f"{names[item]} is longer than a third of context_s; choose a longer context_s.")
        passes.append(Pass(start, stop, item, stop_item))
        item = stop_item
    return passes


def batches(passes: Sequence[Pass], n_samples: int, filled_to: int | None = None) -> Iterator[Sequence[Pass]]:
    """Neighbouring passes of equal length, as many as `n_samples` hold, but at least one: so none needs padding.

    Where the network itself fills each up to `filled_to` samples, they may be of any length, and count as that.

    >>> passes = causal_passes(np.array([3, 5, 6, 7, 8]), 5, 1)
    >>> [len(batch) for batch in batches(passes, n_samples=10)], [len(batch) for batch in batches(passes, 20, 7)]
    ([1, 2, 2], [2, 2, 1])
    """
    for length, group in groupby(passes, key=lambda window: filled_to or len(window)):
        equal = list(group)
        size = max(1, n_samples // length)
        yield from (equal[i : i + size] for i in range(0, len(equal), size))


def cut(sound: Floats, window: Pass) -> Floats:
    """What a pass reads.

    >>> cut(np.array([1.0, 2.0, 3.0]), Pass(-1, 2, 0, 1))
    array([0., 1., 2.])
    """
    read = sound[max(0, window.start) : window.stop]
    return np.pad(read, (len(window) - len(read), 0))
