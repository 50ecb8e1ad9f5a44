"""Scores of a whole dataset: what is planted comes back, nothing is computed twice, nothing is dropped unnamed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from brainalign.alignment import Epochs, Hemodynamic
from brainalign.encoding import RidgeEncoder, Splits
from brainalign.errors import DataError, DataWarning, FitWarning, RecipeError, StoreWarning
from brainalign.features import Baseline, Named, ToyModel
from brainalign.pipeline import score as score_module
from brainalign.pipeline import score_layers
from brainalign.pipeline.extraction import extract_features
from brainalign.pipeline.fit import SubjectFit, SubjectScores
from brainalign.pipeline.score import facts_of_space
from brainalign.report import planted_recovery
from brainalign.simulate import InMemory, Simulated, simulate_fmri, simulate_meg, words_from_text
from brainalign.store import Store
from brainalign.types import Recording, Stimulus

TOY = ToyModel(n_layers=3, dimension=8)


def speech(n_words: int, seed: int) -> pd.DataFrame:
    """Words of a small vocabulary in random order, with the times of speech."""
    vocabulary = [a + b for a in ("ba", "de", "fi", "go", "lu") for b in ("na", "ket", "rol", "mi", "s", "tund")]
    return words_from_text(" ".join(np.random.default_rng(seed).choice(vocabulary, n_words)), seed)


@pytest.fixture(scope="module")
def fmri() -> InMemory:
    """Three subjects and three runs of fMRI; targets follow layers 0 and 2, and one follows none."""
    stimuli = {f"run{k}": Stimulus(f"run{k}", speech(300, k)) for k in range(3)}
    truth = pd.DataFrame(
        {
            "name": ["low", "high", "silent"],
            "planted_layer": [0, 2, -1],
            "explained_variance": [0.5, 0.5, 0.0],
            "rate_variance": [0.1, 0.1, 0.0],
        }
    )
    features = {name: TOY.extract(stimulus) for name, stimulus in stimuli.items()}
    return simulate_fmri(stimuli, features, truth, ["a", "b", "c"])


def changed(data: InMemory, subject: str, change: object) -> InMemory:
    """The dataset with one subject's responses changed."""
    given = []
    for recording in data.given:
        if recording.subject == subject:
            response = change(recording.response())
            digest = recording.digest + subject
            recording = dataclasses.replace(recording, read=partial(np.copy, response), digest=digest)
        given.append(recording)
    return InMemory(data.name, data.title, data.modality, data.stimuli_by_id, given)


def test_the_planted_layers_come_back(fmri: InMemory) -> None:
    scores = score_layers(fmri, TOY, store=None)
    best = scores.r.mean("fold").argmax("layer")
    planted = scores["planted_layer"].values
    assert (best.values == planted)[planted >= 0].mean() >= 5 / 6
    assert abs(float(scores.r.sel(target=scores.target_name == "silent").mean())) < 0.1
    gain = (scores.r_joint - scores.r_baseline).mean("fold").max("layer")
    assert (gain.values[planted >= 0] > 0.1).all()


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["fmri", "meg"])
def test_the_simulated_dataset_is_recovered(modality: str) -> None:
    data = Simulated(modality=modality, n_subjects=2, n_runs=3, n_words=500, n_layers=4, dimension=16)
    alignment = Epochs(-0.1, 0.6, 20.0, (0.5, 10.0)) if modality == "meg" else Hemodynamic()
    with pytest.warns(DataWarning, match="made by the computer"):
        scores = score_layers(data, ToyModel(n_layers=4, dimension=16), alignment=alignment, store=None, n_jobs=2)
    shares = planted_recovery(scores).shares.iloc[0]
    assert shares["layer"] >= 0.9
    if modality == "meg":
        assert shares["latency_within_one"] >= 0.95


