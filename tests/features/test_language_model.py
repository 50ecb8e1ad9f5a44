from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import speech_files
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import stimulus_of

from brainalign.errors import DataError, DataWarning, MissingExtraError, RecipeError
from brainalign.features import LanguageModel, language_model, loading, pretrained, running_text
from brainalign.features.model_files import locate
from brainalign.features.tokens import tokenize, tokenize_words
from brainalign.features.windows import match_tokens
from brainalign.types import Features, Stimulus

ATOL = 1e-4

STORY = (
    "Once upon a time , there was a little girl named Lily . She liked to play outside in the park . One day , she "
    "saw a big , red ball . It was very high up in a tree ! She did not know what to do , so she asked her mom ."
)


def make_stimulus(words: list[str], name: str = "story", language: str = "en") -> Stimulus:
    onset = 0.4 * np.arange(len(words))
    return Stimulus(name, pd.DataFrame({"onset": onset, "duration": 0.3, "text": words}), language=language)


@pytest.fixture(scope="session")
def story() -> list[str]:
    """About 600 words that do not repeat in the same order: more tokens than the small models can read at once."""
    words = STORY.split()
    rng = np.random.default_rng(0)
    while len(words) < 600:
        words += list(rng.permutation(STORY.split()))
    return words


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level tokeniser trained on the story, with a token that begins a text."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([STORY], vocab_size=400, special_tokens=["<s>"], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, bos_token="<s>")


@pytest.fixture(scope="session")
def make_folder(tokenizer) -> Callable[..., Path]:
    """Save a random model of a configuration, with the tokeniser, as a folder."""

    def make(folder: Path, config, seed: int = 1) -> Path:
        import torch
        from transformers import AutoModel

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            AutoModel.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


