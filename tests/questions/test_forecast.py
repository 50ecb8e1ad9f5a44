"""Forecasts through the whole way: responses that look ahead by so many words, or do not, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from looking_ahead import AHEAD, AT_ONSET, DIMENSION, ahead_in_words, contextual, single, three_deep
from one_planted_layer import planted_data, three_layers, without_responses

import brainalign as ba
from brainalign.alignment import Hemodynamic
from brainalign.analysis.forecasts.curves import past_mirror_contrast
from brainalign.config import load_recipe, parse_recipe, resolved
from brainalign.encoding import RidgeEncoder
from brainalign.errors import RecipeError
from brainalign.features import ToyModel
from brainalign.pipeline.results import open_scores, save_scores
from brainalign.questions.forecast import Forecast
from brainalign.simulate import simulate_fmri, words_from_text
from brainalign.store import Store
from brainalign.types import Dataset, Scores, Stimulus

pytestmark = pytest.mark.filterwarnings("ignore::brainalign.errors.DataWarning", "ignore::brainalign.errors.FitWarning")

FEW_PENALTIES = RidgeEncoder(alphas=(1.0, 30.0, 1000.0, 30000.0), inner_splits=2)
WIDTH, DISTANCES = 2, (-5, -4, -2, -1, 0, 2, 3, 5, 6, 8)
QUESTION = Forecast(layer=2, distances=DISTANCES, width=WIDTH)
FULL = replace(
    QUESTION,
    variants={"static": "single", "unrelated": "contextual"},
    depth=True,
    depth_distance=5,
    horizon=True,
    permutations=39,
)


def asked(data: Dataset, question: Forecast = QUESTION, features: Any = three_deep, **settings: Any) -> Scores:
    options: dict[str, Any] = {"alignment": AT_ONSET, "encoder": FEW_PENALTIES, "store": None, **settings}
    return ba.score_layers(data, features, baseline=(), questions=[question], **options)


def told(scores: Scores, code: str) -> list[str]:
    return [f"{one['where']}: {one['message']}" for one in scores.attrs["findings"] if one["code"] == code]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return asked(ahead_in_words(), FULL, [three_deep, single, contextual])


def at(scores: Scores, name: str, distance: int) -> float:
    return float(scores[name].sel(forecast_distance=distance))


# ---- planted truths


def test_the_distance_that_responses_look_ahead_comes_back(scores: Scores) -> None:
    assert float(scores.forecast_group_peak) == max(AHEAD)
    following = scores.target_name.values != "sensor 2"
    assert (scores.forecast_peak.values[following] == max(AHEAD)).all()
    assert at(scores, "forecast_group_contrast", 5) > 0.1
    assert at(scores, "forecast_group_contrast_low", 5) > 0.05
    # One of the window's two words is one of the two that responses follow.
    assert 0.05 < at(scores, "forecast_group_gain", 6) < at(scores, "forecast_group_gain", 5)
    assert abs(at(scores, "forecast_group_gain", 8)) < 0.05


def test_a_target_that_follows_nothing_has_no_contrast(scores: Scores) -> None:
    silent = scores.forecast_contrast.sel(forecast_distance=5).values[scores.target_name.values == "sensor 2"]
    assert np.abs(silent).max() < 0.1
    p = scores.forecast_subject_p.sel(forecast_distance=5)
    assert (p == 1 / 40).all()
    assert at(scores, "forecast_group_p_stimulus", 5) == 1 / 40
    assert np.isnan(at(scores, "forecast_group_p_stimulus", -1))
    assert at(scores, "forecast_group_q_stimulus", 5) < 0.1


def test_what_was_tested_stands_beside_its_p(scores: Scores) -> None:
    tested = scores.forecast_group_tested
    assert np.isfinite(tested).values.tolist() == np.isfinite(scores.forecast_group_contrast).values.tolist()
    np.testing.assert_allclose(tested, scores.forecast_subject_tested.mean("of_subject"))
    # At penalties that all windows share, which favour none.
    assert 0.03 < at(scores, "forecast_group_tested", 5) < at(scores, "forecast_group_contrast", 5)


def test_contrasts_are_the_gain_ahead_less_that_as_far_behind(scores: Scores) -> None:
    gain = scores.forecast_gain.values
    np.testing.assert_array_equal(
        scores.forecast_contrast.values, past_mirror_contrast(gain.T, DISTANCES, WIDTH).T.astype(np.float32)
    )
    contrasted = np.isfinite(scores.forecast_group_contrast.values)
    assert scores.forecast_distance.values[contrasted].tolist() == [2, 3, 5, 6]
    np.testing.assert_allclose(
        scores.forecast_subject_gain.values[0], gain[:, scores.subject.values == "s0"].mean(axis=1), atol=1e-6
    )


def test_a_variant_of_the_same_vectors_forecasts_and_one_of_others_does_not(scores: Scores) -> None:
    of_variants = scores.forecast_group_variant_contrast.sel(forecast_distance=5)
    assert of_variants.forecast_variant.values.tolist() == ["static", "unrelated"]
    np.testing.assert_allclose(of_variants[0], at(scores, "forecast_group_contrast", 5), atol=1e-5)
    assert abs(float(of_variants[1])) < 0.05


def test_a_passive_brain_has_no_contrast(scores: Scores) -> None:
    assert abs(at(scores, "forecast_group_passive", 5)) < 0.05
    assert abs(float(scores.forecast_floor.mean())) < 0.05


def test_the_depth_of_the_forecast_comes_back(scores: Scores) -> None:
    contrast = scores.forecast_depth_contrast
    assert contrast.sizes["layer"] == scores.sizes["layer"] == 5
    assert np.isnan(contrast.values[3:]).all()
    assert float(scores.forecast_group_depth) == 2
    following = scores.target_name.values != "sensor 2"
    assert (scores.forecast_depth_peak.values[following] == 2).all()
    np.testing.assert_allclose(
        contrast.values[2], scores.forecast_contrast.sel(forecast_distance=5).values, atol=1e-5
    )  # the layer that the other windows are of


def test_words_that_nothing_foretells_have_no_horizon(scores: Scores) -> None:
    assert scores.horizon_distance.values.tolist() == [1, 2, 4, 8]
    assert np.abs(scores.forecast_horizon.values).max() < 0.05
    assert scores.attrs["answers"]["forecast"]["horizon_space"] == "single"


def test_distances_are_also_told_in_seconds(scores: Scores) -> None:
    np.testing.assert_allclose(scores.forecast_seconds, np.array(DISTANCES) * 0.4)


def test_samples_without_whole_windows_are_left_out_and_counted(scores: Scores) -> None:
    answer = scores.attrs["answers"]["forecast"]
    # Of each of three stories 5 + 2 - 1 words at the beginning and 8 at the end.
    assert answer["n_left_out"] == {"s0": 3 * 14, "s1": 3 * 14}
    assert answer["n_samples"]["s0"] + 3 * 14 == scores.attrs["n_samples"]["s0"]


def test_responses_to_the_present_word_alone_have_raw_gains_but_no_contrast_where_the_base_is_lossy() -> None:
    """Slow vectors, of which few components are kept: neighbouring words bring back what these lost."""
    stimuli = {f"run{k}": Stimulus(f"run{k}", words_from_text(f"so it was {k}. " * 150, k)) for k in range(3)}
    model = _Slow()
    features = {name: model.extract(stimulus) for name, stimulus in stimuli.items()}
    truth = pd.DataFrame({"name": [f"r{i}" for i in range(8)], "planted_layer": 1, "explained_variance": 0.6})
    data = simulate_fmri(stimuli, features, truth.assign(rate_variance=0.0), ["a"])
    question = Forecast(layer=1, distances=(-1, 3), width=3, base="components", n_components=4, floor=0)
    lossy = asked(data, question, model, alignment=Hemodynamic())
    lossless = asked(data, replace(question, base="all"), model, alignment=Hemodynamic())
    assert at(lossy, "forecast_group_gain", 3) > 0.02
    assert at(lossless, "forecast_group_gain", 3) < 0.01
    for found in (lossy, lossless):
        assert abs(at(found, "forecast_group_contrast", 3)) < 0.04
        assert abs(at(found, "forecast_group_passive", 3)) < 0.04


class _Slow(ToyModel):
    """Vectors that change from word to word, some dimensions more slowly than others."""

    def extract(self, stimulus: Stimulus):  # type: ignore[no-untyped-def]
        found = ToyModel(n_layers=1, dimension=12).extract(stimulus)
        random = np.random.default_rng(len(stimulus.words) + int(stimulus.id[-1]))
        values, memory = random.normal(size=found.values.shape), np.linspace(0.5, 0.98, found.values.shape[2])
        for word in range(1, values.shape[1]):
            values[:, word] = memory * values[:, word - 1] + np.sqrt(1 - memory**2) * values[:, word]
        return replace(found, values=values.astype(np.float32))


# ---- defaults and what cannot be


def test_defaults_need_nothing_but_a_space_of_several_layers() -> None:
    found = asked(ahead_in_words(1, n_words=100), Forecast(floor=1, passive=False), [single, three_deep])
    answer = found.attrs["answers"]["forecast"]
    assert (answer["space"], answer["layer_name"]) == ("three deep", "layer 1")
    assert found.forecast_distance.values.tolist() == list(range(-8, 21))
    assert "W210" not in [finding["code"] for finding in found.attrs["findings"]]
    assert not any("_low" in str(name) and "group_gain" in str(name) for name in found)
    assert "forecast_group_p_wilcoxon" not in found


def test_delayed_features_are_w214() -> None:
    data = ba.load_dataset("simulated", options={"n_subjects": 1, "n_runs": 3, "n_words": 200, "n_layers": 1})
    question = Forecast(distances=(-2, 8), floor=0, passive=False)
    found = asked(data, question, ToyModel(n_layers=1, dimension=5), alignment=Hemodynamic("sum", delays=(1, 2, 3)))
    (message,) = told(found, "W214")
    assert "3 delays" in message
    assert "forecast_floor" not in found
    assert "forecast_group_passive" not in found


def test_tests_over_subjects_without_the_stimulus_are_w210_and_targets_have_distances_of_their_own() -> None:
    question = replace(QUESTION, distances=(-4, -3, 0, 4, 5), passive=False, floor=0)
    found = asked(ahead_in_words(6, n_words=150), question)
    assert "permutations" in told(found, "W210")[0]
    assert at(found, "forecast_group_p_wilcoxon", 5) == at(found, "forecast_group_p_sign_flip", 5) == 1 / 64
    assert found.shared_target.values.tolist() == ["sensor 0", "sensor 1", "sensor 2"]
    assert found.forecast_target_peak.values[:2].tolist() == [5.0, 5.0]
    assert found.forecast_target_q.values[2] > found.forecast_target_q.values[:2].max()


def test_stories_too_short_for_the_windows_are_told_and_nothing_is_made_up() -> None:
    found = asked(ahead_in_words(1, n_words=120), replace(QUESTION, distances=(-60, 61)))
    (message,) = told(found, "no-forecast")
    assert "take shorter distances" in message.lower()
    assert not any(str(name).startswith("forecast_") for name in found)


def test_a_subject_without_usable_responses_is_named_and_left_out_of_the_mean() -> None:
    data = without_responses(planted_data(2), "s1")
    question = Forecast(distances=(-2, 8), passive=False, floor=0)
    found = asked(data, question, three_layers, alignment=Hemodynamic())
    assert told(found, "no-forecast")[0].startswith("forecast, subject s1")
    assert np.isnan(found.forecast_subject_gain.values[1]).all()
    np.testing.assert_allclose(found.forecast_group_gain, found.forecast_subject_gain[0], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base": "all of it"}, "no base 'all of it'"),
        ({"distances": (8, 9)}, "none has its mirror"),
        ({"distances": (-3, 9), "depth": True}, "depth needs 8 and -2"),
        ({"permutations": 5}, "cannot give a p below"),
        ({"width": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Forecast(**settings)


@pytest.mark.parametrize(
    ("settings", "features", "message"),
    [
        ({"features": "tree"}, three_deep, "no feature space 'tree'"),
        ({"layer": 9}, three_deep, "no layer '9'"),
        ({"layer": None}, single, "several layers: say which"),
        ({"variants": {"static": "glove"}}, three_deep, "no feature space 'glove'"),
    ],
)
def test_spaces_and_layers_that_are_not_there_are_refused(
    settings: dict[str, Any], features: Any, message: str
) -> None:
    data = ahead_in_words(1, n_words=60)
    with pytest.raises(RecipeError, match=message):
        asked(data, replace(QUESTION, distances=(-4, 5), **settings), features)


def test_items_are_refused_since_what_comes_next_is_not_known() -> None:
    from brainalign.alignment import Items

    data = ahead_in_words(1, n_words=60)
    stimuli = {
        name: replace(one, words=one.words.assign(item=np.arange(len(one.words)))) for name, one in data.stimuli.items()
    }
    given = [replace(one, read=lambda: np.random.default_rng(0).normal(size=(60, 3))) for one in data.given]
    items = replace(data, stimuli_by_id=stimuli, given=given)
    items.rows = "items"
    with pytest.raises(RecipeError, match="responses are to items"):
        asked(items, alignment=Items())


# ---- recipe, file, store


def test_a_recipe_asks_for_it_and_is_written_out(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.yaml"
    path.write_text(
        "dataset: {name: simulated}\nfeatures: [{kind: toy_model}]\n"
        "forecast: {layer: 5, distances: [-2, 8], variants: {static: ToyModel @ layer 0}}\n"
    )
    recipe = load_recipe(str(path))
    expected = Forecast(layer=5, distances=(-2, 8), variants={"static": "ToyModel @ layer 0"})
    assert recipe.questions == (expected,)
    assert parse_recipe(resolved(recipe)).questions == recipe.questions
    assert load_recipe(str(path), ["forecast={}"]).questions == (Forecast(),)


def test_answers_come_back_from_the_file(scores: Scores, tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_scores(scores, tmp_path / "scores.nc")
    found = open_scores(tmp_path)
    assert found.attrs["answers"] == scores.attrs["answers"]
    for name in (name for name in scores if str(name).startswith("forecast_")):
        np.testing.assert_array_equal(found[name], scores[name], err_msg=str(name))


def test_a_second_call_reads_what_was_found(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    data, store = ahead_in_words(1, n_words=100), Store(tmp_path / "store")
    question = replace(QUESTION, distances=(-4, 5), passive=False, floor=0)
    first = asked(data, question, store=store)
    monkeypatch.setattr(Forecast, "of_subject", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(asked(data, question, store=store).forecast_gain, first.forecast_gain)
    # Windows of fewer dimensions than components are kept whole.
    assert question.n_components > DIMENSION * WIDTH
