"""A text and the words that were found in its sound: which is which, and when those were spoken that were not found."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["fill_times", "in_order", "match_words"]

# Of a word without a time and without a neighbour that has one; speech at 2.5 words a second is of about this pace.
SECONDS_PER_CHARACTER = 0.06


def match_words(text: Sequence[str], found: Sequence[str]) -> np.ndarray:
    """For each word of a text, the number of the same word among those found, in order; -1 where there is none.

    Case, punctuation and accents are not compared.

    Parameters
    ----------
    text, found : sequence of str

    Returns
    -------
    array (word of the text,) of int

    Examples
    --------
    >>> match_words(["The", "old", "wormhole,", "The", "end."], ["the", "old", "the", "end"]).tolist()
    [0, 1, -1, 2, 3]
    """
    left, right = [_bare(word) for word in text], [_bare(word) for word in found]
    matched = np.full(len(left), -1)
    for start, other, length in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
        matched[start : start + length] = np.arange(other, other + length)
    return matched


def fill_times(onset_s: Floats, offset_s: Floats, lengths: Sequence[int], where: str) -> tuple[Floats, Floats]:
    """Give words without times those between their neighbours, longer words more of it.

    Parameters
    ----------
    onset_s, offset_s : array (word,)
        NaN where a word was not found.
    lengths : sequence of int
        Characters of each word.
    where : str
        For messages.

    Returns
    -------
    onset_s, offset_s : array (word,)
        Words before the first and after the last that was found last 60 ms a character.

    Raises
    ------
    DataError
        If no word has times.

    Examples
    --------
    >>> onset, offset = np.array([0.0, np.nan, np.nan, 2.0]), np.array([0.5, np.nan, np.nan, 2.5])
    >>> fill_times(onset, offset, [3, 1, 2, 3], "story")[0].round(3).tolist()
    [0.0, 0.5, 1.0, 2.0]
    """
    onset, offset = np.array(onset_s, dtype=float), np.array(offset_s, dtype=float)
    known = np.flatnonzero(np.isfinite(onset) & np.isfinite(offset))
    if len(known) == 0:
        raise DataError(f"{where}: none of {len(onset)} words has a time.")
    for before, after in zip(np.r_[-1, known], np.r_[known, len(onset)], strict=True):
        gap = slice(before + 1, after)
        size = np.maximum(np.asarray(lengths[gap], dtype=float), 1.0)
        if len(size) == 0:
            continue
        wanted_s = SECONDS_PER_CHARACTER * size.sum()
        stop_s = onset[after] if after < len(onset) else offset[before] + wanted_s
        # Aligned words may overlap: the next begins before this one ends.
        start_s = min(offset[before], stop_s) if before >= 0 else max(stop_s - wanted_s, 0.0)
        edges = start_s + (stop_s - start_s) * np.r_[0.0, np.cumsum(size)] / size.sum()
        onset[gap], offset[gap] = edges[:-1], edges[1:]
    return onset, offset


def in_order(times_s: Floats) -> np.ndarray:
    """Which of these times to keep, so that the most of them are in order; NaN are not kept.

    Parameters
    ----------
    times_s : array (word,)

    Returns
    -------
    array (word,) of bool

    Examples
    --------
    >>> in_order(np.array([0.0, 1.0, 9.0, 2.0, 3.0])).tolist()
    [True, True, False, True, True]
    """
    ends: list[float] = []  # of the best sequence of each length, its last time
    numbers = np.flatnonzero(np.isfinite(times_s))
    lengths = np.zeros(len(numbers), dtype=int)
    for i, number in enumerate(numbers):
        length = bisect_right(ends, float(times_s[number]))
        ends[length : length + 1] = [float(times_s[number])]
        lengths[i] = length
    kept = np.zeros(len(times_s), dtype=bool)
    wanted, limit = len(ends) - 1, np.inf
    for i in range(len(numbers) - 1, -1, -1):
        if lengths[i] == wanted and times_s[numbers[i]] <= limit:
            kept[numbers[i]] = True
            wanted, limit = wanted - 1, times_s[numbers[i]]
    return kept


def _bare(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in letters if letter.isalnum()) or word