def gpt2_config(**changes):
    from transformers import GPT2Config

    # Larger weights than usual, so that attention does not average everything alike.
    settings = {"vocab_size": 400, "n_embd": 24, "n_layer": 3, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
    return GPT2Config(**settings | changes)


@pytest.fixture(scope="session")
def tiny_gpt2(make_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained GPT-2 of 3 layers x 24 dimensions that reads 64 tokens at once."""
    return make_folder(tmp_path_factory.mktemp("models") / "tiny-gpt2", gpt2_config())


@pytest.fixture(params=["tiny_llama", "tiny_gpt2"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def load(model: str) -> pretrained.Pretrained:
    files = locate(model)
    return loading.load(files, None, "cpu")


def one_pass_per_word(model: str, stimulus: Stimulus, context_tokens: list[int] | None) -> np.ndarray:
    """Mean-pooled states of each word, from a pass of its own that ends with it: (layer, word, dimension)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    network = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    text, spans = running_text(stimulus.words, stimulus.language)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    vectors = []
    for word, (start, stop) in enumerate(spans):
        own = [i for i, (a, b) in enumerate(encoded["offset_mapping"]) if a < stop and b > start]
        own = [i for i in own if tokenizer.decode(encoded["input_ids"][i]).strip()]
        first = 0 if context_tokens is None else own[0] - context_tokens[word]
        ids = [tokenizer.bos_token_id, *encoded["input_ids"][first : own[-1] + 1]]
        with torch.inference_mode():
            states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states
        vectors.append([state[0, [i - first + 1 for i in own]].mean(dim=0).numpy() for state in states])
    return np.array(vectors).transpose(1, 0, 2)


@pytest.mark.filterwarnings("ignore:.*more than the model can read:brainalign.errors.DataWarning")
@pytest.mark.parametrize("context", [5, 16, 200])
def test_shared_windows_give_what_one_pass_per_word_gives(model: str, context: int, story: list[str]) -> None:
    stimulus = make_stimulus(story[:250])
    features = LanguageModel(model, context=context).extract(stimulus)
    expected = one_pass_per_word(model, stimulus, features.metadata["context_tokens"])
    assert features.values.dtype == np.float32
    assert np.abs(features.values - expected).max() <= ATOL
    assert np.abs(expected).std() > 0.1


def test_each_word_sees_context_to_twice_context_tokens(model: str, story: list[str]) -> None:
    features = LanguageModel(model, context=16).extract(make_stimulus(story))
    seen = np.array(features.metadata["context_tokens"])
    settled = np.flatnonzero(seen >= 16)[0]
    assert (np.diff(seen[:settled]) > 0).all(), "only the first words see less"
    assert seen[settled:].min() >= 16
    assert seen.max() < 32


def test_a_word_changes_those_whose_context_holds_it_and_no_others(tiny_llama: Path, story: list[str]) -> None:
    # Words of one token each, so that words and tokens are counted alike.
    words = ["a", "b", "c", "d", "e", "f", "g", "h"] * 12
    changed = [*words[:40], "z", *words[41:]]
    lm = LanguageModel(str(tiny_llama), context=8)
    before, after = (lm.extract(make_stimulus(text)) for text in (words, changed))
    assert before.metadata["n_tokens"] == len(words)
    differs = np.abs(before.values - after.values).max(axis=(0, 2)) > 1e-6
    sees = np.array([n - seen <= 40 <= n for n, seen in enumerate(before.metadata["context_tokens"])])
    np.testing.assert_array_equal(differs, sees)


@pytest.mark.parametrize("position", [0, 1, 60, 149])
def test_editing_the_future_never_changes_the_past(model: str, position: int, story: list[str]) -> None:
    words = story[:150]
    edited = [*words[:position], "incredulity!", *words[position + 2 :]]
    lm = LanguageModel(model, context=16)
    before, after = (lm.extract(make_stimulus(text)).values for text in (words, edited))
    np.testing.assert_allclose(before[:, :position], after[:, :position], atol=1e-5)
    assert not np.allclose(before[:, position], after[:, position], atol=1e-3)


def test_whether_words_know_of_later_ones_is_found_out_once_for_all_stimuli(
    tiny_gpt2: Path, story: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    leaking_layer = language_model.leaking_layer

    def counted(*arguments):
        checked.append(leaking_layer(*arguments))
        return checked[-1]

    monkeypatch.setattr(language_model, "leaking_layer", counted)
    lm = LanguageModel(str(tiny_gpt2), context=17)
    lm.extract(make_stimulus(["hello"], "too short to tell"))
    assert checked == []
    for name in ("one", "two"):
        lm.extract(make_stimulus(story[:40], name))
    assert checked == [None]
    lm.stream(make_stimulus(story[:40]))
    LanguageModel(str(tiny_gpt2), context=17, shuffle="words").extract(make_stimulus(story[:40]))
    assert checked == [None]


def test_nothing_crosses_stimuli(model: str, story: list[str]) -> None:
    lm = LanguageModel(model, context=16)
    alone = lm.extract(make_stimulus(story[:50])).values
    lm.extract(make_stimulus(story[50:120], "other"))
    np.testing.assert_array_equal(lm.extract(make_stimulus(story[:50])).values, alone)


def test_context_is_bounded_by_what_the_model_can_read_and_the_metadata_say_so(
    tiny_gpt2: Path, story: list[str]
) -> None:
    # 64 positions, one of them for the token that begins the text: of 63 tokens, three quarters are 47.
    for context, least, is_limited in ((512, 47, True), (47, 47, False), (40, 40, False), ("full", 31, True)):
        lm = LanguageModel(str(tiny_gpt2), context=context)  # type: ignore[arg-type]
        metadata = lm.extract(make_stimulus(story[:200])).metadata
        seen = np.array(metadata["context_tokens"])
        assert least <= seen[np.argmax(seen >= least) :].min() < seen.max() < 63
        assert metadata["context_limited_by_model"] == is_limited
        assert not lm.extract(make_stimulus(story[:9])).metadata["context_limited_by_model"]


def test_a_context_that_was_asked_for_and_cannot_be_read_is_warned_of(tiny_gpt2: Path, story: list[str]) -> None:
    with pytest.warns(
        DataWarning, match=r"W212: .* a context of 60 tokens .* 63 tokens at once: \d+% .* less, some \d+ tokens only"
    ):
        LanguageModel(str(tiny_gpt2), context=60).extract(make_stimulus(story[:200]))


def test_pooling_modes_agree_with_pooling_by_hand(model: str) -> None:
    stimulus = make_stimulus(["Alice", "couldn't", "believe", "Tchaikovsky's", "antidisestablishmentarianism", "!"])
    loaded = load(model)
    text, spans = running_text(stimulus.words)
    ids, token_spans, is_blank = tokenize(loaded.tokenizer, text)
    states = list(loaded.states([ids]).values())
    tokens_of_words = match_tokens(spans, token_spans, is_blank, text)
    assert max(map(len, tokens_of_words)) > 3
    for layer in (0, 2):
        tokens = [states[layer][0, list(indices)].double().numpy() for indices in tokens_of_words]
        for pooling, by_hand in {
            "mean": [vectors.mean(axis=0) for vectors in tokens],
            "sum": [vectors.sum(axis=0) for vectors in tokens],
            "first": [vectors[0] for vectors in tokens],
            "last": [vectors[-1] for vectors in tokens],
        }.items():
            lm = LanguageModel(model, layers=(layer,), pooling=pooling)  # type: ignore[arg-type]
            np.testing.assert_allclose(lm.extract(stimulus).values[0], by_hand, atol=1e-5)


def test_a_subset_of_layers_is_a_slice_of_all(model: str, story: list[str]) -> None:
    stimulus = make_stimulus(story[:60])
    everything = LanguageModel(model).extract(stimulus)
    n_layers = len(everything.layers)
    assert everything.layers == tuple(f"layer {layer}" for layer in range(n_layers))
    some = LanguageModel(model, layers=(n_layers - 1, 0)).extract(stimulus)
    assert some.layers == (f"layer {n_layers - 1}", "layer 0")
    np.testing.assert_array_equal(some.values, everything.values[[n_layers - 1, 0]])


def test_layer_0_is_the_embedding_and_the_last_comes_after_the_final_norm(tiny_llama: Path) -> None:
    features = LanguageModel(str(tiny_llama)).extract(make_stimulus(["a", "b", "a", "a"]))
    np.testing.assert_array_equal(features.values[0, 0], features.values[0, 2])
    network = load(str(tiny_llama)).model
    normed = features.values[-1] / network.norm.weight.detach().numpy()
    np.testing.assert_allclose((normed**2).mean(axis=-1), 1.0, rtol=1e-3)


@pytest.mark.parametrize("layers", [(0, 6), (-1,), (99,)])
def test_layers_that_the_model_has_not_are_refused_with_its_range(tiny_llama: Path, layers: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match=rf"no layer {layers[-1]}: it has layers 0 to 5"):
        LanguageModel(str(tiny_llama), layers=layers).extract(make_stimulus(["a"]))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"layers": ()}, "at least one"),
        ({"layers": (1, 1)}, "each once"),
        ({"layers": "al"}, "'all' or a list"),
        ({"layers": 3}, "at least one"),
        ({"layers": (0.5,)}, "whole numbers"),
        ({"layers": (True,)}, "whole numbers"),
        ({"outputs": ("mlp", "mlp")}, "each once"),
        ({"context": 0}, "at least 1 token"),
        ({"context": "sentense"}, "Did you mean 'sentence'"),
        ({"context": "exact"}, "write context: 512 and exact: true"),
        ({"context": "full", "exact": True}, "needs a context that is a number"),
        ({"context_unit": "letters"}, "Unknown context_unit 'letters'"),
        ({"outputs": ()}, "name at least one of hidden"),
        ({"outputs": ("attn",)}, "Unknown outputs 'attn'"),
        ({"dtype": "float8"}, "Unknown dtype 'float8'"),
        ({"shuffle": "letters"}, "Unknown shuffle 'letters'"),
        ({"shuffle": "words", "context": "sentence"}, "sentences are no more"),
        ({"exact": True, "bidirectional": True}, "shows nothing after it"),
        ({"memory_limit": 0}, "positive number of bytes"),
        ({"pooling": "maen"}, "Did you mean 'mean'"),
    ],
)
def test_settings_that_cannot_be_are_refused_on_construction(setting: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        LanguageModel("gpt2", **setting)  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_refused(tiny_gpt2: Path) -> None:
    with pytest.raises(RecipeError, match="Device 'quantum'"):
        LanguageModel(str(tiny_gpt2), device="quantum").extract(make_stimulus(["a"]))


# ---- text of all kinds


ODD_WORDS = [
    "</s>",
    "<s>",
    "🙂",
    "👩‍👩‍👧",
    "日本語",
    "naïve",
    "e\u0301",
    "New  York",
    "don't",
    "'ll",
    "...",
    "—",
    "\u200b",
    "42",
    "ﷺ",
    "a\u00a0b",
]


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.one_of(st.sampled_from(ODD_WORDS), st.text(min_size=1, max_size=12).filter(lambda w: w.strip() == w)),
        min_size=1,
        max_size=12,
    ),
    language=st.sampled_from(["en", "zh"]),
    which=st.sampled_from(["tiny_llama", "tiny_gpt2"]),
)
def test_any_visible_word_gets_the_tokens_that_spell_it(
    words: list[str], language: str, which: str, tiny_llama: Path, tiny_gpt2: Path
) -> None:
    loaded = load(str({"tiny_llama": tiny_llama, "tiny_gpt2": tiny_gpt2}[which]))
    text, spans = running_text(make_stimulus(words, language=language).words, language)
    ids, token_spans, is_blank = tokenize(loaded.tokenizer, text)
    assert loaded.tokenizer.bos_token_id not in ids, "text is text, even where it looks like a special token"
    for (start, stop), tokens in zip(spans, match_tokens(spans, token_spans, is_blank, text), strict=True):
        covered = {i for token in tokens for i in range(*token_spans[token])}
        visible = {i for i in range(start, stop) if not text[i].isspace()}
        assert visible <= covered
        assert all(token_spans[token][0] < stop and token_spans[token][1] > start for token in tokens)


