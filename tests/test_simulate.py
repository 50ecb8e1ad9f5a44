"""What is planted is planted: shares of variance, places, times, and the same again from the same seed."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.alignment import resampling_matrix
from brainalign.errors import DataError, RecipeError
from brainalign.features import ToyModel
from brainalign.simulate import Simulated, simulate_fmri, simulate_meg, words_from_text
from brainalign.types import Stimulus

TOY = ToyModel(n_layers=2, dimension=8)
SMALL = {"n_subjects": 2, "n_runs": 2, "n_words": 60, "n_layers": 2, "dimension": 8}


@given(st.lists(st.text(min_size=1).filter(lambda word: word.split() == [word]), min_size=1, max_size=40))
def test_any_text_gets_the_times_of_speech(words: list[str]) -> None:
    table = words_from_text(" ".join(words))
    Stimulus("any", table)  # raises if words are unsorted or times are wrong
    assert table["text"].tolist() == words
    assert (table["onset"].diff().dropna() >= table["duration"].iloc[:-1].to_numpy() - 1e-9).all()
    assert (table["sentence"].diff().dropna().isin([0, 1])).all()


def test_the_rate_of_speech_is_the_one_asked_for() -> None:
    table = words_from_text("one two three four. " * 100, words_per_second=3.0)
    assert len(table) / (table["onset"].iloc[-1] + table["duration"].iloc[-1]) == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="no words"):
        words_from_text(text)


def test_an_fmri_target_holds_its_shares_of_variance() -> None:
    stimulus = Stimulus("s", words_from_text(" ".join(f"word{k % 97}" for k in range(4000))))
    truth = pd.DataFrame({"name": ["a"], "planted_layer": [1], "explained_variance": [0.4], "rate_variance": [0.0]})
    features = TOY.extract(stimulus)
    recording = simulate_fmri({"s": stimulus}, {"s": features}, truth, ["x"]).recordings()[0]
    response = recording.response()[:, 0].astype(float)
    place = resampling_matrix(features.onset_s, features.duration_s, recording.clock, len(response), "hrf")
    design = np.column_stack([place @ features.values[1], np.ones(len(response))])
    residual = response - design @ np.linalg.lstsq(design, response, rcond=None)[0]
    assert 1 - residual.var() / response.var() == pytest.approx(0.4, abs=0.06)


def test_a_meg_target_answers_at_its_latency() -> None:
    stimulus = Stimulus("s", words_from_text(" ".join(f"word{k % 97}" for k in range(300)), words_per_second=1.0))
    truth = pd.DataFrame({"name": ["a"], "planted_layer": [1], "planted_latency": [0.3], "explained_variance": [0.89]})
    features = TOY.extract(stimulus)
    recording = simulate_meg({"s": stimulus}, {"s": features}, truth, ["x"]).recordings()[0]
    signal = recording.response()[:, 0]
    rows = np.rint((recording.offset_s + features.onset_s) / recording.clock.step_s).astype(int)
    rows = rows[rows < len(signal) - 100]
    power = [(signal[rows + lag] ** 2).mean() for lag in range(70)]
    assert np.argmax(power) * recording.clock.step_s == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("modality", ["fmri", "meg"])
def test_the_same_seed_gives_the_same_brains_and_another_others(modality: str) -> None:
    first, same, other = (Simulated(modality=modality, seed=seed, **SMALL).recordings()[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.response(), same.response())
    assert first.digest == same.digest
    assert first.digest != other.digest


def test_subjects_differ_and_one_alone_is_the_same_as_among_others() -> None:
    everyone = Simulated(**SMALL)
    one, two = (everyone.recordings(subjects=[subject])[0].response() for subject in ("01", "02"))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(Simulated(subjects=("02",), **SMALL).recordings()[0].response(), two)


def test_every_layer_is_planted_and_some_targets_are_silent() -> None:
    for modality in ("fmri", "meg"):
        truth = Simulated(modality=modality, **SMALL).truth
        assert set(truth["planted_layer"]) == {-1, 0, 1, 2}
        silent = truth[truth["planted_layer"] == -1]
        assert (silent["explained_variance"] == 0).all()


def test_a_text_of_ones_own_is_spoken(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("Once upon a time. " * 30, encoding="utf-8")
    data = Simulated(root=tmp_path, text=Path("story.txt"), **SMALL)
    words = [word for stimulus in data.stimuli.values() for word in stimulus.words["text"]]
    assert words == ["Once", "upon", "a", "time."] * 30
    with pytest.raises(DataError, match="cannot be read"):
        Simulated(text=tmp_path / "missing.txt", **SMALL).stimuli  # noqa: B018
    (tmp_path / "short.txt").write_text("one")
    with pytest.raises(DataError, match="cannot be split"):
        Simulated(text=tmp_path / "short.txt", **SMALL).stimuli  # noqa: B018


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_subjects": 0}, "at least 1"),
        ({"explained_variance": 1.0}, "explained_variance"),
        ({"subjects": ("07",)}, "no subject '07'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Simulated(**settings)


def test_recordings_can_be_sent_to_another_process() -> None:
    recording = Simulated(**SMALL).recordings()[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(recording)).response(), recording.response())