def test_a_second_call_reads_instead_of_computing(fmri: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    first = score_layers(fmri, TOY)

    def forbidden(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(score_module, "fit_subjects", forbidden)
    monkeypatch.setattr(ToyModel, "extract", forbidden)
    xr.testing.assert_identical(first, score_layers(fmri, TOY))


def test_only_what_is_missing_is_computed(fmri: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    score_layers(fmri, TOY)
    fitted = []
    fit = score_module.fit_subjects

    def counted(units: Sequence[SubjectFit]) -> list[SubjectScores]:
        fitted.extend(unit.subject.recordings[0].subject for unit in units)
        return fit(units)

    monkeypatch.setattr(score_module, "fit_subjects", counted)
    score_layers(changed(fmri, "b", lambda response: response * 2), TOY)
    assert fitted == ["b"]


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": RidgeEncoder(n_components=3)},
        {"alignment": Hemodynamic(high_pass_s=60.0)},
        {"splits": Splits(outer="blocks")},
        {"baseline": ["word_rate"]},
        {"features": ToyModel(n_layers=3, dimension=8, seed=1)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_another_setting_gives_other_scores_not_the_stored_ones(fmri: InMemory, settings: dict) -> None:
    before = score_layers(fmri, TOY)
    after = score_layers(fmri, settings.pop("features", TOY), **settings)
    assert not np.array_equal(before.r_joint.mean("fold").values, after.r_joint.mean("fold").values)


def test_processes_side_by_side_give_the_same_bits(fmri: InMemory) -> None:
    xr.testing.assert_identical(score_layers(fmri, TOY, store=None), score_layers(fmri, TOY, store=None, n_jobs=2))


def test_a_damaged_stored_fit_is_found_and_done_again(fmri: InMemory, own_cache: object) -> None:
    first = score_layers(fmri, TOY)
    arrays = sorted(own_cache.glob("store/*/*/*/r.npy"))
    assert len(arrays) == 3
    content = bytearray(arrays[0].read_bytes())
    content[-5] ^= 1
    arrays[0].write_bytes(content)
    with pytest.warns(StoreWarning, match="damaged"):
        again = score_layers(fmri, TOY)
    xr.testing.assert_identical(first, again)


def test_a_subject_without_signal_is_left_out_by_name(fmri: InMemory) -> None:
    with pytest.warns(DataWarning, match="subject b"):
        scores = score_layers(changed(fmri, "b", np.zeros_like), TOY, store=None)
    assert set(scores.subject.values) == {"a", "c"}
    assert "subject-left-out" in {finding["code"] for finding in scores.attrs["findings"]}


def test_when_every_subject_must_be_left_out_it_says_why(fmri: InMemory) -> None:
    data = fmri
    for subject in data.subjects:
        data = changed(data, subject, np.zeros_like)
    with pytest.raises(DataError, match="every subject had to be left out"):
        score_layers(data, TOY, store=None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0], ids=str)
def test_a_bad_target_is_undefined_and_the_others_do_not_notice(fmri: InMemory, bad: float) -> None:
    def spoil(response: np.ndarray) -> np.ndarray:
        response = response.copy()
        response[:, 0] = bad
        return response

    clean = score_layers(fmri, TOY, store=None)
    with pytest.warns(DataWarning, match="subject a.*low"):
        spoilt = score_layers(changed(fmri, "a", spoil), TOY, store=None)
    assert np.isnan(spoilt.r.isel(target=0)).all()
    assert spoilt.status.values[0] in ("nonfinite", "constant")
    np.testing.assert_array_equal(spoilt.r.values[..., 1:], clean.r.values[..., 1:])


def test_feature_spaces_stand_one_after_the_other(fmri: InMemory) -> None:
    other = Named("another toy", ToyModel(n_layers=1, dimension=4, seed=3))
    with pytest.warns(DataWarning, match="dimensions are unlike"):
        scores = score_layers(fmri, [TOY, other], store=None)
    alone = score_layers(fmri, other, store=None)
    assert scores.layer_index.values.tolist() == [0, 1, 2, 3, 0, 1]
    assert scores.depth.values.tolist()[-2:] == [0.0, 1.0]
    np.testing.assert_array_equal(scores.r.values[4:], alone.r.values)


def test_a_stimulus_heard_twice_is_never_on_both_sides(fmri: InMemory) -> None:
    twice = [*fmri.given, *(dataclasses.replace(r, run=r.run + "-again") for r in fmri.given)]
    data = InMemory(fmri.name, fmri.title, fmri.modality, fmri.stimuli_by_id, twice)
    assert score_layers(data, TOY, store=None).sizes["fold"] == 3


def test_a_single_stimulus_heard_twice_does_not_leak_through_blocks(fmri: InMemory) -> None:
    """The response is noise, but the same noise in both hearings: only a leak could predict it."""
    once = [recording for recording in fmri.recordings(subjects=["a"]) if recording.stimulus == "run0"]
    noise = np.random.default_rng(0).normal(size=once[0].response().shape).astype(np.float32)
    hearings = [
        dataclasses.replace(once[0], run=run, read=partial(np.copy, noise), offset_s=0.0) for run in ("first", "again")
    ]
    data = InMemory(fmri.name, fmri.title, fmri.modality, {"run0": fmri.stimuli["run0"]}, hearings)
    scores = score_layers(data, ToyModel(n_layers=1, dimension=60), splits=Splits(outer="blocks"), store=None)
    assert abs(float(scores.r.mean())) < 0.15


def test_without_a_baseline_there_is_none(fmri: InMemory) -> None:
    scores = score_layers(fmri, TOY, baseline=(), store=None)
    assert set(scores.data_vars) == {"r", "r2", "alpha", "status"}


def test_a_baseline_that_names_sound_needs_some(fmri: InMemory) -> None:
    with pytest.raises(DataError, match="comes without sound"):
        score_layers(fmri, TOY, baseline=["word_rate", "sound_envelope"], store=None)


def test_the_recordings_own_sound_joins_the_automatic_baseline(fmri: InMemory) -> None:
    def with_sound(recording: Recording) -> Recording:
        n_rows = len(recording.response())
        table = pd.DataFrame({"sound_envelope": np.random.default_rng(0).normal(size=n_rows)})
        return dataclasses.replace(recording, read_regressors=partial(table.copy))

    given = [with_sound(recording) for recording in fmri.given]
    data = InMemory(fmri.name, fmri.title, fmri.modality, fmri.stimuli_by_id, given)
    assert score_layers(data, TOY, store=None).attrs["baseline"][-1] == "sound_envelope"


def test_targets_without_a_response_to_words_score_nothing() -> None:
    """Autocorrelated noise, single run: blocks with a gap keep the mean score at zero."""
    stimulus = Stimulus("s", speech(1000, 0))
    truth = pd.DataFrame({"name": [f"t{k}" for k in range(60)], "planted_layer": -1})
    truth = truth.assign(explained_variance=0.0, rate_variance=0.0)
    data = simulate_fmri({"s": stimulus}, {"s": TOY.extract(stimulus)}, truth, ["a"])
    with pytest.warns(DataWarning, match="fewer than three runs"):
        scores = score_layers(data, TOY, store=None)
    assert repr(scores.attrs["splitter"]).count("ContiguousBlocks") == 1
    assert abs(float(scores.r.mean())) < 0.05


def test_penalties_at_the_edge_of_the_grid_are_warned_of(fmri: InMemory) -> None:
    with pytest.warns(FitWarning, match="at the grid's edge"):
        score_layers(fmri, TOY, encoder=RidgeEncoder(alphas=[1e-3, 1e-2]), store=None)


@pytest.mark.parametrize("features", ["gpt2", ["gpt2"], [TOY, 5]], ids=repr)
def test_a_name_in_place_of_a_stage_is_told(fmri: InMemory, features: object) -> None:
    with pytest.raises(RecipeError, match="stages such as LanguageModel"):
        score_layers(fmri, features, store=None)


def test_one_run_cannot_be_left_out(fmri: InMemory) -> None:
    data = InMemory("one", "One run", "fmri", fmri.stimuli_by_id, fmri.recordings(stimuli=["run0"]))
    with pytest.raises(DataError, match="only one run"):
        score_layers(data, TOY, splits=Splits(outer="run"), store=None)


def test_meg_targets_have_latencies_and_the_planted_one_wins() -> None:
    stimuli = {f"run{k}": Stimulus(f"run{k}", speech(400, k)) for k in range(3)}
    truth = pd.DataFrame({"name": ["early", "late"], "planted_layer": [1, 1], "planted_latency": [0.1, 0.4]})
    truth = truth.assign(explained_variance=0.2)
    features = {name: TOY.extract(stimulus) for name, stimulus in stimuli.items()}
    data = simulate_meg(stimuli, features, truth, ["a"])
    scores = score_layers(data, TOY, alignment=Epochs(-0.2, 0.6, 20.0, (0.5, 10.0)), store=None)
    assert scores.r.dims == ("layer", "fold", "target", "latency")
    best = scores.r.mean("fold").isel(layer=1).idxmax("latency").values
    np.testing.assert_allclose(best, [0.1, 0.4], atol=0.05)


def test_the_same_baseline_is_what_the_joint_fit_starts_from(fmri: InMemory) -> None:
    """A layer that repeats the baseline's columns adds nothing to it."""
    names = ("word_rate", "word_length")
    scores = score_layers(fmri, Baseline(names), baseline=names, store=None)
    gain = (scores.r_joint - scores.r_baseline).mean("fold")
    assert float(np.abs(gain).max()) < 0.03


def test_features_are_stored_under_all_that_they_depend_on(fmri: InMemory, tmp_path: object) -> None:
    store = Store(tmp_path)
    score_layers(fmri, TOY, store=store)
    entries = len(list(tmp_path.glob("*/*/record.json")))
    assert entries == 3 + 3  # stimuli and subjects
    score_layers(fmri, ToyModel(n_layers=3, dimension=8, seed=5), store=store)
    assert len(list(tmp_path.glob("*/*/record.json"))) == 2 * entries


def test_other_targets_are_never_given_the_scores_of_these(fmri: InMemory) -> None:
    """Whatever a loader's digest forgets: the same parcels under each other's names."""
    names = fmri.given[0].targets["name"].tolist()

    def renamed(recording: Recording) -> Recording:
        return dataclasses.replace(recording, targets=recording.targets.assign(name=names[::-1]))

    swapped = dataclasses.replace(fmri, given=[renamed(recording) for recording in fmri.given])
    keys = set()
    for data in (fmri, swapped):
        study = score_module.Study.of(data, TOY, ())
        keys.add(study.key_of_fit(TOY.name, data.subjects[0]))
    assert len(keys) == 2


def test_versions_of_one_story_are_held_out_together() -> None:
    stories = {"a": "one", "b": "one", "c": None, "d": None}
    stimuli = {name: Stimulus(name, speech(150, k), story=stories[name]) for k, name in enumerate(stories)}
    features = {name: TOY.extract(stimulus) for name, stimulus in stimuli.items()}
    truth = pd.DataFrame({"name": ["t"], "planted_layer": [1], "explained_variance": [0.5], "rate_variance": [0.1]})
    data = simulate_fmri(stimuli, features, truth, ["s"])
    assert score_layers(data, TOY, baseline=(), store=None).sizes["fold"] == 3
    versions = dataclasses.replace(data, given=[r for r in data.given if r.stimulus in ("a", "b")])
    with pytest.raises(DataError, match="E102: a, b are versions of one story"):
        score_layers(versions, TOY, baseline=(), store=None)


def test_tokens_are_counted_over_all_stimuli() -> None:
    given = extract_features(TOY, {f"run{k}": Stimulus(f"run{k}", speech(20, k)) for k in range(3)}, store=None)
    plain = facts_of_space(TOY, given)["metadata"]
    assert not {"n_tokens", "n_tokens_read"} & set(plain)
    counted = {
        name: dataclasses.replace(one, metadata={**one.metadata, "n_tokens": 5 + k})
        for k, (name, one) in enumerate(given.items())
    }
    assert facts_of_space(TOY, counted)["metadata"] == {**plain, "n_tokens": 5 + 6 + 7}
