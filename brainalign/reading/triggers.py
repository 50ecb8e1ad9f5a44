"""The trigger channels of MEG recordings: what was sent when, and which of the events that were expected it was."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

from brainalign.errors import DataError, nearest
from brainalign.types import Floats

if TYPE_CHECKING:
    from mne.io import BaseRaw

__all__ = ["match_values", "read_triggers"]


def read_triggers(raw: BaseRaw, channel: str, where: str, bits: int | None = None) -> tuple[Floats, np.ndarray]:
    """Read when triggers came and what they were; the channel is read whole.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    channel : str
        The trigger channel.
    where : str
        For messages.
    bits : int, optional
        Which bits of the channel to look at; all by default.

    Returns
    -------
    times_s : array (trigger,)
        Seconds from the file's first sample.
    values : array (trigger,) of int

    Raises
    ------
    DataError
        If there is no such channel.

    Examples
    --------
    >>> import mne
    >>> info = mne.create_info(["STI101"], 1000.0, "stim")
    >>> sent = np.zeros((1, 1000))
    >>> sent[0, 100:120] = 7
    >>> [part.tolist() for part in read_triggers(mne.io.RawArray(sent, info, verbose="error"), "STI101", "run 1")]
    [[0.1], [7]]
    """
    import mne

    if channel not in raw.ch_names:
        raise DataError(f"{where}: it has no trigger channel '{channel}'. {nearest(channel, raw.ch_names)[:200]}")
    mask = {} if bits is None else {"mask": bits, "mask_type": "and"}
    events = mne.find_events(raw, channel, shortest_event=1, verbose="error", **mask)
    return (events[:, 0] - raw.first_samp) / float(raw.info["sfreq"]), events[:, 2]


def match_values(expected: Sequence[int], found: Sequence[int], least_in_a_row: int = 5) -> np.ndarray:
    """For each value expected, the number of the same value found, in order; -1 where there is none.

    Parameters
    ----------
    expected, found : sequence of int
    least_in_a_row : int
        Shorter stretches that agree are not believed: of few values, some agree by chance.

    Returns
    -------
    array (value expected,) of int

    Examples
    --------
    >>> match_values([5, 3, 8, 2, 6], [9, 5, 3, 8, 2, 6, 1]).tolist()
    [1, 2, 3, 4, 5]
    """
    matched = np.full(len(expected), -1)
    pairs = SequenceMatcher(None, list(expected), list(found), autojunk=False).get_matching_blocks()
    for start, other, length in pairs:
        if length >= least_in_a_row:
            matched[start : start + length] = np.arange(other, other + length)
    return matched