def test_the_blank_that_some_tokenisers_put_before_a_text_is_no_part_of_its_first_word(tiny_llama: Path) -> None:
    ids, token_spans, is_blank = tokenize(load(str(tiny_llama)).tokenizer, "éa b")
    assert token_spans[0] == token_spans[1] == (0, 1), "the blank is said to be where the first letter is"
    assert list(match_tokens([(0, 2), (3, 4)], token_spans, is_blank, "éa b")[0]) == [1, 2]
    assert len(ids) == 4


def test_a_word_that_looks_like_a_special_token_is_text(tiny_llama: Path) -> None:
    features = LanguageModel(str(tiny_llama)).extract(make_stimulus(["the", "</s>", "end"]))
    assert features.metadata["n_tokens"] > 5
    assert np.isfinite(features.values).all()


def test_one_word_is_enough(model: str) -> None:
    assert LanguageModel(model).extract(make_stimulus(["Alice"])).values.shape[1] == 1


def test_a_word_longer_than_the_context_is_read_whole(tiny_llama: Path) -> None:
    features = LanguageModel(str(tiny_llama), context=4).extract(make_stimulus(["so", "x" * 60, "it", "was"] * 3))
    assert np.isfinite(features.values).all()


def test_a_word_longer_than_the_model_can_read_is_named(tiny_gpt2: Path) -> None:
    with pytest.raises(DataError, match="stimulus 'story': Word 2 has"):
        LanguageModel(str(tiny_gpt2)).extract(make_stimulus(["so", "qxz" * 60]))


