"""What an encoder is fitted on: one subject's responses, sample by sample, and the features beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from brainalign.encoding.responses import target_status
from brainalign.encoding.splits import Splitter
from brainalign.types import Features, Floats

__all__ = ["Samples"]


@dataclass(frozen=True)
class Samples:
    """One subject's responses on the samples that encoders are fitted on, in the order of stimuli and times.

    Parameters
    ----------
    subject : str
    responses : array (sample, column)
        Columns are targets, or targets x latencies (a target's latencies side by side).
    stimulus, run : arrays (sample,) of str
        What was heard, and in which recording. All hearings of a moment stand side by side.
    groups : array (sample,) of str
        The story, of which stimuli may be versions: folds hold whole stories, or stretches of them.
    times_s : array (sample,)
        Seconds from the start of the stimulus.
    splitter : Splitter
        The outer folds.
    gap : int
        Samples that folds keep between training and test where they cut through a story.
    baseline : array (sample, q) or None
        Simple properties that features are compared with.
    latencies_s : array (latency,) or None
        Of word-locked responses.
    place : callable
        Gives, for features by stimulus, each layer's columns, arrays (sample, dimension), one after the other.
    baseline_names : tuple of str
        Of the baseline's columns.
    """

    subject: str
    responses: Floats
    stimulus: np.ndarray
    run: np.ndarray
    groups: np.ndarray
    times_s: Floats
    splitter: Splitter
    gap: int
    baseline: Floats | None
    latencies_s: Floats | None
    place: Callable[[Mapping[str, Features]], Iterator[Floats]]
    baseline_names: tuple[str, ...] = ()

    @property
    def n_targets(self) -> int:
        """Targets, whose columns are one each, or one per latency."""
        return self.responses.shape[1] // (1 if self.latencies_s is None else len(self.latencies_s))

    @property
    def usable(self) -> np.ndarray:
        """Which columns vary and are finite, shape (column,) of bool."""
        return target_status(self.responses) == "ok"
