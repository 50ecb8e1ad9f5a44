"""Which tokens are which word's, and in which stretch of text each word is read: arithmetic only, no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError

__all__ = ["Context", "Reading", "Unit", "Window", "cut_windows", "match_tokens"]

Span = tuple[int, int]
Unit = Literal["tokens", "words"]
Context = int | Literal["full", "sentence", "none"]


@dataclass(frozen=True)
class Window:
    """Tokens `start` to `stop` of a text, read in one pass that gives the words `first_word` to `stop_word`."""

    start: int
    stop: int
    first_word: int
    stop_word: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Reading:
    """How a text is cut into windows.

    Parameters
    ----------
    context : int or {"full", "sentence", "none"}
        What each word sees at least: so many tokens or words before it, all of the text, its sentence, or nothing.
    unit : {"tokens", "words"}
        Of a `context` that is a number.
    limit : int, optional
        Tokens that a window may have.
    alone : bool
        Each word has a window of its own, which ends with it: it sees exactly its context, and nothing later.
    both_sides : bool
        Each word sees its context after it as well.
    """

    context: Context
    unit: Unit = "tokens"
    limit: int | None = None
    alone: bool = False
    both_sides: bool = False


def match_tokens(
    words: Sequence[Span],
    tokens: Sequence[Span],
    is_blank: Sequence[bool],
    text: str,
    numbers: Sequence[int] | None = None,
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
    numbers : sequence of int, optional
        What to call each word in messages, from 0: its place in the stimulus, where words are read in another order.

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
                f"Word {_number(position, numbers)} ({text[start:stop]!r}) has no token: the model's tokeniser drops "
                f"it.\nIt stands in '{text[max(0, start - 20) : stop + 20]}'. Leave the word out or write it otherwise."
            )
    return [visible[begin:end] for begin, end in zip(begins, ends, strict=True)]


def cut_windows(
    tokens_of_words: Sequence[NDArray[np.intp]],
    n_tokens: int,
    reading: Reading,
    sentences: NDArray[np.intp] | None = None,
    numbers: Sequence[int] | None = None,
) -> list[Window]:
    """Cut a text into windows in which each word is read once, whole, with the context it is to have.

    Words share windows unless `reading` says "alone". With a context of C, windows are 2 C long and advance by C, so
    that each word sees C to 2 C - 1 before it; less only at the start of the text. Where a window would be longer than
    the limit, it is as long as the limit, and each word sees at least C, if that is a number of tokens up to three
    quarters of the limit, or else half of the limit (with both sides: a third of it on either side), or what a long
    word leaves.

    Parameters
    ----------
    tokens_of_words : sequence of array
        From `match_tokens`.
    n_tokens : int
        Of the text.
    reading : Reading
    sentences : array (word,), optional
        The number of each word's sentence, which never falls; needed where the context is the sentence.
    numbers : sequence of int, optional
        What to call each word in messages, from 0.

    Raises
    ------
    DataError
        If a word has more tokens than a window may have.

    Examples
    --------
    >>> words = [np.array([i]) for i in range(10)]
    >>> [(w.start, w.stop, w.first_word, w.stop_word) for w in cut_windows(words, 10, Reading(context=2))]
    [(0, 4, 0, 4), (2, 6, 4, 6), (4, 8, 6, 8), (6, 10, 8, 10)]
    """
    layout = _Layout(
        first=np.array([tokens[0] for tokens in tokens_of_words]),
        stop=np.array([tokens[-1] + 1 for tokens in tokens_of_words]),
        n_tokens=n_tokens,
        reading=reading,
        sentences=sentences,
        numbers=numbers,
    )
    if reading.alone:
        return [layout.own_window(word) for word in range(len(tokens_of_words))]
    return list(layout.shared_windows())


def _number(word: int, numbers: Sequence[int] | None) -> int:
    """What messages call a word, from 1."""
    return 1 + (word if numbers is None else numbers[word])


@dataclass(frozen=True)
class _Layout:
    """Where the words lie: the token each begins with, and the one after its last, both growing."""

    first: NDArray[np.intp]
    stop: NDArray[np.intp]
    n_tokens: int
    reading: Reading
    sentences: NDArray[np.intp] | None
    numbers: Sequence[int] | None

    def own_window(self, word: int) -> Window:
        stop, limit = int(self.stop[word]), self.reading.limit
        start = self._context_start(word)
        if limit is not None:
            start = max(start, stop - limit)
        if start > self.first[word]:
            raise self._too_long(word)
        return Window(start, stop, word, word + 1)

    def shared_windows(self) -> Iterator[Window]:
        word = 0
        while word < len(self.first):
            start, kept, stop = self._span(word)
            stop_word = int(np.searchsorted(self.stop, kept, side="right"))
            yield Window(start, stop, word, stop_word)
            word = stop_word

    def _span(self, word: int) -> tuple[int, int, int]:
        """The window that begins with a word not yet read: its start, the end of the words it gives, and its end."""
        reading, limit = self.reading, self.reading.limit
        start, kept, stop = self._context_start(word), self._stretch_stop(word), self._context_stop(word)
        if limit is not None and stop - start > limit:
            share = limit // 3 if reading.both_sides else self._share(limit)
            # At the start of what the word may see there is nothing before it to make room for; a long word needs more.
            start = max(start, int(self.first[word]) - share, int(self.stop[word]) - limit)
            whole, stop = stop, min(stop, start + limit)
            kept = min(kept, stop - share if reading.both_sides and stop < whole else stop)
        if start > self.first[word]:
            raise self._too_long(word)
        return start, max(kept, int(self.stop[word])), stop

    def _share(self, limit: int) -> int:
        """How much each word sees of a window that is as long as the limit, at least."""
        context = self.reading.context
        in_tokens = isinstance(context, int) and self.reading.unit == "tokens"
        return min(context, limit * 3 // 4) if in_tokens else limit // 2

    def _context_start(self, word: int) -> int:
        """The token with which the context of a word begins."""
        context = self.reading.context
        if context == "full":
            return 0
        if context == "none":
            return int(self.first[word])
        if context == "sentence":
            return int(self.first[self._sentence(word)[0]])
        if self.reading.unit == "words":
            return int(self.first[max(0, word - context)])
        return max(0, int(self.first[word]) - context)

    def _stretch_stop(self, word: int) -> int:
        """The end of the words that a window may give which begins with this one."""
        context, both = self.reading.context, self.reading.both_sides
        if not isinstance(context, int):
            return self._context_stop(word)
        if self.reading.unit == "words":
            begin = word if both else max(0, word - context)
            return int(self.stop[min(begin + (1 if both else 2) * context, len(self.stop)) - 1])
        begin = int(self.first[word]) if both else self._context_start(word)
        return min(max(begin + (1 if both else 2) * context, int(self.stop[word])), self.n_tokens)

    def _context_stop(self, word: int) -> int:
        """The end of a window that begins with this word."""
        context = self.reading.context
        if context == "full":
            return self.n_tokens
        if context == "none":
            return int(self.stop[word])
        if context == "sentence":
            return int(self.stop[self._sentence(word)[1]])
        kept = self._stretch_stop(word)
        if not self.reading.both_sides:
            return kept
        if self.reading.unit == "words":
            return int(self.stop[min(word + 2 * context, len(self.stop)) - 1])
        return min(kept + context, self.n_tokens)

    def _sentence(self, word: int) -> tuple[int, int]:
        """The first and the last word of a word's sentence."""
        assert self.sentences is not None, "a context of sentences needs their numbers"
        left = np.searchsorted(self.sentences, self.sentences[word], side="left")
        right = np.searchsorted(self.sentences, self.sentences[word], side="right")
        return int(left), int(right) - 1

    def _too_long(self, word: int) -> DataError:
        n_tokens = self.stop[word] - self.first[word]
        return DataError(
            f"Word {_number(word, self.numbers)} has {n_tokens} tokens, more than the {self.reading.limit} that the "
            "model can read at once. Is it one word? Leave it out, or write it otherwise."
        )
