"""A stimulus's words as a model's tokens, and the passes in which it reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.errors import DataError, RecipeError
from brainalign.features.text import running_text
from brainalign.features.tokens import tokenize_words
from brainalign.features.windows import Reading, Window, cut_windows, match_tokens
from brainalign.limits import free_memory
from brainalign.types import Stimulus

if TYPE_CHECKING:
    from brainalign.features.pretrained import Pretrained

__all__ = [
    "Shuffle",
    "TokenisedText",
    "batches",
    "chunks_of",
    "context_tokens",
    "fitting",
    "named",
    "tokenised",
    "tokens_per_pass",
]

Shuffle = Literal["none", "words", "sentences"]
T = TypeVar("T")

# A processor is busy with so many tokens, a GPU with more; larger passes gain nothing and cost memory.
ENOUGH_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 16384}
# Of what is free, where no limit is set.
SHARE_OF_FREE = 0.5
# What a block works with at once, in vectors of a token: queries, keys, values, and four times the width in between.
WORKING_VECTORS = 16


@dataclass(frozen=True)
class TokenisedText:
    """A stimulus's words in the order in which they are read, as tokens.

    Parameters
    ----------
    ids : list of int
        The text's tokens.
    tokens_of_words : list of array
        For each word read the indices of its tokens.
    order : array (word,)
        Which word of the stimulus is read first, second ...
    sentences : array (word,) or None
        The sentence of each word read, numbered from 0.
    """

    ids: list[int]
    tokens_of_words: list[NDArray[np.intp]]
    order: NDArray[np.intp]
    sentences: NDArray[np.intp] | None

    def windows(self, reading: Reading) -> list[Window]:
        """The windows in which the text is read."""
        return cut_windows(self.tokens_of_words, len(self.ids), reading, self.sentences, self.order.tolist())

    def of(self, window: Window) -> list[int]:
        """The tokens of a window."""
        return self.ids[window.start : window.stop]

    def changed_from(self, token: int, n_vocabulary: int) -> TokenisedText:
        """The same words with other tokens from this one on."""
        others = [(number + n_vocabulary // 2) % n_vocabulary for number in self.ids[token:]]
        return replace(self, ids=self.ids[:token] + others)


def tokenised(
    model: Pretrained, stimulus: Stimulus, shuffle: Shuffle = "none", seed: int = 0, needs_sentences: bool = False
) -> TokenisedText:
    """Tokenise a stimulus's words, read one after the other or shuffled.

    Raises
    ------
    DataError
        If a word has no token, or one that the model does not know, or sentences are needed and the words have none.
    """
    sentences = _sentences(stimulus) if needs_sentences or shuffle == "sentences" else None
    order = _order(len(stimulus.words), sentences, shuffle, seed)
    text, spans = running_text(stimulus.words.iloc[order], stimulus.language)
    tokens = tokenize_words(model.tokenizer, text, spans)
    if max(tokens.ids, default=0) >= model.n_vocabulary:
        raise DataError(
            f"model '{model.name}': its tokeniser gives token {max(tokens.ids)}, and the model knows "
            f"{model.n_vocabulary} tokens: the two do not belong together."
        )
    if sentences is not None:
        # Numbered anew in the order in which they are read.
        sentences = np.cumsum(np.r_[0, np.diff(sentences[order]) != 0])
    matched = match_tokens(spans, tokens.spans, tokens.is_blank, text, order.tolist())
    return TokenisedText(tokens.ids, matched, order, sentences)


def _sentences(stimulus: Stimulus) -> NDArray[np.intp]:
    if "sentence" not in stimulus.words:
        raise DataError("the words have no column 'sentence', which this context or control needs.")
    numbers = pd.to_numeric(stimulus.words["sentence"], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(numbers).all() or (np.diff(numbers) < 0).any() or (numbers % 1 != 0).any():
        raise DataError("the column 'sentence' must be whole numbers that never fall, one for each word.")
    return np.cumsum(np.r_[0, np.diff(numbers) != 0])


def _order(n_words: int, sentences: NDArray[np.intp] | None, shuffle: Shuffle, seed: int) -> NDArray[np.intp]:
    random = np.random.default_rng(seed)
    if shuffle == "sentences" and sentences is not None and sentences[-1] == 0:
        raise DataError("all words are of one sentence: there is nothing to shuffle.")
    if shuffle == "words":
        return random.permutation(n_words)
    if shuffle == "sentences":
        assert sentences is not None
        groups = np.split(np.arange(n_words), np.flatnonzero(np.diff(sentences)) + 1)
        return np.concatenate([groups[i] for i in random.permutation(len(groups))])
    return np.arange(n_words)


def tokens_per_pass(model: Pretrained, widths: Sequence[int], memory_limit: float | None, per_token: int = 0) -> int:
    """How many tokens one pass may hold, so that it stays within `memory_limit` bytes and none is wasted.

    Parameters
    ----------
    model : Pretrained
    widths : sequence of int
        Of all states that are there at once.
    memory_limit : float or None
        Bytes; by default half of what is free where the model is.
    per_token : int
        Further numbers for each token, such as the vocabulary's probabilities.
    """
    numbers = 2 * sum(widths) + WORKING_VECTORS * max(widths) + per_token
    limit = _free_bytes(model) * SHARE_OF_FREE if memory_limit is None else memory_limit
    most = int(np.clip(limit / (4 * numbers), 1, ENOUGH_TOKENS.get(model.device.type, ENOUGH_TOKENS["cpu"])))
    # The last bits of states may hang on how many tokens are read together, which what happens to be free should
    # seldom change: steps are coarse.
    return most if memory_limit is not None else 1 << (most.bit_length() - 1)


def _free_bytes(model: Pretrained) -> float:
    import torch

    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0]
    return free_memory()


def batches(windows: Sequence[Window], n_tokens: int) -> Iterator[list[Window]]:
    """Windows of equal length, as many as hold `n_tokens` (one at least): so that none needs padding.

    Examples
    --------
    >>> [len(batch) for batch in batches([Window(0, 2, 0, 1), Window(2, 6, 1, 2), Window(4, 6, 2, 3)], 100)]
    [2, 1]
    """
    for length, group in groupby(sorted(windows, key=len), key=len):
        equal = list(group)
        size = max(1, n_tokens // length)
        yield from (equal[i : i + size] for i in range(0, len(equal), size))


def fitting(read: Callable[[list[Window]], T], batch: list[Window]) -> Iterator[tuple[list[Window], T]]:
    """Read a batch; where memory does not suffice after all, half of it at a time.

    Raises
    ------
    DataError
        If not even one window fits.
    """
    try:
        yield batch, read(batch)
        return
    except IndexError as error:
        raise DataError(
            f"the model cannot read {len(batch[0])} tokens at once, though its configuration says so; "
            "choose a smaller context."
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise DataError(
                f"a pass over {len(batch[0])} tokens does not fit into memory; choose a smaller context, "
                "dtype: bfloat16, or a machine with more."
            ) from error
    # Outside of the `except`, which would keep alive what the failed pass had made.
    middle = len(batch) // 2
    yield from fitting(read, batch[:middle])
    yield from fitting(read, batch[middle:])


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(text in str(error) for text in texts)


def chunks_of(window: Window, text: TokenisedText, n_tokens: int) -> list[Window]:
    """Cut a window into chunks of at most `n_tokens` (or one word) that end with a word each, to be read in turn.

    Examples
    --------
    >>> text = TokenisedText(list(range(6)), [np.array([0, 1]), np.array([2]), np.array([3, 4, 5])], np.arange(3), None)
    >>> [(c.start, c.stop, c.first_word, c.stop_word) for c in chunks_of(Window(0, 6, 1, 3), text, n_tokens=3)]
    [(0, 3, 1, 2), (3, 6, 2, 3)]
    """
    stop = np.array([tokens[-1] + 1 for tokens in text.tokens_of_words])
    borders = np.r_[stop[(stop > window.start) & (stop < window.stop)], window.stop]
    chunks: list[Window] = []
    start, word = window.start, window.first_word
    while start < window.stop:
        # The last word border within reach, or the next one.
        reached = int(np.searchsorted(borders, start + n_tokens, side="right")) - 1
        end = int(borders[max(reached, int(np.searchsorted(borders, start, side="right")))])
        stop_word = max(word, min(int(np.searchsorted(stop, end, side="right")), window.stop_word))
        chunks.append(Window(start, end, word, stop_word))
        start, word = end, stop_word
    return chunks


def context_tokens(windows: Sequence[Window], text: TokenisedText) -> NDArray[np.intp]:
    """How many tokens each word of the stimulus sees before it."""
    seen = np.empty(len(text.order), dtype=np.intp)
    for window in windows:
        for word in range(window.first_word, window.stop_word):
            seen[text.order[word]] = text.tokens_of_words[word][0] - window.start
    return seen


@contextmanager
def named(stimulus: Stimulus) -> Iterator[None]:
    """Put the stimulus's name before the message of a DataError or RecipeError."""
    try:
        yield
    except (DataError, RecipeError) as error:
        raise type(error)(f"stimulus '{stimulus.id}': {error}") from error
