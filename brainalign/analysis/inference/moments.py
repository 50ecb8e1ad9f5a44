"""Samples as moments of what was heard: several hearings of one moment, and seconds counted in samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.inference.autocorrelation import stretches_of
from brainalign.encoding.samples import Samples
from brainalign.encoding.splits import gap_in_samples
from brainalign.types import Floats

__all__ = ["Moments", "shift_in_samples"]

# Of the shortest step of a hearing: samples of several hearings that are nearer are of one moment.
ONE_MOMENT = 0.4


@dataclass(frozen=True)
class Moments:
    """Which samples are of one moment of a stimulus, heard once or more often.

    Rows of representations are compared pair by pair. Two hearings of a moment have the same features and, for whatever
    reason, like responses; as two rows they would pass for alignment, so that their means are one row.

    Parameters
    ----------
    first : array (moment,)
        The first sample of each moment; those of all its hearings follow.
    n_samples : int

    Examples
    --------
    >>> Moments(np.array([0, 2]), 3).mean(np.array([[1.0], [3.0], [5.0]])).ravel()
    array([2., 5.])
    """

    first: NDArray[np.intp]
    n_samples: int

    @classmethod
    def of(cls, samples: Samples) -> Moments:
        """Of samples in the order of stimuli and times."""
        begins = np.ones(len(samples.stimulus), dtype=bool)
        for stimulus in dict.fromkeys(samples.stimulus.tolist()):
            rows = np.flatnonzero(samples.stimulus == stimulus)
            if len(np.unique(samples.run[rows])) > 1:
                begins[rows] = _begins(samples.times_s[rows], samples.run[rows])
        return cls(np.flatnonzero(begins), len(begins))

    def mean(self, values: Floats) -> Floats:
        """The mean over hearings, (moment, column), of values (sample, column)."""
        if len(self.first) == self.n_samples:
            return values
        n_hearings = np.diff(self.first, append=self.n_samples)
        return np.add.reduceat(values, self.first, axis=0) / n_hearings[:, None].astype(values.dtype)


def shift_in_samples(times_s: Floats, runs: NDArray, stimulus: NDArray, seconds: float) -> int:
    """The largest number of samples of a hearing in so many seconds, at least 1.

    Examples
    --------
    >>> twice = np.repeat(np.arange(0.0, 60.0, 2.0), 2)
    >>> shift_in_samples(twice, np.tile(["first", "again"], 30), np.repeat("story", 60), 20.0)
    10
    """
    return max(1, *(gap_in_samples(times_s[rows], seconds) for _, rows in stretches_of(runs, stimulus)))


def _begins(times_s: Floats, runs: NDArray) -> NDArray[np.bool_]:
    """Whether a moment begins with each sample of one stimulus, the samples in the order of time."""
    steps = [np.diff(times_s[runs == run]) for run in np.unique(runs)]
    nearest = ONE_MOMENT * min((step.min() for step in steps if len(step)), default=0.0)
    begins, start = np.zeros(len(times_s), dtype=bool), -np.inf
    for number, time in enumerate(times_s.tolist()):
        if time - start > nearest:
            begins[number], start = True, time
    return begins
