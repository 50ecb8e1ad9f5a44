"""Representational alignment as a question: what was planted comes back, and chance is told beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_planted_layer import PLANTED, heard_again, planted_data, three_layers, without_responses

from brainalign.alignment import Hemodynamic
from brainalign.analysis.similarity.compare import Compare as Kernel
from brainalign.analysis.similarity.compare import compare_arrays
from brainalign.config import load_recipe, parse_recipe, resolved
from brainalign.encoding import Splits
from brainalign.errors import DataError, RecipeError
from brainalign.pipeline import open_scores, score_layers
from brainalign.pipeline.aligned import Subject, aligned
from brainalign.pipeline.results import save_scores
from brainalign.questions.compare import Compare
from brainalign.simulate import InMemory
from brainalign.store import Store
from brainalign.types import Scores

pytestmark = pytest.mark.filterwarnings("ignore::brainalign.errors.DataWarning", "ignore::brainalign.errors.FitWarning")

QUESTION = Compare(measures=("cka", "rsa", "cca"), n_components=5, permutations=99)


def asked(data: InMemory, question: Any = QUESTION, features: Any = three_layers, **settings: Any) -> Scores:
    return score_layers(data, features, baseline=(), questions=[question], **{"store": None, **settings})


def codes(scores: Scores) -> list[str]:
    return [finding["code"] for finding in scores.attrs["findings"]]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return asked(planted_data(3))


def samples_of(data: InMemory, subject: str) -> Any:
    own = data.recordings([subject])
    found, _ = aligned(Subject(own, data.stimuli, (), Hemodynamic(), Splits()))
    assert found is not None
    return found


# ---- what was planted comes back


def test_the_planted_layer_is_alike_and_the_others_are_at_chance(scores: Scores) -> None:
    value, p = scores.compare_value.values, scores.compare_p.values
    assert scores.compare_value.dims == ("measure", "layer", "of_subject")
    assert scores["of_subject"].values.tolist() == ["s0", "s1", "s2"]
    for place in range(3):
        assert (value[place].argmax(axis=0) == PLANTED).all()
        assert (p[place, PLANTED] == 0.01).all()
    others = [0, 2]
    assert (np.abs(value[:2, others]) < 0.06).all(), "unbiased CKA and RSA of unrelated layers"
    assert np.median(p[:, others]) > 0.1


def test_the_group_is_tested_with_the_same_shift_for_all_subjects(scores: Scores) -> None:
    assert (scores.compare_group_p.values[:, PLANTED] == 0.01).all()
    assert (scores.compare_group_q.values[:, PLANTED] <= 0.03).all()
    assert (scores.compare_group_p.values[:, [0, 2]] > 0.03).all()
    np.testing.assert_allclose(scores.compare_group_mean, scores.compare_value.mean("of_subject"))
    assert (scores.compare_group_low <= scores.compare_group_mean).all()
    assert (scores.compare_group_high >= scores.compare_group_mean).all()
    assert (scores.compare_group_chance_high > scores.compare_group_chance).all()


def test_values_are_those_of_the_kernel_on_the_samples_of_each_subject(scores: Scores) -> None:
    data = planted_data(3)
    samples = samples_of(data, "s1")
    features = {name: three_layers(stimulus) for name, stimulus in data.stimuli.items()}
    planted = list(samples.place(features))[PLANTED]
    for place, measure in enumerate(("cka", "rsa", "cca")):
        settings = Kernel(n_components=5, permutations=99, min_shift=10)
        found = compare_arrays(planted, samples.responses, samples.stimulus, samples.splitter, measure, settings)
        assert scores.compare_value.values[place, PLANTED, 1] == pytest.approx(found.value)
        assert scores.compare_p.values[place, PLANTED, 1] == found.p
        assert scores.compare_chance.values[place, PLANTED, 1] == pytest.approx(found.null.mean())


def test_subjects_with_other_names_of_runs_get_the_same_shifts() -> None:
    data = planted_data(1)
    one = samples_of(data, "s0")
    question = Compare(permutations=30)
    features = {"three": {name: three_layers(stimulus) for name, stimulus in data.stimuli.items()}}
    other = replace(one, run=np.char.add("session of another kind ", one.run))
    np.testing.assert_array_equal(
        question.of_layers(one, features).arrays["null"], question.of_layers(other, features).arrays["null"]
    )


# ---- several hearings


@pytest.mark.parametrize("offset_s", [0.0, 0.6])
def test_hearings_of_a_moment_are_one_row(offset_s: float) -> None:
    once, twice = planted_data(1), heard_again(planted_data(1), offset_s)
    question = Compare(permutations=99)
    found, again = asked(once, question), asked(twice, question)
    n_once, n_twice = (scores.attrs["answers"]["compare"]["n_moments"]["s0"] for scores in (found, again))
    assert n_twice == pytest.approx(n_once, abs=3), "the runs' ends may differ by a volume"
    assert again.attrs["answers"]["compare"]["min_shifts"] == {"s0": 10}
    np.testing.assert_allclose(again.compare_value, found.compare_value, atol=0.06)
    assert again.compare_p.values[0, PLANTED, 0] == 0.01


def test_features_without_a_trace_in_responses_are_not_alike_for_being_heard_twice() -> None:
    """Both hearings have the same features, and responses to the same moment are alike for whatever reason."""
    twice = heard_again(planted_data(1))
    value = asked(twice, Compare(permutations=99)).compare_value.values[0, :, 0]
    assert np.abs(value[[0, 2]]).max() < 0.06
    samples = samples_of(twice, "s0")
    order = np.argsort(samples.run, kind="stable")
    features = {name: three_layers(stimulus) for name, stimulus in twice.stimuli.items()}
    unrelated = next(iter(samples.place(features)))
    naive = compare_arrays(
        unrelated[order], samples.responses[order], samples.run[order], samples.splitter, "cka", Kernel(permutations=99)
    )
    assert naive.value > np.abs(value[0]), "as rows of their own they pass for alignment"


# ---- findings


def test_rows_that_resemble_each_other_at_the_edge_of_the_band_are_w215() -> None:
    found = asked(planted_data(2), Compare(band=1, permutations=20))
    told = [finding for finding in found.attrs["findings"] if finding["code"] == "W215"]
    assert [finding["where"] for finding in told] == ["compare, subject s0", "compare, subject s1"]
    assert "in 3 of 3 layers" in told[0]["message"]
    assert "W215" not in codes(asked(planted_data(2), Compare(permutations=20)))


def two_columns(stimulus: Any) -> np.ndarray:
    return three_layers(stimulus).values[PLANTED, :, :2]


def one_column(stimulus: Any) -> np.ndarray:
    return three_layers(stimulus).values[PLANTED, :, 0]


def silence(stimulus: Any) -> np.ndarray:
    return np.zeros((3, len(stimulus.words), 5))


def test_spaces_of_unlike_width_are_w211() -> None:
    found = asked(planted_data(1), Compare(permutations=0), [three_layers, two_columns])
    told = [finding for finding in found.attrs["findings"] if finding["where"] == "compare"]
    assert [finding["code"] for finding in told] == ["W211"]
    assert "from 2 to 5 columns" in told[0]["message"]
    assert found.compare_n_columns.values.tolist() == [5, 5, 5, 2]


def test_what_cannot_be_compared_is_undefined_and_named_and_the_rest_stays() -> None:
    found = asked(planted_data(1), QUESTION, [three_layers, one_column, silence])
    value = found.compare_value.values[..., 0]
    assert np.isfinite(value[:, :3]).all()
    np.testing.assert_array_equal(np.isfinite(value[:, 3]), [True, False, True])
    assert np.isnan(value[:, 4:]).all()
    assert np.isnan(found.compare_group_p.values[:, 4:]).all()
    messages = [finding["message"] for finding in found.attrs["findings"] if finding["code"] == "not-compared"]
    assert len(messages) == 2
    assert messages[0].startswith("one column: a single column has no correlation")
    assert messages[1].startswith("silence: no feature of a layer varies")


def test_a_subject_without_usable_responses_has_no_values_and_the_mean_leaves_it_out() -> None:
    found = asked(without_responses(planted_data(3), "s1"), QUESTION)
    assert np.isnan(found.compare_value.sel(of_subject="s1")).all()
    assert np.isfinite(found.compare_group_mean).all()
    assert "compare_group_p" not in found, "a subject without draws cannot be shifted with the others"
    assert "unlike-draws" in codes(found)


def test_one_subject_has_no_interval_and_no_permutations_no_p() -> None:
    found = asked(planted_data(1), Compare(permutations=0))
    assert "compare_group_low" not in found
    assert "compare_chance" not in found
    assert "compare_group_p" not in found
    assert np.isnan(found.compare_p).all()
    assert found.compare_group_mean.values[0, PLANTED] == found.compare_value.values[0, PLANTED, 0]


def test_runs_that_are_too_short_to_be_shifted_are_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="too few to be moved by 10"):
        asked(planted_data(1, n_words=80))


# ---- recipes and files


def test_a_recipe_s_section_is_parsed_resolved_and_refused_where_it_is_wrong() -> None:
    content = {"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}]}
    (question,) = parse_recipe({**content, "compare": {"measures": ["rsa"], "permutations": 50}}).questions
    assert question == Compare(measures=["rsa"], permutations=50)
    again = parse_recipe(resolved(parse_recipe({**content, "compare": {}})))
    assert again.questions[0].measures == ["cka"]
    with pytest.raises(RecipeError, match=r"compare.measures.0: input should be 'cka'.*not 'ckaa'"):
        parse_recipe({**content, "compare": {"measures": ["ckaa"]}})
    with pytest.raises(RecipeError, match=r"compare.permutation: unknown key"):
        parse_recipe({**content, "compare": {"permutation": 9}})


def test_scores_are_saved_and_opened_and_parts_are_read_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = planted_data(2), Store(tmp_path / "store")
    found = asked(data, store=store)
    save_scores(found, tmp_path / "scores.nc")
    opened = open_scores(tmp_path)
    for name in ("compare_value", "compare_p", "compare_group_q", "compare_band"):
        np.testing.assert_array_equal(opened[name], found[name])
    assert opened["measure"].values.tolist() == ["cka", "rsa", "cca"]
    monkeypatch.setattr(Kernel, "compare", lambda *given: pytest.fail("computed anew"))
    np.testing.assert_array_equal(asked(data, store=store).compare_value, found.compare_value)


def test_the_settings_are_those_of_the_kernel() -> None:
    assert load_recipe("simulated").questions is not None
    assert {name: getattr(Compare(), name) for name in vars(Kernel())} == vars(Kernel())
