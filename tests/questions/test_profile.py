"""Profiles through the whole way: planted layers and latencies come back, and layers chosen on noise score nothing."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from studies import MODEL, heard, planted_fmri, stories

from brainalign.alignment import Epochs
from brainalign.analysis.hierarchies.layer_choice import scores_inside
from brainalign.config import parse_recipe, resolved
from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, Samples
from brainalign.errors import RecipeError
from brainalign.pipeline import answers, run, score_layers
from brainalign.pipeline.results import open_scores, save_scores
from brainalign.questions import Tests as OfSurrogates
from brainalign.questions.profile import Profile, _half_rows
from brainalign.simulate import InMemory
from brainalign.store import Store
from brainalign.types import Clock, Recording, Scores, Stimulus

SUBJECTS = ("a", "b", "c", "d", "e")
LAG_S = (0.05, 0.1, 0.15, 0.2)
WORD_S = 0.5
RATE_HZ = 20
LOCKED = Epochs(-0.1, 0.25, RATE_HZ, (None, None), None)


def random_layers(n_layers: int, dimension: int, stimulus: Stimulus) -> np.ndarray:
    rng = np.random.default_rng([ord(stimulus.id[-1]), n_layers])
    return rng.normal(size=(n_layers, len(stimulus.words), dimension))


def four(stimulus: Stimulus) -> np.ndarray:
    return random_layers(4, 3, stimulus)


def untrained(stimulus: Stimulus) -> np.ndarray:
    return np.random.default_rng(ord(stimulus.id[-1])).normal(size=(4, len(stimulus.words), 3))


def ten(stimulus: Stimulus) -> np.ndarray:
    return random_layers(10, 4, stimulus)


def one(stimulus: Stimulus) -> np.ndarray:
    return four(stimulus)[0]


def word_locked(subjects: tuple[str, ...], share: float, n_words: int = 300) -> InMemory:
    """Two channels follow each layer of `four`, deeper layers later, and two follow none."""
    planted = np.r_[np.repeat(np.arange(4), 2), -1, -1]
    words = pd.DataFrame({"onset": np.arange(n_words) * WORD_S, "duration": 0.3, "text": "word"})
    stimuli = {f"story{k}": Stimulus(f"story{k}", words.assign(text=f"word{k}")) for k in range(3)}
    given = []
    for number, subject in enumerate(subjects):
        weights = np.random.default_rng([number]).normal(size=(len(planted), 3))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        for k, (name, stimulus) in enumerate(stimuli.items()):
            values = np.random.default_rng([number, k]).normal(size=(int((n_words + 2) * WORD_S * RATE_HZ), 10))
            for target, layer in enumerate(planted):
                if layer >= 0:
                    rows = ((words["onset"] + 0.5 + LAG_S[layer]) * RATE_HZ).round().astype(int)
                    drive = four(stimulus)[layer] @ weights[target]
                    values[rows, target] = np.sqrt(share) * drive + np.sqrt(1 - share) * values[rows, target]
            targets = pd.DataFrame(
                {
                    "name": [f"MEG{i}" for i in range(10)],
                    "kind": "sensor",
                    "lobe": [f"lobe {i // 2}" for i in range(10)],
                }
            )
            read = partial(np.array, values.astype(np.float32))
            given.append(Recording(subject, name, name, "meg", Clock(0.05), 0.5, targets, read, f"{subject}{name}"))
    return InMemory("planted", "Planted", "meg", stimuli, given)


def scored(data: InMemory, features: Any, *questions: object, **settings: Any) -> Scores:
    with warnings.catch_warnings(action="ignore"):
        return score_layers(data, features, questions=questions, **{"store": None, "baseline": (), **settings})


def codes(scores: Scores) -> list[str]:
    return [finding["code"] for finding in scores.attrs["findings"]]


# ------------------------------------------------------------------------------------------------- planted truths


@pytest.fixture(scope="module")
def locked() -> Scores:
    """Five subjects; the untrained space is noise."""
    question = Profile(regions="lobe", permutations=20, n_bootstrap=100)
    return scored(word_locked(SUBJECTS, 0.6, 140), [four, untrained], question, alignment=LOCKED)


def test_planted_layers_come_back(locked: Scores) -> None:
    planted = np.tile(np.r_[np.repeat(np.arange(4), 2) / 3, np.nan, np.nan], len(SUBJECTS))
    driven = np.isfinite(planted)
    np.testing.assert_allclose(locked["profile_peak"].values[0, driven], planted[driven], atol=1e-6)
    centre = locked["profile_centre"].values[0, driven]
    assert np.corrcoef(centre, planted[driven])[0, 1] > 0.9
    assert (locked["profile_status"].values[0, driven] == "ok").all()
    peaks = locked["profile_region_peak"].sel(profile_space="four")
    np.testing.assert_allclose(peaks.values[:, :4], np.tile(np.arange(4) / 3, (len(SUBJECTS), 1)), atol=1e-6)
    ok = (locked["profile_status"].values[0] == "ok").reshape(len(SUBJECTS), 5, 2).any(axis=2)
    assert not np.isfinite(peaks.values[~ok]).any()
    assert locked["profile_region"].values.tolist() == [f"lobe {i}" for i in range(5)]


def test_halves_of_the_data_agree_where_layers_are_planted_and_not_on_noise(locked: Scores) -> None:
    peak = locked["profile_reliability_peak"].mean("of_subject").values
    assert peak[0] > 0.7
    assert abs(peak[1]) < 0.4
    assert locked["profile_region_reliability"].values[0] > 0.9
    # One region of five has nothing to agree on.
    assert locked["profile_region_agreement"].values[0] > 0.5


def test_the_nested_score_is_what_one_gets_by_hand(locked: Scores) -> None:
    """Of a planted target it is the planted layer's, and never more than the highest."""
    r = locked["r"].mean("latency").transpose("layer", "fold", "target").values
    np.testing.assert_allclose(locked["profile_r_nested"].values[0, :2], r[0].mean(axis=0)[:2], atol=1e-6)
    assert (locked["profile_r_nested"] <= locked["profile_r_dipped"] + 1e-6).all()
    of_subject = r[:4, :, :10].mean(axis=2)
    assert locked["profile_nested_subject"].values[0, 0] <= of_subject.mean(axis=1).max() + 1e-6
    assert "W206" not in codes(locked)


