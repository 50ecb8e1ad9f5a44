"""A text and the words that were found in its sound: which is which, and when those were spoken that were not found."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["fill_times", "match_words"]

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
        start_s = offset[before] if before >= 0 else max(onset[after] - wanted_s, 0.0)
        stop_s = max(onset[after], start_s) if after < len(onset) else start_s + wanted_s
        edges = start_s + (stop_s - start_s) * np.r_[0.0, np.cumsum(size)] / size.sum()
        onset[gap], offset[gap] = edges[:-1], edges[1:]
    return onset, offset


def _bare(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in letters if letter.isalnum()) or word
