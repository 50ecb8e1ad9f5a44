"""Subjects who heard the same stimuli are fitted as one problem, and get the scores they would get alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import pytest

from brainalign.alignment import Epochs, Hemodynamic
from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder, Splits
from brainalign.errors import DataError
from brainalign.features import ToyModel
from brainalign.pipeline import fit as fit_module
from brainalign.pipeline.aligned import Subject
from brainalign.pipeline.fit import SubjectFit, fit_subjects, shareable
from brainalign.simulate import words_from_text
from brainalign.types import Aligner, Clock, Recording, Stimulus

TOY = ToyModel(n_layers=2, dimension=6)
TEXT = "the cat sat on a mat and saw the dog run by the old house " * 20
STIMULI = {f"story{k}": Stimulus(f"story{k}", words_from_text(f"{TEXT} number {k}", seed=k)) for k in range(3)}
FEATURES = {name: TOY.extract(stimulus) for name, stimulus in STIMULI.items()}
# The layers, the embeddings among them, and the baseline.
PROBLEMS = len(TOY.extract(STIMULI["story0"]).layers) + 1
ALIGNERS: dict[str, Aligner] = {"fmri": Hemodynamic(), "meg": Epochs(tmin_s=0.0, tmax_s=0.2)}


def recording(
    subject: str, stimulus: str, modality: str = "fmri", offset_s: float = 4.0, n_targets: int = 3
) -> Recording:
    step = 2.0 if modality == "fmri" else 0.05
    last = float(STIMULI[stimulus].words["onset"].iloc[-1])
    n_rows = int((last + 20.0) / step)
    seed = sum(map(ord, subject + stimulus))
    response = np.random.default_rng(seed).normal(size=(n_rows, n_targets)).astype(np.float32)
    return Recording(
        subject,
        stimulus,
        stimulus,
        modality,  # type: ignore[arg-type]
        Clock(step_s=step),
        offset_s,
        pd.DataFrame({"name": [f"t{k}" for k in range(n_targets)], "kind": "region"}),
        partial(np.asarray, response),
        digest=f"{subject}{stimulus}",
    )


def unit(subject: str, modality: str = "fmri", **settings: float) -> SubjectFit:
    recordings = [recording(subject, name, modality, **settings) for name in STIMULI]  # type: ignore[arg-type]
    baseline = ("word_length",) if modality == "meg" else ("word_rate",)
    subject = Subject(recordings, STIMULI, baseline, ALIGNERS[modality], Splits())
    return SubjectFit(subject, FEATURES, RidgeEncoder(alphas=(1, 100)))


def with_recordings(unit: SubjectFit, recordings: Sequence[Recording]) -> SubjectFit:
    return dataclasses.replace(unit, subject=dataclasses.replace(unit.subject, recordings=recordings))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of targets of each problem that is solved."""
    widths: list[int] = []
    real = fit_module.cross_validate

    def counted(*args, **settings):  # type: ignore[no-untyped-def]
        widths.append(settings["responses"].n_targets)
        return real(*args, **settings)

    monkeypatch.setattr(fit_module, "cross_validate", counted)
    return widths


def assert_as_alone(units: Sequence[SubjectFit]) -> None:
    together = fit_subjects(units)
    for one, scores in zip(units, together, strict=True):
        (alone,) = fit_subjects([one])
        assert scores.facts == alone.facts
        for name, values in alone.arrays.items():
            np.testing.assert_array_equal(scores.arrays[name], values, err_msg=name)


def shared(units: Sequence[SubjectFit]) -> list[list[str]]:
    return shareable({unit.subject.recordings[0].subject: unit.subject.recordings for unit in units})


@pytest.mark.parametrize("modality", ["fmri", "meg"])
def test_the_same_stimuli_at_the_same_times_are_one_problem(modality: str, fits: list[int]) -> None:
    units = [unit("a", modality), unit("b", modality), unit("c", modality)]
    assert shared(units) == [["a", "b", "c"]]
    scores = fit_subjects(units)
    n_latencies = 1 if scores[0].facts["latencies_s"] is None else len(scores[0].facts["latencies_s"])
    assert fits == [9 * n_latencies] * PROBLEMS
    assert_as_alone(units)


