from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import stimulus_of

from brainalign.errors import DataError
from brainalign.features import loading, pretrained
from brainalign.features.model_files import locate
from brainalign.features.passes import TokenisedText, batches, context_tokens, tokenised, tokens_per_pass
from brainalign.features.text import running_text
from brainalign.features.tokens import tokenize, tokenize_words
from brainalign.features.windows import Reading, Window, match_tokens

FolderOf = Callable[[str], Path]

# A byte-level tokeniser, word pieces that lower the case and strip accents, and a unigram model.
KINDS = ["gpt2", "bert", "t5"]


def load(folder: Path) -> pretrained.Pretrained:
    files = locate(str(folder))
    return loading.load(files, None, "cpu")


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest, folder_of: FolderOf) -> pretrained.Pretrained:
    return load(folder_of(request.param))


TEXTS: dict[str, tuple[str, list[str]]] = {
    "punctuation attached": ("en", ["“Well,”", "said", "Lily...", "(to", "herself)", "—", "what", "now?!"]),
    "punctuation split": ("en", ["Well", ",", "said", "Lily", ".", "!", "?", "-", ";"]),
    "apostrophes": ("en", ["don't", "Lily's", "o'clock", "did", "n't", "we", "'ll", "'tis", "girls'", "y\u2019all"]),
    "hyphens": ("en", ["mother-in-law", "re-entry", "well-", "-known", "twenty-one"]),
    "casing": ("en", ["ONCE", "Upon", "iPhone", "McDonald", "aBc", "USA"]),
    "digits": ("en", ["1865", "3.14", "1,000", "7th", "12:30", "№5"]),
    "accents": ("fr", ["garçon", "où", "naïve", "e\u0301te\u0301", "œuvre", "l'été"]),
    "Chinese words of several characters": ("zh", ["小王子", "喜欢", "看", "日落", "。", "四十三", "次"]),
    "Japanese without blanks": ("ja", ["彼女", "は", "公園", "で", "遊ぶ", "の", "が", "好き", "だった"]),
    "Cyrillic, Greek, Arabic, Devanagari": ("ru", ["Жил-был", "король", "Καλημέρα", "السلام", "नमस्ते"]),
    "emoji": ("en", ["hello", "🙂", "👩‍👩‍👧", "world🎉", "🇫🇷"]),
    "blanks inside": ("en", ["New York", "a\u00a0b", "ice  cream"]),
    "single letters": ("en", list("abcdefg")),
    "looks special": ("en", ["<s>", "</s>", "<pad>", "<unk>", "[CLS]", "##ly"]),
}


@pytest.mark.parametrize(("language", "words"), TEXTS.values(), ids=TEXTS)
def test_each_word_gets_the_tokens_that_spell_it(model: pretrained.Pretrained, language: str, words: list[str]) -> None:
    check_tokens_spell_words(model, language, words)


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.sampled_from(sorted({word for _, text in TEXTS.values() for word in text})), min_size=1, max_size=30
    ),
    language=st.sampled_from(["en", "zh", "ja"]),
    kind=st.sampled_from(KINDS),
)
def test_mixtures_of_all_scripts_are_matched_too(
    words: list[str], language: str, kind: str, folder_of: FolderOf
) -> None:
    check_tokens_spell_words(load(folder_of(kind)), language, words)


def check_tokens_spell_words(model: pretrained.Pretrained, language: str, words: list[str]) -> None:
    stimulus = stimulus_of(words, language=language)
    text, spans = running_text(stimulus.words, language)
    matched = tokenised(model, stimulus)
    token_spans = tokenize_words(model.tokenizer, text, spans).spans
    if type(model.tokenizer.backend_tokenizer.model).__name__ != "Unigram":  # which has them as pieces like others
        assert not set(matched.ids) & {model.tokenizer.bos_token_id, model.tokenizer.eos_token_id}
    for word, ((start, stop), tokens) in enumerate(zip(spans, matched.tokens_of_words, strict=True)):
        assert len(tokens) > 0
        assert all(token_spans[i][0] < stop and token_spans[i][1] > start for i in tokens), words[word]
        spelt = {c for i in tokens for c in range(*token_spans[i])}
        visible = {c for c in range(start, stop) if text[c].isalnum()}
        assert visible <= spelt, words[word]
    for own, following in pairwise(matched.tokens_of_words):
        assert own[-1] < following[0], "no token is of two words"


def test_words_that_a_tokeniser_drops_are_named(folder_of: FolderOf) -> None:
    with pytest.raises(DataError, match=r"Word 2 \('\\u200b'\) has no token: the model's tokeniser drops it"):
        tokenised(load(folder_of("bert")), stimulus_of(["so", "\u200b", "long"]))


def test_batches_hold_windows_of_one_length_and_every_window_once() -> None:
    random = np.random.default_rng(0)
    windows = [
        Window(start, start + int(size), i, i + 1) for i, (start, size) in enumerate(random.integers(1, 9, (50, 2)))
    ]
    made = list(batches(windows, 20))
    assert sorted((window for batch in made for window in batch), key=lambda w: w.first_word) == windows
    for batch in made:
        assert len({len(window) for window in batch}) == 1
        assert len(batch) == 1 or len(batch) * len(batch[0]) <= 20


