"""The words of a text, and the pieces that they were timed in: French elisions and inversions come in parts."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainalign.reading.matching import match_words

__all__ = ["words_of_tokens"]


def words_of_tokens(tokens: pd.DataFrame, lines: Sequence[Sequence[str]]) -> tuple[pd.DataFrame, int]:
    """The words of a text with the times of their tokens, and how many tokens the text has not.

    Parameters
    ----------
    tokens : pandas.DataFrame
        ``onset``, ``offset`` and ``text`` of what was heard, in order, split at apostrophes and hyphens.
    lines : sequence of sequence of str
        The words of the text, sentence by sentence.

    Returns
    -------
    words : pandas.DataFrame
        ``onset``, ``duration``, ``text`` and ``sentence``. A word of the text lasts from its first token to the end of
        its last; a token that the text has not is a word as it was heard; one of which nothing was heard is left out.
    n_own : int
        Tokens that the text has not.

    Examples
    --------
    >>> tokens = pd.DataFrame({"onset": [0.0, 0.1, 0.5], "offset": [0.1, 0.4, 0.9], "text": ["j", "ai", "dit"]})
    >>> words_of_tokens(tokens, [["J'ai", "dit:"]])[0]["text"].tolist()
    ["J'ai", 'dit:']
    """
    text = [word for line in lines for word in line]
    sentence_of = [number for number, line in enumerate(lines) for _ in line]
    pieces = [(number, piece) for number, word in enumerate(text) for piece in _pieces_of(word)]
    heard = tokens["text"].tolist()
    found = match_words(heard, [piece for _, piece in pieces])
    # The word of the text that each token is a piece of.
    word_of = np.append([number for number, _ in pieces], -1)[found]
    before, after = np.maximum.accumulate(word_of), _next_of(word_of)
    inside = (word_of < 0) & (before == after)
    word_of = np.where(inside, before, word_of)
    first = np.flatnonzero(np.r_[True, (np.diff(word_of) != 0) | (word_of[1:] < 0)])
    last = np.r_[first[1:] - 1, len(tokens) - 1]
    onset_s, offset_s = tokens["onset"].to_numpy(dtype=float), tokens["offset"].to_numpy(dtype=float)
    words = pd.DataFrame(
        {
            "onset": onset_s[first],
            "duration": offset_s[last] - onset_s[first],
            "text": [text[word_of[i]] if word_of[i] >= 0 else heard[i] for i in first],
            "sentence": np.array(sentence_of)[before[first].clip(min=0)],
        }
    )
    return words, int(np.count_nonzero(found < 0))


def _next_of(numbers: np.ndarray) -> np.ndarray:
    """For each place the first number at or after it that is none of -1."""
    known = np.where(numbers < 0, np.iinfo(int).max, numbers)
    return np.minimum.accumulate(known[::-1])[::-1]


def _pieces_of(word: str) -> list[str]:
    """What is spoken of a word of the text: "j'avais" is "j'" and "avais", "dit-il." is "dit" and "-il."."""
    return [piece for piece in re.findall(r"-?[^-'\u2019]+['\u2019]?", word) if any(map(str.isalnum, piece))]
