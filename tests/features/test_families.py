"""Every family of models: shared passes give what a pass per word gives, and nothing of the future."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import BIDIRECTIONAL, CAUSAL, ENCODER_DECODER, FAMILIES, OnePassPerWord, stimulus_of, story_words

from brainalign.errors import RecipeError
from brainalign.features import LanguageModel, loading, pretrained
from brainalign.features.model_files import locate

# Some contexts are more than some of these small models can read.
pytestmark = pytest.mark.filterwarnings("ignore:.*more than the model can read:brainalign.errors.DataWarning")

ATOL = 1e-4
FolderOf = Callable[[str], Path]

CONTEXTS: dict[str, dict[str, Any]] = {
    "full": {"context": "full"},
    "windows of tokens": {"context": 12},
    "windows of words": {"context": 7, "context_unit": "words"},
    "exactly so many tokens": {"context": 9, "exact": True},
    "exactly so many words": {"context": 5, "context_unit": "words", "exact": True},
    "sentence": {"context": "sentence"},
    "none": {"context": "none"},
}


def load(folder: Path) -> pretrained.Pretrained:
    files = locate(str(folder))
    return loading.load(files, None, "cpu")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_shared_passes_give_what_one_pass_per_word_gives(
    family: str, context: dict[str, Any], folder_of: FolderOf
) -> None:
    folder, stimulus = folder_of(family), stimulus_of(story_words(90))
    features = LanguageModel(str(folder), **context).extract(stimulus)
    model = load(folder)
    expected = OnePassPerWord(folder).vectors(stimulus, features.metadata["context_tokens"], model.before, model.after)
    scale = np.abs(expected).std()
    assert scale > 0.1, "the model tells words apart"
    assert np.abs(features.values - expected).max() <= ATOL * max(scale, 1.0)


def test_what_is_causal_is_found_out(family: str, folder_of: FolderOf) -> None:
    assert load(folder_of(family)).causal == (family in CAUSAL)


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_editing_later_words_never_changes_earlier_ones(
    family: str, context: dict[str, Any], folder_of: FolderOf
) -> None:
    words = story_words(60)
    edited = [*words[:31], "incredulity!", "xyz", *words[33:]]
    lm = LanguageModel(str(folder_of(family)), **context)
    before, after = (lm.extract(stimulus_of(text)) for text in (words, edited))
    assert before.metadata["sees_future"] == "no"
    np.testing.assert_allclose(before.values[:, :31], after.values[:, :31], atol=1e-5 * np.abs(before.values).max())
    assert np.abs(before.values[:, 31] - after.values[:, 31]).max() > 1e-2


@pytest.mark.parametrize("family", BIDIRECTIONAL + ENCODER_DECODER)
@pytest.mark.parametrize("context", [8, "full", "sentence"])
def test_the_modes_that_let_the_future_in_do_and_say_so(family: str, context: int | str, folder_of: FolderOf) -> None:
    words = story_words(60)
    ends = [i for i, word in enumerate(words) if word in ".!"]
    last = ends[1]  # of the second sentence
    edited = [*words[:last], "incredulity", *words[last + 1 :]]
    lm = LanguageModel(str(folder_of(family)), context=context, bidirectional=True)  # type: ignore[arg-type]
    before, after = (lm.extract(stimulus_of(text)) for text in (words, edited))
    assert before.metadata["sees_future"].startswith("yes")
    assert "sees what comes after" in lm.name
    change = np.abs(before.values - after.values).max(axis=(0, 2))
    assert change[last - 1] > 1e-3, "the word before the edited one has seen it"
    if context == "sentence":
        # The third sentence begins where the edited full stop stood, or there is one sentence less: the first is whole.
        assert change[: ends[0] + 1].max() < 1e-5 * np.abs(before.values).max()


def test_reading_both_sides_gives_what_one_pass_over_the_window_gives(folder_of: FolderOf) -> None:
    import torch

    folder, stimulus = folder_of("bert"), stimulus_of(story_words(20))
    features = LanguageModel(str(folder), context="full", bidirectional=True).extract(stimulus)
    reference = OnePassPerWord(folder)
    ids, tokens_of_words = reference.tokens(stimulus)
    with torch.inference_mode():
        states = reference.network(torch.tensor([[0, *ids, 1]]), output_hidden_states=True).hidden_states
    for layer, state in enumerate(states):
        expected = [state[0, [i + 1 for i in own]].mean(dim=0).numpy() for own in tokens_of_words]
        np.testing.assert_allclose(features.values[layer], expected, atol=1e-5)


@pytest.mark.parametrize("family", CAUSAL)
def test_a_causal_model_cannot_be_asked_to_look_ahead(family: str, folder_of: FolderOf) -> None:
    with pytest.raises(RecipeError, match="reads from left to right only"):
        LanguageModel(str(folder_of(family)), bidirectional=True).extract(stimulus_of(["so", "long"]))


@pytest.mark.parametrize("family", [family for family in CAUSAL if family not in ("mamba", "rwkv")])
def test_windows_too_long_for_the_memory_are_read_in_chunks_with_the_same_numbers(
    family: str, folder_of: FolderOf
) -> None:
    stimulus = stimulus_of(["Once", "antidisestablishmentarianism", *story_words(40)])
    whole, chunked = (
        LanguageModel(str(folder_of(family)), context="full", memory_limit=limit).extract(stimulus)
        for limit in (1e9, 2e4)
    )
    assert load(folder_of(family)).resumes
    assert whole.metadata["n_tokens_read"] == chunked.metadata["n_tokens_read"]
    np.testing.assert_allclose(chunked.values, whole.values, atol=ATOL)


def test_batches_give_what_single_windows_give(family: str, folder_of: FolderOf) -> None:
    stimulus = stimulus_of(story_words(80))
    together, alone = (
        LanguageModel(str(folder_of(family)), context=10, memory_limit=limit).extract(stimulus).values
        for limit in (1e9, 6e4)
    )
    np.testing.assert_allclose(together, alone, atol=ATOL * max(1.0, np.abs(together).std()))


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_encoder_and_decoder_are_named_apart(family: str, folder_of: FolderOf) -> None:
    features = LanguageModel(str(folder_of(family)), context=8).extract(stimulus_of(story_words(20)))
    assert features.layers == tuple(f"{stack} layer {k}" for stack in ("encoder", "decoder") for k in range(3))
    decoder = LanguageModel(str(folder_of(family)), context=8, layers=(3, 5)).extract(stimulus_of(story_words(20)))
    assert decoder.layers == ("decoder layer 0", "decoder layer 2")
    np.testing.assert_array_equal(decoder.values, features.values[[3, 5]])


# ---- attention, feed-forward networks, embeddings


@pytest.mark.parametrize(
    "family",
    [family for family in CAUSAL if family not in ("gemma2", "gemma3", "mamba", "rwkv")],
)
def test_a_block_adds_its_attention_and_its_mlp_to_the_layer_below(family: str, folder_of: FolderOf) -> None:
    lm = LanguageModel(str(folder_of(family)), context=12, outputs=("hidden", "attention", "mlp"))
    features = lm.extract(stimulus_of(story_words(50)))
    of = dict(zip(features.layers, features.values, strict=True))
    added = of["layer 1 attention"] + of["layer 1 mlp"]
    np.testing.assert_allclose(of["layer 0"] + added, of["layer 1"], atol=1e-5)
    assert features.metadata["layer_index"] == list(range(7))


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "bert", "roberta", "modernbert", "t5", "bart"])
@pytest.mark.parametrize("output", ["attention", "mlp"])
def test_the_other_families_give_their_parts_too(family: str, output: Any, folder_of: FolderOf) -> None:
    lm = LanguageModel(str(folder_of(family)), context=12, outputs=(output,))
    features = lm.extract(stimulus_of(story_words(30)))
    assert len(features.layers) == (4 if family in ENCODER_DECODER else 2)
    assert all(name.endswith(f" {output}") for name in features.layers)
    assert (features.values.std(axis=(1, 2)) > 1e-3).all()


@pytest.mark.parametrize("family", ["mamba", "xlnet"])
def test_a_family_without_such_a_part_is_refused_by_name(family: str, folder_of: FolderOf) -> None:
    with pytest.raises(RecipeError, match=r"its blocks \(.*\) have no attention output"):
        LanguageModel(str(folder_of(family)), outputs=("attention",)).extract(stimulus_of(["so", "long"]))


def test_static_embeddings_do_not_depend_on_the_place(family: str, folder_of: FolderOf) -> None:
    words = ["a", "little", "red", "ball", "a", "little", "red", "ball"]
    features = LanguageModel(str(folder_of(family)), context=12, outputs=("static",)).extract(stimulus_of(words))
    assert features.layers == ("static",)
    np.testing.assert_array_equal(features.values[0, 1:4], features.values[0, 5:8])
    assert not np.array_equal(features.values[0, 1], features.values[0, 2])


# ---- other numbers


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5"])
def test_half_precision_is_near_and_kept_in_float32(family: str, dtype: Any, folder_of: FolderOf) -> None:
    stimulus = stimulus_of(story_words(40))
    exact, near = (
        LanguageModel(str(folder_of(family)), context=8, dtype=numbers).extract(stimulus).values
        for numbers in ("float32", dtype)
    )
    assert near.dtype == np.float32
    assert not np.array_equal(exact, near)
    assert np.corrcoef(exact.ravel(), near.ravel())[0, 1] > 0.995


def test_a_pass_is_no_longer_than_rotary_positions_do_not_depend_on_it(folder_of: FolderOf) -> None:
    assert load(folder_of("phi3")).max_tokens == 31, "32 positions, one of them for the token that begins a text"
    assert load(folder_of("llama")).max_tokens == 63


@pytest.mark.parametrize("family", ["mbart", "led"])
def test_encoder_decoders_of_other_settings_are_read_or_refused_by_name(family: str, tmp_path: Path) -> None:
    import transformers as tf
    from tiny_models import IDS, N_TOKENS, tokenizer_of

    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    small |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "d_model": 16, "vocab_size": N_TOKENS, **IDS}
    if family == "mbart":
        config = tf.MBartConfig(**small, max_position_embeddings=32, decoder_start_token_id=None)
    else:
        lengths = {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 24}
        config = tf.LEDConfig(**small, **lengths, attention_window=[4], decoder_start_token_id=1)
    tf.AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer_of("bart").save_pretrained(tmp_path)
    lm = LanguageModel(str(tmp_path), context="full")
    if family == "mbart":
        with pytest.raises(RecipeError, match=r"\(mbart\) does not say with which token its decoder starts"):
            lm.extract(stimulus_of(["so", "long"]))
    else:
        features = lm.extract(stimulus_of(story_words(30)))
        assert max(features.metadata["context_tokens"]) < 24
        assert features.metadata["context_limited_by_model"]


def test_blocks_that_cannot_be_told_are_refused_only_where_their_parts_are_asked_for(tmp_path: Path) -> None:
    import transformers as tf
    from tiny_models import N_TOKENS, tokenizer_of

    config = tf.AlbertConfig(
        vocab_size=N_TOKENS,
        embedding_size=16,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    tf.AutoModel.from_config(config).save_pretrained(tmp_path)
    tokenizer_of("bart").save_pretrained(tmp_path)
    assert len(LanguageModel(str(tmp_path)).extract(stimulus_of(["so", "long"])).layers) == 3
    with pytest.raises(RecipeError, match="its blocks cannot be told from its modules; leave mlp out"):
        LanguageModel(str(tmp_path), outputs=("mlp",)).extract(stimulus_of(["so", "long"]))


def test_threads_that_share_a_model_do_not_mix_what_its_blocks_give(folder_of: FolderOf) -> None:
    from concurrent.futures import ThreadPoolExecutor

    lm = LanguageModel(str(folder_of("llama")), context=8, outputs=("attention", "mlp"))
    stimuli = [stimulus_of(list(np.random.default_rng(i).permutation(story_words(60))), str(i)) for i in range(8)]
    one_by_one = [lm.extract(stimulus).values for stimulus in stimuli]
    with ThreadPoolExecutor(8) as threads:
        side_by_side = list(threads.map(lambda stimulus: lm.extract(stimulus).values, stimuli))
    for one, other in zip(one_by_one, side_by_side, strict=True):
        np.testing.assert_array_equal(one, other)