def test_tokens_of_a_pass_grow_with_memory_and_shrink_with_width(folder_of: FolderOf) -> None:
    model = load(folder_of("gpt2"))
    sizes = [tokens_per_pass(model, [width] * 13, limit) for width, limit in ((768, 1e8), (768, 1e7), (7680, 1e7))]
    assert sizes[0] > sizes[1] > sizes[2] >= 1
    assert tokens_per_pass(model, [768] * 13, None) == 1024, "a processor is busy with so many"
    assert tokens_per_pass(model, [768], 1.0) == 1
    assert tokens_per_pass(model, [768], 1e7, per_token=50_000) < tokens_per_pass(model, [768], 1e7)


def test_context_tokens_count_from_the_start_of_the_window() -> None:
    tokens = [np.array([0, 1]), np.array([2]), np.array([3, 4, 5])]
    text = TokenisedText(list(range(6)), tokens, np.array([2, 0, 1]), None)
    # Word 2 of the stimulus is read first.
    assert context_tokens(text.windows(Reading("full")), text).tolist() == [2, 3, 0]


# ---- words that no blank stands between


def joining(words: list[str], kind: str) -> Any:
    """A tokeniser in whose vocabulary these words are single tokens, so that it joins what it can."""
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if kind == "unigram":
        signs = sorted({sign for word in words for sign in word} | set("Shedidn'tknowwhat'sthat|(\u2026"))
        pieces = [("<unk>", 0.0), ("\u2581", -3.0), *((sign, -6.0) for sign in signs)]
        pieces += [(form, -1.0) for word in words for form in (word, "\u2581" + word)]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    trained: Any = ByteLevelBPETokenizer() if kind == "byte-level" else BertWordPieceTokenizer()
    trained.train_from_iterator(
        [" ".join(words)] * 20, vocab_size=400, special_tokens=["<unk>", "[UNK]"], show_progress=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, unk_token="<unk>")


ATTACHED = {
    "clitics": ("en", ["She", "did", "n't", "know", "what", "'s", "that"], ["didn't", "She", "know", "what's", "that"]),
    "Chinese": ("zh", ["我", "喜欢", "小", "王子", "的", "书", "。"], ["我喜欢", "小王子", "王子的书", "的书"]),
    "Japanese": ("ja", ["彼女", "は", "公園", "で", "遊ぶ"], ["彼女は", "公園で", "で遊ぶ"]),
}


@pytest.mark.parametrize("kind", ["byte-level", "word pieces", "unigram"])
@pytest.mark.parametrize(("language", "words", "joined"), ATTACHED.values(), ids=ATTACHED)
def test_no_token_is_of_two_words_and_no_word_s_tokens_depend_on_the_next(
    kind: str, language: str, words: list[str], joined: list[str]
) -> None:
    tokenizer = joining(joined, kind)
    text, spans = running_text(stimulus_of(words).words, language)
    whole = tokenize(tokenizer, text)
    tokens = tokenize_words(tokenizer, text, spans)
    matched = match_tokens(spans, tokens.spans, tokens.is_blank, text)
    if kind != "word pieces":  # which cut at every sign that is no letter, and at every Chinese one
        crossing = match_tokens(spans, whole.spans, whole.is_blank, text)
        assert any(one[-1] >= other[0] for one, other in pairwise(crossing)), "the tokeniser joins words of this text"
    for one, other in pairwise(matched):
        assert one[-1] < other[0]
    for number in range(1, len(words)):
        stop = spans[number - 1][1]
        before = tokenize_words(tokenizer, text[:stop], spans[:number])
        n_before = len(before.ids)
        assert tokens.ids[:n_before] == before.ids
        assert tokens.spans[:n_before] == before.spans
    spelt = {i for start, stop in tokens.spans for i in range(start, stop)}
    assert spelt >= {i for i, sign in enumerate(text) if not sign.isspace()}


def test_a_text_without_attached_words_is_tokenised_whole(model: pretrained.Pretrained) -> None:
    text, spans = running_text(stimulus_of(["so", "long", "little", "girl", "!"]).words)
    assert tokenize_words(model.tokenizer, text, spans) == tokenize(model.tokenizer, text)


@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
def test_a_word_does_not_change_when_the_row_attached_to_it_does(family: str, folder_of: FolderOf) -> None:
    from brainalign.features import LanguageModel

    lm = LanguageModel(str(folder_of(family)), context="full")
    texts = [["She", "did", "n't", "know"], ["She", "did", "'ll", "know"], ["She", "did", "so", "too"]]
    first, *others = (lm.extract(stimulus_of(words)).values[:, :2] for words in texts)
    for other in others:
        np.testing.assert_allclose(first, other, atol=1e-5 * np.abs(first).max())