def test_subjects_of_more_targets_are_a_problem_of_their_own(fits: list[int]) -> None:
    # The way to fit hangs on the number of targets, and the last bits on the way.
    units = [unit("a"), unit("b", n_targets=5), unit("c")]
    assert shared(units) == [["a", "c"], ["b"]]
    fit_subjects(units)
    assert fits == [6] * PROBLEMS + [5] * PROBLEMS
    assert_as_alone(units)


@pytest.mark.parametrize("n_targets", [1, 63, 65, 700])
def test_fitted_together_or_alone_scores_are_the_same_bits(n_targets: int) -> None:
    assert_as_alone([unit(name, n_targets=n_targets) for name in "abc"])


def test_stimuli_heard_at_other_moments_of_the_scan_are_problems_of_their_own(fits: list[int]) -> None:
    units = [unit("a"), unit("b", offset_s=5.0)]
    assert shared(units) == [["a"], ["b"]]
    fit_subjects(units)
    assert len(fits) == 2 * PROBLEMS
    assert_as_alone(units)


def test_what_differs_only_once_aligned_is_seen_then(fits: list[int]) -> None:
    long, short = unit("a"), unit("b")
    last = short.subject.recordings[-1]
    cut = dataclasses.replace(last, read=partial(np.asarray, last.read()[:-20]))
    short = with_recordings(short, [*short.subject.recordings[:-1], cut])
    assert shared([long, short]) == [["a", "b"]]
    first, second = fit_subjects([long, short])
    assert len(fits) == 2 * PROBLEMS
    assert second.facts["n_samples"] < first.facts["n_samples"]
    assert_as_alone([long, short])


def test_confounds_of_one_s_own_make_a_design_of_one_s_own() -> None:
    units = [unit("a"), unit("b")]
    moving = dataclasses.replace(
        units[0].subject.recordings[0], read_confounds=lambda: pd.DataFrame({"motion": np.arange(10.0)})
    )
    units[0] = with_recordings(units[0], [moving, *units[0].subject.recordings[1:]])
    assert shared(units) == [["a"], ["b"]]


def test_a_subject_without_usable_data_stands_aside(fits: list[int]) -> None:
    empty = unit("b")
    blank = [
        dataclasses.replace(one, read=partial(np.full, one.read().shape, np.nan, np.float32))
        for one in empty.subject.recordings
    ]
    first, second, third = fit_subjects([unit("a"), with_recordings(empty, blank), unit("c")])
    assert second.arrays == {}
    assert second.facts["n_samples"] == 0
    assert fits == [6] * PROBLEMS
    assert first.arrays["r"].shape == third.arrays["r"].shape


def test_subjects_beyond_the_memory_are_fitted_one_by_one(fits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "MEMORY_OF_SUBJECTS", 0.0)
    units = [unit("a"), unit("b")]
    scores = fit_subjects(units)
    assert fits == [3] * 2 * PROBLEMS
    assert [len(score.facts["status"]) for score in scores] == [3, 3]


def test_bands_of_the_features_leave_the_baseline_one_of_its_own() -> None:
    n_columns = FEATURES["story0"].values.shape[2]
    banded = BandedRidgeEncoder([2, n_columns - 2], alphas=(1, 100), n_iter=1)
    (scores,) = fit_subjects([dataclasses.replace(unit("a"), encoder=banded)])
    (ridge,) = fit_subjects([unit("a")])
    np.testing.assert_allclose(scores.arrays["r_baseline"], ridge.arrays["r_baseline"], atol=1e-6)
    assert np.isfinite(scores.arrays["r_joint"]).all()
    with pytest.raises(DataError, match="bands"):
        fit_subjects([dataclasses.replace(unit("a"), encoder=banded.set_params(bands=[3]))])
