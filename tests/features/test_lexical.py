from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from wordfreq import zipf_frequency

from brainalign.errors import DataWarning, RecipeError
from brainalign.features import BASELINES, Baseline, sound_envelope
from brainalign.types import Features, Stimulus

PHONEMES = ("n_phonemes", "n_syllables")
WITHOUT_DICTIONARY = [name for name, kind in BASELINES.items() if kind == "word" and name not in PHONEMES]

WORDS = pd.DataFrame(
    {
        "onset": [1.0, 1.5, 1.9, 4.0],
        "duration": [0.5, 0.5, 0.1, 1.0],
        "text": ["Alice", "can't", "xqzzyv", "the"],
        "sentence": [0, 0, 0, 1],
    }
)


def stimulus(words: pd.DataFrame = WORDS, language: str = "en") -> Stimulus:
    return Stimulus("s", words, language=language)


def column(name: str, of: Stimulus | None = None) -> np.ndarray:
    return Baseline((name,)).extract(of or stimulus()).values[0, :, 0]


@pytest.mark.parametrize(
    ("name", "uncentred"),
    [
        ("word_length", [5, 4, 6, 3]),
        ("word_duration", [0.5, 0.5, 0.1, 1.0]),
        ("pause_before", [0.0, 0.0, 0.0, 2.0]),
        ("position", [0.0, 0.5 / 3, 0.3, 1.0]),
        ("sentence_position", [0, 1, 2, 0]),
        ("sentence_length", [3, 3, 3, 1]),
        ("log_frequency", [zipf_frequency("Alice", "en"), zipf_frequency("can't", "en"), 0.0, 7.73]),
    ],
)
def test_each_property_is_what_it_says_centred_on_the_stimulus(name: str, uncentred: list[float]) -> None:
    np.testing.assert_allclose(column(name), np.array(uncentred) - np.mean(uncentred), atol=1e-6)


def test_word_rate_alone_is_not_centred() -> None:
    assert (column("word_rate") == 1).all()


def test_columns_stand_in_the_order_asked_for_under_their_names() -> None:
    names = tuple(WITHOUT_DICTIONARY)
    features = Baseline(names[::-1]).extract(stimulus())
    assert features.metadata["dimensions"] == list(names[::-1])
    assert features.values.shape == (1, 4, len(names))
    assert features.values.dtype == np.float32
    np.testing.assert_array_equal(features.values[0, :, 0], column(names[-1]))
    np.testing.assert_array_equal(features.onset_s, WORDS["onset"])


def test_frequencies_are_those_of_the_stimulus_s_language() -> None:
    words = WORDS.assign(text=["der", "die", "das", "Zeitgeist"])
    german = [zipf_frequency(word, "de") for word in words["text"]]
    np.testing.assert_allclose(
        column("log_frequency", stimulus(words, language="de")), np.array(german) - np.mean(german), atol=1e-6
    )
    assert not np.allclose(column("log_frequency", stimulus(words, language="en")), german - np.mean(german), atol=0.1)


@pytest.mark.parametrize("name", WITHOUT_DICTIONARY)
def test_one_word_alone_gives_finite_values(name: str) -> None:
    assert np.isfinite(column(name, stimulus(WORDS.head(1)))).all()


def test_words_without_sentences_have_no_place_in_one() -> None:
    with pytest.raises(RecipeError, match="stimulus 's' has no column `sentence`"):
        column("sentence_length", stimulus(WORDS.drop(columns="sentence")))


def test_no_properties_are_features_without_dimensions() -> None:
    assert Baseline(()).extract(stimulus()).values.shape == (1, 4, 0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["word_lenght"], "Did you mean 'word_length'"),
        (["word_rate", "word_rate"], "each property once"),
        (["sound_envelope"], "is a signal"),
    ],
)
def test_names_that_cannot_be_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Baseline(tuple(names))


def test_a_language_without_frequencies_is_named() -> None:
    with pytest.raises(RecipeError, match="language 'xx'"):
        column("log_frequency", stimulus(language="xx"))


def test_a_list_from_a_recipe_is_the_same_as_a_tuple() -> None:
    assert Baseline(["word_rate"]) == Baseline(("word_rate",))  # type: ignore[arg-type]


def test_fingerprints_are_json_and_tell_settings_apart() -> None:
    one, other = Baseline(("word_rate",)).fingerprint(), Baseline(("word_rate", "log_frequency")).fingerprint()
    assert json.loads(json.dumps(one)) == one
    assert one != other


def test_every_known_baseline_can_be_extracted(dictionary: Path) -> None:
    from brainalign.types import Audio

    with_sound = Stimulus("s", WORDS, Audio(np.ones(1000), 200.0))
    for name, kind in BASELINES.items():
        if kind == "word":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # a word is not in the dictionary
                features = Baseline((name,), dictionary).extract(with_sound)
        else:
            features = sound_envelope(with_sound)
        assert isinstance(features, Features)
        assert features.kind == kind


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "small.dict"
    path.write_text("alice AE L AH S\ncan't K AE N T\nthe DH AH\n")
    return path


def test_phonemes_and_syllables_are_counted_with_a_dictionary_and_centred(dictionary: Path) -> None:
    with pytest.warns(DataWarning, match="1 of 4 words .* are not in small.dict: xqzzyv"):
        features = Baseline(("n_syllables", "word_length", "n_phonemes"), dictionary).extract(stimulus())
    expected = np.array([[2, 5, 4], [1, 4, 4], [1, 6, 6], [1, 3, 2]])
    np.testing.assert_allclose(features.values[0], expected - expected.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("name", PHONEMES)
def test_phonemes_and_syllables_need_a_dictionary(name: str) -> None:
    with pytest.raises(RecipeError, match=f"'{name}' needs a pronouncing dictionary"):
        Baseline(("word_rate", name))


def test_a_dictionary_counts_in_the_fingerprint_only_where_it_is_used(dictionary: Path, tmp_path: Path) -> None:
    assert Baseline(("word_rate",), dictionary).fingerprint() == Baseline(("word_rate",)).fingerprint()
    before = Baseline(("n_phonemes",), dictionary).fingerprint()
    assert json.loads(json.dumps(before)) == before
    dictionary.write_text("alice AE L IH S\n")
    assert Baseline(("n_phonemes",), dictionary).fingerprint() != before