def test_planted_latencies_come_back_with_their_order(locked: Scores) -> None:
    np.testing.assert_allclose(locked["profile_layer_latency"].values[:4], np.tile(LAG_S, (5, 1)).T, atol=1e-6)
    np.testing.assert_allclose(locked["profile_temporal"].values[0], 1.0, atol=1e-6)
    driven = locked["profile_latency"].values[0].reshape(5, 10)[:, :8]
    np.testing.assert_allclose(driven, np.tile(np.repeat(LAG_S, 2), (5, 1)), atol=1e-6)
    assert np.nanmax(locked["profile_latency_se"].values[0].reshape(5, 10)[:, :8]) < 1e-6
    assert locked["profile_temporal_p"].values[0] == pytest.approx(2**-5)
    told = locked.attrs["answers"]["profile"]["temporal"]["four"]
    assert told["n_flips"] == 32
    assert told["less"] == "untrained"
    # So many of the shifts leave a correlation that is defined; the observed one is as high as can be.
    assert 8 < told["n_shifts"] <= 20
    assert locked["profile_temporal_p_stimulus"].values[0] < 0.25
    assert "W210" not in codes(locked)


def test_correlations_over_layers_of_shifted_responses_vary_as_widely_as_those_of_noise(locked: Scores) -> None:
    noise = locked["profile_temporal"].values[1]
    assert noise[np.isfinite(noise)].std() > 0.1
    p = locked["profile_temporal_p_stimulus"].values[1]
    assert np.isnan(p) or p > 0.02


