"""The ladder through the whole way: rungs that hold what was planted, and what is said of those that explain all."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.encoding import Splits
from brainalign.errors import RecipeError
from brainalign.features import ToyModel
from brainalign.pipeline.results import open_scores, save_scores
from brainalign.questions import Ladder
from brainalign.report.sections.ladder import section
from brainalign.simulate import InMemory, simulate_fmri, words_from_text
from brainalign.types import Scores, Stimulus

TEXT = (
    "the cat sat on the mat and looked at a bird. it flew away over houses, trees and hills. nobody saw the old dog. "
    "he slept. a long road goes down to the river where children play. "
) * 9
MODEL = ToyModel(n_layers=2, dimension=6)


def spoken(number: int) -> str:
    sentences = TEXT.split(". ")
    return ". ".join(np.random.default_rng(number).permutation(sentences).tolist())


@pytest.fixture(scope="module")
def data() -> InMemory:
    stimuli = {f"story {i}": Stimulus(f"story {i}", words_from_text(spoken(i), seed=i)) for i in range(4)}
    features = {name: MODEL.extract(stimulus) for name, stimulus in stimuli.items()}
    truth = pd.DataFrame(
        {
            "name": ["of words", "of the last layer"],
            "planted_layer": [-1, 2],
            "explained_variance": [0.0, 0.6],
            "rate_variance": [0.5, 0.0],
        }
    )
    return simulate_fmri(stimuli, features, truth, ["a", "b"], seed=1)


def laddered(data: InMemory, ladder: Ladder, *spaces: object) -> Scores:
    with warnings.catch_warnings(action="ignore"):
        return ba.score_layers(data, list(spaces) or [MODEL], questions=[ladder], store=None)


@pytest.fixture(scope="module")
def scores(data: InMemory) -> Scores:
    return laddered(data, Ladder(n_layers=2))


def test_each_rung_holds_those_before_it(scores: Scores) -> None:
    assert scores["rung"].values.tolist() == ["rate", "words", "static"]
    columns = scores.attrs["answers"]["ladder"]["n_columns"]
    # Of the baseline; with two properties of sentences and the drift; with the embedding's six dimensions.
    assert columns == [1, 1 + 5 + 2 + 1, 9 + 6]


def test_what_is_planted_in_a_rung_is_found_there_and_not_above(scores: Scores) -> None:
    of_words = scores["target_name"].values == "of words"
    r2, joint = scores["ladder_r2"].values, scores["ladder_r2_joint"].values
    assert r2[0, of_words].mean() > 0.2
    assert np.abs(r2[1:, of_words] - r2[0, of_words]).mean() < 0.1
    added = joint[1, -1] - r2[1]
    assert added[of_words].mean() < 0.03
    assert added[~of_words].mean() > 0.15


def test_only_the_layers_asked_for_are_fitted(scores: Scores) -> None:
    fitted = np.isfinite(scores["ladder_r2_joint"].values).any(axis=(0, 2))
    assert fitted.tolist() == [True, False, True]


def test_the_gain_over_the_second_rung_is_what_the_encoder_gives(data: InMemory, scores: Scores) -> None:
    share = scores["ladder_share"].sel(rung="words").values[:, -1]
    assert ((share > 0) & (share < 1)).all()


def test_a_model_that_adds_nothing_is_told(data: InMemory) -> None:
    def chance(stimulus: Stimulus) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(stimulus.words), 3))

    only_words = InMemory(
        data.name, data.title, data.modality, data.stimuli, [_first_target(recording) for recording in data.given]
    )
    scores = laddered(only_words, Ladder(), chance)
    codes = [finding["code"] for finding in scores.attrs["findings"]]
    assert "W204" in codes
    assert scores["rung"].values.tolist() == ["rate", "words"]


def _first_target(recording):  # type: ignore[no-untyped-def]
    import dataclasses

    read = partial(np.asarray, recording.read()[:, :1])
    return dataclasses.replace(recording, targets=recording.targets.iloc[:1], read=read, digest=recording.digest + "1")


def test_neighbours_that_give_answers_away_are_told(data: InMemory) -> None:
    with warnings.catch_warnings(action="ignore"):
        blocks = ba.score_layers(
            data, MODEL, questions=[Ladder(n_layers=1)], splits=Splits(outer="blocks", gap_s=0.0), store=None
        )
    assert np.isfinite(blocks["ladder_oasm"].values).all()
    assert "neighbour" in " ".join(section(blocks).paragraphs).lower()


def test_whole_runs_have_no_neighbours_to_look_up(scores: Scores) -> None:
    assert np.isnan(scores["ladder_oasm"].values).all()
    assert "predict nothing on these folds" in " ".join(section(scores).paragraphs)


def test_surprisal_and_untrained_networks_are_rungs_of_their_own(data: InMemory) -> None:
    def surprisal_of_toy(stimulus: Stimulus) -> np.ndarray:
        return MODEL.extract(stimulus).values[1][:, :1]

    def untrained_net(stimulus: Stimulus) -> np.ndarray:
        return np.random.default_rng(1).normal(size=(2, len(stimulus.words), 4))

    scores = laddered(data, Ladder(n_layers=1), MODEL, surprisal_of_toy, untrained_net)
    assert scores["rung"].values.tolist() == ["rate", "words", "static", "surprisal", "untrained"]
    without = laddered(data, Ladder(n_layers=1, surprisal="none", untrained="none"), MODEL, surprisal_of_toy)
    assert without["rung"].values.tolist() == ["rate", "words", "static"]


def test_a_space_that_is_not_there_is_refused(data: InMemory) -> None:
    with pytest.raises(RecipeError, match=r"no feature space 'gpt'.*ToyModel"):
        laddered(data, Ladder(static="gpt"))


@pytest.mark.parametrize("settings", [{"n_layers": 0}, {"n_components": 0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        Ladder(**settings)


def test_the_answers_come_back_from_the_file(scores: Scores, tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_scores(scores, tmp_path / "scores.nc")
    found = open_scores(tmp_path)
    assert found.attrs["answers"] == scores.attrs["answers"]
    assert section(found) == section(scores)
    captions = [caption for caption, _ in section(found).tables]
    assert "R² that a layer adds" in captions[1]


def test_an_own_space_of_one_layer_is_no_static_rung(data: InMemory) -> None:
    def counting(stimulus: Stimulus) -> np.ndarray:
        return np.arange(len(stimulus.words)) % 7

    assert "static" not in laddered(data, Ladder(), counting)["rung"].values
