from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from wordfreq import zipf_frequency

from brainalign.errors import RecipeError
from brainalign.features import BASELINES, Baseline, sound_envelope
from brainalign.types import Features, Stimulus

WORDS = pd.DataFrame(
    {
        "onset": [1.0, 1.5, 1.9, 4.0],
        "duration": [0.5, 0.5, 0.1, 1.0],
        "text": ["Alice", "can't", "xqzzyv", "the"],
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
        ("log_frequency", [zipf_frequency("Alice", "en"), zipf_frequency("can't", "en"), 0.0, 7.73]),
    ],
)
def test_each_property_is_what_it_says_centred_on_the_stimulus(name: str, uncentred: list[float]) -> None:
    np.testing.assert_allclose(column(name), np.array(uncentred) - np.mean(uncentred), atol=1e-6)


def test_word_rate_alone_is_not_centred() -> None:
    assert (column("word_rate") == 1).all()


def test_columns_stand_in_the_order_asked_for_under_their_names() -> None:
    names = tuple(name for name, kind in BASELINES.items() if kind == "word")
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


@pytest.mark.parametrize("name", [name for name, kind in BASELINES.items() if kind == "word"])
def test_one_word_alone_gives_finite_values(name: str) -> None:
    assert np.isfinite(column(name, stimulus(WORDS.head(1)))).all()


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


def test_every_known_baseline_can_be_extracted() -> None:
    from brainalign.types import Audio

    with_sound = Stimulus("s", WORDS, Audio(np.ones(1000), 200.0))
    for name, kind in BASELINES.items():
        features = Baseline((name,)).extract(with_sound) if kind == "word" else sound_envelope(with_sound)
        assert isinstance(features, Features)
        assert features.kind == kind