def test_scores_of_a_profile_are_kept_in_netcdf(locked: Scores, tmp_path: Path) -> None:
    save_scores(locked, tmp_path / "scores.nc")
    again = open_scores(tmp_path / "scores.nc")
    for name in locked:
        if name.startswith("profile_"):
            np.testing.assert_array_equal(again[name], locked[name], err_msg=str(name))
    assert again.attrs["answers"] == locked.attrs["answers"]


def test_a_control_with_other_layers_is_told_and_not_subtracted() -> None:
    question = Profile(nested=False, halves=False, untrained="ten", n_bootstrap=100)
    scores = scored(word_locked(("a",), 0.4, 60), [four, ten], question, alignment=LOCKED)
    told = next(f["message"] for f in scores.attrs["findings"] if f["code"] == "no-control")
    assert "'ten' has other layers" in told
    assert "less" not in scores.attrs["answers"]["profile"]["temporal"]["four"]


def test_without_shifts_the_correlation_has_no_test_over_the_stimulus() -> None:
    scores = scored(word_locked(("a",), 0.4, 150), four, Profile(nested=False, halves=False), alignment=LOCKED)
    assert {"W210", "W206", "few-subjects"} <= set(codes(scores))
    assert np.isnan(scores["profile_temporal_p"].values).all()
    assert np.isnan(scores["profile_temporal_p_stimulus"].values).all()
    assert "profile_reliability_peak" not in scores
    assert np.isnan(scores["profile_nested_mean"].values).all()
    assert np.isnan(scores["profile_best_low"].values).all()
    assert "permutations: 200" in next(f["message"] for f in scores.attrs["findings"] if f["code"] == "W210")


def test_layers_chosen_on_noise_score_nothing_and_those_chosen_on_the_test_do() -> None:
    data = heard(["a"], stories(3, 250), lambda subject, stimulus, _: white(ord(subject), int(stimulus[-1])))
    scores = scored(data, ten, Profile(n_bootstrap=100))
    assert abs(float(scores["profile_r_nested"].mean())) < 0.03
    assert float(scores["profile_r_dipped"].mean()) > 0.06
    assert np.abs(scores["profile_reliability_peak"]).max() < 0.4
    assert "W206" not in codes(scores)


def white(*key: int) -> np.ndarray:
    return np.random.default_rng(key).normal(size=(80, 60))


def test_the_group_figures_are_those_of_the_kernels() -> None:
    """Nested choice of the mean over targets and its gain, by hand, with the samples that the pipeline makes."""
    data = planted_fmri(2, layers=(0, 2, 2, 1, -1))
    seen: dict[str, Samples] = {}

    class Spy(Profile):
        def of_subject(self, data):  # type: ignore[no-untyped-def]
            seen[data.samples.subject] = data.samples
            layers = data.samples.place(data.features["ToyModel"])
            of_targets = scores_inside(
                layers, data.samples.responses, data.samples.groups, data.samples.splitter, data.encoder
            )
            chosen[data.samples.subject] = of_targets.mean(axis=2).argmax(axis=0)
            return super().of_subject(data)

    chosen: dict[str, np.ndarray] = {}
    scores = scored(data, MODEL, Spy(halves=False), baseline="auto")
    for number, subject in enumerate(("s0", "s1")):
        own = scores.isel(target=scores["subject"].values == subject)
        r, gain = own["r"].mean("target"), (own["r_joint"] - own["r_baseline"]).mean("target")
        layer, fold = chosen[subject], np.arange(3)
        expected = [float(values.values[layer, fold].mean()) for values in (r, gain.transpose("layer", "fold"))]
        found = [scores[f"profile_{name}_subject"].values[0, number] for name in ("nested", "nested_gain")]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(scores["profile_chosen_depth"].values[0, number], layer.mean() / 2, atol=1e-6)


