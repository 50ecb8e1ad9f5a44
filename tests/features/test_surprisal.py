from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import BIDIRECTIONAL, CAUSAL, ENCODER_DECODER, OnePassPerWord, stimulus_of, story_words

from brainalign.errors import DataError, RecipeError
from brainalign.features import LanguageModel, Surprisal
from brainalign.types import Stimulus

FolderOf = Callable[[str], Path]


def one_pass_per_word(
    folder: Path, stimulus: Stimulus, context_tokens: list[int]
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Surprisal and entropy in bits, from `log_softmax` of the logits of a pass of its own for each word."""
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    reference = OnePassPerWord(folder)
    ids, words = reference.tokens(stimulus)
    bos = reference.tokenizer.bos_token_id
    surprisal, entropy, n_tokens = [], [], []
    for word, (own, n_context) in enumerate(zip(words, context_tokens, strict=True)):
        first = own[0] - n_context
        # Tokens of blanks between the words before and this one belong to it.
        begin = max(first, words[word - 1][-1] + 1 if word else 0)
        window = [bos, *ids[first : own[-1] + 1]]
        with torch.inference_mode():
            known = torch.log_softmax(network(torch.tensor([window])).logits[0].double(), dim=-1) / np.log(2)
        positions = range(begin - first, own[-1] + 1 - first)  # one less than in the window, which begins with BOS
        surprisal.append(float(-sum(known[i, window[i + 1]] for i in positions)))
        entropy.append(float(-(known[positions[0]] * 2 ** known[positions[0]]).sum()))
        n_tokens.append(len(positions))
    return np.array(surprisal), np.array(entropy), n_tokens


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize(
    "context", [{"context": "full"}, {"context": 10}, {"context": 6, "exact": True}, {"context": "none"}], ids=str
)
def test_surprisal_and_entropy_are_those_of_one_pass_per_word(
    family: str, context: dict[str, Any], folder_of: FolderOf
) -> None:
    folder, stimulus = folder_of(family), stimulus_of(story_words(50))
    lm = LanguageModel(str(folder), **context)
    seen = lm.extract(stimulus).metadata["context_tokens"]
    surprisal, entropy, _ = one_pass_per_word(folder, stimulus, seen)
    np.testing.assert_allclose(lm.surprisal(stimulus), surprisal, atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(lm.entropy(stimulus), entropy, atol=1e-3, rtol=1e-4)


def test_a_texts_surprisal_is_the_sum_of_its_words(tiny_llama: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stimulus = stimulus_of(story_words(45))
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    network = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    text = " ".join(stimulus.words["text"]).replace(" n't", "n't")
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    with torch.inference_mode():
        loss = network(torch.tensor([ids]), labels=torch.tensor([ids])).loss
    total_bits = float(loss) * (len(ids) - 1) / np.log(2)
    assert LanguageModel(str(tiny_llama), context="full").surprisal(stimulus).sum() == pytest.approx(
        total_bits, rel=1e-4
    )


def test_a_trained_model_expects_a_story_more_than_its_words_shuffled_or_than_an_untrained_one_does(
    tiny_llama: Path,
) -> None:
    stimulus = stimulus_of(story_words(45))
    told = LanguageModel(str(tiny_llama)).surprisal(stimulus).mean()
    shuffled = LanguageModel(str(tiny_llama), shuffle="words").surprisal(stimulus).mean()
    untrained = LanguageModel(str(tiny_llama), untrained=True).surprisal(stimulus).mean()
    assert told + 2 < min(shuffled, untrained)


@pytest.mark.parametrize("family", BIDIRECTIONAL + ENCODER_DECODER)
def test_only_causal_models_predict(family: str, folder_of: FolderOf) -> None:
    with pytest.raises(RecipeError, match=r"does not predict (the next|a) word"):
        LanguageModel(str(folder_of(family))).surprisal(stimulus_of(["so", "long"]))


def test_as_a_feature_space_it_has_a_column_for_each_measure(tiny_llama: Path) -> None:
    stimulus = stimulus_of(story_words(30))
    lm = LanguageModel(str(tiny_llama), context=8)
    features = Surprisal(str(tiny_llama), ("entropy", "surprisal"), context=8).extract(stimulus)
    assert features.values.shape == (1, 30, 2)
    assert features.metadata["dimensions"] == ["entropy", "surprisal"]
    np.testing.assert_allclose(features.values[0, :, 0], lm.entropy(stimulus), rtol=1e-5)
    np.testing.assert_allclose(features.values[0, :, 1], lm.surprisal(stimulus), rtol=1e-5)


def test_corrected_for_word_borders_the_probabilities_of_all_next_words_stay_one(tiny_llama: Path) -> None:
    # A word is over where a blank, or the end, comes next: so moved, the mass of blanks cancels between neighbours,
    # and a text's surprisal changes by what is left at its two ends only.
    stimulus = stimulus_of(["Once", "upon", "a", "time", "there", "was", "a", "girl"])
    plain = Surprisal(str(tiny_llama)).extract(stimulus).values[0, :, 0]
    corrected = Surprisal(str(tiny_llama), boundary_correction=True).extract(stimulus).values[0, :, 0]
    assert np.abs(plain - corrected).max() > 0.5
    ids = OnePassPerWord(tiny_llama).tokens(stimulus)[0]
    after_last, before_first = _blank_mass_bits(tiny_llama, ids)
    assert corrected.sum() - plain.sum() == pytest.approx(after_last - before_first, abs=1e-3)


def _blank_mass_bits(folder: Path, ids: list[int]) -> tuple[float, float]:
    """-log2 p(a blank or the end comes next), after the last word and before the first."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        p = torch.softmax(network(torch.tensor([[tokenizer.bos_token_id, *ids]])).logits[0].double(), dim=-1)
    names = tokenizer.convert_ids_to_tokens(list(range(p.shape[1])))
    blanks = [i for i, name in enumerate(names) if name.startswith("\u2581")] + [tokenizer.eos_token_id]
    return tuple(float(-torch.log2(p[row, blanks].sum())) for row in (-1, 0))  # type: ignore[return-value]


@pytest.mark.parametrize("words", [["what", "did", "n't", "he", "'ll", "know"], ["she", "'s", "it"], ["so", "long"]])
def test_a_blank_is_charged_only_where_one_comes_and_the_sum_is_that_of_the_end(
    words: list[str], tiny_llama: Path
) -> None:
    stimulus = stimulus_of(words)
    plain = Surprisal(str(tiny_llama), context="full").extract(stimulus).values[0, :, 0]
    corrected = Surprisal(str(tiny_llama), context="full", boundary_correction=True).extract(stimulus).values[0, :, 0]
    text = " ".join(words).replace(" n't", "n't").replace(" 'll", "'ll").replace(" 's", "'s")
    from brainalign.features import running_text
    from brainalign.features.model_files import locate
    from brainalign.features.tokens import read_tokenizer, tokenize_words

    _, spans = running_text(stimulus.words)
    ids = tokenize_words(read_tokenizer(locate(str(tiny_llama))), text, spans).ids
    after_last, before_first = _blank_mass_bits(tiny_llama, ids)
    assert corrected.sum() - plain.sum() == pytest.approx(after_last - before_first, abs=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_windows_too_long_for_the_memory_are_read_in_chunks(family: str, folder_of: FolderOf) -> None:
    stimulus = stimulus_of(story_words(40))
    whole, chunked = (
        Surprisal(str(folder_of(family)), ("surprisal", "entropy"), context="full", memory_limit=limit)
        for limit in (1e9, 1e5)
    )
    np.testing.assert_allclose(chunked.extract(stimulus).values, whole.extract(stimulus).values, atol=1e-3)


def test_a_word_that_cannot_be_is_named(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainalign.features.pretrained import Pretrained

    real = Pretrained.log_probabilities

    def without_long(self: Pretrained, windows: Any) -> Any:
        known = real(self, windows).clone()
        known[:, 2] = float("-inf")
        return known

    monkeypatch.setattr(Pretrained, "log_probabilities", without_long)
    with pytest.raises(DataError, match=r"word \d \('\w+'\) is impossible for the model .* infinite"):
        Surprisal(str(folder_of("llama"))).extract(stimulus_of(["a", "girl", "a", "ball"]))


def test_one_loaded_model_serves_both_states_and_surprisal(
    folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainalign.features import loading

    loads: list[object] = []
    real = loading._load
    monkeypatch.setattr(loading, "_load", lambda *given: (loads.append(given), real(*given))[1])
    loading.unload()
    lm, stimulus = LanguageModel(str(folder_of("gpt2")), context=8), stimulus_of(story_words(20))
    lm.surprisal(stimulus)
    states = lm.extract(stimulus).values
    lm.entropy(stimulus)
    assert len(loads) == 1
    loading.unload()
    np.testing.assert_array_equal(lm.extract(stimulus).values, states)


def test_a_first_word_that_nothing_comes_before_is_nan_and_refused_as_a_feature(
    folder_of: FolderOf, tmp_path: Path
) -> None:
    import json
    import shutil

    folder = tmp_path / "without-bos"
    shutil.copytree(folder_of("qwen2"), folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["bos_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    surprisal = LanguageModel(str(folder)).surprisal(stimulus_of(["so", "long", "little", "girl"]))
    assert np.isnan(surprisal[0])
    assert np.isfinite(surprisal[1:]).all()
    with pytest.raises(DataError, match=r"word 1 \('so'\) and 0 more have no surprisal"):
        Surprisal(str(folder)).extract(stimulus_of(["so", "long"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measures": ()}, "at least one"),
        ({"measures": ("surprise",)}, "Did you mean 'surprisal'"),
        ({"measures": ("entropy", "entropy")}, "each once"),
        ({"context": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused_on_construction(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Surprisal("gpt2", **settings)
