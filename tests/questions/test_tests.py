"""Tests of a study: planted layers are significant, silence is not, and what cannot be tested is said."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import MODEL, heard, planted_fmri, stories

import brainalign.questions.tests as tests_module
from brainalign import questions
from brainalign.alignment import Epochs, Items
from brainalign.config import parse_recipe
from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder, Splits
from brainalign.errors import DataError, RecipeError
from brainalign.features import ToyModel
from brainalign.pipeline import score_layers
from brainalign.pipeline.results import open_scores, save_scores
from brainalign.simulate import InMemory, Simulated
from brainalign.store import Store
from brainalign.types import Clock, Recording, Scores, Stimulus

FEW = questions.Tests(permutations=60, min_shift_s=16.0)


def scored(data: object, *asked: object, model: object = MODEL, **settings: object) -> Scores:
    with warnings.catch_warnings(action="ignore"):
        return score_layers(data, model, questions=asked, **{"store": None, **settings})


def codes(scores: Scores) -> list[str]:
    return [finding["code"] for finding in scores.attrs["findings"]]


@pytest.fixture(scope="module")
def fmri() -> Scores:
    """Two subjects; the first four regions follow layer 2, the others nothing."""
    return scored(planted_fmri(2), FEW)


# ------------------------------------------------------------------------------------------------- planted truths


def test_the_planted_layer_is_significant_and_silent_regions_rarely_are(fmri: Scores) -> None:
    planted = fmri["planted_layer"].values == 2
    for name in ("p_r", "p_gain", "q_r", "q_gain", "p_max_r", "p_max_gain"):
        found = fmri[name].values
        assert found.shape == (3, 16)
        assert (found[2, planted] < 0.05).mean() >= 0.85, name
        assert (found[:, ~planted] < 0.05).mean() <= 0.15, name


def test_the_rate_of_false_positives_of_silent_targets_is_nominal() -> None:
    """Slow noise that knows nothing of the stimulus, 400 targets: within five standard deviations of 5 %."""
    from scipy.signal import lfilter

    def slow(subject: str, stimulus: str, hearing: int) -> np.ndarray:
        random = np.random.default_rng([int(stimulus[-1]), 5])
        return np.asarray(lfilter([1.0], [1.0, -0.8], random.normal(size=(120, 400)), axis=0))[40:]

    scores = scored(
        heard(["s0"], stories(3, 250), slow), questions.Tests(permutations=100, min_shift_s=16.0), baseline=()
    )
    rate = (scores["p_r"].values < 0.05).mean(axis=1)
    assert (rate > 0.005).all(), rate
    assert (rate < 0.12).all(), rate
    assert (scores["p_max_r"].values < 0.05).mean() < 0.01


def test_p_values_are_one_more_than_the_count_over_one_more_than_the_draws(fmri: Scores) -> None:
    counts = fmri["p_r"].values * 61
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    assert (fmri["p_r"].values >= 1 / 61 - 1e-6).all()
    assert (fmri["p_max_r"].values >= fmri["p_r"].values - 1e-6).all()
    assert (fmri["q_r"].values >= fmri["p_r"].values - 1e-6).all()


def test_results_survive_the_file(fmri: Scores, tmp_path: Path) -> None:
    save_scores(fmri, tmp_path / "scores.nc")
    again = open_scores(tmp_path / "scores.nc")
    for name in ("p_r", "q_gain", "group_p_stimulus_r", "subject_p_gain"):
        np.testing.assert_array_equal(again[name], fmri[name])
    assert again.attrs["answers"]["tests"]["permutations"] == 60
    assert again["of_subject"].values.tolist() == ["s0", "s1"]


def test_without_a_baseline_only_r_is_tested() -> None:
    scores = scored(planted_fmri(1), questions.Tests(permutations=20, min_shift_s=10.0), baseline=())
    assert "p_r" in scores
    assert not [name for name in scores if str(name).endswith("gain")]


@pytest.mark.slow
def test_several_spaces_stand_one_after_the_other_and_each_has_its_own_maximum() -> None:
    other = ToyModel(n_layers=1, dimension=5, seed=3)
    data, question = planted_fmri(1), questions.Tests(permutations=40, min_shift_s=16.0)
    both = scored(data, question, model=[replace_name(MODEL, "one"), replace_name(other, "two")])
    first, second = scored(data, question), scored(data, question, model=other)
    for name in ("p_r", "p_max_gain"):
        np.testing.assert_array_equal(both[name].values, np.concatenate([first[name].values, second[name].values]))


def replace_name(model: ToyModel, name: str) -> object:
    from brainalign.features import Named

    return Named(name, model)


def test_undefined_targets_are_not_tested() -> None:
    def spoilt(subject: str, stimulus: str, hearing: int) -> np.ndarray:
        values = np.random.default_rng([int(stimulus[-1]), 1]).normal(size=(80, 4))
        values[:, 1] = 2.0
        values[30, 2] = np.nan
        return values

    scores = scored(heard(["s0"], stories(), spoilt), FEW, baseline=())
    assert np.isnan(scores["p_r"].values).all(axis=0).tolist() == [False, True, True, False]
    assert np.isfinite(scores["subject_mean_r"]).all()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_other_ones(fmri: Scores) -> None:
    again = scored(planted_fmri(2), FEW)
    np.testing.assert_array_equal(again["p_gain"], fmri["p_gain"])
    other = scored(planted_fmri(2), replace(FEW, seed=1))
    assert not np.array_equal(other["p_gain"], fmri["p_gain"])


@pytest.mark.parametrize("surrogate", ["block_permutation", "phase_randomisation"])
def test_other_surrogates_find_what_is_planted(surrogate: str) -> None:
    scores = scored(planted_fmri(1), questions.Tests(permutations=60, surrogate=surrogate, min_shift_s=12.0))
    planted = scores["planted_layer"].values == 2
    assert (scores["p_gain"].values[2, planted] < 0.05).all()
    assert scores.attrs["answers"]["tests"]["name"] == surrogate.replace("_", " ")


# -------------------------------------------------------------------------------------------------- draws, memory


def test_a_stimulus_heard_again_is_moved_as_far_and_as_before() -> None:
    """The length of the shortest shift counts the samples of one hearing, not those of all side by side."""
    once, thrice = (heard(["s0"], stories(), silent, hearings=n) for n in (1, 3))
    lengths = [length_drawn(data) for data in (once, thrice)]
    assert lengths == [8, 8]


def silent(subject: str, stimulus: str, hearing: int) -> np.ndarray:
    return np.random.default_rng([int(stimulus[-1]), hearing]).normal(size=(60, 2))


def length_drawn(data: InMemory) -> int:
    from brainalign.alignment import Hemodynamic
    from brainalign.pipeline.aligned import Subject, aligned

    samples, _ = aligned(Subject(data.recordings(), data.stimuli_by_id, (), Hemodynamic(), Splits()))
    assert samples is not None
    return FEW._surrogates(samples).min_shift  # type: ignore[attr-defined]


def test_scores_of_surrogates_beyond_what_is_kept_leave_the_rest_as_it_is(
    fmri: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tests_module, "KEPT", 0)
    scores = scored(planted_fmri(2), FEW)
    assert "target_p_stimulus_r" in fmri
    assert "target_p_stimulus_r" not in scores
    assert "targets-untested" in codes(scores)
    for name in ("p_r", "q_gain", "group_p_stimulus_r"):
        np.testing.assert_array_equal(scores[name], fmri[name])


def test_who_wants_no_tests_of_the_group_s_targets_keeps_no_null_scores(fmri: Scores, own_cache: Path) -> None:
    scores = scored(planted_fmri(2), replace(FEW, group_targets=False), store=Store())
    assert not list(own_cache.rglob("null_r.npy"))
    assert list(own_cache.rglob("null_mean_r.npy"))
    assert set(fmri) - set(scores) == {name for name in fmri if str(name).startswith("target_")} != set()
    assert "targets-untested" not in codes(scores)
    for name in ("p_r", "q_gain", "group_p_stimulus_r"):
        np.testing.assert_array_equal(scores[name], fmri[name])


# ------------------------------------------------------------------------------------------------------- clusters


@pytest.mark.slow
def test_clusters_of_neighbouring_sensors_and_latencies_are_where_something_was_planted() -> None:
    data = Simulated(modality="meg", n_subjects=2, n_runs=3, n_words=150, n_layers=1, dimension=4)
    scores = scored(
        data, questions.Tests(permutations=40, min_shift_s=10.0), model=ToyModel(n_layers=1, dimension=4), baseline=(),
        alignment=Epochs(-0.1, 0.5, 10.0, (0.5, 4.0)),
    )  # fmt: skip
    found, alone = scores["p_cluster_r"], scores["p_r"]
    assert found.dims == ("layer", "target", "latency")
    planted = scores["planted_layer"].values
    assert (found.values[1, planted == 1].min(axis=-1) < 0.05).any()
    # A cluster's p is 1 outside of all clusters, and that of no single place within.
    assert (found.values[alone.values > 0.5] == 1).all()
    group = scores["target_p_cluster_r"]
    assert group.dims == ("layer", "shared_target", "latency")
    assert group.shape[1] == scores.sizes["target"] // 2
    assert (group.values[1] < 0.05).any()


def test_regions_have_no_neighbours_and_clusters_may_be_left_out(fmri: Scores) -> None:
    assert not [name for name in fmri if "cluster" in str(name)]


# ---------------------------------------------------------------------------------------------------------- items


@pytest.fixture(scope="module")
def reading() -> InMemory:
    """Amplitudes to words of 60 sentences, of two subjects with rejected trials of their own; target 0 follows."""
    lengths = np.random.default_rng(0).integers(5, 12, 60)
    sentence = np.repeat(np.arange(60), lengths)
    n_words = len(sentence)
    text = np.random.default_rng(1).choice(
        ["the", "cat", "sat", "dogs", "running", "by", "an", "old", "house"], n_words
    )
    words = pd.DataFrame(
        {
            "onset": np.arange(float(n_words)),
            "duration": 1.0,
            "text": text,
            "sentence": sentence,
            "item": range(n_words),
        }
    )
    stimulus = Stimulus("sentences", words)
    layer = MODEL.extract(stimulus).values[2]
    recordings = []
    for number in range(2):
        random = np.random.default_rng([2, number])
        response = random.normal(size=(n_words, 6))
        response[:, 0] += layer @ random.normal(size=layer.shape[1]) / layer.std()
        response[random.random(n_words) < 0.1] = np.nan
        table = pd.DataFrame({"name": [f"component {i}" for i in range(6)], "kind": "component"})
        read = partial(np.asarray, response.astype(np.float32))
        recordings.append(Recording(f"s{number}", "1", "sentences", "eeg", Clock(1.0), 0.0, table, read, f"{number}"))
    data = InMemory("reading", "Reading", "eeg", {"sentences": stimulus}, recordings)
    data.rows = "items"
    return data


def test_rows_that_are_items_are_moved_by_items(reading: InMemory) -> None:
    scores = scored(reading, questions.Tests(permutations=60), alignment=Items())
    assert scores.attrs["answers"]["tests"]["rows"] == "items"
    p = scores["p_gain"].values.reshape(3, 2, 6)
    assert (p[2, :, 0] < 0.05).all()
    assert (p[:, :, 1:] < 0.05).mean() < 0.2


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (BandedRidgeEncoder(bands=[3, 3], n_iter=2), "BandedRidgeEncoder take encoder kind 'ridge'"),
        (RidgeEncoder(n_components=2), "leave n_components out"),
        (RidgeEncoder(standardise=False), "standardised"),
    ],
    ids=["banded", "components", "not standardised"],
)
def test_encoders_that_are_not_refitted_are_refused(encoder: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        scored(planted_fmri(1), FEW, encoder=encoder)


def test_stories_too_short_for_the_shift_are_named_with_the_setting_to_mend() -> None:
    with pytest.raises(DataError, match=r"subject s0 .*min_shift_s: 80.*story0.*phase_randomisation"):
        scored(planted_fmri(1), questions.Tests(permutations=20, surrogate="circular_shift", min_shift_s=80.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"permutations": 10}, "take 1000"),
        ({"surrogate": "rotation"}, "circular_shift"),
        ({"min_shift_s": -1.0}, "min_shift_s"),
        ({"surrogate": "iid_shuffle"}, "allow_iid"),
    ],
    ids=["permutations", "null", "shift", "shuffle"],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_fitted(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        questions.Tests(**settings)


def test_a_recipe_asks_for_tests() -> None:
    recipe = {"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}], "tests": {}}
    assert parse_recipe(recipe).questions == (questions.Tests(),)
    recipe["tests"] = {"surrogate": "phase_randomisation", "permutations": 200}
    assert parse_recipe(recipe).questions == (questions.Tests(permutations=200, surrogate="phase_randomisation"),)