def test_depth_contrasts_are_the_differences_of_means() -> None:
    scores = scored(planted_fmri(2), MODEL, Profile(nested=False, halves=False))
    r = scores["r"].mean("fold").values
    np.testing.assert_allclose(scores["profile_middle_minus_output"].values[0], r[1] - r[2], atol=1e-6)
    np.testing.assert_allclose(scores["profile_middle_minus_input"].values[0], r[1] - r[0], atol=1e-6)
    by_subject = (r[1] - r[2]).reshape(2, 8).mean(axis=1)
    np.testing.assert_allclose(scores["profile_middle_minus_output_subject"].values[0], by_subject, atol=1e-6)


def test_with_tests_only_significant_targets_prefer_a_layer() -> None:
    tests, profile = OfSurrogates(permutations=60, clusters=False), Profile(nested=False, halves=False)
    scores = scored(planted_fmri(1, layers=(2, 2, 2, -1, -1, -1)), MODEL, tests, profile)
    best = scores["p_max_r"].min("layer").values
    expected = np.where(scores["profile_r_dipped"].values[0] <= 0, "below threshold", "not significant")
    expected = np.where((best <= 0.05) & (scores["profile_r_dipped"].values[0] > 0), "ok", expected)
    assert scores["profile_status"].values[0].tolist() == expected.tolist()
    assert expected[:3].tolist() == ["ok"] * 3
    assert "not significant" in expected or "below threshold" in expected
    assert scores.attrs["answers"]["profile"]["by_tests"] is True
    # Each target is a region here: it has a preferred layer where the target does.
    regions = np.isfinite(scores["profile_region_peak"].values[0, 0])
    assert scores["profile_region"].values.tolist() == scores["target_name"].values.tolist()
    assert regions.tolist() == (expected == "ok").tolist()


# ------------------------------------------------------------------------------------------------- recipes, the store


@pytest.mark.slow
def test_a_recipe_asks_for_a_profile(tmp_path: Path) -> None:
    content = {
        "dataset": {"name": "simulated", "n_subjects": 2, "n_runs": 3, "n_words": 150, "n_layers": 2, "dimension": 4},
        "features": [{"kind": "toy_model", "n_layers": 2, "dimension": 4}],
        "profile": {"halves": False, "n_bootstrap": 100},
    }
    recipe = parse_recipe(content)
    assert recipe.questions == (Profile(halves=False, n_bootstrap=100),)
    assert parse_recipe(resolved(recipe)).questions == recipe.questions
    with warnings.catch_warnings(action="ignore"):
        run(recipe, out=tmp_path / "out")
    scores = open_scores(tmp_path / "out")
    assert np.isfinite(scores["profile_nested_mean"].values).all()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Layer profile" in page
    assert "chosen inside the training folds" in page


def test_parts_are_read_from_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, store = planted_fmri(1), Store(tmp_path)
    question = Profile(halves=False, n_bootstrap=100)
    first = scored(data, MODEL, question, store=store)
    monkeypatch.setattr(answers, "_data_of", None)
    again = scored(data, MODEL, question, store=store)
    np.testing.assert_array_equal(first["profile_r_nested"], again["profile_r_nested"])


