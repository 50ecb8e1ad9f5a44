"""A model's tokeniser, and the tokens of a text with the characters that each stands for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from brainalign.errors import DataError, RecipeError
from brainalign.features.checkpoints import where_to_read
from brainalign.features.model_files import ModelFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Tokens", "read_tokenizer", "tokenize", "tokenize_words"]

Span = tuple[int, int]

# Signs that may stand before a piece of text so that it is not taken for the beginning of one, and are cut off again:
# the first that the tokeniser keeps apart from the piece.
SENTINELS = ("\n", "(", "\u2026", "\u00a7", "|")


class Tokens(NamedTuple):
    """Tokens of a text: their ids, the characters they stand for, and whether those are blanks only."""

    ids: list[int]
    spans: list[Span]
    is_blank: list[bool]


def read_tokenizer(files: ModelFiles) -> PreTrainedTokenizerFast:
    """A model's tokeniser.

    Raises
    ------
    RecipeError
        If it is a slow one, which does not say which characters its tokens stand for.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # AutoTokenizer would read a GGUF file's header once more, which takes seconds, to find this same class.
    tokenizer_class = AutoTokenizer if files.gguf is None else PreTrainedTokenizerFast
    tokenizer = tokenizer_class.from_pretrained(files.folder, **where_to_read(files))
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise RecipeError(
            f"Model '{files.name}': its tokeniser {type(tokenizer).__name__} gives no character offsets; "
            "it needs a fast one (tokenizer.json)."
        )
    return tokenizer


def tokenize(tokenizer: PreTrainedTokenizerFast, text: str) -> Tokens:
    """Tokenise a text whole."""
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        # A word such as "</s>" in a stimulus is text, not the end of it.
        split_special_tokens=True,
        return_offsets_mapping=True,
        truncation=False,
        verbose=False,
    )
    ids, spans = list(encoded["input_ids"]), [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
    # Some tokenisers put a blank before the text whose offsets are the first character's: only its text tells.
    blank_ids = {token for token in set(ids) if str(tokenizer.decode([token])).strip() == ""}
    is_blank = [
        token in blank_ids or text[start:stop].strip() == "" for token, (start, stop) in zip(ids, spans, strict=True)
    ]
    return Tokens(ids, spans, is_blank)


def tokenize_words(tokenizer: PreTrainedTokenizerFast, text: str, words: Sequence[Span]) -> Tokens:
    """Tokenise a text of which no token may be of two words: whole, but for borders that a token would cross.

    Words that no blank stands between ("did" and "n't" in rows of their own, or the words of Chinese) may share a
    token. The first would then be known to be followed by the second before that is heard. So the text is cut at such
    borders, and the pieces tokenised one by one; what is before a border is tokenised as if nothing came after it.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    text : str
    words : sequence of (start, stop)
        Characters of `text`, in its order.

    Raises
    ------
    DataError
        If the tokeniser cannot read a piece otherwise than as the beginning of a text.
    """
    cuts: set[int] = set()
    tokens = tokenize(tokenizer, text)
    # A piece may be tokenised otherwise than it was within the whole, and then cross another border.
    while crossed := _crossed(tokens, words) - cuts:
        cuts |= crossed
        borders = [0, *sorted(cuts), len(text)]
        pieces = [_piece(tokenizer, text, start, stop) for start, stop in pairwise(borders)]
        tokens = Tokens(
            ids=[token for piece in pieces for token in piece.ids],
            spans=[span for piece in pieces for span in piece.spans],
            is_blank=[blank for piece in pieces for blank in piece.is_blank],
        )
    return tokens


def _crossed(tokens: Tokens, words: Sequence[Span]) -> set[int]:
    """The ends of words whose last token is also the next word's."""
    spans = np.asarray(tokens.spans, dtype=np.intp).reshape(-1, 2)[~np.asarray(tokens.is_blank, dtype=bool)]
    if len(spans) == 0:
        return set()
    # Of each token, the first word that ends after its start; it crosses if the next word begins before its end.
    starts, stops = (np.array(borders) for borders in zip(*words, strict=True))
    word = np.searchsorted(stops, spans[:, 0], side="right")
    has_next = word + 1 < len(words)
    next_start = starts[np.minimum(word + 1, len(words) - 1)]
    return set(stops[word[has_next & (next_start < spans[:, 1])]].tolist())


def _piece(tokenizer: PreTrainedTokenizerFast, text: str, start: int, stop: int) -> Tokens:
    """The tokens of a piece of a text, which is not its beginning unless it starts there."""
    if start == 0 or text[start].isspace():
        return _shifted(tokenize(tokenizer, text[start:stop]), start)
    for sentinel in SENTINELS:
        tokens = tokenize(tokenizer, sentinel + text[start:stop])
        n_before = sum(begin < 1 for begin, _ in tokens.spans)
        is_apart = all(end <= 1 for _, end in tokens.spans[:n_before]) and n_before > 0
        if is_apart and not any(tokens.is_blank[n_before : n_before + 1]):
            rest = Tokens(tokens.ids[n_before:], tokens.spans[n_before:], tokens.is_blank[n_before:])
            return _shifted(rest, start - 1)
    raise DataError(
        f"'{text[max(0, start - 10) : start + 10]}': the model's tokeniser makes one token of two words there, and "
        "cannot read the second by itself. Join the two rows of the table, or choose another model."
    )


def _shifted(tokens: Tokens, n_characters: int) -> Tokens:
    return tokens._replace(spans=[(start + n_characters, stop + n_characters) for start, stop in tokens.spans])
