"""What is taken from a language model: nothing of the future, of other stories or of the batch, and each word's own.

Two small models with random weights, a causal and a bidirectional one, and their tokenisers are made in a temporary
folder: nothing is downloaded.
"""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from brainalign.features import LanguageModel, running_text
from brainalign.features.checkpoints import quietly
from brainalign.features.tokens import tokenize_words
from brainalign.features.windows import match_tokens
from brainalign.types import Stimulus
from brainalign.validation.checks import Check, Size

__all__ = ["v16"]

Family = Literal["gpt2", "bert"]

# What a model may differ by when only the order of additions does.
NOTHING, ROUNDING = 1e-5, 1e-4
# Tokens that a window may have, and those seen before each word where exactly so many are asked for.
MAX_TOKENS, EXACT_TOKENS = 64, 7
N_TOKENS = 400
SPECIAL = ("<s>", "</s>", "<pad>", "<unk>")
STORY = (
    "The ferry left before dawn , and nobody had told the captain 's dog . It ran along the pier , barking at gulls , "
    "until a boy threw it a rope . Was it not strange that the dog caught it ? They did n't laugh ; they pulled ."
)
# Words that tempt a tokeniser: clitics in rows of their own, blanks inside a word, signs of several bytes, text that
# looks like a special token, words that are punctuation only.
CLITICS = ("n't", "'ve")
ODD_WORDS = (
    *("do", "n't", "we", "'ve", "New\u00a0\u00a0York", "na\u00efve", "e\u0301t\u00e9", "it's", "a-b_c", "42"),
    *("\N{SLIGHTLY SMILING FACE}", "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}", "\u65e5\u672c\u8a9e"),
    *("...", "\u2014", "?!", "\u201cquoted\u201d", "</s>"),
)