# ------------------------------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": -0.1}, "threshold is -0.1"),
        ({"n_bootstrap": 5}, "5 draws"),
        ({"permutations": 10}, "10 permutations cannot give"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Profile(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"regions": "atlas"}, "no such coordinate"), ({"untrained": "Toy"}, "Did you mean 'ToyModel'")],
)
def test_names_that_are_not_there_are_refused_before_fits(settings: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        scored(planted_fmri(1), MODEL, Profile(**settings))


def test_shifts_need_plain_ridge() -> None:
    data = word_locked(("a",), 0.4, 60)
    question = Profile(nested=False, halves=False, permutations=20)
    with pytest.raises(RecipeError, match="leave permutations out"):
        scored(data, four, question, alignment=LOCKED, encoder=Ridge())


def test_a_single_layer_is_told_and_nothing_else() -> None:
    scores = scored(planted_fmri(1), one, Profile())
    assert "one-layer" in codes(scores)
    assert not [name for name in scores if str(name).startswith("profile_")]
    assert scores.attrs["answers"]["profile"]["spaces"] == []


def test_a_target_that_never_changes_has_no_preference_and_spoils_no_mean() -> None:
    def respond(subject: str, stimulus: str, _: int) -> np.ndarray:
        values = white(ord(subject), int(stimulus[-1]))[:, :4]
        values[:, 0] = 1.0
        return values

    scores = scored(heard(["a"], stories(3, 200), respond), MODEL, Profile(n_bootstrap=100))
    assert scores["profile_status"].values[0, 0] == "undefined"
    assert np.isnan(scores["profile_r_nested"].values[0, 0])
    assert np.isfinite(scores["profile_nested_subject"].values).all()


def test_a_layer_that_never_changes_is_left_out_of_preferences() -> None:
    def with_a_constant(stimulus: Stimulus) -> np.ndarray:
        layers = four(stimulus)
        layers[3] = 1.0
        return layers

    scores = scored(word_locked(("a",), 0.4, 150), with_a_constant, Profile(halves=False), alignment=LOCKED)
    driven = scores["profile_peak"].values[0, :6]
    np.testing.assert_allclose(driven, np.repeat(np.arange(3), 2) / 3, atol=1e-6)
    assert np.isfinite(scores["profile_nested_subject"].values).all()


def test_where_no_layer_can_be_chosen_inside_the_reason_is_told() -> None:
    """Three stories of forty seconds are enough to be held out in turn, but not to be cut once more."""
    data = heard(["a"], stories(3, 100), lambda *_: white(0)[:, :4])
    scores = scored(data, MODEL, Profile(halves=False, n_bootstrap=100))
    assert {"no-nested-choice", "W206"} <= set(codes(scores))
    assert np.isnan(scores["profile_nested_mean"].values).all()


def test_data_that_cannot_be_halved_are_told() -> None:
    data = heard(["a"], stories(1, 400), lambda *_: white(0)[:, :4])
    scores = scored(data, MODEL, Profile(nested=False, n_bootstrap=100))
    assert "no-halves" in codes(scores)
    assert np.isnan(scores["profile_reliability_peak"].values).all()


# ------------------------------------------------------------------------------------------------- halves


def samples(groups: list[str], gap: int) -> Samples:
    named = np.array(groups)
    n = len(named)
    splitter = LeaveOneRunOut() if len(set(groups)) > 2 else ContiguousBlocks(2, gap)
    values = np.zeros((n, 1))
    return Samples("s", values, named, named, named, np.arange(n) * 1.0, splitter, gap, None, None, lambda _: iter(()))


def test_halves_are_every_second_story_where_there_are_enough() -> None:
    first, second = _half_rows(samples([*"aabbccdd"], gap=1))
    assert (first.tolist(), second.tolist()) == ([0, 1, 4, 5], [2, 3, 6, 7])


@pytest.mark.parametrize("gap", [0, 1, 4])
def test_halves_of_few_stories_are_cut_in_the_middle_with_a_gap(gap: int) -> None:
    given = samples(["a"] * 20 + ["b"] * 11, gap)
    first, second = _half_rows(given)
    for story in ("a", "b"):
        rows = np.flatnonzero(given.groups == story)
        one_half, other = (np.intersect1d(rows, half) for half in (first, second))
        assert other.min() - one_half.max() == gap + 1
        assert len(one_half) + len(other) == len(rows) - gap


def test_a_story_shorter_than_the_gap_gives_no_half() -> None:
    first, _ = _half_rows(samples(["a"] * 4, gap=20))
    assert len(first) == 0