def test_a_word_that_the_tokeniser_drops_is_named(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = make_folder(tmp_path / "dropping", gpt2_config())
    dropping = Tokenizer(models.WordLevel({"<unk>": 0, "so": 1, "long": 2}, unk_token="<unk>"))
    dropping.normalizer = normalizers.Replace("~", "")
    dropping.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=dropping, unk_token="<unk>").save_pretrained(folder)
    with pytest.raises(DataError, match=r"stimulus 'story': Word 2 \('~'\) has no token"):
        LanguageModel(str(folder)).extract(make_stimulus(["so", "~", "long"]))


# ---- trained and untrained


def test_untrained_seeds_differ_and_repeat_and_leave_the_callers_random_state(tiny_llama: Path) -> None:
    import torch

    def values(untrained: bool | int) -> np.ndarray:
        return LanguageModel(str(tiny_llama), untrained=untrained).extract(make_stimulus(["so", "long", "!"])).values

    torch.manual_seed(5)
    expected_state = torch.get_rng_state()
    trained, seed_0, seed_1 = values(False), values(True), values(1)
    assert torch.equal(torch.get_rng_state(), expected_state)
    np.testing.assert_array_equal(values(0), seed_0)
    np.testing.assert_array_equal(values(1), seed_1)
    for one, other in ((trained, seed_0), (trained, seed_1), (seed_0, seed_1)):
        assert not np.allclose(one, other, atol=1e-2)


