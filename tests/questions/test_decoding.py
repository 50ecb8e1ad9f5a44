"""Decoding as a question: what was planted is read out, with its p, and nothing where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_planted_layer import PLANTED, heard_again, planted_data, three_layers, without_responses

from brainalign.alignment import Epochs
from brainalign.analysis.decoding.backward import Decoding as Kernel
from brainalign.config import parse_recipe, resolved
from brainalign.encoding import RidgeEncoder
from brainalign.errors import RecipeError
from brainalign.features import ToyModel
from brainalign.pipeline import open_scores, score_layers
from brainalign.pipeline.results import save_scores
from brainalign.questions.decoding import Decoding
from brainalign.simulate import InMemory, Simulated
from brainalign.types import Scores

pytestmark = pytest.mark.filterwarnings("ignore::brainalign.errors.DataWarning", "ignore::brainalign.errors.FitWarning")

QUESTION = Decoding(n_components=5, k=(1, 5), permutations=99)


def asked(data: InMemory, question: Any = QUESTION, features: Any = three_layers, **settings: Any) -> Scores:
    return score_layers(data, features, baseline=(), questions=[question], store=None, **settings)


def told(scores: Scores, code: str) -> list[str]:
    return [f"{one['where']}: {one['message']}" for one in scores.attrs["findings"] if one["code"] == code]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return asked(planted_data(3))


def test_the_planted_layer_is_decoded_and_the_others_are_at_chance(scores: Scores) -> None:
    assert scores.decoding_r.dims == ("layer", "of_subject")
    assert (scores.decoding_r.argmax("layer") == PLANTED).all()
    assert (scores.decoding_r[PLANTED] > 0.3).all()
    assert (scores.decoding_p[PLANTED] == 0.01).all()
    assert scores.decoding_group_p.values[PLANTED] == 0.01
    assert (scores.decoding_group_p.values[[0, 2]] > 0.05).all()
    assert (scores.decoding_group_low[PLANTED] > scores.decoding_group_chance_high[PLANTED]).all()
    for name in ("rank_accuracy", "two_vs_two"):
        found = scores[f"decoding_{name}"]
        assert (found[PLANTED] > 0.65).all()
        assert abs(float(found[[0, 2]].mean()) - 0.5) < 0.06
    assert scores.decoding_top_k.dims == ("layer", "of_subject", "k")
    assert scores["k"].values.tolist() == [1, 5]
    assert (scores.decoding_top_k[PLANTED] > 1.5 * scores.decoding_chance_top_k[PLANTED]).all()
    assert scores.decoding_n_components.values.tolist() == [5, 5, 5]


def test_what_is_tested_is_the_mean_that_is_told(scores: Scores) -> None:
    np.testing.assert_allclose(scores.decoding_group_mean, scores.decoding_r.mean("of_subject"), atol=1e-6)


@pytest.mark.slow
def test_latencies_are_decoded_one_by_one_into_a_time_course() -> None:
    data = Simulated(
        modality="meg", n_subjects=2, n_runs=3, n_words=120, n_layers=1, dimension=4, explained_variance=0.4
    )
    found = score_layers(
        data,
        ToyModel(n_layers=1, dimension=4),
        baseline=(),
        alignment=Epochs(-0.1, 0.5, 10.0, (0.5, 4.0)),
        questions=[Decoding(n_components=3, latencies="each", permutations=20)],
        store=None,
    )
    n_latencies = found.sizes["latency"]
    assert found.decoding_p.shape == (2, 2, n_latencies)
    assert found.decoding_top_k.dims == ("layer", "of_subject", "latency", "k")
    assert found.decoding_group_q.dims == ("layer", "latency")
    course = found.decoding_group_mean.max("layer").values
    before = found["latency"].values < 0
    assert course[~before].max() > course[before].max() + 0.1


def test_delays_where_responses_have_latencies_are_an_error_that_says_so() -> None:
    with pytest.raises(RecipeError, match="latencies is 'each', but these responses have none"):
        asked(planted_data(1), Decoding(latencies="each"))


def test_hearings_of_a_stimulus_are_shifted_alike_and_held_out_together() -> None:
    found = asked(heard_again(planted_data(1)))
    assert found.decoding_p.values[PLANTED, 0] == 0.01
    assert (found.decoding_p.values[[0, 2], 0] > 0.02).all()
    assert abs(float(found.decoding_r[[0, 2]].mean())) < 0.15


def test_subjects_draw_the_same_shifts(scores: Scores) -> None:
    """So that of two subjects with the same responses the mean is tested as each of them is."""
    data = planted_data(1)
    twins = replace(data, given=[*data.given, *(replace(one, subject="twin") for one in data.given)])
    found = asked(twins)
    np.testing.assert_allclose(found.decoding_group_p, found.decoding_p[:, 0])
    np.testing.assert_allclose(found.decoding_p[:, 0], scores.decoding_p.sel(of_subject="s0"))


# ---- findings and what is degenerate


def one_column(stimulus: Any) -> np.ndarray:
    return three_layers(stimulus).values[PLANTED, :, 0]


def silence(stimulus: Any) -> np.ndarray:
    return np.zeros((len(stimulus.words), 5))


def test_unlike_numbers_of_components_are_w211_and_a_dead_layer_is_undefined() -> None:
    found = asked(planted_data(1), QUESTION, [three_layers, one_column, silence])
    assert any("of layers 1 to 5 components are decoded" in one for one in told(found, "W211"))
    assert np.isnan(found.decoding_r.values[4, 0])
    assert np.isnan(found.decoding_p.values[4, 0])
    assert np.isfinite(found.decoding_r.values[:4]).all()


def test_a_subject_without_usable_responses_is_named_and_left_out_of_the_mean() -> None:
    found = asked(without_responses(planted_data(3), "s1"))
    assert np.isnan(found.decoding_r.sel(of_subject="s1")).all()
    assert np.isfinite(found.decoding_group_mean).all()
    assert told(found, "not-decoded") == ["subject s1: no response varies and is finite; nothing can be decoded."]
    assert "decoding_group_p" not in found


def test_runs_that_are_too_short_to_be_shifted_have_scores_and_no_p() -> None:
    found = asked(planted_data(1), Decoding(n_components=5, min_shift_s=60.0))
    assert np.isfinite(found.decoding_r).all()
    assert np.isnan(found.decoding_p).all()
    (message,) = told(found, "no-permutations")
    assert "there is no p value" in message
    assert "too few to be moved by 30" in message


def test_fewer_shifts_than_asked_for_are_named() -> None:
    found = asked(planted_data(1, n_runs=1, n_words=720), Decoding(n_components=5, min_shift_s=120.0, permutations=500))
    (message,) = told(found, "few-permutations")
    n = found.attrs["answers"]["decoding"]["n_permutations"]["s0"]
    assert 0 < n < 500
    assert f"have {n} different shifts by 120 s or more, for 500 permutations" in message


def test_penalties_at_the_edge_of_a_narrow_grid_are_w203() -> None:
    found = asked(planted_data(1), Decoding(n_components=5, permutations=0), encoder=RidgeEncoder(alphas=[1e-3, 1e-2]))
    assert any("chose a penalty at the grid's edge" in one for one in told(found, "W203") if "decoding" in one)


# ---- recipes and files


def test_a_recipe_s_section_is_parsed_resolved_and_refused_where_it_is_wrong() -> None:
    content = {"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}]}
    (question,) = parse_recipe({**content, "decoding": {"k": [1, 3], "delays": [1, 2]}}).questions
    assert question == Decoding(k=(1, 3), delays=(1, 2))
    assert parse_recipe(resolved(parse_recipe({**content, "decoding": {}}))).questions == (Decoding(),)
    with pytest.raises(RecipeError, match="n_components is 0"):
        parse_recipe({**content, "decoding": {"n_components": 0}})
    assert {name: getattr(Decoding(), name) for name in vars(Kernel())} == vars(Kernel())


def test_scores_are_saved_and_opened(scores: Scores, tmp_path: Path) -> None:
    save_scores(scores, tmp_path / "scores.nc")
    opened = open_scores(tmp_path)
    for name in ("decoding_r", "decoding_p", "decoding_group_q", "decoding_top_k"):
        np.testing.assert_array_equal(opened[name], scores[name])
    assert opened.attrs["answers"]["decoding"] == scores.attrs["answers"]["decoding"] | {"delays": [0], "k": [1, 5]}
