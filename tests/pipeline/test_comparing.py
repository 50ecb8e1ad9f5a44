"""One call compares a dataset with features; it is what the question finds beside scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_planted_layer import PLANTED, planted_data, three_layers, without_responses

import brainalign
from brainalign.errors import DataError, DataWarning, RecipeError
from brainalign.features import ToyModel
from brainalign.pipeline import compare, score_layers
from brainalign.questions.compare import Compare
from brainalign.simulate import InMemory
from brainalign.store import Store

QUIET = pytest.mark.filterwarnings("ignore::brainalign.errors.DataWarning", "ignore::brainalign.errors.FitWarning")
SETTINGS = Compare(permutations=49, n_components=5)


def test_it_is_offered_at_the_top() -> None:
    assert brainalign.compare is compare
    assert "compare" in dir(brainalign)


@pytest.mark.parametrize("measure", ["cka", "rsa", "procrustes", "cca", "mutual_neighbours"])
def test_the_planted_layer_is_the_most_alike_by_every_measure(measure: Any) -> None:
    with pytest.warns(DataWarning, match="interval of 2 subjects is too narrow"):
        found = compare(planted_data(2), three_layers, measure, settings=SETTINGS, store=None)
    assert found.value.dims == ("subject", "layer")
    assert found["subject"].values.tolist() == ["s0", "s1"]
    assert found["layer_name"].values.tolist() == ["layer 0", "layer 1", "layer 2"]
    assert (found.value.argmax("layer") == PLANTED).all()
    assert (found.p[:, PLANTED] == 0.02).all()
    assert found.group_p.values[PLANTED] == 0.02
    assert (found.value[:, PLANTED] > found.chance_high[:, PLANTED]).all()
    assert found.attrs["measure"] == measure


@QUIET
def test_values_are_those_of_the_question_beside_scores() -> None:
    data, question = planted_data(2), Compare(permutations=49, measures=("rsa", "cka"))
    scores = score_layers(data, [three_layers, ToyModel(n_layers=1)], questions=[question], baseline=(), store=None)
    found = compare(data, [three_layers, ToyModel(n_layers=1)], "cka", settings=question, store=None)
    np.testing.assert_allclose(found.value.T, scores.compare_value[1])
    np.testing.assert_array_equal(found.p.T, scores.compare_p[1])
    np.testing.assert_array_equal(found.group_q, scores.compare_group_q[1])
    for name in ("feature_space", "layer_name", "layer_index"):
        np.testing.assert_array_equal(found[name], scores[name])


def test_subjects_who_cannot_be_compared_are_named() -> None:
    with pytest.warns(DataWarning) as warned:
        found = compare(without_responses(planted_data(2), "s1"), three_layers, settings=SETTINGS, store=None)
    assert any("no response varies and is finite" in str(warning.message) for warning in warned)
    assert np.isnan(found.value.sel(subject="s1")).all()
    assert "not-compared" in [finding["code"] for finding in found.attrs["findings"]]


def test_features_are_kept_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, store, model = planted_data(1), Store(tmp_path), ToyModel(n_layers=1)
    first = compare(data, model, settings=SETTINGS, store=store)
    monkeypatch.setattr(ToyModel, "extract", lambda *given: pytest.fail("extracted anew"))
    np.testing.assert_array_equal(compare(data, model, settings=SETTINGS, store=store).value, first.value)


@pytest.mark.parametrize(
    ("features", "measure", "error", "message"),
    [
        ("gpt2", "cka", RecipeError, "not 'gpt2'"),
        ([three_layers, three_layers], "cka", RecipeError, "two feature spaces are called 'three layers'"),
        (three_layers, "ckaa", RecipeError, "there is no measure 'ckaa'"),
    ],
)
def test_what_cannot_be_compared_is_refused(features: Any, measure: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compare(planted_data(1), features, measure, store=None)


def test_a_dataset_without_recordings_is_refused() -> None:
    with pytest.raises(DataError, match="has no recordings"):
        compare(InMemory("mine", "Mine", "fmri", {}, ()), three_layers, store=None)
