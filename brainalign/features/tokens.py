"""A model's tokeniser, and the tokens of a text with the characters that each stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brainalign.errors import RecipeError
from brainalign.features.checkpoints import where_to_read
from brainalign.features.model_files import ModelFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["read_tokenizer", "tokenize"]


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


def tokenize(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[list[int], list[tuple[int, int]], list[bool]]:
    """Tokenise a text whole: the tokens' ids, their characters, and whether they are blanks only."""
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        # A word such as "</s>" in a stimulus is text, not the end of it.
        split_special_tokens=True,
        return_offsets_mapping=True,
        truncation=False,
        verbose=False,
    )
    ids, spans = list(encoded["input_ids"]), list(encoded["offset_mapping"])
    # Some tokenisers put a blank before the text whose offsets are the first character's: only its text tells.
    blank_ids = {token for token in set(ids) if str(tokenizer.decode([token])).strip() == ""}
    is_blank = [
        token in blank_ids or text[start:stop].strip() == "" for token, (start, stop) in zip(ids, spans, strict=True)
    ]
    return ids, spans, is_blank