def v16(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Extract from small random models, and compare with what the text before each word allows.

    Parameters
    ----------
    size : {"quick", "full"}
        Texts of 60 and of 400 words.
    seed : int
        Of the weights, and of the order of the story's words.
    """
    words = _text(60 if size == "quick" else 400, seed)
    with tempfile.TemporaryDirectory() as folder:
        gpt2, bert = (_model(family, Path(folder) / family, seed) for family in ("gpt2", "bert"))
        return [
            _blind_to_what_follows("GPT-2", LanguageModel(str(gpt2), context=16), words),
            _same_in_any_batch("GPT-2", LanguageModel(str(gpt2), context=8), words),
            _context_as_alone(gpt2, words),
            _story_begins_with_nothing(gpt2, words),
            _stories_apart(gpt2, words),
            _vectors_are_of_own_tokens(gpt2),
            _tokens_spell_words("GPT-2", gpt2),
            _blind_to_what_follows("BERT", LanguageModel(str(bert), context=16), words[:60]),
            _sees_what_follows(LanguageModel(str(bert), context=16, bidirectional=True), words),
            _same_in_any_batch("BERT", LanguageModel(str(bert), context=8), words[:60]),
            _tokens_spell_words("BERT", bert),
        ]


def _blind_to_what_follows(name: str, stage: LanguageModel, words: Sequence[str]) -> Check:
    """Other words from the middle on."""
    middle = len(words) // 2
    edited = [*words[:middle], *reversed(words[middle:])]
    before, after = (stage.extract(_stimulus(text)).values for text in (words, edited))
    moved, kept = np.abs(before - after).max(axis=(0, 2))[middle:].max(), np.abs(before - after)[:, :middle].max()
    return Check(
        "V16",
        f"{name}, {len(words)} words, the second half in reverse",
        f"words before it: all layers the same within {NOTHING:.0e}",
        f"{kept:.1e} (words after it: {moved:.1f})",
        bool(kept <= NOTHING < moved),
    )


def _same_in_any_batch(name: str, stage: LanguageModel, words: Sequence[str]) -> Check:
    """As many windows at once as there are, and one at a time, which is what a limit of a few bytes leaves."""
    stimulus = _stimulus(words)
    together, alone = (replace(stage, memory_limit=limit).extract(stimulus) for limit in (1e9, 1.0))
    difference = np.abs(together.values - alone.values).max()
    return Check(
        "V16",
        f"{name}, {len(words)} words, windows batched and one by one",
        f"the same within {ROUNDING:.0e}",
        f"{difference:.1e}",
        bool(difference <= ROUNDING),
    )


def _context_as_alone(folder: Path, words: Sequence[str]) -> Check:
    """Exactly so many tokens before each word, against a plain pass over these and the word's own."""
    import torch

    features = LanguageModel(str(folder), context=EXACT_TOKENS, exact=True).extract(_stimulus(words))
    network, tokenizer = _loaded(folder)
    text, spans = running_text(pd.DataFrame({"text": list(words)}))
    tokens = tokenize_words(tokenizer, text, spans)
    difference, n_full = 0.0, 0
    for word, own in enumerate(match_tokens(spans, tokens.spans, tokens.is_blank, text)):
        first = max(own[0] - EXACT_TOKENS, 0)
        n_full += int(own[0] - first == EXACT_TOKENS)
        window = [tokenizer.bos_token_id, *tokens.ids[first : own[-1] + 1]]
        with torch.inference_mode():
            states = network(torch.tensor([window]), output_hidden_states=True).hidden_states
        expected = [state[0, own - first + 1].mean(dim=0).numpy() for state in states]
        difference = max(difference, float(np.abs(features.values[:, word] - expected).max()))
    return Check(
        "V16",
        f"GPT-2, exactly {EXACT_TOKENS} tokens before each of {len(words)} words ({n_full} have as many)",
        f"a pass over that slice alone, within {ROUNDING:.0e}",
        f"{difference:.1e}",
        difference <= ROUNDING and n_full > 0,
    )


def _story_begins_with_nothing(folder: Path, words: Sequence[str]) -> Check:
    """Another ending, which a context that wraps around would put before the first words."""
    stage = LanguageModel(str(folder), context=16)
    edited = [*words[:-8], *reversed(words[-8:])]
    before, after = (stage.extract(_stimulus(text)) for text in (words, edited))
    difference = np.abs(before.values - after.values)[:, : len(words) // 4].max()
    seen = before.metadata["context_tokens"][0]
    return Check(
        "V16",
        "GPT-2, a story with another ending",
        f"first word sees 0 tokens, first words the same within {NOTHING:.0e}",
        f"{seen} tokens, {difference:.1e}",
        bool(seen == 0 and difference <= NOTHING),
    )


def _stories_apart(folder: Path, words: Sequence[str]) -> Check:
    stage, second = LanguageModel(str(folder), context=16), _stimulus(list(reversed(words)), "second")
    alone = stage.extract(second).values
    stage.extract(_stimulus(words, "first"))
    difference = np.abs(stage.extract(second).values - alone).max()
    return Check(
        "V16",
        "GPT-2, a story read first, and after another one",
        "the same to the last bit",
        f"{difference:g}",
        bool(difference == 0),
    )


def _vectors_are_of_own_tokens(folder: Path) -> Check:
    """Static vectors of odd words, against the mean of the embedding's rows that transformers' offsets give."""
    words = [word for word in ODD_WORDS if word not in CLITICS]  # which may be cut off before
    found = LanguageModel(str(folder), outputs=("static",), context=16).extract(_stimulus(words)).values[0]
    network, tokenizer = _loaded(folder)
    text, spans = running_text(pd.DataFrame({"text": words}))
    # Text that looks like a special token is text.
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    rows = network.get_input_embeddings().weight.detach().numpy()
    expected = []
    for start, stop in spans:
        own = [
            token
            for token, (a, b) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
            if a < stop and b > start and text[a:b].strip() and tokenizer.decode([token]).strip()
        ]
        expected.append(rows[own].mean(axis=0))
    difference = np.abs(found - np.array(expected)).max()
    return Check(
        "V16",
        f"GPT-2, static vectors of {len(words)} odd words",
        f"the mean of their tokens' rows within {NOTHING:.0e}",
        f"{difference:.1e}",
        bool(difference <= NOTHING),
    )


def _tokens_spell_words(name: str, folder: Path) -> Check:
    """Of each word all characters are in its tokens, but for blanks and accents that a model does not read."""
    text, spans = running_text(pd.DataFrame({"text": list(ODD_WORDS)}))
    tokens = tokenize_words(_loaded(folder)[1], text, spans)
    of_words = match_tokens(spans, tokens.spans, tokens.is_blank, text)
    n_spelt = 0
    for (start, stop), own in zip(spans, of_words, strict=True):
        covered = set(chain.from_iterable(range(*tokens.spans[token]) for token in own))
        n_spelt += {
            i for i in range(start, stop) if not (text[i].isspace() or unicodedata.combining(text[i]))
        } <= covered
    n_shared = len(np.concatenate(of_words)) - len(np.unique(np.concatenate(of_words)))
    return Check(
        "V16",
        f"{name}'s kind of tokeniser, {len(ODD_WORDS)} odd words (emoji, clitics, blanks ...)",
        "all words spelt by their tokens, no token of two words",
        f"{n_spelt} of {len(spans)} spelt, {n_shared} tokens shared",
        n_spelt == len(spans) and n_shared == 0,
    )


def _sees_what_follows(stage: LanguageModel, words: Sequence[str]) -> Check:
    """The same edit, where a model may look ahead; and what the metadata say of it."""
    middle = len(words) // 2
    edited = [*words[:middle], *reversed(words[middle:])]
    before, after = (stage.extract(_stimulus(text)) for text in (words, edited))
    changed = np.abs(before.values - after.values)[1:, middle - 1].max()
    said = str(before.metadata["sees_future"])
    return Check(
        "V16",
        "BERT, bidirectional on request, the second half in reverse",
        "the word before it changes by > 1e-3, and the metadata say so",
        f"{changed:.2f}; sees_future: {said}",
        bool(changed > 1e-3 and said.startswith("yes")),
    )


def _text(n_words: int, seed: int) -> list[str]:
    """The story, and then its words in other orders."""
    random = np.random.default_rng(seed)
    words = [str(word) for word in STORY.split()]
    while len(words) < n_words:
        words += random.permutation(words).tolist()
    return words[:n_words]


def _stimulus(words: Sequence[str], name: str = "story") -> Stimulus:
    onset = 0.4 * np.arange(len(words))
    return Stimulus(name, pd.DataFrame({"onset": onset, "duration": 0.3, "text": list(words)}))


def _model(family: Family, folder: Path, seed: int) -> Path:
    """Write a small model with random weights, and a tokeniser of its kind, to a folder."""
    import torch
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]), quietly():
        torch.manual_seed(seed)
        AutoModel.from_config(_config(family)).save_pretrained(folder)
    _tokenizer(family).save_pretrained(folder)
    return folder