def test_seed_0_and_seed_1_are_not_taken_for_false_and_true() -> None:
    models = [LanguageModel("gpt2", untrained=untrained) for untrained in (False, 0, 1, True)]
    assert len(set(models)) == 4
    assert [model.seed for model in models] == [None, 0, 1, 0]
    assert [model.name for model in models] == ["gpt2", *(f"gpt2 (untrained, seed {seed})" for seed in (0, 1, 0))]


def test_settings_can_be_compared_and_pickled() -> None:
    lm = LanguageModel("gpt2", layers=[1, 2])  # type: ignore[arg-type]
    assert lm == LanguageModel("gpt2", layers=(1, 2)) == pickle.loads(pickle.dumps(lm))
    assert lm != LanguageModel("gpt2")


def test_the_model_is_loaded_once_for_all_stimuli(tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModel

    loading.unload()
    loads: list[object] = []
    read = AutoModel.from_pretrained
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *a, **k: (loads.append(a), read(*a, **k))[1])
    for name in ("one", "two"):
        LanguageModel(str(tiny_gpt2)).extract(make_stimulus(["so", "long"], name))
    assert len(loads) == 1


def test_nothing_is_printed_and_the_users_logging_stays(
    tiny_gpt2: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    write_gguf(tmp_path / "tiny.gguf", seed=2)
    capfd.readouterr()
    loading.unload()
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    for model in (tiny_gpt2, tmp_path / "tiny.gguf"):
        extract(model)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# ---- controls


def test_shuffled_words_go_back_to_their_words_and_lose_their_context_only(model: str, story: list[str]) -> None:
    stimulus = make_stimulus(story[:60])
    told, shuffled = (
        LanguageModel(model, context="none", shuffle=shuffle).extract(stimulus).values  # type: ignore[arg-type]
        for shuffle in ("none", "words")
    )
    # The first word of a text may be tokenised without the blank that stands before the others.
    same = np.abs(told - shuffled).max(axis=(0, 2)) < 1e-5
    assert same.sum() >= 57
    full = [LanguageModel(model, shuffle=shuffle).extract(stimulus) for shuffle in ("none", "words")]  # type: ignore[arg-type]
    assert np.abs(full[0].values[-1] - full[1].values[-1]).max() > 0.1
    assert full[1].metadata["sees_future"] == "yes: the words were read in random order"
    assert full[1].name.endswith("(words shuffled, seed 0)")


def test_shuffled_texts_are_read_as_the_same_words_in_that_order(model: str, story: list[str]) -> None:
    words = story[:40]
    shuffled = LanguageModel(model, context="full", shuffle="words", shuffle_seed=3).extract(make_stimulus(words))
    order = np.random.default_rng(3).permutation(40)
    in_order = LanguageModel(model, context="full").extract(make_stimulus([words[i] for i in order]))
    np.testing.assert_allclose(shuffled.values[:, order], in_order.values, atol=1e-5)
    other = LanguageModel(model, context="full", shuffle="words", shuffle_seed=4).extract(make_stimulus(words))
    assert np.abs(other.values - shuffled.values).max() > 0.1


def test_shuffled_sentences_keep_the_words_of_each_in_order(model: str) -> None:
    stimulus = stimulus_of(STORY.split())
    lm = LanguageModel(model, context="sentence")
    told, shuffled = (replace(lm, shuffle=shuffle).extract(stimulus) for shuffle in ("none", "sentences"))
    n_words = len(stimulus.words)
    same = np.abs(told.values - shuffled.values).max(axis=(0, 2)) < 1e-4
    first_sentences = stimulus.words["sentence"].isin([0])
    # Within its own sentence each word sees what it saw; a text's first word may be tokenised without a blank before.
    assert same[~first_sentences].sum() >= n_words - first_sentences.sum() - 13
    full = LanguageModel(model, context="full", shuffle="sentences").extract(stimulus)
    assert np.abs(full.values - LanguageModel(model, context="full").extract(stimulus).values).max() > 0.1


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        (None, "no column 'sentence'"),
        ([0, 1, 0], "never fall"),
        ([0, None, 1], "whole numbers"),
        ([0, 0.5, 1], "whole numbers"),
        (["a", "b", "c"], "whole numbers"),
        (pd.array([0, None, 1], dtype="Int64"), "whole numbers"),
    ],
)
def test_sentences_that_are_missing_or_mixed_up_are_refused(tiny_gpt2: Path, sentence: object, message: str) -> None:
    stimulus = make_stimulus(["so", "long", "!"])
    words = stimulus.words if sentence is None else stimulus.words.assign(sentence=sentence)
    with pytest.raises(DataError, match=f"stimulus 'story': .*{message}"):
        LanguageModel(str(tiny_gpt2), context="sentence").extract(replace(stimulus, words=words))


