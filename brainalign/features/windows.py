"""Which tokens are which word's, and in which stretch of text each word is read: arithmetic only, no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError

__all__ = ["Window", "cut_windows", "match_tokens"]

Span = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `stop` of a text, read in one pass that gives the words `first_word` to `stop_word`."""

    start: int
    stop: int
    first_word: int
    stop_word: int

    def __len__(self) -> int:
        return self.stop - self.start


def match_tokens(
    words: Sequence[Span], tokens: Sequence[Span], is_blank: Sequence[bool], text: str
) -> list[NDArray[np.intp]]:
    """Find the tokens of each word: those whose characters overlap the word's.

    A byte-level token may include the blank before its word, and one token may hold the ends of two words: it then
    counts for both. A token of blanks counts for none, even where it lies inside a word.

    Parameters
    ----------
    words, tokens : sequence of (start, stop)
        Characters of `text`, both in the text's order.
    is_blank : sequence of bool
        Whether each token is blanks only.
    text : str
        For the error's message.

    Returns
    -------
    list of array
        For each word the indices of its tokens, growing, at least one.

    Raises
    ------
    DataError
        If a word has no token, or the tokens are not in the text's order.

    Examples
    --------
    >>> match_tokens([(0, 2), (3, 5)], [(0, 1), (1, 2), (2, 5)], [False] * 3, "ab cd")
    [array([0, 1]), array([2])]
    """
    spans = np.asarray(tokens, dtype=np.intp).reshape(-1, 2)
    if (np.diff(spans, axis=0) < 0).any():
        raise DataError("The tokeniser gives tokens that are not in the text's order; choose another model.")
    visible = np.flatnonzero(~np.asarray(is_blank, dtype=bool))
    starts, stops = spans[visible].T
    # Both grow, so that the tokens that overlap a word are a run of the visible ones.
    begins = np.searchsorted(stops, [start for start, _ in words], side="right")
    ends = np.searchsorted(starts, [stop for _, stop in words], side="left")
    for position, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        if begin >= end:
            start, stop = words[position]
            raise DataError(
                f"Word {position + 1} ({text[start:stop]!r}) has no token: the model's tokeniser drops it.\n"
                f"It stands in '{text[max(0, start - 20) : stop + 20]}'. Leave the word out or write it otherwise."
            )
    return [visible[begin:end] for begin, end in zip(begins, ends, strict=True)]


def cut_windows(
    tokens_of_words: Sequence[NDArray[np.intp]], n_tokens: int, context: int, limit: int | None
) -> Iterator[Window]:
    """Cut a text into windows in which each word has `context` to ``2 * context - 1`` tokens before it.

    Each word is read whole in one window, and has fewer tokens before it only at the start of the text. Windows are
    ``2 * context`` tokens long (the last may be shorter); one that starts with a word of more than `context` tokens
    is as long as that word needs.

    Parameters
    ----------
    tokens_of_words : sequence of array
        From `match_tokens`.
    n_tokens : int
        Of the text.
    context : int
        Tokens; with a `limit` at most half of it.
    limit : int, optional
        Tokens that a window may have.

    Raises
    ------
    DataError
        If a word and its context have more than `limit` tokens.

    Examples
    --------
    >>> words = [np.array([i]) for i in range(10)]
    >>> [(w.start, w.stop, w.first_word, w.stop_word) for w in cut_windows(words, 10, context=2, limit=None)]
    [(0, 4, 0, 4), (2, 6, 4, 6), (4, 8, 6, 8), (6, 10, 8, 10)]
    """
    first = [int(tokens[0]) for tokens in tokens_of_words]
    last = [int(tokens[-1]) for tokens in tokens_of_words]
    word = 0
    while word < len(first):
        start = max(0, first[word] - context)
        stop = min(max(start + 2 * context, last[word] + 1), n_tokens)
        if limit is not None and stop - start > limit:
            raise DataError(
                f"Word {word + 1} has {last[word] + 1 - first[word]} tokens: with its context of {context} that is "
                f"more than the {limit} the model can read at once. Choose a smaller context."
            )
        stop_word = int(np.searchsorted(last, stop, side="left"))
        yield Window(start, stop, word, stop_word)
        word = stop_word