def _config(family: Family) -> Any:
    """Larger weights than usual, so that attention does not average everything alike."""
    from transformers import BertConfig, GPT2Config

    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    if family == "gpt2":
        shape = {"n_embd": 24, "n_layer": 2, "n_head": 2, "n_positions": MAX_TOKENS}
        return GPT2Config(vocab_size=N_TOKENS, initializer_range=0.3, **shape, **ids)
    return BertConfig(
        vocab_size=N_TOKENS,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=0.3,
        pad_token_id=2,
    )


def _tokenizer(family: Family) -> Any:
    """Learnt from the story: pairs of bytes, or word pieces between a token that begins and one that ends."""
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    learnt: Any = ByteLevelBPETokenizer() if family == "gpt2" else BertWordPieceTokenizer(unk_token="<unk>")  # noqa: S106
    learnt.train_from_iterator([STORY], vocab_size=N_TOKENS, special_tokens=list(SPECIAL), show_progress=False)
    if family == "bert":
        frame = [("<s>", 0), ("</s>", 1)]
        learnt._tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=frame)
    names = dict(zip(("bos_token", "eos_token", "pad_token", "unk_token"), SPECIAL, strict=True))
    frame_names = {"cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=learnt._tokenizer, **names, **frame_names)


def _loaded(folder: Path) -> tuple[Any, Any]:
    """A model and its tokeniser as transformers gives them."""
    from transformers import AutoModel, AutoTokenizer

    with quietly():
        return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