def test_the_name_says_what_sets_a_model_apart() -> None:
    names = {
        LanguageModel("gpt2"): "gpt2",
        LanguageModel("gpt2", context=16): "gpt2 (context 16 tokens)",
        LanguageModel("gpt2", context=8, context_unit="words", exact=True): "gpt2 (context 8 words exactly)",
        LanguageModel("gpt2", context="sentence", untrained=2): "gpt2 (untrained, seed 2; context sentence)",
        LanguageModel("gpt2", shuffle="sentences"): "gpt2 (sentences shuffled, seed 0)",
        LanguageModel("gpt2", pooling="last", outputs=("mlp",), dtype="bfloat16"): "gpt2 (last; mlp; bfloat16)",
        LanguageModel("gpt2", context=np.int64(512)): "gpt2",  # type: ignore[arg-type]
    }
    assert {lm: lm.name for lm in names} == names


# ---- memory


def test_a_pass_that_does_not_fit_is_read_in_halves(
    tiny_gpt2: Path, story: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stimulus = make_stimulus(story[:200])
    whole = LanguageModel(str(tiny_gpt2), context=8).extract(stimulus).values
    sizes: list[int] = []
    states = pretrained.Pretrained.states

    def short_of_memory(self, windows, outputs=("hidden",)):
        sizes.append(len(windows))
        if len(windows) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return states(self, windows, outputs)

    monkeypatch.setattr(pretrained.Pretrained, "states", short_of_memory)
    np.testing.assert_allclose(LanguageModel(str(tiny_gpt2), context=8).extract(stimulus).values, whole, atol=1e-5)
    assert max(sizes) > 3 > min(sizes)


def test_a_single_window_that_does_not_fit_is_an_error_that_says_what_to_do(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self, windows, outputs=("hidden",)):
        raise MemoryError

    monkeypatch.setattr(pretrained.Pretrained, "states", never)
    with pytest.raises(DataError, match=r"stimulus 'story': a pass over 2 tokens does not fit .* smaller context"):
        LanguageModel(str(tiny_gpt2)).extract(make_stimulus(["a", "b"]))


def test_a_tokeniser_of_another_model_is_found_out(tiny_gpt2: Path, tmp_path: Path, tokenizer) -> None:
    from transformers import GPT2Model

    folder = tmp_path / "small"
    GPT2Model(gpt2_config(vocab_size=50)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(DataError, match=r"its tokeniser gives token \d+, and the model knows 50 tokens"):
        LanguageModel(str(folder)).extract(make_stimulus(["little", "girl"]))


def test_other_failures_of_a_pass_are_not_taken_for_a_lack_of_memory(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self, windows, outputs=("hidden",)):
        raise RuntimeError("index out of range")

    monkeypatch.setattr(pretrained.Pretrained, "states", broken)
    with pytest.raises(RuntimeError, match="out of range"):
        LanguageModel(str(tiny_gpt2)).extract(make_stimulus(["a", "b"]))


def test_blocks_come_one_pass_after_the_other_and_nothing_is_read_before_the_first(
    tiny_gpt2: Path, story: list[str]
) -> None:
    stimulus = make_stimulus(story[:300])
    stream = LanguageModel(str(tiny_gpt2), context=8, memory_limit=2e5).stream(stimulus)
    blocks = list(stream.blocks)
    assert len(blocks) > 5
    assert max(block.values.nbytes for block in blocks) < 2e5
    assert sorted(np.concatenate([block.samples for block in blocks])) == list(range(300))
    assert sum(block.n_tokens for block in blocks) == stream.metadata["n_tokens_read"]


# ---- fingerprints


def test_fingerprints_change_with_settings_and_not_with_the_device(tiny_llama: Path) -> None:
    model = str(tiny_llama)
    different = [
        LanguageModel(model),
        LanguageModel(model, layers=(1,)),
        LanguageModel(model, context=8),
        LanguageModel(model, pooling="last"),
        LanguageModel(model, untrained=True),
        LanguageModel(model, untrained=1),
        LanguageModel(model, context="full"),
        LanguageModel(model, context_unit="words"),
        LanguageModel(model, exact=True),
        LanguageModel(model, bidirectional=True),
        LanguageModel(model, outputs=("hidden", "mlp")),
        LanguageModel(model, dtype="bfloat16"),
        LanguageModel(model, shuffle="words"),
        LanguageModel(model, shuffle="words", shuffle_seed=1),
    ]
    prints = [json.dumps(lm.fingerprint(), sort_keys=True) for lm in different]
    assert len(set(prints)) == len(different)
    for same in (LanguageModel(model, device="cuda"), LanguageModel(model, memory_limit=1e6, shuffle_seed=5)):
        assert same.fingerprint() == LanguageModel(model).fingerprint()
    assert "stories260K" in LanguageModel(model).name


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json", "config.json"])
def test_fingerprints_change_with_weights_tokeniser_and_configuration(
    tiny_gpt2: Path, tmp_path: Path, changed: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_gpt2, folder)
    before = LanguageModel(str(folder)).fingerprint()
    (folder / "README.md").write_text("of no effect")
    assert LanguageModel(str(folder)).fingerprint() == before
    content = bytearray((folder / changed).read_bytes())
    content[-2] ^= 1
    (folder / changed).write_bytes(content)
    os.utime(folder / changed, ns=(1, 1))
    assert LanguageModel(str(folder)).fingerprint() != before


# ---- models that are refused


def extract(folder: Path) -> Features:
    return LanguageModel(str(folder)).extract(make_stimulus(["so", "long"]))


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_a_model_that_reads_sound_is_refused_and_sent_where_it_belongs(kind: str, tmp_path: Path) -> None:
    speech_files.save_model(kind, tmp_path)
    with pytest.raises(RecipeError, match=rf"{kind}\) reads input_\w+, not text; for sound take `kind: speech_model`"):
        extract(tmp_path)


def test_a_model_that_gives_no_hidden_states_is_refused_by_name(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.unload()
    monkeypatch.setattr(loading, "hidden_states", lambda output: ((),))
    with pytest.raises(RecipeError, match=r"tiny-gpt2' \(gpt2\) gives no hidden states"):
        extract(tiny_gpt2)


def test_missing_weights_are_an_error_not_random_numbers(tiny_gpt2: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holes"
    shutil.copytree(tiny_gpt2, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "h.1.mlp.c_fc.weight" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"1 weights are not in its files, the first 'h\.1\.mlp\.c_fc\.weight'"):
        extract(folder)


def test_truncated_weights_are_an_error_that_names_the_model(tiny_gpt2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny_gpt2, folder)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut': its files in .* cannot be read"):
        extract(folder)


def test_a_model_with_code_of_its_own_is_refused(tiny_gpt2: Path, tmp_path: Path) -> None:
    folder = tmp_path / "coded"
    shutil.copytree(tiny_gpt2, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RecipeError, match="transformers alone cannot read it"):
        extract(folder)
    assert not (tmp_path / "ran").exists()


def test_a_tokeniser_without_offsets_is_refused_by_name(tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    class SlowTokenizer: ...

    loading.unload()
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *a, **k: SlowTokenizer())
    with pytest.raises(RecipeError, match="tokeniser SlowTokenizer gives no character offsets"):
        extract(tiny_gpt2)


def test_activations_that_are_not_finite_are_an_error(tiny_gpt2: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(tiny_gpt2, folder)
    weights = load_file(folder / "model.safetensors")
    embedding = weights[next(name for name in weights if name.endswith("wte.weight"))]
    last_token = tokenize_words(load(str(tiny_gpt2)).tokenizer, "so long", [(0, 2), (3, 7)]).ids[-1]
    embedding[last_token] = float("inf")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="stimulus 'story': The model's vector of word 2 in layer 0 is not finite"):
        extract(folder)
    embedding[1] = float("inf")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"nan': its numbers are not finite; in dtype: float16 they overflow"):
        extract(folder)


# ---- GGUF


def write_gguf(path: Path, architecture: str = "llama", seed: int = 0) -> dict[str, np.ndarray]:
    """A tiny Llama as a GGUF file, float32; gives its weights."""
    from gguf import GGUFWriter

    rng = np.random.default_rng(seed)
    size, n_words, inner = 16, 270, 24
    weights = {"token_embd.weight": (n_words, size), "output_norm.weight": (size,), "blk.0.attn_norm.weight": (size,)}
    weights |= {f"blk.0.attn_{part}.weight": (size, size) for part in ("q", "k", "v", "output")}
    weights |= {"blk.0.ffn_norm.weight": (size,), "blk.0.ffn_down.weight": (size, inner)}
    weights |= {f"blk.0.ffn_{part}.weight": (inner, size) for part in ("gate", "up")}
    arrays = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in weights.items()}
    writer = GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(size)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(n_words)
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    tokens = ["<s>", *bytes_to_unicode().values(), "th", "he", *(f"<{i}>" for i in range(n_words - 259))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["t h", "h e"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return arrays


def test_a_gguf_file_gives_its_own_weights(tmp_path: Path) -> None:
    weights = write_gguf(tmp_path / "tiny.gguf")
    features = LanguageModel(str(tmp_path / "tiny.gguf")).extract(make_stimulus(["a", "b", "a"]))
    assert features.layers == ("layer 0", "layer 1")
    assert features.name == "tiny"
    ids = tokenize(load(str(tmp_path / "tiny.gguf")).tokenizer, "a b a")[0]
    np.testing.assert_allclose(features.values[0], weights["token_embd.weight"][ids[::2]], atol=1e-6)
    untrained = LanguageModel(str(tmp_path / "tiny.gguf"), untrained=True).extract(make_stimulus(["a", "b", "a"]))
    assert untrained.values.shape == features.values.shape
    assert not np.allclose(untrained.values, features.values, atol=0.1)


def test_a_gguf_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "odd.gguf", architecture="oddity")
    with pytest.raises(RecipeError, match="architecture oddity is not supported"):
        extract(tmp_path / "odd.gguf")


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_damaged_gguf_file_is_an_error_that_names_it(tmp_path: Path, kept: int) -> None:
    write_gguf(tmp_path / "cut.gguf")
    content = (tmp_path / "cut.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[:kept])
    with pytest.raises(DataError, match=r"cut\.gguf': its files in"):
        extract(tmp_path / "cut.gguf")


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_packages_that_gguf_needs_are_named(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    write_gguf(tmp_path / "tiny.gguf", seed=1)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else find_spec(name, *a))
    with pytest.raises(MissingExtraError, match=rf"GGUF models need the package '{package}'.*brainalign\[demo\]"):
        extract(tmp_path / "tiny.gguf")
